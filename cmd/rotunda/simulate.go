package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/simulate"
	"github.com/rotunda-pki/rotunda/whatif"
)

func newSimulateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "simulate -f PATH… --change CHANGE",
		Short: "Run a change over an invented fleet on a fake clock; no server is asked",
		Long: `Invents a fleet over the services and intents of these documents and leads it
through a whole change on a fake clock: agents that are slow, away, fail and lie,
at rates that you set. The models that decide are those of the server. The same
seed gives the same run. The laws are checked at each step from what the
simulated processes do; a broken one ends it with an error.`,
		Example: `  rotunda simulate -f fleet/ --change rotate-root --fleet 100000
  rotunda simulate -f fleet/ --change rotate:orders-db --fleet 5000 --window nights --soak 30m --html run.html
  rotunda simulate -f fleet/ --change rotate-issuing --away 0.05 --away-for 8h -o json | jq '.steps[].held'`,
		Args: cobra.NoArgs,
	}
	s := &simulating{o: simulate.Defaults(), output: outputFlag(cmd)}
	s.flags(cmd)
	cmd.RunE = s.run
	return cmd
}

// simulating is one run of simulate.
type simulating struct {
	o                              simulate.Options
	output                         *format
	paths, steps                   []string
	change, begin, html            string
	awayFor, byHand, advance, over fleet.Duration
	soak                           fleet.Duration
	rolloutFlags                   []string
	windows                        []string
}

func (s *simulating) flags(cmd *cobra.Command) {
	flags, o := cmd.Flags(), &s.o
	s.awayFor, s.byHand, s.advance = fleet.Duration(o.AwayFor), fleet.Duration(o.ByHand), fleet.Duration(o.AdvanceAfter)
	flags.StringArrayVarP(&s.paths, "file", "f", nil, "`path` of a file, a directory, or - for standard input; may be repeated")
	flags.StringVar(&s.change, "change", "", "the `change`: rotate-root, rotate-issuing or rotate:SERVICE")
	flags.IntVar(&o.Fleet, "fleet", o.Fleet, "how many placements to invent")
	flags.Uint64Var(&o.Seed, "seed", o.Seed, "where chance begins: the same seed gives the same run")
	flags.StringVar(&s.begin, "begin", "", "the `moment` at which it begins, RFC 3339 (default: now)")
	flags.IntVar(&o.ClusterSize, "cluster-size", o.ClusterSize, "members of each cluster that is invented")
	flags.Float64Var(&o.Rates.Slow, "slow", o.Rates.Slow, "share of the agents that take ten times as long")
	flags.Float64Var(&o.Rates.Away, "away", o.Rates.Away, "share of the agents that are not connected at any moment")
	flags.Float64Var(&o.Rates.Fail, "fail", o.Rates.Fail, "share of the attempts that fail")
	flags.Float64Var(&o.Rates.Lie, "lie", o.Rates.Lie, "share of the reloads that say yes and take nothing")
	flags.Var(&span{&s.awayFor}, "away-for", "how long an agent is away, on average")
	flags.Var(&span{&s.byHand}, "by-hand", "how long people take for what only they can do")
	flags.Var(&span{&s.advance}, "advance-after", "how long an operator takes to let a change of trust go on")
	flags.Var(&span{&s.over}, "over", "how long the renewal of all certificates takes (default: at the usual pace)")
	flags.StringVar(&s.html, "html", "", "write a page with a timeline to this `file`")
	flags.StringSliceVar(&s.steps, "steps", nil, "of rotate: how far each `wave` goes (default 1,10%,50%,100%)")
	flags.Var(&span{&s.soak}, "soak", "of rotate: watch each wave for this `time`")
	flags.IntVar(&o.Rollout.PerMinute, "per-minute", o.Rollout.PerMinute, "of rotate: placements asked in a minute")
	flags.IntVar(&o.Rollout.AtOnce, "at-once", 0, "of rotate: placements under way at once (default any number)")
	flags.IntVar(&o.Rollout.Gates.Failures, "failures", 0, "of rotate: of a hundred placements of a wave so many may fail")
	flags.BoolVar(&o.Rollout.ByRegion, "by-region", false, "of rotate: one region after the other")
	flags.StringSliceVar(&s.windows, "window", nil, "of rotate: ask placements only inside this `window`; repeat it for others")
	s.rolloutFlags = []string{"steps", "soak", "per-minute", "at-once", "failures", "by-region", "window"}
	s.complete(cmd)
}

// complete completes from the documents that -f names: there is no server.
func (s *simulating) complete(cmd *cobra.Command) {
	offer := func(flag string, words func(fleet.Set) []string) {
		_ = cmd.RegisterFlagCompletionFunc(flag, // fails only for a flag that is not there
			func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
				set, _ := s.documents(&ui{in: strings.NewReader(""), errs: &strings.Builder{}})
				return words(set), cobra.ShellCompDirectiveNoFileComp
			})
	}
	offer("change", func(set fleet.Set) []string {
		words := []string{string(whatif.RotateRoot), string(whatif.RotateIssuing)}
		for _, d := range set.OfKind(fleet.KindService) {
			words = append(words, simulate.Rotate+":"+string(d.Name))
		}
		return words
	})
	offer("window", func(set fleet.Set) (names []string) {
		for _, d := range set.OfKind(fleet.KindWindow) {
			names = append(names, string(d.Name))
		}
		return names
	})
	for _, flag := range []string{"fleet", "seed", "begin", "cluster-size", "slow", "away", "fail", "lie", "away-for", "by-hand", "advance-after", "over", "steps", "soak", "per-minute", "at-once", "failures"} {
		offer(flag, func(fleet.Set) []string { return nil })
	}
}

// documents reads and checks what -f names.
func (s *simulating) documents(u *ui) (fleet.Set, error) {
	sources, err := readSources(s.paths, u.in, u.errs)
	if err != nil {
		return nil, err
	}
	var files []fleet.File
	for _, source := range sources {
		files = append(files, fleet.File{Path: source.Path, Content: source.Content})
	}
	all, findings := fleet.ParseFiles(files)
	set := fleet.NewSet(all...)
	for _, f := range append(findings, fleet.Validate(set)...) {
		if f.Severity == fleet.Error {
			u.showLocal(append(findings, fleet.Validate(set)...))
			return nil, errReported
		}
	}
	return set, nil
}

func (s *simulating) run(cmd *cobra.Command, _ []string) error {
	u := newUI(cmd)
	if err := s.options(cmd, u); err != nil {
		return err
	}
	set, err := s.documents(u)
	if err != nil {
		return err
	}
	var told atomic.Pointer[simulate.Progress]
	told.Store(&simulate.Progress{})
	s.o.Progress = func(p simulate.Progress) { told.Store(&p) }
	end := u.progressOf(func() string { return progressBar(*told.Load()) })
	report, err := simulate.Run(cmd.Context(), set, s.o)
	end()
	if err != nil {
		return err
	}
	if s.html != "" {
		if err := writePage(s.html, report); err != nil {
			return err
		}
		u.note("the timeline is in %s", s.html)
	}
	return u.showValue(*s.output, report, func() { u.showSimulated(report) })
}

// options completes what the flags say.
func (s *simulating) options(cmd *cobra.Command, u *ui) (err error) {
	o := &s.o
	if o.Change, err = simulate.Parse(s.change); err != nil {
		return err
	}
	for _, flag := range s.rolloutFlags {
		if cmd.Flags().Changed(flag) && o.Change.Kind != simulate.Rotate {
			return usagef("--%s is of rotate:SERVICE: what waves and windows make of the renewals of a change of trust is not simulated", flag)
		}
	}
	if cmd.Flags().Changed("over") && o.Change.Kind == simulate.Rotate {
		return usagef("--over is of a change of trust: a rollout goes by --per-minute")
	}
	o.Begin = u.now.UTC().Truncate(time.Minute)
	if s.begin != "" {
		if o.Begin, err = time.Parse(time.RFC3339, s.begin); err != nil {
			return usagef("--begin %.40q is no moment such as 2027-01-31T08:00:00Z", s.begin)
		}
		o.Begin = o.Begin.UTC()
	}
	o.AwayFor, o.ByHand, o.AdvanceAfter, o.Over = s.awayFor.Std(), s.byHand.Std(), s.advance.Std(), s.over.Std()
	o.Rollout.Soak = s.soak
	for _, name := range s.windows {
		o.Rollout.Windows = append(o.Rollout.Windows, fleet.Name(name))
	}
	if len(s.steps) > 0 {
		o.Rollout.Steps = nil
	}
	for _, text := range s.steps {
		step, err := rollout.ParseStep(text)
		if err != nil {
			return err
		}
		o.Rollout.Steps = append(o.Rollout.Steps, step)
	}
	return o.Check()
}

// progressBar is how far a simulation has come, on one line.
func progressBar(p simulate.Progress) string {
	const width = 24
	full := min(int(p.Part*width), width)
	return fmt.Sprintf("[%s%s] %s, simulated %s", strings.Repeat("=", full), strings.Repeat(" ", width-full), p.Step, rough(p.At))
}

// writePage writes the page whole, or not at all.
func writePage(path string, report *simulate.Report) error {
	page, err := simulationPage(report)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, page, 0o644); err != nil { //nolint:gosec // a page to look at
		return fault.Wrap(fault.Invalid, err, "write --html %s", path).WithRemedy("name a file in a directory that you may write to")
	}
	return nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// showSimulated prints how it went, step by step, and what held it up.
func (u *ui) showSimulated(r *simulate.Report) {
	u.tell("", fmt.Sprintf("Simulated: %s over %s, seed %d", r.Change, plural(r.Placements, "placement"), r.Seed), strong)
	u.say("%s in %s of %s; begins %s, lasts %s.\n", plural(r.Hosts, "host"), plural(r.Clusters, "cluster"), plural(r.Services, "service"),
		r.Begins.Format("2006-01-02 15:04"), rough(seconds(r.Seconds)))
	t := newTable("STEP", "BEGINS", "LASTS", "RENEWALS", "RESTARTS", "ADOPTED", "LAST AFTER", "FAILED", "AWAY", "PEAK/S")
	for _, step := range r.Steps {
		last := ""
		if step.Adopted > 0 {
			last = rough(seconds(step.LastAt))
		}
		t.row(step.Name, step.Begins.Format("Jan 2 15:04:05"), rough(seconds(step.Seconds)), fmt.Sprint(step.Renewals), fmt.Sprint(step.Restarts),
			fmt.Sprint(step.Adopted), last, fmt.Sprint(step.Failures), fmt.Sprint(step.MostAway), fmt.Sprint(step.PeakRate))
	}
	t.write(u, "")
	u.showHeld(r)
	u.showObstaclesFound(r)
	u.heading("In all")
	u.say("  %s signed, at most %d in one second; at most %d of a cluster away at once", plural(r.Issued, "certificate"), r.PeakRate, r.MostAway)
	u.say("  %s ran out in use; of the reloads that lied %d were seen by their proof and put back, %d nobody could see", plural(r.Expired, "certificate"), r.LiesSeen, r.LiesUnseen)
	for i, one := range r.Breakers {
		if i == mostNamed {
			u.say("  and the breakers of %d more intents", len(r.Breakers)-i)
			break
		}
		u.say("  the breaker of intent %s opened %s", one.Intent, plural(one.Times, "time"))
	}
	u.say("\nThis is so if:")
	for _, line := range r.Assumes {
		u.say("  %s", line)
	}
}

func (u *ui) showHeld(r *simulate.Report) {
	if !slices.ContainsFunc(r.Steps, func(s simulate.Step) bool { return len(s.Held) > 0 }) {
		return
	}
	u.heading("What waited for what")
	for _, step := range r.Steps {
		for i, held := range step.Held {
			if i == mostNamed {
				u.say("  %s: %s", step.Name, plural(len(step.Held)-i, "further reason"))
				break
			}
			who := ""
			if held.Who != "" {
				who = ", such as " + held.Who
			}
			u.say("  %s: at most %d: %s (%s to %s after it began%s)", step.Name, held.Most, held.Why, rough(seconds(held.First)), rough(seconds(held.Until)), who)
		}
	}
}

func (u *ui) showObstaclesFound(r *simulate.Report) {
	if len(r.Obstacles) == 0 {
		return
	}
	u.heading("What stands in the way by the documents")
	for _, one := range r.Obstacles {
		u.tell("  ", fmt.Sprintf("at %s: %s: %s", one.Phase, one.Who, one.Reason), warn)
		u.say("      %s", one.Remedy)
	}
}
