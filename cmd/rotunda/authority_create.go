package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
)

// regionOrder is one run of authority create.
type regionOrder struct {
	prepare           *api.PrepareTrustRequest
	create            *api.CreateAuthorityRequest
	signing           signing
	request, response string // files: to write instead of signing here; of what was signed elsewhere
	life              fleet.Duration
	output            *format
}

func newAuthorityCreateCommand() *cobra.Command {
	o := &regionOrder{prepare: &api.PrepareTrustRequest{Kind: "region"}, create: &api.CreateAuthorityRequest{}}
	cmd := &cobra.Command{
		Use:   "create --region REGION --root-key FILE",
		Short: "Give a region an issuing authority of its own",
		Long: `Makes an issuing authority for a region, like the one of no region: the server makes its key
and keeps it, the root's key signs for it here, in this process. From then on it signs the
certificates of the region's agents, each as it is renewed. Nobody has to trust anything new.

With an offline root say --request FILE, sign it with rotunda authority sign, and give what
that wrote with --response FILE.`,
		Example: `  rotunda authority create --region eu --root-key root/key.pem --dry-run
  rotunda authority create --region eu --root-key root/key.pem --reason "a region of its own"
  rotunda authority create --region eu --request request.json
  rotunda authority create --response response.json`,
		Args: cobra.NoArgs,
	}
	conn := connectionFlags(cmd.Flags())
	o.output = outputFlag(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.prepare.Region, "region", "", "the `region` that gets it")
	flags.StringVar(&o.signing.rootKey, "root-key", "", "`file` of the key of the root that is trusted now")
	flags.StringVar(&o.prepare.Algorithm, "algorithm", "", "of the new key: ecdsa-p256, ecdsa-p384, ed25519, rsa-2048, rsa-3072, rsa-4096 (default: that of the authority of no region)")
	flags.Var(&span{&o.life}, "issuing-lifetime", "how `long` the authority lives (default: as that of no region)")
	flags.StringVar(&o.request, "request", "", "write the request for an offline root to this `file`, and make nothing")
	flags.StringVar(&o.response, "response", "", "the `file` that rotunda authority sign wrote")
	flags.StringVar(&o.create.Reason, "reason", "", "why, for the audit log")
	flags.BoolVar(&o.create.DryRun, "dry-run", false, "sign and check, but record nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.prepare.IssuingLifetime = protoDuration(o.life)
		switch {
		case count(o.signing.rootKey != "", o.request != "", o.response != "") != 1:
			return usagef("say one of --root-key FILE, --request FILE and --response FILE")
		case (o.prepare.Region == "") != (o.response != ""):
			return usagef("--region goes with --root-key and --request; a response has its region")
		case o.request != "" && o.create.DryRun:
			return usagef("--request makes nothing, so it has no dry run; a response has")
		}
		return conn.with(cmd, o.run)
	}
	return cmd
}

func (o *regionOrder) run(ctx context.Context, s *server, u *ui) (err error) {
	if o.response != "" {
		o.create.Response, err = os.ReadFile(o.response)
	} else {
		err = o.sign(ctx, s, u)
	}
	if err != nil || o.create.Response == nil {
		return err
	}
	made, err := invoke(ctx, s.CreateAuthority, o.create)
	if err != nil {
		return err
	}
	return u.show(*o.output, made, func() {
		for _, note := range made.Notes {
			u.note("%s", note)
		}
		if o.create.DryRun {
			u.say("What was signed is good: it would be %s. Nothing was changed: this was a dry run.", made.Authority.Name)
			return
		}
		u.say("%s signs for region %s.", made.Authority.Name, made.Authority.Region)
		u.note("Audit entry %s. Certificates that are in use go on, and are of it as they are renewed.", made.AuditId)
	})
}

// sign has the request made, and carries it out here or writes it down.
func (o *regionOrder) sign(ctx context.Context, s *server, u *ui) error {
	if err := o.signing.open(u); err != nil { // before anything is asked for
		return err
	}
	prepared, err := invoke(ctx, s.PrepareTrust, o.prepare)
	if err != nil {
		return err
	}
	if o.request == "" {
		o.create.Response, err = o.signing.sign(u, prepared.Request)
		return err
	}
	if err := os.WriteFile(o.request, prepared.Request, 0o644); err != nil {
		return err
	}
	return u.show(*o.output, prepared, func() {
		u.say("The request is in %s. Nothing was made.", o.request)
		u.note("where the root's key is: rotunda authority sign --request %s --root-key KEY --out response.json", filepath.Base(o.request))
		u.note("then here: rotunda authority create --response response.json")
	})
}
