package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/keys"
	"github.com/rotunda-pki/rotunda/pki"
)

// sealedCredential is what an emergency file holds, under its passphrase: the
// files of a credentials directory.
type sealedCredential struct {
	Name  string            `json:"name"`
	Until time.Time         `json:"until"`
	Files map[string][]byte `json:"files"`
}

func newEmergencyCreateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create NAME --until DATE",
		Short: "Make a sealed credential for the day when there is no other",
		Long: `Makes an operator's credential and seals it with a passphrase (age), into a file
to be kept where nobody needs a certificate to get at it: a safe. The passphrase
is asked for, or read as one line from stdin. It is dated, on record, and opens
one thing only: rotunda emergency use, as often as --uses says.`,
		Example: `  rotunda emergency create safe-1 --until 2027-06-30
  rotunda emergency create safe-2 --until 2027-06-30 --uses 3 --out /media/usb/safe-2.age`,
		Args: cobra.ExactArgs(1),
	}
	o := &operatorOrder{conn: connectionFlags(cmd.Flags())}
	flags := cmd.Flags()
	until := flags.String("until", "", "the `date` of its end, like 2027-06-30 (UTC)")
	uses := flags.Uint32("uses", 1, "how often it may be used")
	flags.StringVar(&o.out, "out", "", "the new `file` (default: NAME.age)")
	flags.StringVar(&o.address, "address", "", "the operators' `URL` that it is for (default: the one in use now)")
	cmd.MarkFlagRequired("until")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.name = args[0]
		if o.out == "" {
			o.out = o.name + ".age"
		}
		end, err := time.Parse(time.DateOnly, *until)
		if err != nil {
			return usagef("--until %q is no date like 2027-06-30", *until)
		}
		return o.conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			return o.seal(ctx, s, u, &api.CreateEmergencyRequest{Name: o.name, Until: timestamppb.New(end), Uses: *uses})
		})
	}
	return cmd
}

func (o *operatorOrder) seal(ctx context.Context, s *server, u *ui, request *api.CreateEmergencyRequest) error {
	address, err := o.serverAddress(s)
	if err != nil {
		return err
	}
	if exists(o.out) {
		return fault.New(fault.Conflict, "%s exists already", o.out).WithRemedy("say another --out, or move it away")
	}
	passphrase, err := u.newPassphrase("the emergency credential")
	if err != nil {
		return err
	}
	key, err := pki.ECDSAP256.Generate()
	if err != nil {
		return err
	}
	if request.Csr, err = pki.NewCSR(key); err != nil {
		return err
	}
	keyPEM, err := pki.EncodeKeyPEM(key)
	if err != nil {
		return err
	}
	info, err := invoke(ctx, s.Info, &api.InfoRequest{})
	if err != nil {
		return err
	}
	issued, err := invoke(ctx, s.CreateEmergency, request)
	if err != nil {
		return err
	}
	if err := signs(&api.IssueOperatorResponse{Chain: issued.Chain, Anchors: issued.Anchors}, key); err != nil {
		return err
	}
	plain, err := json.Marshal(sealedCredential{Name: o.name, Until: request.Until.AsTime(), Files: map[string][]byte{
		"key.pem": keyPEM, "cert.pem": pki.EncodeCertificatesPEM(issued.Chain...), "ca.pem": pki.EncodeCertificatesPEM(issued.Anchors...),
		logKeyFile: []byte(info.LogKey + "\n"), "client.yaml": []byte("server: " + address + "\n"),
	}})
	if err != nil {
		return err
	}
	if err := keys.SealFile(o.out, plain, passphrase); err != nil {
		return err
	}
	u.say("Emergency credential %s is in %s, until %s. Audit entry %s.", o.name, o.out, request.Until.AsTime().Format(time.DateOnly), issued.AuditId)
	u.note("keep it and its passphrase apart, where no certificate is needed to get at them; rotunda emergency use opens it")
	return nil
}

func newEmergencyUseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "use FILE --reason TEXT",
		Short: "Exchange a sealed emergency credential for one that is good for an hour",
		Long: `Opens the file with its passphrase, which is asked for or read as one line from
stdin, and has the server exchange the credential in it for a short-lived one,
written to a new directory. The use counts, is in the audit log, and shows in
rotunda status for a day. One that has expired or is used up is refused.`,
		Example: `  rotunda emergency use safe-1.age --reason "all operators' certificates expired"
  rotunda status --credentials emergency`,
		Args: cobra.ExactArgs(1),
	}
	conn := connectionFlags(cmd.Flags())
	out := cmd.Flags().String("out", "emergency", "the new `directory`")
	reason := cmd.Flags().String("reason", "", "why, for the audit log")
	cmd.MarkFlagRequired("reason")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return useEmergency(cmd, conn, args[0], *out, *reason)
	}
	return cmd
}

func useEmergency(cmd *cobra.Command, conn *connection, path, out, reason string) error {
	u := newUI(cmd)
	if exists(out) {
		return fault.New(fault.Conflict, "%s exists already", out).WithRemedy("say another --out, or move it away")
	}
	sealed, err := openSealed(u, path)
	if err != nil {
		return err
	}
	filling, err := beginDirectory(out)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(filling) }() // gone already when all went well
	for name, content := range sealed.Files {
		if err := os.WriteFile(filepath.Join(filling, filepath.Base(name)), content, 0o600); err != nil {
			return fmt.Errorf("open the emergency credential: %w", err)
		}
	}
	conn.credentials, conn.socket, conn.state = filling, "", ""
	return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
		key, err := pki.ECDSAP256.Generate()
		if err != nil {
			return err
		}
		request := &api.UseEmergencyRequest{Reason: reason}
		if request.Csr, err = pki.NewCSR(key); err != nil {
			return err
		}
		keyPEM, err := pki.EncodeKeyPEM(key)
		if err != nil {
			return err
		}
		issued, err := invoke(ctx, s.UseEmergency, request)
		if err != nil {
			return err
		}
		if err := signs(&api.IssueOperatorResponse{Chain: issued.Chain, Anchors: issued.Anchors}, key); err != nil {
			return err
		}
		err = finishDirectory(filling, out, map[string][]byte{
			"key.pem": keyPEM, "cert.pem": pki.EncodeCertificatesPEM(issued.Chain...), "ca.pem": pki.EncodeCertificatesPEM(issued.Anchors...),
		})
		if err != nil {
			return err
		}
		again := "not be used again"
		if issued.UsesLeft > 0 {
			again = fmt.Sprintf("be used %s more", plural(int(issued.UsesLeft), "time"))
		}
		u.say("Credentials until %s are in %s; the emergency credential may %s. Audit entry %s.",
			issued.NotAfter.AsTime().Format(time.RFC3339), out, again, issued.AuditId)
		return nil
	})
}

func openSealed(u *ui, path string) (sealedCredential, error) {
	var sealed sealedCredential
	plain, err := keys.OpenSealed(path, func() ([]byte, error) { return u.oldPassphrase("Passphrase of " + path + ": ") })
	if err != nil {
		return sealed, err
	}
	if err := json.Unmarshal(plain, &sealed); err != nil || len(sealed.Files) == 0 {
		return sealed, fault.New(fault.Invalid, "%s holds no emergency credential", path).WithRemedy("it is a file that rotunda emergency create wrote")
	}
	if now := time.Now(); now.After(sealed.Until) {
		return sealed, fault.New(fault.Forbidden, "the emergency credential in %s ended at %s", path, sealed.Until.Format(time.DateOnly)).
			WithRemedy("on the server's host the admin socket needs none: docs/runbooks/break-glass.md")
	}
	return sealed, nil
}
