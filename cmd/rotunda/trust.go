package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/trust"
)

const trustHelp = `Replaces a root, or the issuing authority under it, beneath a running fleet: by
evidence, not by calendar. A change goes through these phases, each behind a
gate, and goes on by itself as far as it was let:

  distribute  the new anchor goes into every bundle that has the old one
  prove       every relying party adopts it, proven where its kind can show it
  reissue     the new authority signs; every managed certificate is renewed
  drain       nothing live needs the old anchor any more
  unbridge    nobody serves the bridge any more
  withdraw    the old anchor leaves the bundles
  refuse      every relying party shows that it refuses what is under the old
  retire      the old authority's key is destroyed

Before withdraw a change can be turned back. Whoever holds it up is named by
rotunda trust status, with what to do.`

func newTrustCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Replace a root or an issuing authority under the running fleet",
		Long:  trustHelp,
		Example: `  rotunda trust rotate root --root-key root/key.pem --new-root root-2 --reason "root ends in 2027"
  rotunda trust status --watch
  rotunda trust advance                  # let it withdraw the old root, too
  rotunda trust prepare --standby --root-key root/key.pem --new-root standby
  rotunda trust failover --reason "the root's key leaked"`,
	}
	cmd.AddCommand(newTrustStatusCommand(), newTrustRotateCommand(), newTrustPrepareCommand(), newTrustFailoverCommand(), newTrustBeginCommand(),
		newTrustAdvanceCommand(), newTrustPauseCommand(), newTrustBackCommand())
	return cmd
}

func newTrustStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [ID]",
		Short: "Show how far changes of trust have come, who holds them up, and what to do",
		Example: `  rotunda trust status
  rotunda trust status --all --output json
  rotunda trust status --watch`,
		Args: cobra.MaximumNArgs(1),
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	request := &api.ListTrustRequest{}
	cmd.Flags().BoolVar(&request.All, "all", false, "those that ended long ago, too")
	watch := cmd.Flags().Bool("watch", false, "go on showing it until it has ended")
	cmd.ValidArgsFunction = completeFirst(conn, trustIDs)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			request.Id = args[0]
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			if *watch {
				return u.watchTrust(ctx, s, request, *output)
			}
			list, err := invoke(ctx, s.ListTrust, request)
			if err != nil {
				return err
			}
			if *output == formatTable {
				u.hosts = knownHosts(ctx, s)
			}
			return u.show(*output, list, func() { u.showChanges(list.Changes) })
		})
	}
	return cmd
}

func (u *ui) showChanges(changes []*api.TrustChange) {
	if len(changes) == 0 {
		u.note("No trust has been changed here. Begin with: rotunda trust rotate root --help")
		return
	}
	for i, change := range changes {
		if i > 0 {
			u.say("")
		}
		u.showChange(change)
	}
}

// watchEvery is how often a change of trust is looked at again.
const watchEvery = time.Second

// watchTrust shows a change again whenever it is another one than before, until
// none is under way. The operator's credentials may be renewed meanwhile: what
// fails is tried once more with those that are there then.
func (u *ui) watchTrust(ctx context.Context, s *server, request *api.ListTrustRequest, output format) error {
	var last string
	for {
		list, err := invoke(ctx, s.ListTrust, request)
		if err != nil && ctx.Err() == nil {
			if dialled := s.again(); dialled != nil {
				return err
			}
			list, err = invoke(ctx, s.ListTrust, request)
		}
		if err != nil {
			return err
		}
		if now := string(encodeLine(list)); now != last {
			last = now
			if u.width > 0 && output == formatTable {
				_, _ = u.out.Write([]byte("\x1b[H\x1b[2J"))
			}
			if u.now = time.Now(); output == formatTable {
				u.hosts = knownHosts(ctx, s)
			}
			if err := u.show(output, list, func() { u.showChanges(list.Changes) }); err != nil {
				return err
			}
		}
		open := false
		for _, change := range list.Changes {
			open = open || change.EndedAt == nil
		}
		if !open {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil // interrupted: that is how watching ends
		case <-time.After(watchEvery):
		}
	}
}

func newTrustAdvanceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "advance [ID]",
		Short: "Let a change of trust go on",
		Long: `Lets the change go on by itself through a later phase, by default to its end. Of a
change that is paused it ends the pause, and leaves how far it may go as it was; --through
says both. Each gate still holds. With --force it leaves the phase that it is at
although somebody holds it up; --dry-run says which laws that sets aside.`,
		Example: `  rotunda trust advance --through unbridge
  rotunda trust advance
  rotunda trust advance --force --reason "host burnt down, INC-4711" --dry-run`,
		Args: cobra.MaximumNArgs(1),
	}
	request := &api.DecideTrustRequest{Decision: "advance"}
	cmd.Flags().StringVar(&request.Through, "through", "", "the last `phase` that it may enter (default: the end; of a paused change as before)")
	force := cmd.Flags().Bool("force", false, "leave the present phase although its gate holds; wants --reason")
	_ = cmd.RegisterFlagCompletionFunc("through", cobra.FixedCompletions(phaseNames(), cobra.ShellCompDirectiveNoFileComp))
	decideTrust(cmd, request, func() error {
		if *force {
			request.Decision = "force"
			if request.Through != "" {
				return usagef("--force is for the present phase only: leave out --through")
			}
		}
		return nil
	}, func() string {
		if *force {
			return "Set a law aside for this change of trust?"
		}
		return ""
	})
	return cmd
}

func newTrustPauseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "pause [ID] --reason WHY",
		Short:   "Hold a change of trust until it is advanced",
		Example: `  rotunda trust pause --reason "release freeze"`,
		Args:    cobra.MaximumNArgs(1),
	}
	decideTrust(cmd, &api.DecideTrustRequest{Decision: "pause"}, nil, nil)
	return cmd
}

func newTrustBackCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "back [ID] --reason WHY",
		Short: "Turn a change of trust back, while that is possible",
		Long: `Turns the change back: the old authority signs again, what the new one has signed
is renewed, and the new anchor leaves the bundles. It goes through the same gates, and is
possible until the old anchor is withdrawn.`,
		Example: `  rotunda trust back --reason "driver of team orders can't read the new chain" --dry-run`,
		Args:    cobra.MaximumNArgs(1),
	}
	decideTrust(cmd, &api.DecideTrustRequest{Decision: "back"}, nil, func() string { return "Turn the change of trust back?" })
	return cmd
}

// decideTrust fills in what all decisions on a change have in common. A
// question is asked where there is one.
func decideTrust(cmd *cobra.Command, request *api.DecideTrustRequest, check func() error, question func() string) {
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	flags := cmd.Flags()
	flags.StringVar(&request.Reason, "reason", "", "why, for the audit log")
	flags.BoolVar(&request.DryRun, "dry-run", false, "only show what it would mean")
	yes := flags.Bool("yes", false, "do not ask")
	cmd.ValidArgsFunction = completeFirst(conn, trustIDs)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			request.Id = args[0]
		}
		if check != nil {
			if err := check(); err != nil {
				return err
			}
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			if *output == formatTable {
				u.hosts = knownHosts(ctx, s)
			}
			if question != nil && question() != "" && !request.DryRun {
				if err := u.foretell(ctx, s, request, *yes, question()); err != nil {
					return err
				}
			}
			done, err := invoke(ctx, s.DecideTrust, request)
			if err != nil {
				return err
			}
			return u.show(*output, done, func() { u.showDecision(done, request) })
		})
	}
}

// foretell shows what a decision means before it is confirmed.
func (u *ui) foretell(ctx context.Context, s *server, request *api.DecideTrustRequest, yes bool, question string) error {
	dry := &api.DecideTrustRequest{Id: request.Id, Decision: request.Decision, Through: request.Through, Reason: request.Reason, DryRun: true}
	would, err := invoke(ctx, s.DecideTrust, dry)
	if err != nil {
		return err
	}
	for _, effect := range would.Effects {
		u.note("%s", u.hosts.spoken(effect))
	}
	return u.confirm(yes, question)
}

func (u *ui) showDecision(done *api.DecideTrustResponse, request *api.DecideTrustRequest) {
	for _, effect := range done.Effects {
		u.say("%s", u.hosts.spoken(effect))
	}
	if request.DryRun {
		u.say("Nothing was changed: this was a dry run.")
		return
	}
	u.say("")
	u.showChange(done.Change)
	u.note("Audit entry %s. rotunda trust status --watch shows how it goes.", done.AuditId)
}

func phaseNames() (names []string) {
	for _, phase := range trust.Phases {
		names = append(names, string(phase))
	}
	return names
}

func trustIDs(ctx context.Context, s *server) ([]string, error) {
	list, err := invoke(ctx, s.ListTrust, &api.ListTrustRequest{All: true})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, change := range list.Changes {
		ids = append(ids, change.Id)
	}
	return ids, nil
}
