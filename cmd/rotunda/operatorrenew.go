package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

func newOperatorRenewCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "renew",
		Short: "Renew the credentials in use, certificate and anchors",
		Long: `Has the server sign a new certificate for the key in the credentials directory,
fetches the anchors that are trusted now, and ends the certificate that was there before.
After a change of trust has activated a new authority, this is how an operator follows it.
ca.pem and cert.pem are replaced one after the other, each as a whole; interrupted at any
point, the credentials work, and it may be run again.`,
		Example: `  rotunda operator renew
  rotunda operator renew --credentials ./ann --lifetime 90d`,
		Args: cobra.NoArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	var lifetime fleet.Duration
	cmd.Flags().Var(&span{&lifetime}, "lifetime", "how `long` the certificate is valid (default: as the server says)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			if s.credentials == "" {
				return usagef("the admin socket needs no credentials: say --credentials DIR, whose are to be renewed")
			}
			renewed, err := renewCredentials(ctx, conn, s, u, lifetime)
			if err != nil {
				return err
			}
			return u.show(*output, renewed, func() {
				u.say("The credentials in %s are renewed. Audit entry %s.", s.credentials, renewed.AuditId)
			})
		})
	}
	return cmd
}

func renewCredentials(ctx context.Context, conn *connection, s *server, u *ui, lifetime fleet.Duration) (*api.IssueOperatorResponse, error) {
	pair, err := operatorCertificate(u, s.credentials)
	if err != nil {
		return nil, err
	}
	old, err := pki.SerialOf(pair.Leaf)
	if err != nil {
		return nil, err
	}
	name, err := operatorName(pair.Leaf)
	if err != nil {
		return nil, err
	}
	key := pair.PrivateKey.(crypto.Signer)
	request, err := pki.NewCSR(key)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	issued, err := invoke(ctx, s.IssueOperator, &api.IssueOperatorRequest{Name: name, Csr: request, Lifetime: protoDuration(lifetime)})
	if err != nil {
		return nil, err
	}
	if err := signs(issued, key); err != nil {
		return nil, err
	}
	if err := replaceCredentials(s.credentials, issued); err != nil {
		return nil, err
	}
	// By the new ones: so what is ended is not the last that works.
	again, err := conn.dial(u)
	if err != nil {
		return nil, err
	}
	defer again.close()
	_, err = invoke(ctx, again.EndCredential, &api.EndCredentialRequest{Serial: old.String()})
	return issued, err
}

// operatorName is whose certificate it is.
func operatorName(leaf *x509.Certificate) (string, error) {
	id, err := spiffeid.FromString(pki.NamesOf(leaf).URI)
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "cert.pem is not an operator's")
	}
	role, name, err := pki.ParseRoleID(id)
	if err == nil && role != pki.RoleOperator {
		err = fault.New(fault.Invalid, "cert.pem is of %s, not of an operator", role)
	}
	return name, err
}

// replaceCredentials writes the anchors first: they hold those of before.
func replaceCredentials(dir string, issued *api.IssueOperatorResponse) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	defer func() { _ = root.Close() }() // nothing is lost
	if err := durable.WriteFile(root, "ca.pem", pki.EncodeCertificatesPEM(issued.Anchors...), 0o600, nil); err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	if err := durable.WriteFile(root, "cert.pem", pki.EncodeCertificatesPEM(issued.Chain...), 0o600, nil); err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	return nil
}
