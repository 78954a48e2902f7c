package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
)

const auditSinksHelp = `Shows where the audit log is sent on (forward in rotunda.yaml), and how far each
sink has taken it.

  current      it has taken every entry that has its place in the log
  behind       entries are on their way
  failing      the newest try came to nothing; it is tried again, and nothing is
               passed over
  undeclared   the rotunda.yaml of the server that answers does not name it (any
               more)`

func newAuditSinksCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "sinks",
		Short:   "Show where the audit log is sent on, and how far that has come",
		Long:    auditSinksHelp,
		Example: `  rotunda audit sinks`,
		Args:    cobra.NoArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			list, err := invoke(ctx, s.ListAuditSinks, &api.ListAuditSinksRequest{})
			if err != nil {
				return err
			}
			return u.show(*output, list, func() {
				sinkTable(u, list).write(u, "The audit log is sent nowhere: rotunda.yaml names no sink under forward.")
			})
		})
	}
	return cmd
}

func sinkTable(u *ui, list *api.ListAuditSinksResponse) *table {
	t := newTable("SINK", "KIND", "ADDRESS", "STATE", "TAKEN", "LAG", "WHAT")
	for _, one := range list.Sinks {
		t.row(one.Name, one.Kind, one.Address, sinkCell(one), fmt.Sprintf("%d of %d", one.Taken, list.Size), number(one.Lag), sinkWhat(u, one))
	}
	return t
}

func sinkCell(one *api.AuditSink) cell {
	s := busy
	switch one.State {
	case "current":
		s = good
	case "failing":
		s = bad
	}
	return cell{one.State, s}
}

func sinkWhat(u *ui, one *api.AuditSink) string {
	switch {
	case one.FailingSince != nil:
		return fmt.Sprintf("since %s, %s: %s", relative(u.now, one.FailingSince), plural(int(one.Tries), "failed attempt"), one.LastError)
	case one.TakenAt != nil:
		return "took some " + relative(u.now, one.TakenAt)
	}
	return ""
}
