package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
)

func newAuthorityStopCommand() *cobra.Command {
	return newAuthorityUseCommand(true, &cobra.Command{
		Use:   "stop NAME --reason WHY",
		Short: "Put an issuing authority out of use: another signs in its place",
		Long: `From now on the authority signs no certificate. Another takes its place: the one of no region,
else the first by name. What it has signed stays good, its lists of revoked certificates go on, and
rotunda status says so until rotunda authority start.

This is for an authority that is down. One whose key is in other hands: rotunda compromise authority.`,
		Example: `  rotunda authority stop issuing-eu --reason "the HSM is being moved" --dry-run
  rotunda authority stop issuing-eu --reason "the HSM is being moved"`,
	})
}

func newAuthorityStartCommand() *cobra.Command {
	return newAuthorityUseCommand(false, &cobra.Command{
		Use:     "start NAME",
		Short:   "Put an issuing authority in use again",
		Example: `  rotunda authority start issuing-eu`,
	})
}

func newAuthorityUseCommand(stop bool, cmd *cobra.Command) *cobra.Command {
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	request := &api.DecideAuthorityRequest{Stop: stop}
	cmd.Args, cmd.ValidArgsFunction = cobra.ExactArgs(1), completeFirst(conn, authorityNames)
	cmd.Flags().StringVar(&request.Reason, "reason", "", "why, for the audit log and for rotunda status")
	cmd.Flags().BoolVar(&request.DryRun, "dry-run", false, "only say who would sign")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		request.Name = args[0]
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			decided, err := invoke(ctx, s.DecideAuthority, request)
			if err != nil {
				return err
			}
			return u.show(*output, decided, func() {
				whose := "region " + decided.Authority.Region
				if decided.Authority.Region == "" {
					whose = "what is of no region"
				}
				if request.DryRun {
					u.say("%s would sign for %s. Nothing was changed: this was a dry run.", decided.Signer, whose)
					return
				}
				u.say("%s signs for %s.", decided.Signer, whose)
				u.note("Audit entry %s.", decided.AuditId)
			})
		})
	}
	return cmd
}
