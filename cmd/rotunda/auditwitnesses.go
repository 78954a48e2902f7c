package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
)

const auditWitnessesHelp = `Shows who outside is asked to cosign the audit log (witnesses in rotunda.yaml), how
much each has cosigned, and which checkpoint is published.

  current      it has cosigned the newest checkpoint
  behind       it is asked
  failing      the newest try came to nothing; it is tried again
  alarm        it has something else of the log than there is, or has forgotten what
               it cosigned. That stays: find out why, then name the witness anew in
               rotunda.yaml
  undeclared   the rotunda.yaml of the server that answers does not name it (any
               more)`

func newAuditWitnessesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "witnesses",
		Short:   "Show who cosigned how much of the audit log",
		Long:    auditWitnessesHelp,
		Example: `  rotunda audit witnesses`,
		Args:    cobra.NoArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			list, err := invoke(ctx, s.ListAuditWitnesses, &api.ListAuditWitnessesRequest{})
			if err != nil {
				return err
			}
			return u.show(*output, list, func() {
				witnessTable(u, list).write(u, "Nobody outside is asked to cosign the audit log: rotunda.yaml names no witness.")
				if len(list.Witnesses) > 0 {
					u.say("\n%s", publishedWords(u, list))
				}
			})
		})
	}
	return cmd
}

func witnessTable(u *ui, list *api.ListAuditWitnessesResponse) *table {
	t := newTable("WITNESS", "URL", "STATE", "COSIGNED", "WHAT")
	for _, one := range list.Witnesses {
		t.row(one.Name, one.Url, witnessCell(one), fmt.Sprintf("%d of %d", one.Size, list.Size), witnessWhat(u, one))
	}
	return t
}

func witnessCell(one *api.AuditWitness) cell {
	s := busy
	switch one.State {
	case "current":
		s = good
	case "failing", "alarm":
		s = bad
	}
	return cell{one.State, s}
}

// witnessWhat says what is wrong with a witness: an alarm stays, so what is the matter
// now stands behind it where that is another thing.
func witnessWhat(u *ui, one *api.AuditWitness) string {
	failing := ""
	if one.FailingSince != nil {
		failing = fmt.Sprintf("since %s, %s: %s", relative(u.now, one.FailingSince), plural(int(one.Tries), "failed attempt"), one.LastError)
	}
	switch {
	case one.AlarmAt != nil && failing != "" && one.LastError != one.Alarm:
		return fmt.Sprintf("since %s: %s; now failing, %s", relative(u.now, one.AlarmAt), one.Alarm, failing)
	case one.AlarmAt != nil:
		return fmt.Sprintf("since %s: %s", relative(u.now, one.AlarmAt), one.Alarm)
	case failing != "":
		return failing
	case one.CosignedAt != nil:
		return "cosigned " + relative(u.now, one.CosignedAt)
	}
	return ""
}

func publishedWords(u *ui, list *api.ListAuditWitnessesResponse) string {
	published := "none yet"
	if list.Published > 0 {
		published = fmt.Sprintf("the checkpoint of %d entries", list.Published)
	}
	words := fmt.Sprintf("Published: %s; required: %s.", published, plural(int(list.Required), "cosignature"))
	if list.UnpublishedSince != nil {
		words += fmt.Sprintf(" What was signed since %s waits for them.", relative(u.now, list.UnpublishedSince))
	}
	return words
}
