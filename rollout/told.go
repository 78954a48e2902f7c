package rollout

import (
	"fmt"
	"time"

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

// begins is when the first placement may be asked, as far as the owners'
// notice goes, and of how many owners how many have not taken theirs.
func (r *run) begins() (at time.Time, unreached, owners int) {
	from := r.begun.At
	for of, told := range r.told {
		if of.event != Announced {
			continue
		}
		owners++
		if told.Reached.IsZero() {
			unreached++
		} else if r.begun.Spec.Gates.Told && told.Reached.After(from) {
			from = told.Reached
		}
	}
	return from.Add(r.begun.Spec.Notice.Std()), unreached, owners
}

// early says why it is too early to ask anybody: the owners have to know first.
// It holds until the notice has run, whatever became of it underway.
func (n *turn) early(r *run) string {
	spec := &r.begun.Spec
	if spec.Notice == 0 && !spec.Gates.Told {
		return ""
	}
	at, unreached, owners := r.begins()
	if spec.Gates.Told && unreached > 0 {
		return fmt.Sprintf("%d of %d owners %s not been reached since %s; rotunda notices", unreached, owners, words(unreached, "has", "have"), when(n.now, r.begun.At))
	}
	if !n.now.Before(at) {
		return ""
	}
	told := fmt.Sprintf("owners were told at %s", when(n.now, at.Add(-spec.Notice.Std())))
	if unreached > 0 {
		told = fmt.Sprintf("owners are told since %s, %d of %d %s not been reached yet", when(n.now, r.begun.At), unreached, owners, words(unreached, "has", "have"))
	}
	return fmt.Sprintf("%s; it begins at %s", told, when(n.now, at))
}

// tellHeld tells the owners once that a breaker holds the rollout, and once
// that it does no more. Closed windows and pauses change nothing about it.
func (n *turn) tellHeld(r *run, s survey, wave int) {
	if n.early(r) != "" {
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
