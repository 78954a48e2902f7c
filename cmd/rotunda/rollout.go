package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
)

const rolloutHelp = `A rollout rotates many placements in waves: a canary, then percentages, if asked
for region by region, each wave under conditions and watched for a while. What
it does next follows from what hosts show; it says of everything that it does
not do why.`

func newRolloutCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollout",
		Short: "Rotate many placements in waves, each under conditions",
		Long:  rolloutHelp,
	}
	cmd.AddCommand(newRolloutStartCommand(), newRolloutStatusCommand(), newRolloutAnswerCommand(),
		newRolloutActCommand("pause", "Ask no more placements; what is under way goes on", "paused"),
		newRolloutActCommand("resume", "Let a paused rollout go on", "resumed"),
		newRolloutActCommand("abort", "End a rollout: nothing more is asked, nothing is taken back", "aborted"),
		newRolloutActCommand("rollback", "End a rollout, and rotate again whoever it asked", "rolled back"))
	return cmd
}

func newRolloutStartCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "start INTENT | --service NAME | --selector LABEL=VALUE | --all",
		Short: "Begin a rollout",
		Long: `Begins a rollout over the placements that are there now. It can't be changed
afterwards, only paused, resumed, aborted and rolled back. --dry-run shows its
waves, and changes nothing.

Steps say how far each wave goes: counts first, then percentages of the region,
the last 100%. Windows are documents; freezes hold every rollout.

With --profile its placements are renewed under another profile than their
intent's, and keep it until the documents say so themselves or it is taken back:
by rotunda rollout abort with their next renewal, by rollback at once.`,
		Example: `  rotunda rollout start orders-db --dry-run
  rotunda rollout start orders-db --steps 1,10%,100% --soak 30m --window nights --health
  rotunda rollout start --all --by-region --region eu --region us --gate errors=https://gate.example/errors
  rotunda rollout start orders-db --profile p384 --slice rack=7 --steps 1,100% --soak 1h
  rotunda rollout start orders-db --notice 30m --told --gate errors=command:check-errors
  rotunda rollout start --selector env=prod --new-key --failures 2 --reason "new key size"`,
		Args: cobra.MaximumNArgs(1),
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	request := &api.StartRolloutRequest{Spec: &api.RolloutSpec{}}
	gates := rolloutFlags(cmd, conn, request)
	cmd.ValidArgsFunction = completeFirst(conn, intentNames)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			request.Intent = args[0]
		}
		if count(request.Intent != "", request.Service != "", len(request.Selector) > 0, request.All) != 1 {
			return usagef("say what to rotate: one of INTENT, --service NAME, --selector LABEL=VALUE and --all")
		}
		if err := gates(); err != nil {
			return err
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			started, err := invoke(ctx, s.StartRollout, request)
			if err != nil {
				return err
			}
			u.meetHosts(ctx, s, *output)
			return u.show(*output, started, func() { u.showStarted(started, request.DryRun) })
		})
	}
	return cmd
}

// rolloutFlags adds the flags of a rollout's goal. The function that it returns
// reads those that need more than one value.
func rolloutFlags(cmd *cobra.Command, conn *connection, request *api.StartRolloutRequest) func() error {
	flags, spec := cmd.Flags(), request.Spec
	flags.StringVar(&request.Name, "name", "", "what it is called (default: what it is over)")
	flags.StringVar(&request.Service, "service", "", "every placement of this `service`")
	flags.StringToStringVar(&request.Selector, "selector", nil, "every placement on agents with this `label=value`; repeat it")
	flags.BoolVar(&request.All, "all", false, "every placement of every intent")
	flags.BoolVar(&request.DryRun, "dry-run", false, "only show the waves")
	flags.StringVar(&request.Reason, "reason", "", "why, for the audit log")
	flags.StringSliceVar(&spec.Steps, "steps", nil, "how far each `wave` goes (default 1,10%,50%,100%)")
	completeFlag(cmd, conn, "service", documentNames("Service"))
	flags.StringVar(&spec.Profile, "profile", "", "renew them under this `profile` in the place of their intent's, until it is taken back")
	flags.StringToStringVar(&spec.Slice, "slice", nil, "with --profile: only placements on agents with this `label=value`; repeat it")
	var notice fleet.Duration
	flags.Var(&span{&notice}, "notice", "tell the owners of its services this `long` before the first placement is asked")
	flags.BoolVar(&spec.Told, "told", false, "ask nobody before every owner was reached; --notice runs from then")
	waves := waveFlags(cmd, conn, spec)
	return func() error {
		spec.Notice = protoDuration(notice)
		return waves()
	}
}

// renewalFlags adds the flags of how the renewals of a change of trust go, and names
// them.
func renewalFlags(cmd *cobra.Command, conn *connection, spec *api.RolloutSpec) (read func() error, names []string) {
	before := map[string]bool{}
	cmd.Flags().VisitAll(func(f *pflag.Flag) { before[f.Name] = true })
	cmd.Flags().StringSliceVar(&spec.Steps, "steps", nil, "how far each `wave` of renewals goes, such as 1,10%,50%,100% (default: all in one wave)")
	read = waveFlags(cmd, conn, spec)
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !before[f.Name] {
			names = append(names, f.Name)
		}
	})
	return read, names
}

// waveFlags adds the flags of how waves go.
func waveFlags(cmd *cobra.Command, conn *connection, spec *api.RolloutSpec) func() error {
	flags := cmd.Flags()
	flags.BoolVar(&spec.ByRegion, "by-region", false, "one region after the other")
	flags.StringSliceVar(&spec.Regions, "region", nil, "a `region` that comes first, with --by-region; repeat it for the next ones")
	var soak fleet.Duration
	flags.Var(&span{&soak}, "soak", "watch each wave for this `time` before the next one")
	flags.Int32Var(&spec.PerMinute, "per-minute", 0, "placements asked in a minute (default 60)")
	flags.Int32Var(&spec.AtOnce, "at-once", 0, "placements under way at once (default any number)")
	flags.StringSliceVar(&spec.Windows, "window", nil, "ask placements only inside this `window`; repeat it for others")
	flags.BoolVar(&spec.NewKey, "new-key", false, "with a new key each")
	flags.BoolVar(&spec.Urgent, "urgent", false, "also while a freeze holds every other rollout")
	flags.StringVar(&spec.Level, "level", "", "the `level` that each must reach: delivered, loaded or proven (default: as its intent says)")
	flags.Int32Var(&spec.Failures, "failures", 0, "of a hundred placements of a wave so many may fail")
	flags.BoolVar(&spec.Health, "health", false, "a wave's targets must be well before the next one")
	flags.BoolVar(&spec.Adoption, "adoption", false, "a wave's placements must hold the bundle that is wanted before the next one")
	gates := flags.StringArray("gate", nil, "ask `name=URL` about each wave, or name=command:NAME of rotunda.yaml, or with a name alone a person; repeat it")
	completeFlag(cmd, conn, "window", documentNames("Window"))
	completeFlag(cmd, conn, "profile", documentNames("Profile"))
	completeFlag(cmd, conn, "level", func(context.Context, *server) ([]string, error) {
		return []string{"delivered", "loaded", "proven"}, nil
	})
	return func() error {
		if err := notEmpty(flags, "steps", "region", "window", "level", "gate", "profile", "slice", "selector", "service", "name"); err != nil {
			return err
		}
		spec.Soak = protoDuration(soak)
		for _, text := range *gates {
			name, webhook, _ := strings.Cut(text, "=")
			if command, ok := strings.CutPrefix(webhook, "command:"); ok {
				spec.Gates = append(spec.Gates, &api.RolloutGate{Name: name, Command: command})
				continue
			}
			if u, err := url.Parse(webhook); webhook != "" && (err != nil || u.Host == "") {
				return usagef("--gate %s: %q is not a URL", name, webhook)
			}
			spec.Gates = append(spec.Gates, &api.RolloutGate{Name: name, Webhook: webhook})
		}
		return nil
	}
}

// notEmpty refuses flags that are given and say nothing, as by a variable that is
// not set: the default would then be what nobody asked for.
func notEmpty(flags *pflag.FlagSet, names ...string) error {
	for _, name := range names {
		f := flags.Lookup(name)
		if f == nil || !f.Changed {
			continue
		}
		if text := f.Value.String(); text == "" || text == "[]" || text == "[\"\"]" {
			return usagef("--%s is empty: say what, or leave it out", name)
		}
	}
	return nil
}

func (u *ui) showStarted(started *api.StartRolloutResponse, dryRun bool) {
	r := started.Rollout
	for i, wave := range r.Waves {
		u.say("wave %d: %s", i+1, waveWords(wave))
		var names []string
		for _, m := range started.Members {
			if int(m.Wave) == i+1 {
				names = append(names, memberName(u, m))
			}
		}
		for _, name := range firstOf(names, 20) {
			u.say("    → %s", oneLine(name))
		}
	}
	if words := triedWords(r); words != "" {
		u.say("%s", words)
	}
	for _, reason := range r.Reasons {
		if dryRun && reason.Wave == 1 {
			u.say("%s", reason.Text)
		}
	}
	u.say("%s", estimateWords(u, r))
	if dryRun {
		u.say("%s would rotate in %s. Nothing was changed: this was a dry run.", plural(int(r.Placements), "placement"), plural(len(r.Waves), "wave"))
		return
	}
	u.say("Rollout %s begins: %s in %s. Audit entry %s. rotunda rollout status %s --watch shows how it goes.",
		r.Name, plural(int(r.Placements), "placement"), plural(len(r.Waves), "wave"), started.AuditId, r.Name)
}

// triedWords say which profile a rollout tries, and where.
func triedWords(r *api.RolloutInfo) string {
	if r.GetSpec().GetProfile() == "" {
		return ""
	}
	text := "under profile " + r.Spec.Profile
	if len(r.Spec.Slice) > 0 {
		text += ", on agents with " + pairs(r.Spec.Slice)
	}
	return text
}

func firstOf(names []string, most int) []string {
	if len(names) > most {
		return append(names[:most:most], fmt.Sprintf("and %d more", len(names)-most))
	}
	return names
}

func memberName(u *ui, m *api.RolloutMember) string {
	text := m.Intent + " on " + u.hosts.name(m.Agent)
	if m.Instance != "" && m.Instance != "main" {
		text += " (" + m.Instance + ")"
	}
	if m.Cluster != "" {
		text += ", member of " + m.Cluster
	}
	return text
}

func waveWords(wave *api.RolloutWave) string {
	text := fmt.Sprintf("%s, up to %s", plural(int(wave.Count), "placement"), wave.Step)
	if wave.Region != "" {
		text += " of region " + wave.Region
	}
	return text
}

func newRolloutActCommand(act, short, past string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     act + " NAME|ID",
		Short:   short,
		Example: fmt.Sprintf("  rotunda rollout %[1]s orders-db --dry-run --reason \"error rate is up\"\n  rotunda rollout %[1]s orders-db --reason \"error rate is up\"", act),
		Args:    cobra.ExactArgs(1),
	}
	if act == "rollback" {
		cmd.Long = `Ends a rollout, and begins another one over the placements that it asked, the
newest wave first, under the same conditions. They rotate to what the documents
say now: put those back first, if they are what is wrong.`
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	request := &api.DecideRolloutRequest{Act: act}
	cmd.Flags().StringVar(&request.Reason, "reason", "", "why, for the audit log; an end must have one")
	cmd.Flags().BoolVar(&request.DryRun, "dry-run", false, "only say what would follow, and for whom")
	cmd.ValidArgsFunction = completeFirst(conn, rolloutNames)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		request.Rollout = args[0]
		if !request.DryRun && strings.TrimSpace(request.Reason) == "" && (act == "abort" || act == "rollback") {
			return usagef("say why: a rollout is ended by hand only with --reason TEXT")
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			done, err := invoke(ctx, s.DecideRollout, request)
			if err != nil {
				return err
			}
			if request.DryRun {
				u.meetHosts(ctx, s, *output)
				return u.show(*output, done, func() { u.showRolloutDecision(done, past) })
			}
			return u.show(*output, done, func() {
				u.say("Rollout %s is %s. Audit entry %s.", done.Rollout.Name, past, done.AuditId)
				switch {
				case done.Rollback != nil:
					u.say("Rollout %s begins: another rotation of %s.", done.Rollback.Name, plural(int(done.Rollback.Placements), "placement"))
				case act == "rollback":
					u.say("It had asked nobody: there is nothing to rotate again.")
				}
			})
		})
	}
	return cmd
}

// showRolloutDecision says what a decision on a rollout would mean, and for whom.
func (u *ui) showRolloutDecision(done *api.DecideRolloutResponse, past string) {
	u.say("Rollout %s would be %s:", done.Rollout.Name, past)
	for _, effect := range done.Effects {
		u.say("  %s", effect)
	}
	for _, group := range []struct {
		heading string
		members []*api.RolloutMember
	}{{"under way", done.Moving}, {"to rotate once more", done.Again}} {
		var names []string
		for _, m := range group.members {
			names = append(names, memberName(u, m))
		}
		if len(names) > 0 {
			u.say("%s:", group.heading)
		}
		for _, name := range firstOf(names, 20) {
			u.say("    → %s", oneLine(name))
		}
	}
	u.say("Nothing was changed: this was a dry run.")
}

func newRolloutAnswerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "answer NAME|ID --gate NAME --wave N --pass | --refuse TEXT",
		Short: "Say for a gate whether a wave was good",
		Example: `  rotunda rollout answer orders-db --gate people --wave 1 --pass
  rotunda rollout answer orders-db --gate people --wave 1 --refuse "latency is up"`,
		Args: cobra.ExactArgs(1),
	}
	conn := connectionFlags(cmd.Flags())
	request := &api.AnswerRolloutGateRequest{}
	cmd.Flags().StringVar(&request.Gate, "gate", "", "the gate's `name`")
	cmd.Flags().Int32Var(&request.Wave, "wave", 0, "the `number` of the wave, from 1")
	cmd.Flags().BoolVar(&request.Passed, "pass", false, "it was good")
	refusal := cmd.Flags().String("refuse", "", "it was not: why")
	cmd.ValidArgsFunction = completeFirst(conn, rolloutNames)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if request.Passed == (*refusal != "") || request.Gate == "" || request.Wave < 1 {
			return usagef("say which gate and wave, and one of --pass and --refuse TEXT")
		}
		request.Rollout, request.Words = args[0], *refusal
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			done, err := invoke(ctx, s.AnswerRolloutGate, request)
			if err != nil {
				return err
			}
			u.say("Recorded. Audit entry %s.", done.AuditId)
			return nil
		})
	}
	return cmd
}

// rolloutNames are the rollouts that are open.
func rolloutNames(ctx context.Context, s *server) ([]string, error) {
	list, err := invoke(ctx, s.ListRollouts, &api.ListRolloutsRequest{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, r := range list.Rollouts {
		names = append(names, r.Name+"\t"+r.State)
	}
	return names, nil
}
