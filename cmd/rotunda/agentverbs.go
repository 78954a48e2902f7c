package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
)

// addAgentVerbs adds the verbs by which an operator changes an agent's
// record. Running one is agent.go's.
func addAgentVerbs(agent *cobra.Command) {
	agent.AddCommand(newAgentLabelCommand(), newAgentRetireCommand(), newAgentRejoinCommand())
}

func newAgentRetireCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retire ID",
		Short: "Take an agent's identity away",
		Long: `Retires an agent: its identity opens nothing any more and its placements are no
longer renewed. Files on the host stay. rotunda agent rejoin brings it back. It
asks first on a terminal; elsewhere it wants --yes.`,
		Example: `  rotunda agent retire 0199c2f4-… --reason "host is gone" --dry-run
  rotunda agent retire 0199c2f4-… --reason "host is gone" --yes`,
		Args: cobra.ExactArgs(1),
	}
	conn := connectionFlags(cmd.Flags())
	reason := cmd.Flags().String("reason", "", "why, for the audit log")
	dryRun := cmd.Flags().Bool("dry-run", false, "only show what would follow")
	yes := cmd.Flags().Bool("yes", false, "do not ask")
	cmd.ValidArgsFunction = completeFirst(conn, agentIDs)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			would, err := invoke(ctx, s.RetireAgent, &api.RetireAgentRequest{AgentId: args[0], Reason: *reason, DryRun: true})
			if err != nil {
				return err
			}
			u.effects("- agent/"+args[0], would.Effects)
			if *dryRun {
				u.say("Nothing was changed: this was a dry run.")
				return nil
			}
			if err := u.confirm(*yes, "retire agent "+args[0]+"?"); err != nil {
				return err
			}
			done, err := invoke(ctx, s.RetireAgent, &api.RetireAgentRequest{AgentId: args[0], Reason: *reason})
			if err != nil {
				return err
			}
			u.say("Retired. Audit entry %s.", done.AuditId)
			return nil
		})
	}
	return cmd
}

func newAgentRejoinCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rejoin ID",
		Short: "Make a token that gives an agent its identity back",
		Long: `Makes a token by which a host becomes this agent again: after it was retired,
lost its identity, was restored from an older copy, or was away through a
change of trust. Give it to rotunda agent on that host like any token.`,
		Example: "  rotunda agent rejoin 0199c2f4-… --ttl 1h > token",
		Args:    cobra.ExactArgs(1),
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	ttl := fleet.Duration(0)
	cmd.Flags().Var(&span{&ttl}, "ttl", "how `long` it may be used (default: as the server says)")
	cmd.ValidArgsFunction = completeFirst(conn, agentIDs)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return createToken(cmd, conn, *output, &api.CreateTokenRequest{RejoinAgentId: args[0], Ttl: protoDuration(ttl)})
	}
	return cmd
}

func newAgentLabelCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "label ID KEY=VALUE… KEY-…",
		Short: "Set or remove labels of an agent",
		Long: `Sets (KEY=VALUE) or removes (KEY-) labels. They decide which intents select the
agent and what policies allow it, so this may add and remove placements.`,
		Example: `  rotunda agent label 0199c2f4-… rack=7
  rotunda agent label 0199c2f4-… env=prod canary-`,
		Args: cobra.MinimumNArgs(2),
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	cmd.ValidArgsFunction = completeFirst(conn, agentIDs)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		request, err := labelRequest(args[0], args[1:])
		if err != nil {
			return err
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			done, err := invoke(ctx, s.LabelAgent, request)
			if err != nil {
				return err
			}
			return u.show(*output, done, func() {
				u.say("%s", pairs(done.Agent.GetLabels()))
				u.say("Labelled. Audit entry %s.", done.AuditId)
			})
		})
	}
	return cmd
}

func labelRequest(id string, words []string) (*api.LabelAgentRequest, error) {
	request := &api.LabelAgentRequest{AgentId: id, Set: map[string]string{}}
	for _, word := range words {
		if key, value, ok := strings.Cut(word, "="); ok && key != "" {
			request.Set[key] = value
			continue
		}
		key, ok := strings.CutSuffix(word, "-")
		if !ok || key == "" || strings.Contains(word, "=") {
			return nil, usagef("%q is neither KEY=VALUE, to set, nor KEY-, to remove", word)
		}
		request.Remove = append(request.Remove, key)
	}
	return request, nil
}
