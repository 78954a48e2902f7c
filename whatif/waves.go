package whatif

import (
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/schedule"
)

// InWaves is when what a rollout leads would be over, if it were begun inside a
// window.
type InWaves struct {
	Window  fleet.Name // empty: at all times
	Renewed time.Time  // of a change of trust: when its renewals are
	End     time.Time  // zero: nobody can say, or never
	Why     string     // of a zero End, where that is known
}

// mostWindows bounds for how many windows a rollout is reckoned.
const mostWindows = 20

// offered are the windows that a rollout could be begun with.
func offered(windows map[fleet.Name]*fleet.Window) (names []fleet.Name) {
	for _, name := range slices.Sorted(maps.Keys(windows)) {
		if !windows[name].Freeze && len(names) < mostWindows {
			names = append(names, name)
		}
	}
	return names
}

// seat is a placement of a rollout that is reckoned.
type seat struct {
	place, region, cluster string
	intent                 fleet.Name
	member                 schedule.Member
}

// roll reckons by the planner itself when a rollout begun at a moment would be over:
// members of a cluster follow each other, work waits for its window, a freeze holds
// both. why says why it would never be.
func roll(spec rollout.Spec, windows map[fleet.Name]*fleet.Window, seats []seat, at time.Time) (end time.Time, why string) {
	model := rollout.NewModel()
	for name, window := range windows {
		model.Observe(rollout.Declared{Name: name, Revision: 1, Window: window})
	}
	if why := model.Never(spec, at); why != "" {
		return time.Time{}, why
	}
	var over []rollout.Seat
	for _, one := range seats {
		id := uuid.NewSHA1(uuid.Nil, []byte(one.place))
		over = append(over, rollout.Seat{ID: id, Region: one.region, Through: 1})
		model.Observe(rollout.Seen{
			Placement: id, At: at, Intent: string(one.intent), Cluster: one.cluster, Member: one.member, Generation: 1, Steady: true, Well: true,
		})
	}
	waves, parts, err := rollout.Plan(spec, over)
	if err != nil {
		return time.Time{}, err.Error()
	}
	id := uuid.NewSHA1(uuid.Nil, []byte(spec.Name))
	model.Observe(rollout.Begun{Rollout: id, Spec: spec, Waves: waves, Parts: parts, At: at, Well: len(parts)})
	if end = model.Estimate(id, at).End; end.IsZero() {
		return end, "its windows never open long enough"
	}
	return end, ""
}
