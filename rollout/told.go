package rollout

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/fleet"
)

type toldOf struct {
	event   Event
	service fleet.Name
}

// tell takes what an owner is told: the newest of an event counts, and of one
// message when it was first taken.
func (r *run) tell(f Told) {
	of := toldOf{f.Event, f.Service}
	before, known := r.told[of]
	switch {
	case known && before.At.After(f.At):
		return
	case known && before.At.Equal(f.At) && (f.Reached.IsZero() || !before.Reached.IsZero() && before.Reached.Before(f.Reached)):
		return
	}
	r.told[of] = f
}

// newest is when an event was told last; zero: never.
func (r *run) newest(event Event) (at time.Time) {
	for of, told := range r.told {
		if of.event == event && told.At.After(at) {
			at = told.At
		}
	}
	return at
}

// lead is how long the owners have to know before the rollout begins.
func (r *run) lead() Lead {
	l := Lead{From: r.begun.At, For: r.begun.Spec.Notice.Std(), Gate: r.begun.Spec.Gates.Told}
	for of, told := range r.told {
		if of.event == Announced {
			l.Owner(told.Reached)
		}
	}
	return l
}

// Lead is how long the owners of services have to know of a change before it
// touches anything.
type Lead struct {
	From time.Time     // when it was announced
	For  time.Duration // how long they have to know
	Gate bool          // each has to have been reached, and it runs from then

	owners, unreached int
	last              time.Time // when the last one was reached
}

// Owner counts an owner who was told, and when he was reached; zero: not yet.
func (l *Lead) Owner(reached time.Time) {
	l.owners++
	if reached.IsZero() {
		l.unreached++
	} else if reached.After(l.last) {
		l.last = reached
	}
}

// Begins is when the change may begin, if all owners were reached now.
func (l Lead) Begins(now time.Time) time.Time {
	switch {
	case l.Gate && l.unreached > 0:
		return now.Add(l.For)
	case l.Gate && l.last.After(l.From):
		return l.last.Add(l.For)
	}
	return l.From.Add(l.For)
}

// Early says why it is too early to begin; empty: it is not.
func (l Lead) Early(now time.Time) string {
	late := fmt.Sprintf("%d of %d %s not been reached", l.unreached, l.owners, words(l.unreached, "owners has", "owners have"))
	begins := l.Begins(now)
	switch {
	case l.For == 0 && !l.Gate:
		return ""
	case l.Gate && l.unreached > 0:
		return fmt.Sprintf("%s since %s; rotunda notices", late, when(now, l.From))
	case !now.Before(begins):
		return ""
	case l.unreached > 0:
		return fmt.Sprintf("owners are told since %s, %s yet; it begins at %s", when(now, l.From), late, when(now, begins))
	}
	return fmt.Sprintf("owners were told at %s; it begins at %s", when(now, begins.Add(-l.For)), when(now, begins))
}

// Begins is the first moment from now on at which a rollout may ask somebody, as
// far as notice and windows go; false: nobody can say.
func (m *Model) Begins(id uuid.UUID, now time.Time) (time.Time, bool) {
	r := m.rollouts[id]
	if r == nil || r.begun == nil {
		return time.Time{}, false
	}
	at := r.lead().Begins(now)
	if at.Before(now) {
		at = now
	}
	return m.calendar(r.begun.Spec).Next(at, true)
}

// tellHeld tells the owners once that a breaker holds the rollout, and once
// that it does no more. Closed windows and pauses change nothing about it.
func (n *turn) tellHeld(r *run, s survey, wave int) {
	if r.lead().Early(n.now) != "" {
		return
	}
	told := r.newest(HeldUp).After(r.newest(GoesOn))
	switch why := n.breaker(r, s, wave); {
	case why != "" && !told:
		n.act(r, Tell, wave, Action{Event: HeldUp, Words: why})
	case why == "" && told:
		n.act(r, Tell, wave, Action{Event: GoesOn})
	}
}

// breaker says which one holds placements of a wave, or of those before it;
// empty: none does.
func (n *turn) breaker(r *run, s survey, wave int) (why string) {
	if s.waves[wave].tooMany(&r.begun.Spec) {
		return s.waves[wave].tooManyWords(&r.begun.Spec)
	}
	if len(n.broken) == 0 || s.behind(wave) == 0 {
		return ""
	}
	for _, p := range r.parts[:r.starts[wave+1]] {
		state := n.standing(&r.begun.Spec, p)
		if failed := n.broken[n.places[p.place].intent]; failed > 0 && state == pending {
			if one := openBreaker(n.intents.list[n.places[p.place].intent], failed); why == "" || one < why {
				why = one
			}
		}
	}
	return why
}
