package whatif

import (
	"fmt"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/rollout"
)

// waves says when a rollout with the usual steps would be over: at all times, and
// begun inside each window. Freezes count for all.
func (r Reprofiled) waves(now time.Time) []InWaves {
	if len(r.Seats) == 0 || len(r.Stops) > 0 {
		return nil
	}
	all := []InWaves{r.waveEnd(now)}
	for _, name := range offered(r.Windows) {
		all = append(all, r.waveEnd(now, name))
	}
	return all
}

func (r Reprofiled) waveEnd(now time.Time, windows ...fleet.Name) (told InWaves) {
	spec := rollout.Spec{Name: fmt.Sprintf("profile %s", r.Name), Steps: rollout.DefaultSteps, PerMinute: rollout.DefaultPerMinute, Windows: windows}
	var seats []seat
	for _, one := range r.Seats {
		seats = append(seats, seat{place: one.Place, intent: one.Intent, cluster: one.Cluster, member: one.Member})
	}
	for _, name := range windows {
		told.Window = name
	}
	told.End, told.Why = roll(spec, r.Windows, seats, now)
	return told
}
