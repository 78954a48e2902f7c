package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fleetload"
	"github.com/rotunda-pki/rotunda/internal/measure"
)

func newBenchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Load a running server with simulated agents, and measure it",
		Long: `Loads a running server with agents that this process simulates: each has an
identity, a connection over TLS and a stream of its own, and no host. It prints
rates, latencies and, where the server is on this machine, its CPU time for each
operation, beside a floor that is measured in the same run.

It makes in that installation: a service, a profile, a policy and an intent, each
named rotunda-bench-RUN, an enrolment token for each agent, and agents with the
label rotunda-bench=RUN. At its end, Ctrl-C too, it deletes the documents, revokes
tokens that were not used, and retires its agents. What stays, as of any agent
that was retired: their records, their placements, which rotunda status shows as
orphans, the certificates, which live four hours, and the audit entries. So use
an installation that you can throw away. After a SIGKILL: rotunda bench clean.

An installation that has other agents is refused: the load would be theirs.
--force-live loads it all the same.`,
		Example: `  rotunda bench issue --dry-run
  rotunda bench issue --certificates 20000 --in-flight 16 --batch 50
  rotunda bench fleet --agents 10000 -o json > fleet.json
  rotunda capacity --placements 100000 --figures fleet.json`,
	}
	cmd.AddCommand(newBenchIssueCommand(), newBenchRenewCommand(), newBenchPushCommand(), newBenchFleetCommand(), newBenchCleanCommand())
	return cmd
}

func newBenchIssueCommand() *cobra.Command {
	cmd, b := benchCommand("issue", "Certificates for requests that were made beforehand",
		"  rotunda bench issue --certificates 20000 --in-flight 64", 16)
	o := fleetload.Issuing{}
	calls := fleetload.Calls{}
	flags := cmd.Flags()
	flags.IntVar(&o.Certificates, "certificates", 5000, "how many certificates in each round")
	flags.IntVar(&o.Rounds, "rounds", 1, "how many rounds; the figures are medians")
	flags.IntVar(&calls.InFlight, "in-flight", 16, "calls at once")
	flags.IntVar(&calls.Batch, "batch", 1, "requests in one call")
	b.check = func() error {
		return inRange([]bound{{"--certificates", o.Certificates, 1, 10_000_000}, {"--rounds", o.Rounds, 1, 1000}, {"--in-flight", calls.InFlight, 1, 1024}, {"--batch", calls.Batch, 1, 256}})
	}
	b.work = func(ctx context.Context, l *fleetload.Load) ([]measure.Result, error) {
		o.Agents, o.Calls = b.agents, []fleetload.Calls{calls}
		return l.Issue(ctx, o)
	}
	return cmd
}

func newBenchRenewCommand() *cobra.Command {
	cmd, b := benchCommand("renew", "Rotations that an operator asks for: pushed, issued with a new key, reported",
		"  rotunda bench renew --agents 1000 --rounds 5", 500)
	rounds := cmd.Flags().Int("rounds", 3, "how often each agent rotates")
	b.check = func() error { return inRange([]bound{{"--rounds", *rounds, 1, 1000}}) }
	b.work = func(ctx context.Context, l *fleetload.Load) ([]measure.Result, error) {
		return l.Renew(ctx, b.agents, *rounds)
	}
	return cmd
}

func newBenchPushCommand() *cobra.Command {
	cmd, b := benchCommand("push", "A change of desired state, from the operator's call to the last connected agent",
		"  rotunda bench push --agents 5000", 1000)
	rounds := cmd.Flags().Int("rounds", 5, "how many changes")
	b.check = func() error { return inRange([]bound{{"--rounds", *rounds, 1, 59}}) }
	b.work = func(ctx context.Context, l *fleetload.Load) ([]measure.Result, error) {
		return l.Push(ctx, b.agents, *rounds)
	}
	return cmd
}

func newBenchFleetCommand() *cobra.Command {
	o := fleetload.Usual(10_000)
	cmd, b := benchCommand("fleet", "A whole fleet: memory, idle CPU, a change to all, all back at once",
		"  rotunda bench fleet --agents 10000", o.Agents)
	settle, rest := fleet.Duration(o.Settle), fleet.Duration(o.Rest)
	flags := cmd.Flags()
	flags.IntVar(&o.Rounds, "rounds", o.Rounds, "how many changes")
	flags.Var(&span{&settle}, "settle", "how `long` the server is left alone before its memory is looked at")
	flags.Var(&span{&rest}, "rest", "how `long` its idle CPU time is summed up: some of what an idle agent costs is minutes apart")
	b.check = func() error {
		if settle < 0 || rest < fleet.Duration(time.Second) {
			return usagef("--settle can't be negative, and --rest is a second at least")
		}
		return inRange([]bound{{"--rounds", o.Rounds, 1, 59}})
	}
	b.work = func(ctx context.Context, l *fleetload.Load) ([]measure.Result, error) {
		o.Agents, o.Settle, o.Rest = b.agents, settle.Std(), rest.Std()
		return l.Fleet(ctx, o)
	}
	return cmd
}

// bound is what a number of the command line may be.
type bound struct {
	flag            string
	value, min, max int
}

func inRange(bounds []bound) error {
	for _, b := range bounds {
		if b.value < b.min || b.value > b.max {
			return usagef("%s %d: it is between %d and %d", b.flag, b.value, b.min, b.max)
		}
	}
	return nil
}
