package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
)

const noticesHelp = `Shows what the owners of services are told of rollouts and changes of trust: that
one is about to touch their service, touches it, is held by a breaker, is over.

  pending       it is posted, again and again with growing pauses, until it is taken
  sent          the owner's side took it
  undelivered   it was tried too often; rotunda notices retry has it tried anew

It is posted to spec.owner.notify of the service, or to notices.url of the server.`

func newNoticesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "notices",
		Short: "Show what owners of services are told of changes, and whether they took it",
		Long:  noticesHelp,
		Example: `  rotunda notices
  rotunda notices --all
  rotunda notices retry`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%s has no command %q: it is retry, or nothing", cmd.CommandPath(), args[0])
			}
			return nil
		},
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	request := &api.ListNoticesRequest{}
	cmd.Flags().BoolVar(&request.Sent, "all", false, "those that were sent, too: of all the newest thousand")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			list, err := invoke(ctx, s.ListNotices, request)
			if err != nil {
				return err
			}
			empty := "Every owner took what he was told. --all shows it."
			if request.Sent {
				empty = "Nobody was told anything yet."
			}
			return u.show(*output, list, func() { noticeTable(u, list.Notices).write(u, empty) })
		})
	}
	cmd.AddCommand(newNoticesRetryCommand())
	return cmd
}

func noticeTable(u *ui, notices []*api.Notice) *table {
	t := newTable("ID", "CHANGE", "EVENT", "SERVICE", "STATE", "MADE", "TRIES", "WHAT")
	for _, n := range notices {
		t.row(n.Id, n.Kind+" "+n.ChangeName, n.Event, n.Service, noticeCell(n), relative(u.now, n.MadeAt), strconv.Itoa(int(n.Tries)), noticeWhat(u, n))
	}
	return t
}

func noticeCell(n *api.Notice) cell {
	s := busy
	switch n.State {
	case "sent":
		s = good
	case "undelivered":
		s = bad
	}
	return cell{n.State, s}
}

func noticeWhat(u *ui, n *api.Notice) string {
	switch {
	case n.State == "sent":
		return "taken " + relative(u.now, n.EndedAt)
	case n.State == "undelivered":
		return "given up " + relative(u.now, n.EndedAt) + ": " + n.LastError
	case n.LastError != "":
		return "again " + relative(u.now, n.NextAt) + ": " + n.LastError
	}
	return ""
}

// noticeWords is how many owners took what they were told of a change; empty:
// nobody was told anything.
func noticeWords(notices []*api.Notice) string {
	if len(notices) == 0 {
		return ""
	}
	counts := map[string]int{}
	for _, n := range notices {
		counts[n.State]++
	}
	text := fmt.Sprintf("owners: %s, %d taken", plural(len(notices), "notice"), counts["sent"])
	for _, state := range []string{"pending", "undelivered"} {
		if counts[state] > 0 {
			text += fmt.Sprintf(", %d %s", counts[state], state)
		}
	}
	if counts["sent"] < len(notices) {
		text += "; rotunda notices"
	}
	return text
}

func newNoticesRetryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retry [ID]",
		Short: "Have undelivered notices tried anew: one, or all",
		Example: `  rotunda notices retry
  rotunda notices retry 0199c2f4-…`,
		Args: cobra.MaximumNArgs(1),
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		request := &api.RetryNoticesRequest{}
		if len(args) > 0 {
			request.Id = args[0]
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			done, err := invoke(ctx, s.RetryNotices, request)
			if err != nil {
				return err
			}
			return u.show(*output, done, func() {
				if done.Count == 0 {
					u.say("No notice is undelivered.")
					return
				}
				u.say("%s tried anew. Audit entry %s.", plural(int(done.Count), "notice"), done.AuditId)
			})
		})
	}
	return cmd
}
