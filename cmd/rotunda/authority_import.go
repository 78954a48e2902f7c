package main

import (
	"context"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// foreignOrder is one run of authority import.
type foreignOrder struct {
	request           *api.ImportAuthorityRequest
	root, key         string // files: of the certificate, of its key
	issuing           []string
	asked, answeredBy string // files: a request to write, what was signed for it elsewhere
	signing           signing
	yes               bool
	output            *format
}

func newAuthorityImportCommand() *cobra.Command {
	o := &foreignOrder{request: &api.ImportAuthorityRequest{}}
	cmd := &cobra.Command{
		Use:   "import --name NAME --certificate FILE",
		Short: "Record a root whose key is somebody else's, or one whose key you have",
		Long: `Records a root that is not ours, so that Bundle documents can name it and a change of
trust can lead away from it: rotunda trust rotate root --from NAME. With --trusted it also goes
into the trust domain's bundle: every host then takes what is under it, until such a change
has withdrawn it.

What will be impossible or unprovable under such a root is said. Whether a process would still
take what is under it can be proven where its key is at hand: say --key FILE. The key is opened
here, in this process, signs one certificate, and stays in its file, which nobody else may be
able to read; it is not sent, kept or shown. What it signs is an authority that the server makes
the key of and keeps sealed, for canaries alone: no name that any service has fits into it.

The key may be added to a root that was recorded without: the same command once more, with
--key. Where it is on another machine, --request FILE writes what is to be signed there by
rotunda authority sign, and --response FILE takes what that wrote.`,
		Example: `  rotunda authority import --name corp-root --certificate corp.pem --dry-run
  rotunda authority import --name corp-root --certificate corp.pem --issuing corp-tls.pem --trusted --reason migration
  rotunda authority import --name corp-root --certificate corp.pem --key corp-key.pem
  rotunda trust rotate root --from corp-root --reason migration`,
		Args: cobra.NoArgs,
	}
	conn := connectionFlags(cmd.Flags())
	o.output = outputFlag(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.request.Name, "name", "", "what it is to be called here")
	flags.StringVar(&o.root, "certificate", "", "`file` with the root's certificate (PEM)")
	flags.StringVar(&o.key, "key", "", "`file` with the root's private key (PEM: PKCS #8, SEC 1 or PKCS #1): lets canaries be signed under it")
	flags.StringVar(&o.asked, "request", "", "write the request for a key that is elsewhere to this `file`, and record nothing")
	flags.StringVar(&o.answeredBy, "response", "", "the `file` that rotunda authority sign wrote")
	flags.StringArrayVar(&o.issuing, "issuing", nil, "`file` with certificates of issuing authorities under it; may be repeated")
	flags.BoolVar(&o.request.Trusted, "trusted", false, "put it into the trust domain's bundle")
	flags.StringVar(&o.request.Reason, "reason", "", "why, for the audit log")
	flags.BoolVar(&o.request.DryRun, "dry-run", false, "only check it")
	flags.BoolVar(&o.yes, "yes", false, "do not ask")
	cmd.MarkFlagRequired("name")
	cmd.MarkFlagRequired("certificate")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case count(o.key != "", o.asked != "", o.answeredBy != "") > 1:
			return usagef("one of --key, --request and --response")
		case o.asked != "" && (o.request.DryRun || o.request.Trusted || len(o.issuing) > 0):
			return usagef("--request records nothing: say --trusted, --issuing and --dry-run with --response")
		}
		if err := o.read(newUI(cmd)); err != nil { // before a server is asked
			return err
		}
		return conn.with(cmd, o.run)
	}
	return cmd
}

// read reads the files, and holds the key to the certificate.
func (o *foreignOrder) read(u *ui) error {
	roots, err := certificatesIn(o.root)
	if err != nil {
		return err
	}
	if len(roots) != 1 {
		return fault.New(fault.Invalid, "%s holds %d certificates, a root is one", o.root, len(roots)).WithRemedy("give those of issuing authorities with --issuing")
	}
	o.request.Root = roots[0]
	for _, path := range o.issuing {
		more, err := certificatesIn(path)
		if err != nil {
			return err
		}
		o.request.Issuing = append(o.request.Issuing, more...)
	}
	if o.answeredBy != "" {
		o.request.Response, err = os.ReadFile(o.answeredBy)
		return err
	}
	if o.key == "" {
		return nil
	}
	o.signing.rootKey = o.key
	if err := o.signing.open(u); err != nil {
		return err
	}
	root, err := x509.ParseCertificate(o.request.Root)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "%s", o.root)
	}
	if !pki.KeyMatches(o.signing.old, root) {
		return fault.New(fault.Invalid, "the key in %s is not that of the certificate in %s, %q", o.key, o.root, root.Subject).
			WithRemedy("give the key of that very certificate; that of an authority below it is of no use")
	}
	return nil
}

func (o *foreignOrder) run(ctx context.Context, s *server, u *ui) error {
	if o.asked != "" {
		return o.ask(ctx, s, u)
	}
	if o.request.Trusted && !o.request.DryRun {
		if err := u.confirm(o.yes, "Have every host take what is under "+o.request.Name+"?"); err != nil {
			return err
		}
	}
	if o.key != "" {
		prepared, err := invoke(ctx, s.PrepareTrust, o.prepare())
		if err != nil {
			return err
		}
		if o.request.Response, err = o.signing.sign(u, prepared.Request); err != nil {
			return err
		}
	}
	done, err := invoke(ctx, s.ImportAuthority, o.request)
	if err != nil {
		return err
	}
	return u.show(*o.output, done, func() { o.show(u, done) })
}

func (o *foreignOrder) prepare() *api.PrepareTrustRequest {
	return &api.PrepareTrustRequest{Kind: "canaries", Root: o.request.Root}
}

// ask writes down what is to be signed where the key is.
func (o *foreignOrder) ask(ctx context.Context, s *server, u *ui) error {
	if exists(o.asked) {
		return fault.New(fault.Conflict, "%s exists already", o.asked).WithRemedy("say another --request, or move it away")
	}
	prepared, err := invoke(ctx, s.PrepareTrust, o.prepare())
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.asked, prepared.Request, 0o644); err != nil {
		return err
	}
	return u.show(*o.output, prepared, func() {
		u.say("The request is in %s. Nothing was recorded.", o.asked)
		u.note("where the root's key is: rotunda authority sign --request %s --root-key KEY --out response.json", filepath.Base(o.asked))
		u.note("then here: rotunda authority import --name %s --certificate %s --response response.json", o.request.Name, o.root)
	})
}

func (o *foreignOrder) show(u *ui, done *api.ImportAuthorityResponse) {
	for _, warning := range done.Warnings {
		u.note("%s", warning)
	}
	if o.request.DryRun {
		u.say("It can be recorded as %s. Nothing was changed: this was a dry run.", strings.Join(done.Names, ", "))
		return
	}
	u.say("Recorded: %s.", strings.Join(done.Names, ", "))
	if done.Canaries != "" {
		u.note("%s signs canaries under it, and nothing else. The root's key was not kept: its file may go offline again.", done.Canaries)
	}
	u.note("Audit entry %s. A change away from it: rotunda trust rotate root --from %s", done.AuditId, o.request.Name)
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
