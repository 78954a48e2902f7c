package whatif

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/schedule"
	"github.com/rotunda-pki/rotunda/trust"
)

// When the phases of a change would begin and end. What is reckoned is what Rotunda
// does: deliveries, restarts, and the renewals, which go by windows and freezes. What
// people do is not in it: each phase says what of its time can't be known, and the
// next one is reckoned as if that took none.

// reissueSpec is how the renewals go, with what nobody has said.
func (s Supposed) reissueSpec() rollout.Spec {
	spec := s.Reissue
	if spec.Name == "" {
		spec.Name = "reissue"
	}
	if len(spec.Steps) == 0 {
		spec.Steps = []rollout.Step{{Percent: 100}}
	}
	if spec.PerMinute == 0 {
		spec.PerMinute = rollout.DefaultPerMinute
	}
	return spec
}

// renews are the placements that the rollout of the renewals is over.
func (s Supposed) renews(now time.Time) (seats []seat) {
	for _, holder := range s.Trust.Managed(now) {
		if means := s.Means[holder.Name]; means.Kind == "placement" || means.Kind == "" {
			seats = append(seats, seat{place: holder.ID, region: means.Region, cluster: means.Cluster, intent: means.Intent, member: means.Member})
		}
	}
	return seats
}

// work is how long the renewals take at all times.
func (s Supposed) work(now time.Time) time.Duration {
	seats := s.renews(now)
	takes := cmp.Or(s.Pace, schedule.DefaultOver(len(seats))) + RenewTime
	if len(seats) == 0 {
		return takes
	}
	spec := s.reissueSpec()
	spec.Windows, spec.Urgent = nil, true
	if end, why := roll(spec, nil, seats, now); why == "" {
		takes = max(takes, end.Sub(now))
	}
	return takes
}

// schedule dates the phases of a plan, its renewals inside the windows of the spec.
func (s Supposed) schedule(plan []PhasePlan, spec rollout.Spec, now time.Time) (told InWaves) {
	seats, at := s.renews(now), now
	for i := range plan {
		p := &plan[i]
		p.Begins, p.Ends = at, at.Add(p.Takes)
		if p.Phase == trust.Reissue && len(seats) > 0 {
			end, why := roll(spec, s.Windows, seats, at)
			if why != "" {
				p.Ends, told.Why = time.Time{}, why
				p.Unknown = append(p.Unknown, "it does not end: "+why)
				return told
			}
			if end.After(p.Ends) {
				p.Ends = end
			}
			told.Renewed = p.Ends
		}
		at = p.Ends
	}
	told.End = at
	return told
}

// inWindows is when the change would be over with its renewals in each window that it
// could be begun with, and at all times. Who has named windows wants no others.
func (s Supposed) inWindows(plan []PhasePlan, now time.Time) (all []InWaves) {
	spec := s.reissueSpec()
	if len(s.renews(now)) == 0 || len(spec.Windows) > 0 {
		return nil
	}
	for _, name := range append([]fleet.Name{""}, offered(s.Windows)...) {
		if spec.Windows = nil; name != "" {
			spec.Windows = []fleet.Name{name}
		}
		one := s.schedule(append([]PhasePlan{}, plan...), spec, now)
		one.Window = name
		all = append(all, one)
	}
	return all
}

// unknown says what of a phase's time nobody can know.
func (s Supposed) unknown(p PhasePlan) (words []string) {
	if p.Phase == Prepare && s.Kind != Failover {
		words = append(words, "how long the signatures take: a root's key may be offline")
	} else if len(p.Operator) > 0 {
		words = append(words, "when people do what is asked of them")
	}
	if n := len(p.Waits); n > 0 {
		words = append(words, fmt.Sprintf("when %s no longer in the way", map[bool]string{true: "who waits is", false: fmt.Sprintf("those %d are", n)}[n == 1]))
	}
	if p.Phase == trust.Reissue {
		for _, gate := range s.Reissue.Gates.Outside {
			words = append(words, fmt.Sprintf("when gate %s passes each wave", gate.Name))
		}
	}
	return words
}

// assumes says what the time goes by.
func (s Supposed) assumes() []string {
	spec := s.reissueSpec()
	pace := fmt.Sprintf("certificates are renewed at %d a minute", spec.PerMinute)
	if s.Pace > 0 {
		pace = "certificates are renewed over " + s.Pace.String()
	}
	if len(spec.Steps) > 1 || spec.Soak > 0 {
		var steps []string
		for _, step := range spec.Steps {
			steps = append(steps, step.String())
		}
		pace += fmt.Sprintf(" in waves up to %s, each watched for %s", strings.Join(steps, ", "), spec.Soak)
	}
	all := []string{
		fmt.Sprintf("every host is connected, and shows a new bundle within %s", DeliverTime),
		pace + fmt.Sprintf(", the last one is proven %s after its turn", RenewTime),
		s.hours(spec),
		fmt.Sprintf("a restart takes %s with its slot and its proof; members of a cluster follow each other, clusters go side by side", RestartTime),
	}
	if s.Trust.Roots && s.proves() {
		all = append(all, "each canary is had at once: it lives for 10m, and who could have none tries again within 5m")
	}
	return append(all, "no failure, and nothing counted of what people do: signatures, rotunda trust advance, rotunda operator renew, answers of outside parties")
}

// hours says when renewals are begun.
func (s Supposed) hours(spec rollout.Spec) string {
	var windows, freezes []string
	for _, name := range spec.Windows {
		windows = append(windows, string(name))
	}
	for name, window := range s.Windows {
		if window.Freeze {
			freezes = append(freezes, string(name))
		}
	}
	when := "at all times"
	if len(windows) > 0 {
		when = "inside " + strings.Join(windows, ", ")
	}
	switch {
	case len(freezes) > 0 && spec.Urgent:
		when += ", inside freezes too"
	case len(freezes) > 0:
		when += ", outside freezes"
	}
	return "renewals are begun " + when + "; bundles, and restarts for them, go by no window and no freeze"
}

// proves says whether a party has to show its trust by canaries.
func (s Supposed) proves() bool {
	for _, party := range s.Trust.Parties {
		if party.Needs == fleet.Proven {
			return true
		}
	}
	return false
}
