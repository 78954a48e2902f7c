package whatif

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/rollout"
)

// InWaves is when a rollout of the profile over all its seats would be over.
type InWaves struct {
	Window fleet.Name // empty: at all times
	End    time.Time  // zero: nobody can say
}

// mostWindows bounds for how many windows a rollout is reckoned.
const mostWindows = 20

// waves reckons by the planner itself when a rollout with the usual steps would
// be over: at all times, and begun inside each window. Freezes count for all.
func (r Reprofiled) waves(now time.Time) []InWaves {
	if len(r.Seats) == 0 || len(r.Stops) > 0 {
		return nil
	}
	all := []InWaves{{End: r.waveEnd(now)}}
	for _, name := range slices.Sorted(maps.Keys(r.Windows)) {
		if !r.Windows[name].Freeze && len(all) <= mostWindows {
			all = append(all, InWaves{name, r.waveEnd(now, name)})
		}
	}
	return all
}

func (r Reprofiled) waveEnd(now time.Time, windows ...fleet.Name) time.Time {
	model := rollout.NewModel()
	for name, window := range r.Windows {
		model.Observe(rollout.Declared{Name: name, Revision: 1, Window: window})
	}
	spec := rollout.Spec{Name: fmt.Sprintf("profile %s", r.Name), Steps: rollout.DefaultSteps, PerMinute: rollout.DefaultPerMinute, Windows: windows}
	var seats []rollout.Seat
	for _, seat := range r.Seats {
		id := uuid.NewSHA1(uuid.Nil, []byte(seat.Place))
		seats = append(seats, rollout.Seat{ID: id, Through: 1})
		model.Observe(rollout.Seen{
			Placement: id, At: now, Intent: string(seat.Intent), Cluster: seat.Cluster, Member: seat.Member, Generation: 1, Steady: true, Well: true,
		})
	}
	waves, parts, err := rollout.Plan(spec, seats)
	if err != nil {
		return time.Time{}
	}
	id := uuid.NewSHA1(uuid.Nil, []byte(spec.Name))
	model.Observe(rollout.Begun{Rollout: id, Spec: spec, Waves: waves, Parts: parts, At: now, Well: len(parts)})
	return model.Estimate(id, now).End
}
