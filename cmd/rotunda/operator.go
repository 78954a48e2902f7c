package main

import (
	"context"
	"crypto"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/keys"
	"github.com/rotunda-pki/rotunda/pki"
)

func newOperatorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "operator",
		Short:   "Make and renew credentials of operators",
		Example: "  rotunda operator create ann --out ~/.config/rotunda",
	}
	cmd.AddCommand(newOperatorCreateCommand(), newOperatorRenewCommand())
	return cmd
}

func newOperatorCreateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make an operator's credentials in a new directory",
		Long: `Makes a key here, has the server sign a certificate for it, and writes a
directory with key.pem, cert.pem, ca.pem, log.pub and client.yaml that
--credentials takes. The key is never sent anywhere. The directory appears as a
whole or not at all, and an existing one is left alone.`,
		Example: `  rotunda operator create ann --address https://rotunda.example.com:7443
  rotunda operator create ci --lifetime 8h --out ./ci-credentials`,
		Args: cobra.ExactArgs(1),
	}
	o := &operatorOrder{conn: connectionFlags(cmd.Flags())}
	flags := cmd.Flags()
	flags.StringVar(&o.out, "out", "", "the new `directory` (default: NAME)")
	flags.StringVar(&o.address, "address", "", "the operators' `URL` to write into client.yaml (default: the one in use now)")
	flags.BoolVar(&o.secret, "passphrase", false, "encrypt the key; the passphrase is asked for, or read as one line from stdin")
	flags.Var(&span{&o.lifetime}, "lifetime", "how `long` the certificate is valid (default: as the server says)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.name = args[0]
		if o.out == "" {
			o.out = o.name
		}
		return o.conn.with(cmd, o.create)
	}
	return cmd
}

// operatorOrder is one run of operator create.
type operatorOrder struct {
	conn     *connection
	name     string
	out      string
	address  string
	lifetime fleet.Duration
	secret   bool // the key gets a passphrase
}

func (o *operatorOrder) create(ctx context.Context, s *server, u *ui) error {
	address, err := o.serverAddress(s)
	if err != nil {
		return err
	}
	if exists(o.out) {
		return fault.New(fault.Conflict, "%s exists already", o.out).WithRemedy("say another --out, or move it away")
	}
	filling, err := beginDirectory(o.out)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(filling) }() // gone already when all went well
	key, err := o.createKey(u, filling)
	if err != nil {
		return err
	}
	request, err := pki.NewCSR(key)
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	info, err := invoke(ctx, s.Info, &api.InfoRequest{})
	if err != nil {
		return err
	}
	issued, err := invoke(ctx, s.IssueOperator, &api.IssueOperatorRequest{
		Name: o.name, Csr: request, Lifetime: protoDuration(o.lifetime),
	})
	if err != nil {
		return err
	}
	if err := signs(issued, key); err != nil {
		return err
	}
	err = finishDirectory(filling, o.out, map[string][]byte{
		"cert.pem":    pki.EncodeCertificatesPEM(issued.Chain...),
		"ca.pem":      pki.EncodeCertificatesPEM(issued.Anchors...),
		logKeyFile:    []byte(info.LogKey + "\n"),
		"client.yaml": []byte("server: " + address + "\n"),
	})
	if err != nil {
		return err
	}
	u.say("Credentials of operator %s are in %s. Audit entry %s.", o.name, o.out, issued.AuditId)
	u.note("use them with --credentials %s, or move them to %s", o.out, ownCredentials())
	return nil
}

func (o *operatorOrder) createKey(u *ui, dir string) (crypto.Signer, error) {
	var passphrase []byte
	if o.secret {
		var err error
		if passphrase, err = u.newPassphrase("the key"); err != nil {
			return nil, err
		}
	}
	return keys.CreateFile(filepath.Join(dir, "key.pem"), pki.ECDSAP256, passphrase)
}

// serverAddress is what client.yaml will say. Over the admin socket nothing
// is known of the listener, so the operator has to say it.
func (o *operatorOrder) serverAddress(s *server) (string, error) {
	switch {
	case o.address != "":
		return serverURL(o.address)
	case s.url != "":
		return s.url, nil
	}
	return "", usagef("over the admin socket say where the operators' listener is: --address https://HOST:PORT")
}

// signs checks that the server's answer is of our key.
func signs(issued *api.IssueOperatorResponse, key crypto.Signer) error {
	chain, err := pki.ParseChainDER(issued.Chain)
	if err != nil {
		return fmt.Errorf("the server's answer: %w", err)
	}
	if len(issued.Anchors) == 0 || !pki.KeyMatches(key, chain.Leaf) {
		return fault.New(fault.Internal, "the server sent no anchors, or a certificate of another key than ours")
	}
	return nil
}

// beginDirectory makes a hidden directory beside dir, to be filled.
func beginDirectory(dir string) (filling string, err error) {
	above := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(above, 0o700); err != nil {
		return "", fmt.Errorf("write credentials: %w", err)
	}
	return os.MkdirTemp(above, ".rotunda-")
}

// finishDirectory writes the rest and renames the directory into its place.
func finishDirectory(filling, dir string, files map[string][]byte) error {
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(filling, name), content, 0o600); err != nil {
			return fmt.Errorf("write credentials: %w", err)
		}
	}
	if err := os.Rename(filling, filepath.Clean(dir)); err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	return nil
}
