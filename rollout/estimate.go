package rollout

import (
	"fmt"
	"time"

	"github.com/google/uuid"
)

// assumedTook is how long a rotation is taken to last before one has been seen.
const assumedTook = time.Minute

// mostOpenings bounds how many openings of its windows an estimate spans.
const mostOpenings = 400

// Estimate is when a rollout will be over, if what it assumes comes true.
type Estimate struct {
	End     time.Time // zero: nobody can say
	Assumes []string
}

// Estimate reckons when a rollout will be over. It is honest, not clever: waves
// follow one another, each takes what its pace, its slowest cluster and its soak
// take, begun inside the windows; and it says what it can't know.
func (m *Model) Estimate(id uuid.UUID, now time.Time) Estimate {
	r := m.rollouts[id]
	if r == nil || r.begun == nil {
		return Estimate{}
	}
	if state, _ := r.state(); state.Over() {
		return Estimate{}
	}
	n, spec := m.turn(now), &r.begun.Spec
	s := n.surveys[r]
	took, seen := m.took(r)
	e := Estimate{Assumes: []string{fmt.Sprintf("a rotation takes %s, as %d of them did", took, seen)}}
	if seen == 0 {
		e.Assumes[0] = fmt.Sprintf("a rotation takes %s: none has been seen yet", took)
	}
	e.assume(r, s)
	calendar, at := m.calendar(*spec), now
	if begins := r.lead().Begins(now); begins.After(at) {
		at = begins
	}
	for wave := s.begunWave(); wave < len(s.waves); wave++ {
		t := s.waves[wave]
		if t.wanted() == 0 {
			continue
		}
		if left := t.pending + t.moving; left > 0 {
			work := max(time.Duration(t.pending)*time.Minute/time.Duration(spec.PerMinute), time.Duration(m.chain(r, wave))*took)
			if spec.AtOnce > 0 {
				work = max(work, time.Duration((left+spec.AtOnce-1)/spec.AtOnce)*took)
			}
			var ok bool
			if at, ok = calendar.spend(at, work); !ok {
				return Estimate{Assumes: append(e.Assumes, "its windows never open long enough, so that it does not end")}
			}
			at = at.Add(spec.Soak.Std())
		} else if soaked := n.soaked(t, spec); soaked.After(at) {
			at = soaked
		}
	}
	e.End = at
	return e
}

func (e *Estimate) assume(r *run, s survey) {
	failed := 0
	for _, t := range s.waves {
		failed += t.failed
	}
	if failed > 0 {
		e.Assumes = append(e.Assumes, fmt.Sprintf("the %d that failed are mended now, and no other fails", failed))
	} else {
		e.Assumes = append(e.Assumes, "none fails")
	}
	if _, paused := r.decided(); paused != nil {
		e.Assumes = append(e.Assumes, "it is resumed now")
	}
	if l := r.lead(); l.Gate && l.unreached > 0 {
		e.Assumes = append(e.Assumes, "all owners are reached now")
	}
	if len(r.begun.Spec.Gates.Outside) > 0 {
		e.Assumes = append(e.Assumes, "the gates outside pass each wave at once")
	}
	e.Assumes = append(e.Assumes, "all agents are connected, and no other change holds a cluster")
}

// took is how long the rotations of a rollout took on average, from the asking.
func (m *Model) took(r *run) (time.Duration, int) {
	sum, n := uint64(0), 0
	for _, p := range r.parts {
		if p.asked > 0 && p.settled >= p.asked {
			sum, n = sum+uint64(p.settled-p.asked), n+1
		}
	}
	if n == 0 {
		return assumedTook, 0
	}
	return max(time.Duration(sum/uint64(n))*time.Second, time.Second), n
}

// chain is the most placements of a wave that have to go one after the other:
// those of one cluster.
func (m *Model) chain(r *run, wave int) int {
	longest, each := 1, map[uint32]int{}
	for _, p := range r.parts[r.starts[wave]:r.starts[wave+1]] {
		if state := m.standing(&r.begun.Spec, p); state != pending && state != moving {
			continue
		}
		if cluster := m.places[p.place].cluster; cluster > 0 {
			each[cluster]++
			longest = max(longest, each[cluster])
		}
	}
	return longest
}

// spend is when work that is begun at a moment is done, if it goes on only while
// the calendar is open.
func (c Calendar) spend(at time.Time, work time.Duration) (time.Time, bool) {
	for range mostOpenings {
		opens, ok := c.Next(at, true)
		if !ok {
			return time.Time{}, false
		}
		closes, ok := c.Next(opens, false)
		if !ok || !opens.Add(work).After(closes) {
			return opens.Add(work), true
		}
		work -= closes.Sub(opens)
		at = closes
	}
	return time.Time{}, false
}
