package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
)

func newRotateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate INTENT | --placement ID | --all",
		Short: "Ask for a new generation now, without waiting for the renewal window",
		Long: `Asks that placements renew now. The wish is recorded: agents that are away follow
it when they return, and asking twice is no more than asking once. Slots hold
as ever, so that no cluster loses more members at a time than it may.

Many placements do not go at once: they begin spread over a time, which the
server chooses unless --over says it, and which is shown with the pace. With
--wait it follows them until each has rotated, and fails if one of them fails;
interrupting it changes nothing, the rotations go on.`,
		Example: `  rotunda rotate orders-db --dry-run
  rotunda rotate orders-db --new-key --reason "key seen in a core dump" --wait
  rotunda rotate --placement 0199c2f4-…
  rotunda rotate --all --over 8h --reason "quarterly exercise"`,
		Args: cobra.MaximumNArgs(1),
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	request := &api.RotateRequest{}
	var over fleet.Duration
	flags := cmd.Flags()
	flags.BoolVar(&request.All, "all", false, "every placement of every intent")
	flags.StringVar(&request.Placement, "placement", "", "one placement, by its `id`")
	flags.BoolVar(&request.NewKey, "new-key", false, "with a new key, whatever the age of the present one")
	flags.StringVar(&request.Reason, "reason", "", "why, for the audit log")
	flags.BoolVar(&request.DryRun, "dry-run", false, "only show which placements it would be")
	flags.Var(&span{&over}, "over", "spread the beginnings over this `time`, such as 10m; 0s: all at once (default: as the server says)")
	wait := flags.Bool("wait", false, "follow them until all have rotated, or one failed")
	cmd.ValidArgsFunction = completeFirst(conn, intentNames)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			request.Intent = args[0]
		}
		switch {
		case count(request.Intent != "", request.All, request.Placement != "") != 1:
			return usagef("say what to rotate: one of INTENT, --placement ID and --all")
		case *wait && request.DryRun:
			return usagef("with --dry-run there is nothing to --wait for")
		}
		if cmd.Flags().Changed("over") {
			request.Over = spanOf(over)
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			done, err := invoke(ctx, s.Rotate, request)
			if err != nil {
				return err
			}
			u.meetHosts(ctx, s, *output)
			if err := u.show(*output, done, func() { u.showRotate(done, request.DryRun) }); err != nil || !*wait {
				return err
			}
			return awaitRotation(ctx, s, u, done)
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
	n := max(len(done.Placements), len(done.Affected))
	if dryRun {
		u.say("%s would rotate%s. Nothing was changed: this was a dry run.", plural(n, "placement"), pace(done, n))
		return
	}
	u.say("%s will rotate%s. Audit entry %s. rotunda watch shows how it goes.", plural(n, "placement"), pace(done, n), done.AuditId)
}

// pace is how long it takes until the last one begins, and how many begin in a
// minute, an hour or a day: what is more than one of.
func pace(done *api.RotateResponse, placements int) string {
	over := done.Over.AsDuration()
	if done.Over == nil || over <= 0 || placements < 2 {
		return ""
	}
	for _, unit := range []struct {
		time time.Duration
		name string
	}{{time.Second, "a second"}, {time.Minute, "a minute"}, {time.Hour, "an hour"}, {24 * time.Hour, "a day"}} {
		if each := float64(placements) * float64(unit.time) / float64(over); each >= 1 && unit.time <= over {
			return fmt.Sprintf(" within %s, about %.0f %s", rough(over), each, unit.name)
		}
	}
	return fmt.Sprintf(" within %s, one in %s", rough(over), rough(over/time.Duration(placements)))
}
