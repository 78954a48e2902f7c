package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/fleet"
)

// Do is what is to be done.
type Do string

// What there is to do. Each may be done twice: it is the fact that comes of it
// which counts.
const (
	Rotate Do = "rotate" // make the placement's rotation part of what is desired: Asked
	Note   Do = "note"   // date that the placement is where it should be: Settled
	AskOut Do = "ask"    // ask a gate outside: GateAnswered
	End    Do = "end"    // record that all waves have passed: Ended
	Tell   Do = "tell"   // tell the owners of an event: Told
)

// Action is a thing to do.
type Action struct {
	Do        Do
	Rollout   uuid.UUID
	Wave      int // from 0
	Placement uuid.UUID
	Through   uint64
	NewKey    bool
	Gate      Gate
	Event     Event  // of Tell
	Words     string // of Tell
}

// Holdup is why something is not done.
type Holdup struct {
	Rollout uuid.UUID
	Wave    int    // from 0
	Count   int    // of the placements that it is about
	Text    string // "orders-db wave 2 waits: 1 of 3 members of c1 is unproven since 14:02"
}

// askAgain is when a gate outside that refused is asked again.
const askAgain = time.Minute

// Next says what is to be done now, and of all that is not done why. Rollouts
// come by their age: where two want one cluster the older one has it.
func (m *Model) Next(now time.Time) ([]Action, []Holdup) {
	n := m.turn(now)
	for _, r := range m.open() {
		n.rollout(r)
	}
	return n.actions, n.reasons
}

// turn is one reckoning of Next.
type turn struct {
	*Model
	now     time.Time
	surveys map[*run]survey
	broken  map[uint32]int      // intent → placements at which a failure stands
	holders map[uint32][]motion // cluster → who of it is under way
	actions []Action
	reasons []Holdup
}

// motion is a member that is under way.
type motion struct {
	run    *run
	member uint32
	since  uint32
}

func (m *Model) turn(now time.Time) *turn {
	n := &turn{Model: m, now: now, surveys: map[*run]survey{}, broken: map[uint32]int{}, holders: map[uint32][]motion{}}
	for at := range m.failing {
		n.broken[m.places[at].intent]++
	}
	for _, r := range m.rollouts {
		if r.begun == nil {
			continue
		}
		n.surveys[r] = m.survey(r, uint32(now.Unix()))
		for _, i := range n.surveys[r].motion {
			n.move(r, r.parts[i].place, r.parts[i].asked)
		}
	}
	return n
}

func (n *turn) move(r *run, at, since uint32) {
	if p := n.places[at]; p.cluster > 0 {
		n.holders[p.cluster] = append(n.holders[p.cluster], motion{r, p.member, since})
	}
}

// open is the rollouts that have begun and are not over, the oldest first.
func (m *Model) open() (open []*run) {
	for _, r := range m.rollouts {
		if ended, _ := r.decided(); r.begun != nil && r.ended.IsZero() && ended == nil {
			open = append(open, r)
		}
	}
	slices.SortFunc(open, func(a, b *run) int {
		return cmp.Or(a.begun.At.Compare(b.begun.At), slices.Compare(a.id[:], b.id[:]))
	})
	return open
}

func (n *turn) rollout(r *run) {
	s := n.surveys[r]
	for _, i := range s.notes {
		n.act(r, Note, n.waveOf(r, i), Action{Placement: n.places[r.parts[i].place].id})
	}
	wave := s.begunWave()
	for wave < len(s.waves) && n.passes(r, s, wave) {
		wave++
	}
	if wave == len(s.waves) {
		n.act(r, End, wave-1, Action{})
		return
	}
	n.ask(r, s, wave)
	n.tellHeld(r, s, wave)
	for later := wave + 1; later < len(s.waves); later++ {
		if s.waves[later].pending > 0 {
			n.wait(r, later, s.waves[later].pending, "for wave %d", later)
		}
	}
}

func (n *turn) act(r *run, do Do, wave int, a Action) {
	a.Do, a.Rollout, a.Wave = do, r.id, wave
	n.actions = append(n.actions, a)
}

func (n *turn) wait(r *run, wave, count int, format string, args ...any) {
	n.reasons = append(n.reasons, Holdup{r.id, wave, count,
		fmt.Sprintf("%s wave %d waits: ", r.begun.Spec.Name, wave+1) + fmt.Sprintf(format, args...)})
}

func (n *turn) waveOf(r *run, part int) int {
	wave, exact := slices.BinarySearch(r.starts, part)
	if !exact {
		return wave - 1
	}
	for wave+1 < len(r.starts)-1 && r.starts[wave+1] == part {
		wave++
	}
	return wave
}

// begunWave is the newest wave of which somebody was asked. Those before it
// have passed: what they show now matters through the breaker alone, else the
// ordinary renewals of a large wave would begin its soak again and again.
func (s survey) begunWave() int {
	for wave := len(s.waves) - 1; wave > 0; wave-- {
		if s.waves[wave].asked {
			return wave
		}
	}
	return 0
}

// behind is how many placements of a wave, and of those before it, nobody has
// asked: one that came back belongs to a wave that has passed.
func (s survey) behind(wave int) (pending int) {
	for _, t := range s.waves[:wave+1] {
		pending += t.pending
	}
	return pending
}

// underWay is how many of a wave, and of those before it, are on their way.
func (s survey) underWay(wave int) (moving int) {
	for _, t := range s.waves[:wave+1] {
		moving += t.moving
	}
	return moving
}

// passes says whether a wave has shown all that its gates want. What it lacks
// is among the reasons.
func (n *turn) passes(r *run, s survey, wave int) bool {
	t, spec := s.waves[wave], &r.begun.Spec
	before := len(n.reasons)
	moving := s.underWay(wave)
	if moving > 0 {
		n.unproven(r, wave)
	}
	switch {
	case t.tooMany(spec):
		n.wait(r, wave, t.failed, "%s", t.tooManyWords(spec))
	case moving > 0 || s.behind(wave) > 0:
	case t.wanted() == 0:
		return true
	case spec.Gates.Health && t.unwell > 0:
		n.wait(r, wave, t.unwell, "%d of %d %s not well", t.unwell, t.wanted(), words(t.unwell, "is", "are"))
	case spec.Gates.Adoption && t.unadopted > 0:
		n.wait(r, wave, t.unadopted, "%d of %d %s the bundle that is wanted", t.unadopted, t.wanted(), words(t.unadopted, "lacks", "lack"))
	case n.now.Before(n.soaked(t, spec)):
		n.wait(r, wave, t.wanted(), "it soaks until %s", when(n.now, n.soaked(t, spec)))
	default:
		n.outside(r, wave)
	}
	return len(n.reasons) == before && s.behind(wave) == 0
}

// soaked is when a wave has been watched for long enough.
func (n *turn) soaked(t tally, spec *Spec) time.Time {
	from := moment(t.settled)
	if t.unsettled {
		from = n.now
	}
	return from.Add(spec.Soak.Std())
}

// outside asks the gates outside that have not passed the wave.
func (n *turn) outside(r *run, wave int) {
	_, paused := r.decided()
	for _, gate := range r.begun.Spec.Gates.Outside {
		answer, given := r.answers[answered{wave, gate.Name}]
		if given && answer.Passed {
			continue
		}
		if paused == nil && (!given || !n.now.Before(answer.At.Add(askAgain))) {
			n.act(r, AskOut, wave, Action{Gate: gate})
		}
		n.wait(r, wave, n.surveys[r].waves[wave].wanted(), "%s", gateWords(gate.Name, answer, given, n.now))
	}
}

func gateWords(name fleet.Name, answer GateAnswered, given bool, now time.Time) string {
	if !given {
		return fmt.Sprintf("gate %s has not answered", name)
	}
	return strings.TrimSuffix(fmt.Sprintf("gate %s refused it at %s: %s", name, when(now, answer.At), answer.Words), ": ")
}
