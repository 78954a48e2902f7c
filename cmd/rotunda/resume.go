package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
)

func newResumeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resume INTENT",
		Short: "Let an intent go on after failures stopped it",
		Long: `Closes an intent's breaker, which opened after failures, and clears the back-off
of its placements: they try again at once. Mend the cause first.`,
		Example: `  rotunda resume orders-db --reason "address in the intent was wrong"`,
		Args:    cobra.ExactArgs(1),
	}
	conn := connectionFlags(cmd.Flags())
	reason := cmd.Flags().String("reason", "", "why, for the audit log")
	cmd.ValidArgsFunction = completeFirst(conn, intentNames)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			done, err := invoke(ctx, s.Resume, &api.ResumeRequest{Intent: args[0], Reason: *reason})
			if err != nil {
				return err
			}
			u.say("Resumed. Audit entry %s.", done.AuditId)
			return nil
		})
	}
	return cmd
}
