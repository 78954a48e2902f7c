package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/whatif"
)

// changeFlags add --change, with completion of what can be foretold, and how the
// renewals of a change of trust would go: with the flags that it is begun with.
func changeFlags(cmd *cobra.Command, conn *connection) *changeOrder {
	o := &changeOrder{reissue: &api.RolloutSpec{}}
	cmd.Flags().StringVar(&o.change, "change", "", "foretell a `change`: rotate-root, rotate-issuing, rotate-issuing:REGION, failover, withdraw:AUTHORITY, or profile:FILE")
	cmd.Flags().Var(&span{&o.over}, "over", "with --change: how long the renewal of all certificates takes (default: at the usual pace)")
	o.waves, o.names = renewalFlags(cmd, conn, o.reissue)
	for _, name := range o.names {
		flag := cmd.Flags().Lookup(name)
		flag.Usage = "with --change: " + flag.Usage
	}
	completeFlag(cmd, conn, "change", changeWordsOffered)
	for _, other := range []string{"file", "prune", "out"} {
		cmd.MarkFlagsMutuallyExclusive("change", other)
		cmd.MarkFlagsMutuallyExclusive("over", other)
	}
	return o
}

// changeOrder is one run of plan --change.
type changeOrder struct {
	change  string
	over    fleet.Duration
	reissue *api.RolloutSpec
	waves   func() error // reads how the renewals go
	names   []string     // of the flags that say so
}

// said is the first flag that was given of those that say how renewals go; empty:
// none was.
func (o *changeOrder) said(cmd *cobra.Command) string {
	for _, name := range append([]string{"over"}, o.names...) {
		if cmd.Flags().Changed(name) {
			return name
		}
	}
	return ""
}

func changeWordsOffered(ctx context.Context, s *server) ([]string, error) {
	words := []string{string(whatif.RotateRoot), string(whatif.RotateIssuing), string(whatif.Failover), string(whatif.Reprofile) + ":"}
	list, err := invoke(ctx, s.ListAuthorities, &api.ListAuthoritiesRequest{})
	if err != nil {
		return words, nil // the words are good without a server's answer
	}
	for _, authority := range list.Authorities {
		if authority.Kind == "issuing" && authority.State == "active" && authority.Region != "" {
			words = append(words, string(whatif.RotateIssuing)+":"+authority.Region)
		}
		if authority.State != "withdrawn" {
			words = append(words, string(whatif.WithdrawNow)+":"+authority.Name)
		}
	}
	return words, nil
}

// maxProfileFile bounds a file with a profile.
const maxProfileFile = 1 << 20

// readProfile reads the file of a change of a profile.
func readProfile(path string) ([]byte, error) {
	const remedy = "profile:FILE names a file with one Profile document; rotunda describe profile/NAME prints the one that stands"
	file, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "what a profile would change is told by its file").WithRemedy(remedy)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxProfileFile+1))
	switch {
	case err != nil:
		return nil, fault.Wrap(fault.Invalid, err, "what a profile would change is told by its file").WithRemedy(remedy)
	case len(content) > maxProfileFile:
		return nil, fault.New(fault.Invalid, "%s is larger than %d bytes: that is no profile", path, maxProfileFile).WithRemedy(remedy)
	}
	return content, nil
}

// foretell shows what a change would meet with.
func (o *changeOrder) foretell(cmd *cobra.Command, conn *connection, output format) error {
	proposal, err := whatif.Parse(o.change)
	if err != nil {
		return err
	}
	if err := o.waves(); err != nil {
		return err
	}
	request := &api.WhatIfRequest{Change: proposal.String(), Over: protoDuration(o.over), Reissue: o.reissue}
	if proposal.Kind == whatif.Reprofile {
		if name := o.said(cmd); name != "" {
			return usagef("--%s is of the renewals of a change of trust: a profile is applied at once", name)
		}
		request.Reissue = nil
		if request.Profile, err = readProfile(proposal.Authority); err != nil {
			return err
		}
	}
	return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
		if output == formatTable {
			u.hosts = knownHosts(ctx, s)
		}
		told, err := invoke(ctx, s.WhatIf, request)
		if err != nil {
			return err
		}
		if err := u.show(output, told, func() { u.showForetold(told) }); err != nil {
			return err
		}
		if len(told.Breaks)+len(told.Stops) > 0 {
			return errDifferences
		}
		return nil
	})
}

// showForetold prints what matters first: can it be begun, what breaks, who
// stands in the way; then how it would go, and whom to ask.
func (u *ui) showForetold(told *api.WhatIfResponse) {
	title := "What if: " + told.Change
	profile := strings.HasPrefix(told.Change, string(whatif.Reprofile)+":")
	if profile {
		title += " (profile " + told.Old + ")"
	}
	if told.New != "" {
		title += fmt.Sprintf(" (%s → %s)", told.Old, told.New)
	}
	u.tell("", title, strong)
	u.say("")
	verdict := foretoldVerdict(told)
	u.tell("", verdict.text, verdict.style)
	for _, why := range told.Stops {
		u.tell("", "✗ It can't be "+map[bool]string{false: "begun now: ", true: "applied: "}[profile]+why, bad)
	}
	u.showProfile(told)
	u.showBridge(told.Bridge)
	u.showBreaks(told)
	u.showObstacles(told.Obstacles)
	u.showForetoldPhases(told)
	u.showWaves(told.Waves, profile)
	if len(told.Ask) > 0 {
		u.heading("Ask before")
		askTable(told.Ask).write(u, "")
	}
}

// tell prints one line of the result in a style, of which say lets none pass.
func (u *ui) tell(indent, text string, s style) {
	fmt.Fprintln(u.out, indent+u.paint(s, printable(text)))
}

func foretoldVerdict(told *api.WhatIfResponse) cell {
	when := "is done without those who stand in its way"
	if strings.HasPrefix(told.Change, string(whatif.Reprofile)+":") {
		return profileVerdict(told)
	}
	if strings.HasPrefix(told.Change, string(whatif.WithdrawNow)) {
		when = "is done now"
	}
	if n := len(told.Breaks); n > 0 {
		return cell{fmt.Sprintf("✗ %s would break if it %s.", plural(n, "edge"), when), bad}
	}
	certain := 0
	for _, one := range told.Obstacles {
		if one.Certain {
			certain++
		}
	}
	if certain > 0 {
		return cell{fmt.Sprintf("No edge would break. It would wait at its gates: %s, below.", plural(certain, "obstacle")), warn}
	}
	if len(told.Stops) > 0 {
		return cell{"No declared edge would break.", plain} // it can't be begun all the same
	}
	return cell{"✓ No edge would break, and nobody is seen to stand in its way.", good}
}

// showProfile prints what a profile would say otherwise, and where it is used.
func (u *ui) showProfile(told *api.WhatIfResponse) {
	if len(told.Figures) > 0 {
		u.heading("The profile")
		t := newTable("WHAT", "NOW", "THEN")
		for _, one := range told.Figures {
			t.row(one.What, one.Before, one.After)
		}
		t.write(u, "")
	}
	if len(told.Uses) > 0 {
		u.heading("Whom it touches")
		t := newTable("INTENT", "SERVICE", "PLACEMENTS")
		for _, one := range told.Uses {
			t.row(one.Intent, one.Service, number(uint64(one.Placements)))
		}
		t.write(u, "")
	}
}

func profileVerdict(told *api.WhatIfResponse) cell {
	certain := 0
	for _, one := range told.Obstacles {
		if one.Certain {
			certain++
		}
	}
	switch n := len(told.Breaks); {
	case n > 0:
		return cell{fmt.Sprintf("✗ %s would break once it is applied.", plural(n, "edge")), bad}
	case len(told.Uses) == 0:
		return cell{"No placement has this profile: applied, it would do nothing.", plain}
	case certain > 0:
		return cell{fmt.Sprintf("No edge would break. Not all could follow: %s, below.", plural(certain, "obstacle")), warn}
	}
	return cell{"✓ No edge would break, and nobody is seen who could not follow.", good}
}

func (u *ui) showBridge(bridge *api.WhatIfBridge) {
	switch {
	case bridge == nil:
		return
	case !bridge.Possible:
		u.tell("", "There can be no bridge: "+bridge.Reason, warn)
		return
	}
	u.say("There can be a bridge: who still trusts the old root alone verifies new leaves by it.")
	for _, line := range listed(bridge.Useless) {
		u.say("  it does not help %s", u.hosts.spoken(line))
	}
}

// listed is the first so many of a list, and how many there are more.
func listed(all []string) []string {
	if len(all) <= mostShown {
		return all
	}
	return append(slices.Clone(all[:mostShown]), fmt.Sprintf("… and %d more: --output json has all", len(all)-mostShown))
}

func (u *ui) showBreaks(told *api.WhatIfResponse) {
	if len(told.Breaks) == 0 {
		return
	}
	u.heading("What would break")
	for i, one := range told.Breaks {
		if i == mostShown {
			u.say("  … and %d more: --output json has all", len(told.Breaks)-mostShown)
			break
		}
		u.tell("  ", "✗ "+one.Client+" → "+one.Server, bad)
		for _, reason := range one.Reasons {
			u.say("      %s", reasonLine(u, reason))
		}
	}
}

func (u *ui) showObstacles(obstacles []*api.WhatIfObstacle) {
	if len(obstacles) == 0 {
		return
	}
	u.heading("Who stands in the way")
	for i, one := range obstacles {
		if i == mostShown {
			u.say("  … and %d more: --output json has all", len(obstacles)-mostShown)
			break
		}
		s, doubt := bad, ""
		if !one.Certain {
			s, doubt = warn, "perhaps "
		}
		u.tell("  ", u.hosts.spoken(fmt.Sprintf("%sat %s: %s: %s", doubt, one.Phase, one.Who, one.Reason)), s)
		u.say("      %s", one.Remedy)
	}
}

func (u *ui) showForetoldPhases(told *api.WhatIfResponse) {
	if len(told.Phases) == 0 {
		return
	}
	u.heading("How it would go")
	for i, phase := range told.Phases {
		u.say("  %d. %-10s %s%s", i+1, phase.Phase, phase.Does, u.phaseTime(phase))
		for _, line := range u.phaseLines(phase) {
			u.tell("                ", line.text, line.style)
		}
	}
	u.say("")
	over := map[bool]string{true: ", beside the ordinary renewals"}[len(told.Figures) > 0]
	switch {
	case told.Ends != nil:
		over = ", over " + relative(u.now, told.Ends) + " had people done at once what is theirs"
	case told.Phases[0].Begins != nil:
		over = " of work, and never over as the windows are"
	}
	u.say("About %s in all%s, if:", rough(told.Takes.AsDuration()), over)
	for _, line := range told.Assumes {
		u.say("  %s", line)
	}
}

// phaseTime is how long a phase takes, and when it would be over where that says more.
func (u *ui) phaseTime(phase *api.WhatIfPhase) string {
	switch {
	case phase.Takes == nil:
		return ""
	case phase.Ends != nil:
		return fmt.Sprintf(" (about %s, over %s)", rough(phase.Takes.AsDuration()), relative(u.now, phase.Ends))
	case phase.Begins != nil:
		return fmt.Sprintf(" (about %s, never over)", rough(phase.Takes.AsDuration()))
	}
	return " (about " + rough(phase.Takes.AsDuration()) + ")"
}

// showWaves prints when a rollout of a profile would be over, or a change of trust by
// the window of its renewals.
func (u *ui) showWaves(waves []*api.WhatIfWaves, profile bool) {
	if len(waves) == 0 {
		return
	}
	heading := "By the window that its renewals were begun with (--window), it would be over"
	if profile {
		heading = "In waves, by rotunda rollout start --profile with the usual steps, it would be over"
	}
	u.heading(heading)
	for _, one := range waves {
		when, end := "at all times", "nobody can say when"
		if one.Window != "" {
			when = "inside window " + one.Window
		}
		switch {
		case one.End != nil:
			end = relative(u.now, one.End)
		case one.Why != "":
			end = "never: " + one.Why
		}
		if one.Renewed != nil && one.End != nil {
			end += ", its renewals " + relative(u.now, one.Renewed)
		}
		u.say("  %s: %s", when, end)
	}
}

func (u *ui) phaseLines(phase *api.WhatIfPhase) (lines []cell) {
	note := func(s style, format string, args ...any) {
		lines = append(lines, cell{fmt.Sprintf(format, args...), s})
	}
	if words := levelWords(phase.Parties); words != "" {
		note(plain, "relying parties that show it: %s", words)
	}
	for _, one := range phase.Restarts {
		how := "each by itself, perhaps at once: in no cluster"
		if one.Cluster != "" {
			how = fmt.Sprintf("%d at a time, cluster %s", one.AtOnce, one.Cluster)
		}
		note(warn, "restarts %s ×%d, %s: %s", one.Kind, len(one.Members), how, one.Cause)
	}
	var renewals []string
	for _, one := range phase.Renewals {
		renewals = append(renewals, plural(int(one.Count), one.Kind))
	}
	if len(renewals) > 0 {
		note(plain, "renews %s", strings.Join(renewals, ", "))
	}
	if phase.EndsBy != nil {
		note(plain, "%s at the latest %s", map[bool]string{true: "the last one is renewed", false: "ends by itself"}[phase.Phase == string(whatif.NextRenewal)], relative(u.now, phase.EndsBy))
	}
	for _, act := range phase.Operator {
		note(strong, "you: %s", act)
	}
	for _, words := range phase.Unknown {
		note(plain, "not known: %s", words)
	}
	for i, wait := range phase.Waits {
		if i == mostNamed && len(phase.Waits) > mostNamed+1 {
			note(warn, "and %d more wait: --output json has all", len(phase.Waits)-i)
			break
		}
		note(warn, "waits: %s", u.hosts.spoken(wait.Who+" "+wait.Reason))
		if wait.Remedy != "" {
			note(plain, "       %s", wait.Remedy)
		}
	}
	return lines
}

// levelWords says who must show what: "3 proven, 2 loaded".
func levelWords(counts *api.LevelCounts) string {
	var parts []string
	for _, one := range []struct {
		n     uint32
		level string
	}{{counts.GetProven(), "proven"}, {counts.GetLoaded(), "loaded"}, {counts.GetDelivered(), "delivered"}} {
		if one.n > 0 {
			parts = append(parts, fmt.Sprintf("%d as %s", one.n, one.level))
		}
	}
	return strings.Join(parts, ", ")
}
