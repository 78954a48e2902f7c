package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/keys"
	"github.com/rotunda-pki/rotunda/pki"
)

const authorityCRLHelp = `A root's CRL lists the authorities that it signed and that were revoked. Servers that check
each certificate of a chain (PostgreSQL, nginx with ssl_crl) want one, so it must not end: it is good
for 366 days, and rotunda init and rotunda trust rotate sign the first.

With the key at hand it is signed and handed in at once. Where the key is on another machine:

  rotunda authority crl root --order order.json               here: what it has to say
  rotunda authority crl root --sign order.json --root-key key.pem --out root.crl     there
  rotunda authority crl root --install root.crl               here`

func newAuthorityCRLCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "crl ROOT",
		Short:   "Sign a root's list of revoked authorities, and publish it",
		Long:    authorityCRLHelp,
		Example: "  rotunda authority crl root --root-key /media/usb/key.pem",
		Args:    cobra.ExactArgs(1),
	}
	conn := connectionFlags(cmd.Flags())
	var order, sign, out, install, key string
	flags := cmd.Flags()
	flags.StringVar(&key, "root-key", "", "`file` of the root's key")
	flags.StringVar(&order, "order", "", "only write what is to be signed to this `file`")
	flags.StringVar(&sign, "sign", "", "sign what this `file` says, and speak with no server")
	flags.StringVar(&out, "out", "", "with --sign, the `file` to write the CRL to")
	flags.StringVar(&install, "install", "", "publish the CRL in this `file`, PEM or DER")
	cmd.ValidArgsFunction = completeFirst(conn, authorityNames)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := args[0]
		switch {
		case count(order != "", sign != "", install != "") > 1:
			return usagef("one of --order, --sign and --install")
		case (key != "") == (order != "" || install != ""):
			return usagef("say where the root's key is: --root-key FILE; or --order FILE to sign elsewhere, and --install FILE then")
		case (out != "") != (sign != ""):
			return usagef("--sign FILE and --out FILE go together")
		case sign != "":
			return signOrder(newUI(cmd), sign, key, out)
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			if install != "" {
				return installRootList(ctx, s, u, name, install)
			}
			list, err := invoke(ctx, s.PrepareRootList, &api.PrepareRootListRequest{Authority: name})
			if err != nil {
				return err
			}
			if order != "" {
				return writeOrder(u, list, order)
			}
			der, err := signRootList(u, list, key)
			if err != nil {
				return err
			}
			return putRootList(ctx, s, u, name, der)
		})
	}
	return cmd
}

func writeOrder(u *ui, list *api.PrepareRootListResponse, path string) error {
	text, err := protojson.MarshalOptions{Multiline: true}.Marshal(list)
	if err != nil {
		return err
	}
	if err := writeNew(path, append(text, '\n')); err != nil {
		return err
	}
	u.say("What is to be signed is in %s: %s.", path, plural(len(list.Entries), "revoked authority"))
	return nil
}

// signOrder signs on a machine that no server is reached from.
func signOrder(u *ui, path, key, out string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	list := &api.PrepareRootListResponse{}
	if err := protojson.Unmarshal(text, list); err != nil {
		return fault.Wrap(fault.Invalid, err, "order %s", path).WithRemedy("carry over unchanged what rotunda authority crl --order wrote")
	}
	der, err := signRootList(u, list, key)
	if err != nil {
		return err
	}
	if err := writeNew(out, pki.EncodeCRLPEM(der)); err != nil {
		return err
	}
	u.say("Signed: number %d, %s. The CRL is in %s.", list.Number, plural(len(list.Entries), "revoked authority"), out)
	return nil
}

func signRootList(u *ui, list *api.PrepareRootListResponse, path string) ([]byte, error) {
	root, err := x509.ParseCertificate(list.Root)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the root's certificate")
	}
	key, err := keys.OpenFile(path, u.passphrase("Passphrase of "+path+": "))
	if err != nil {
		return nil, err
	}
	entries := ca.NewEntries(ca.WholeList)
	for _, entry := range list.Entries {
		serial, err := pki.ParseSerial(entry.Serial)
		if err != nil {
			return nil, err
		}
		err = entries.Add(ca.Revocation{Serial: serial, At: entry.RevokedAt.AsTime(), Reason: entry.Reason, Ends: entry.NotAfter.AsTime()})
		if err != nil {
			return nil, err
		}
	}
	return ca.SignRootCRL(time.Now(), root, key, list.Number, entries)
}

func installRootList(ctx context.Context, s *server, u *ui, name, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	der, ok := pki.DecodeCRL(text)
	if !ok {
		return fault.New(fault.Invalid, "%s does not hold one CRL and nothing else", path)
	}
	return putRootList(ctx, s, u, name, der)
}

func putRootList(ctx context.Context, s *server, u *ui, name string, der []byte) error {
	done, err := invoke(ctx, s.PutRootList, &api.PutRootListRequest{Authority: name, Crl: der})
	if err != nil {
		return err
	}
	u.say("The CRL of root %s is published; the next one is due before %s. Audit entry %s.", name, done.NextUpdate.AsTime().Local().Format(time.DateTime), done.AuditId)
	return nil
}

// writeNew writes a file that is not there yet.
func writeNew(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if os.IsExist(err) {
		return fault.New(fault.Conflict, "%s exists already", path).WithRemedy("say another file, or move it away")
	}
	if err != nil {
		return err
	}
	if _, err := file.Write(content); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return file.Close()
}
