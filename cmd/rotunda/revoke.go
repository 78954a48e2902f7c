package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

const revokeHelp = `Takes trust from certificates. What is in use is asked to rotate first, and is
revoked once its successor was proven, so that nothing stops working; the wish stands until
then, whatever crashes or is away. --now does not wait, --within waits so long at the most.

  certificate FILE    the first certificate of a PEM file
  serial HEX          as rotunda get certificates and openssl x509 -serial show it
  fingerprint HEX     SHA-256 of the certificate
  key HEX             SHA-256 of the public key (SubjectPublicKeyInfo): all certificates for it
  placement ID        all that were issued to it
  service NAME        all that its intents hold; --label narrows it
  agent ID            all that is on its host: its identity, and what its placements hold
  operator NAME       all of an operator's
  authority NAME      the certificate of an issuing authority that does not sign any more

It shows what would stop working and who will not notice, and asks. What is revoked never
becomes unrevoked, but for --reason certificateHold, which --lift takes back.

Reasons are those of RFC 5280: unspecified, keyCompromise, cACompromise, affiliationChanged,
superseded, cessationOfOperation, certificateHold, privilegeWithdrawn, aACompromise. With
keyCompromise, and for a key, successors have new keys.`

func newRevokeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke WHAT NAME",
		Short: "Take trust from certificates, after what takes their place was proven",
		Long:  revokeHelp,
		Example: `  rotunda revoke serial 0199c2f4… --reason keyCompromise --dry-run
  rotunda revoke service orders --reason keyCompromise --wait
  rotunda revoke agent 0199c2f4-… --now --reason keyCompromise --note "host seized"
  rotunda revoke certificate old.pem --reason certificateHold
  rotunda revoke certificate old.pem --lift`,
		Args: cobra.ExactArgs(2),
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	request := &api.RevokeRequest{}
	var within fleet.Duration
	flags := cmd.Flags()
	flags.StringVar(&request.Reason, "reason", "", "a `reason` of RFC 5280")
	flags.StringVar(&request.Note, "note", "", "why, for the audit log")
	flags.BoolVar(&request.Now, "now", false, "at once, before anything takes their place")
	flags.Var(&span{&within}, "within", "revoke what is still in use after this `time`, such as 1h")
	flags.StringToStringVar(&request.Labels, "label", nil, "of a service: on agents with these `labels` only, such as rack=7")
	flags.BoolVar(&request.Lift, "lift", false, "take off hold what was revoked as certificateHold")
	flags.BoolVar(&request.DryRun, "dry-run", false, "only show what it would be")
	yes := flags.Bool("yes", false, "do not ask")
	wait := flags.Bool("wait", false, "follow it until nothing is left to revoke")
	cmd.ValidArgsFunction = completeRevoke(conn)
	_ = cmd.RegisterFlagCompletionFunc("reason", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return ca.ReasonNames(), cobra.ShellCompDirectiveNoFileComp
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := revokeSubject(request, args[0], args[1]); err != nil {
			return err
		}
		if *wait && request.DryRun {
			return usagef("with --dry-run there is nothing to --wait for")
		}
		if cmd.Flags().Changed("within") {
			request.Within = spanOf(within)
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			return revoke(ctx, s, u, request, revokeOptions{output: *output, yes: *yes, wait: *wait})
		})
	}
	return cmd
}

type revokeOptions struct {
	output    format
	yes, wait bool
}

// revoke shows what it would be, asks, does it, and follows it.
func revoke(ctx context.Context, s *server, u *ui, request *api.RevokeRequest, o revokeOptions) error {
	u.meetHosts(ctx, s, o.output)
	would := proto.Clone(request).(*api.RevokeRequest)
	would.DryRun = true
	foretold, err := invoke(ctx, s.Revoke, would)
	if err != nil {
		return err
	}
	if request.DryRun {
		return u.show(o.output, foretold, func() {
			u.showRevoked(foretold, request)
			u.say("Nothing was changed: this was a dry run.")
		})
	}
	if o.output == formatTable {
		u.showRevoked(foretold, request)
	}
	verb := "revoke"
	if request.Lift {
		verb = "take off hold"
	}
	if err := u.confirm(o.yes, fmt.Sprintf("%s %s?", verb, plural(len(foretold.Revocation.Parts), "certificate"))); err != nil {
		return err
	}
	done, err := invoke(ctx, s.Revoke, request)
	if err != nil {
		return err
	}
	if err := u.show(o.output, done, func() { u.saidRevoked(done, request) }); err != nil || !o.wait || request.Lift {
		return err
	}
	return awaitRevocation(ctx, s, u, done.Revocation.Id)
}

// revokeSubject puts what the operator named into the request.
func revokeSubject(request *api.RevokeRequest, what, name string) error {
	hexadecimal := strings.ToLower(strings.ReplaceAll(name, ":", ""))
	subjects := map[string]func(){
		"serial": func() { request.Serial = hexadecimal }, "fingerprint": func() { request.Fingerprint = hexadecimal },
		"key": func() { request.Key = hexadecimal }, "placement": func() { request.Placement = name },
		"service": func() { request.Service = name }, "agent": func() { request.Agent = name },
		"operator": func() { request.Operator = name }, "authority": func() { request.Authority = name },
	}
	if what == "certificate" {
		der, err := firstCertificate(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(der)
		request.Fingerprint = hex.EncodeToString(sum[:])
		return nil
	}
	set, ok := subjects[what]
	if !ok {
		return usagef("revoke what? %q is none of %s", what, strings.Join(revokeSubjects, ", "))
	}
	set()
	return nil
}

var revokeSubjects = []string{"certificate", "serial", "fingerprint", "key", "placement", "service", "agent", "operator", "authority"}

func firstCertificate(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	certificates, err := pki.ParseCertificatesPEM(text)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "certificate %s", path)
	}
	return certificates[0].Raw, nil
}

func completeRevoke(conn *connection) completer {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return revokeSubjects, cobra.ShellCompDirectiveNoFileComp
		}
		names, ok := map[string]lister{
			"agent": agentIDs, "service": documentNames("Service"), "authority": authorityNames, "placement": placementIDs, "serial": serials,
		}[args[0]]
		switch {
		case len(args) > 1:
			return nil, cobra.ShellCompDirectiveNoFileComp
		case args[0] == "certificate":
			return nil, cobra.ShellCompDirectiveDefault
		case !ok:
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return conn.offer(cmd, names, prefix), cobra.ShellCompDirectiveNoFileComp
	}
}

func placementIDs(ctx context.Context, s *server) ([]string, error) {
	response, err := invoke(ctx, s.ListPlacements, &api.ListPlacementsRequest{Limit: listedAtOnce})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, placement := range response.Placements {
		ids = append(ids, placement.Id)
	}
	return ids, nil
}

func serials(ctx context.Context, s *server) ([]string, error) {
	response, err := invoke(ctx, s.ListCertificates, &api.ListCertificatesRequest{})
	if err != nil {
		return nil, err
	}
	var all []string
	for _, certificate := range response.Certificates {
		all = append(all, certificate.Serial)
	}
	return all, nil
}
