package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
)

func newEmergencyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "emergency",
		Short: "Get back in when certificates have expired",
		Long: `For the day when nothing can be reached by its certificate any more.
docs/runbooks/break-glass.md has the steps.`,
	}
	cmd.AddCommand(newEmergencyOpenCommand(), newEmergencyCloseCommand(), newEmergencyListCommand(), newEmergencyCreateCommand(), newEmergencyUseCommand())
	return cmd
}

func newEmergencyOpenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "open --agents all --for 1h --reason TEXT",
		Short: "Let agents whose identities have expired renew them",
		Long: `For a while, an agent may renew its identity by the one that has expired: the
certificate must be on record and unrevoked, the agent not retired, and its key
signs the request. It may do nothing else before it has the new one. Agents that
run ask by themselves, within half a minute. Each renewal is in the audit log,
and rotunda status shows the window while it is open.`,
		Example: `  rotunda emergency open --agents all --for 1h --reason "outage over new year"
  rotunda emergency open --agents 0199c2f4-…,0199c2f5-… --for 30m --reason "hosts were off"`,
		Args: cobra.NoArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	agents := cmd.Flags().StringSlice("agents", nil, "the agents' `ids`, or all")
	lasts := cmd.Flags().Duration("for", 0, "how long, 1m to 24h")
	reason := cmd.Flags().String("reason", "", "why, for the audit log")
	for _, name := range []string{"agents", "for", "reason"} {
		cmd.MarkFlagRequired(name)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		request := &api.OpenEmergencyRequest{Agents: *agents, Lasts: durationpb.New(*lasts), Reason: *reason}
		if len(*agents) == 1 && (*agents)[0] == "all" {
			request.Agents, request.All = nil, true
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			response, err := invoke(ctx, s.OpenEmergency, request)
			if err != nil {
				return err
			}
			return u.show(*output, response, func() {
				u.say("Open until %s, as window %s. Audit entry %s.", response.Window.EndsAt.AsTime().Format(time.RFC3339), response.Window.Id, response.AuditId)
			})
		})
	}
	return cmd
}

func newEmergencyCloseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "close [ID]",
		Short:   "End emergency windows before their time",
		Example: `  rotunda emergency close`,
		Args:    cobra.MaximumNArgs(1),
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			response, err := invoke(ctx, s.CloseEmergency, &api.CloseEmergencyRequest{Id: strings.Join(args, "")})
			if err != nil {
				return err
			}
			return u.show(*output, response, func() {
				if response.Count == 0 {
					u.say("None was open.")
					return
				}
				u.say("%s closed. Audit entry %s.", plural(int(response.Count), "window"), response.AuditId)
			})
		})
	}
	return cmd
}

func newEmergencyListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "Show windows that are open, and emergency credentials with their use",
		Example: `  rotunda emergency list`,
		Args:    cobra.NoArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			list, err := invoke(ctx, s.ListEmergencies, &api.ListEmergenciesRequest{})
			if err != nil {
				return err
			}
			return u.show(*output, list, func() { showEmergencies(u, list) })
		})
	}
	return cmd
}

func showEmergencies(u *ui, list *api.ListEmergenciesResponse) {
	windows := newTable("WINDOW", "AGENTS", "ENDS", "RENEWED", "BY", "REASON")
	for _, w := range list.Windows {
		agents := "all"
		if len(w.Agents) > 0 {
			agents = number(uint64(len(w.Agents)))
		}
		windows.row(w.Id, agents, u.expiry(w.EndsAt), number(uint64(w.Renewed)), w.OpenedBy, w.Reason)
	}
	windows.write(u, "No window is open.")
	credentials := newTable("CREDENTIAL", "SERIAL", "EXPIRES", "USED", "LAST", "MADE BY")
	for _, one := range list.Credentials {
		used := number(uint64(one.Used)) + " of " + number(uint64(one.Uses))
		if one.Revoked {
			used += ", revoked"
		}
		credentials.row(one.Name, shortSerial(one.Serial), u.expiry(one.NotAfter), used, since(u.now, one.LastUsedAt), one.CreatedBy)
	}
	credentials.write(u, "There are no emergency credentials: rotunda emergency create makes one.")
}
