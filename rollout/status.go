package rollout

import (
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// State is how a rollout is, in a word. It follows from facts, and is stored
// nowhere.
//
//	paused ◀──pause, resume──▶ running ──all waves pass──▶ done
//	   │                          │                         │
//	   ├──────────abort───────────┴──▶ aborted              │
//	   │                          │       │                 │
//	   └──────────────────────────┴───────┴──rollback───────┴──▶ rolled back
type State string

// The states of a rollout.
const (
	Running    State = "running"
	Paused     State = "paused"
	Aborted    State = "aborted"
	RolledBack State = "rolled back"
	Completed  State = "done"
)

// acts are what may be decided in which state.
var acts = map[State][]Act{
	Running:   {Pause, Abort, Rollback},
	Paused:    {Resume, Abort, Rollback},
	Completed: {Rollback},
	Aborted:   {Rollback},
}

// Decide says whether an operator may decide so now, and if not, why.
func (s State) Decide(name string, act Act) error {
	if slices.Contains(acts[s], act) {
		return nil
	}
	var may []string
	for _, one := range acts[s] {
		may = append(may, string(one))
	}
	refusal := fault.New(fault.Conflict, "rollout %s is %s; that can't be changed by %s", name, s, act)
	if len(may) == 0 {
		return refusal.WithRemedy("start another one")
	}
	return refusal.WithRemedy("what can be done now is: %s", strings.Join(may, ", "))
}

// Over says whether a rollout asks for nothing any more.
func (s State) Over() bool { return s == Aborted || s == RolledBack || s == Completed }

// Status is how a rollout stands.
type Status struct {
	State   State
	Decided Decided   // by whom it is paused, or was ended; zero: by nobody
	Ended   time.Time // when all waves had passed
	Wave    int       // the current one, from 0; as many as there are: none
	Waves   []WaveStatus
	Well    int // placements that are well now
	Before  int // that were well before
}

// WaveStatus is how a wave stands. The counts make up Count.
type WaveStatus struct {
	Wave
	Pending, Moving, Failed, There, Gone int
	Settled                              time.Time // when the newest that is there got there
}

// Status returns how a rollout stands; false if it is not known.
func (m *Model) Status(id uuid.UUID, now time.Time) (Status, bool) {
	r := m.rollouts[id]
	if r == nil || r.begun == nil {
		return Status{}, false
	}
	n := m.turn(now)
	s := n.surveys[r]
	status := Status{Ended: r.ended, Before: r.begun.Well}
	status.State, status.Decided = r.state()
	for status.Wave = s.begunWave(); status.Wave < len(s.waves) && n.passes(r, s, status.Wave); {
		status.Wave++
	}
	for i, t := range s.waves {
		w := WaveStatus{Wave: r.begun.Waves[i], Pending: t.pending, Moving: t.moving, Failed: t.failed, There: t.there, Gone: t.gone}
		if t.settled > 0 {
			w.Settled = moment(t.settled)
		}
		status.Waves = append(status.Waves, w)
	}
	for _, p := range r.parts {
		if at := m.places[p.place]; at.is(well) && !at.is(gone) {
			status.Well++
		}
	}
	return status, true
}

func (r *run) state() (State, Decided) {
	ended, paused := r.decided()
	switch {
	case ended != nil && ended.Act == Rollback:
		return RolledBack, *ended
	case ended != nil:
		return Aborted, *ended
	case !r.ended.IsZero():
		return Completed, Decided{}
	case paused != nil:
		return Paused, *paused
	}
	return Running, Decided{}
}
