package main

import (
	"github.com/spf13/cobra"
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
bridge; without it there is none, and every party then needs the new root itself.

--dry-run says what would be signed, by which key, and whether there can be a bridge; a new
root's key is made for that in memory, and nothing is written.`,
		Example: `  rotunda authority sign --request request.json --root-key key.pem --dry-run
  rotunda authority sign --request request.json --root-key key.pem --out response.json
  rotunda authority sign --request request.json --root-key key.pem --new-root root-2 --out response.json`,
		Args: cobra.NoArgs,
	}
	o := &ceremonyOrder{output: outputFlag(cmd)}
	flags := cmd.Flags()
	o.signing.flags(flags)
	flags.StringVar(&o.request, "request", "", "the request `file`")
	flags.StringVar(&o.out, "out", "", "the `file` to write the response to")
	flags.BoolVar(&o.dryRun, "dry-run", false, "only say what would be signed")
	cmd.MarkFlagRequired("request")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if o.out == "" && !o.dryRun {
			return usagef("say where the response goes: --out FILE; or --dry-run")
		}
		return o.run(newUI(cmd))
	}
	return cmd
}
