package main

import (
	"context"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

func newAuthorityImportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import --name NAME --certificate FILE",
		Short: "Record a root whose key is somebody else's",
		Long: `Records a root that is not ours, so that Bundle documents can name it and a change of
trust can lead away from it: rotunda trust rotate root --from NAME. With --trusted it also goes
into the trust domain's bundle: every host then takes what is under it, until such a change
has withdrawn it.

What will be impossible or unprovable under such a root is said.`,
		Example: `  rotunda authority import --name corp-root --certificate corp.pem --dry-run
  rotunda authority import --name corp-root --certificate corp.pem --issuing corp-tls.pem --trusted --reason migration
  rotunda trust rotate root --from corp-root --reason migration`,
		Args: cobra.NoArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	request := &api.ImportAuthorityRequest{}
	var root string
	var issuing []string
	flags := cmd.Flags()
	flags.StringVar(&request.Name, "name", "", "what it is to be called here")
	flags.StringVar(&root, "certificate", "", "`file` with the root's certificate (PEM)")
	flags.StringArrayVar(&issuing, "issuing", nil, "`file` with certificates of issuing authorities under it; may be repeated")
	flags.BoolVar(&request.Trusted, "trusted", false, "put it into the trust domain's bundle")
	flags.StringVar(&request.Reason, "reason", "", "why, for the audit log")
	flags.BoolVar(&request.DryRun, "dry-run", false, "only check it")
	yes := flags.Bool("yes", false, "do not ask")
	cmd.MarkFlagRequired("name")
	cmd.MarkFlagRequired("certificate")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		roots, err := certificatesIn(root)
		if err != nil {
			return err
		}
		if len(roots) != 1 {
			return fault.New(fault.Invalid, "%s holds %d certificates, a root is one", root, len(roots)).WithRemedy("give those of issuing authorities with --issuing")
		}
		request.Root = roots[0]
		for _, path := range issuing {
			more, err := certificatesIn(path)
			if err != nil {
				return err
			}
			request.Issuing = append(request.Issuing, more...)
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			if request.Trusted && !request.DryRun {
				if err := u.confirm(*yes, "Have every host take what is under "+request.Name+"?"); err != nil {
					return err
				}
			}
			done, err := invoke(ctx, s.ImportAuthority, request)
			if err != nil {
				return err
			}
			return u.show(*output, done, func() { u.showImported(request, done) })
		})
	}
	return cmd
}

func (u *ui) showImported(request *api.ImportAuthorityRequest, done *api.ImportAuthorityResponse) {
	for _, warning := range done.Warnings {
		u.note("%s", warning)
	}
	if request.DryRun {
		u.say("It can be recorded as %s. Nothing was changed: this was a dry run.", strings.Join(done.Names, ", "))
		return
	}
	u.say("Recorded: %s.", strings.Join(done.Names, ", "))
	u.note("Audit entry %s. A change away from it: rotunda trust rotate root --from %s", done.AuditId, request.Name)
}

// certificatesIn are the certificates of a PEM file, in DER.
func certificatesIn(path string) (ders [][]byte, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	certificates, err := pki.ParseCertificatesPEM(text)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "%s", path)
	}
	for _, one := range certificates {
		ders = append(ders, one.Raw)
	}
	return ders, nil
}
