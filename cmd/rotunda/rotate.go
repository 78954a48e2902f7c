package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
)

func newRotateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate INTENT | --placement ID | --all",
		Short: "Ask for a new generation now, without waiting for the renewal window",
		Long: `Asks that placements renew now. The wish is recorded: agents that are away follow
it when they return, and asking twice is no more than asking once. Slots hold
as ever, so that no cluster loses two members at a time.`,
		Example: `  rotunda rotate orders-db --dry-run
  rotunda rotate orders-db --new-key --reason "key seen in a core dump"
  rotunda rotate --placement 0199c2f4-…
  rotunda rotate --all --reason "quarterly exercise"`,
		Args: cobra.MaximumNArgs(1),
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	request := &api.RotateRequest{}
	flags := cmd.Flags()
	flags.BoolVar(&request.All, "all", false, "every placement of every intent")
	flags.StringVar(&request.Placement, "placement", "", "one placement, by its `id`")
	flags.BoolVar(&request.NewKey, "new-key", false, "with a new key, whatever the age of the present one")
	flags.StringVar(&request.Reason, "reason", "", "why, for the audit log")
	flags.BoolVar(&request.DryRun, "dry-run", false, "only show which placements it would be")
	cmd.ValidArgsFunction = completeFirst(conn, intentNames)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			request.Intent = args[0]
		}
		if ways := count(request.Intent != "", request.All, request.Placement != ""); ways != 1 {
			return usagef("say what to rotate: one of INTENT, --placement ID and --all")
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			done, err := invoke(ctx, s.Rotate, request)
			if err != nil {
				return err
			}
			u.meetHosts(ctx, s, *output, &api.ListPlacementsRequest{})
			return u.show(*output, done, func() { u.showRotate(done, request.DryRun) })
		})
	}
	return cmd
}

func count(conditions ...bool) int {
	n := 0
	for _, condition := range conditions {
		if condition {
			n++
		}
	}
	return n
}

func (u *ui) showRotate(done *api.RotateResponse, dryRun bool) {
	if len(done.Affected) > 0 {
		statusTable(u, done.Affected).write(u, "")
	}
	placements := plural(max(len(done.Placements), len(done.Affected)), "placement")
	if dryRun {
		u.say("%s would rotate. Nothing was changed: this was a dry run.", placements)
		return
	}
	u.say("%s will rotate. Audit entry %s. rotunda watch shows how it goes.", placements, done.AuditId)
}
