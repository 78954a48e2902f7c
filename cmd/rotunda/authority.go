package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

func newAuthorityCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "authority",
		Short: "A region's authority; sign where a root's key is; foreign authorities; a root's CRL",
		Example: `  rotunda authority sign --request request.json --root-key key.pem --new-root root-2 --out response.json
  rotunda authority create --region eu --root-key key.pem
  rotunda authority stop issuing-eu --reason "the HSM is being moved"
  rotunda authority import --name corp-root --certificate corp.pem --trusted
  rotunda authority crl root --root-key key.pem`,
	}
	cmd.AddCommand(newAuthorityCreateCommand(), newAuthorityStopCommand(), newAuthorityStartCommand())
	cmd.AddCommand(newAuthoritySignCommand(), newAuthorityImportCommand(), newAuthorityCRLCommand())
	return cmd
}

func newAuthoritySignCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sign --request FILE --out FILE",
		Short: "Carry out a request of rotunda trust rotate, on a machine without a network",
		Long: `Signs what a request asks for, with the root's key in a file here, and writes a
response for rotunda trust begin. It speaks with no server. Look at the request before: it is
JSON, and says which names the new issuing authority may certify.

For a new root its key is made in the directory of --new-root. The old root's key makes the
bridge; without it there is none, and every party then needs the new root itself.`,
		Example: `  rotunda authority sign --request request.json --root-key key.pem --out response.json
  rotunda authority sign --request request.json --root-key key.pem --new-root root-2 --out response.json`,
		Args: cobra.NoArgs,
	}
	var request, out string
	g := &signing{}
	flags := cmd.Flags()
	g.flags(flags)
	flags.StringVar(&request, "request", "", "the request `file`")
	flags.StringVar(&out, "out", "", "the `file` to write the response to")
	cmd.MarkFlagRequired("request")
	cmd.MarkFlagRequired("out")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		u := newUI(cmd)
		text, err := os.ReadFile(request)
		if err != nil {
			return err
		}
		parsed, err := ca.ParseCeremonyRequest(text)
		if err != nil {
			return err
		}
		kind := "issuing"
		if parsed.NewRoot != nil {
			kind = "root"
		}
		if err := g.check(kind); err != nil {
			return err
		}
		if exists(out) {
			return fault.New(fault.Conflict, "%s exists already", out).WithRemedy("say another --out, or move it away")
		}
		if err := g.open(u); err != nil {
			return err
		}
		response, err := g.sign(u, text)
		if err != nil {
			return err
		}
		if err := os.WriteFile(out, response, 0o644); err != nil {
			return err
		}
		u.say("Signed: %q. The response is in %s.", parsed.Issuing.Name, out)
		u.note("carry it back, then: rotunda trust begin --response %s (of a region's first: rotunda authority create --response %s; of canaries: rotunda authority import --response %s)", out, out, out)
		return nil
	}
	return cmd
}
