package rollout

import (
	"fmt"

	"github.com/rotunda-pki/rotunda/fleet"
)

// standing is how a part stands: it follows from facts.
type standing uint8

const (
	pending  standing = iota // nobody asked it to begin
	unseen                   // and nothing is known of it either
	moving                   // asked, and not there yet
	faulty                   // what was tried there failed
	there                    // where the rollout wants it
	unwanted                 // no intent wants it any more
)

func (m *Model) standing(spec *Spec, p part) standing {
	s := &m.places[p.place]
	switch {
	case s.is(gone):
		return unwanted
	case s.is(failed) && (p.asked > 0 || p.settled > 0):
		return faulty
	case p.settled > 0 || s.reached(spec, p):
		return there
	case p.asked > 0:
		return moving
	case s.at == 0:
		return unseen
	}
	return pending
}

// reached says whether what was seen last is where the rollout wants it.
func (s *place) reached(spec *Spec, p part) bool {
	return s.is(steady) && s.generation > p.through && s.level >= levels[spec.Gates.Level]
}

// tally is how a wave stands.
type tally struct {
	parts, gone, pending, unseen, moving, failed, there int
	unwell, unadopted                                   int    // of those that are there
	settled                                             uint32 // when the last one was
	unsettled                                           bool   // one is there, and that is not dated yet
	asked                                               bool
}

// survey is how a rollout stands: all that Next needs, from one look at each of
// its placements.
type survey struct {
	waves  []tally
	recent []uint32 // when those of the last minute were asked
	notes  []int    // parts that are there, and it is not dated yet
	motion []int    // parts that hold their cluster
}

func (m *Model) survey(r *run, now uint32) survey {
	s := survey{waves: make([]tally, len(r.begun.Waves))}
	for wave := range s.waves {
		t := &s.waves[wave]
		for i := r.starts[wave]; i < r.starts[wave+1]; i++ {
			p := r.parts[i]
			if p.asked > 0 {
				t.asked = true
				if p.asked+60 > now {
					s.recent = append(s.recent, p.asked)
				}
			}
			m.count(&s, t, r, i)
		}
	}
	return s
}

func (m *Model) count(s *survey, t *tally, r *run, i int) {
	p := r.parts[i]
	seen := m.places[p.place]
	t.parts++
	switch m.standing(&r.begun.Spec, p) {
	case unwanted:
		t.gone++
	case faulty:
		t.failed++
		if p.settled == 0 {
			s.motion = append(s.motion, i)
		}
	case moving:
		t.moving++
		s.motion = append(s.motion, i)
	case unseen:
		t.unseen++
		t.pending++
	case pending:
		t.pending++
	case there:
		t.there++
		t.settled = max(t.settled, p.settled)
		if p.settled == 0 {
			t.unsettled = true
			s.notes = append(s.notes, i)
		}
		if !seen.is(well) {
			t.unwell++
		}
		if !seen.is(adopted) {
			t.unadopted++
		}
	}
}

// wanted is how many of the wave are wanted at all.
func (t tally) wanted() int { return t.parts - t.gone }

// tooMany says whether more have failed than may.
func (t tally) tooMany(spec *Spec) bool { return t.failed*100 > spec.Gates.Failures*t.wanted() }

func (t tally) tooManyWords(spec *Spec) string {
	return fmt.Sprintf("%d of %d failed, at most %d%% may; mend the cause, then rotunda resume", t.failed, t.wanted(), spec.Gates.Failures)
}

// decided is what ended the rollout, if an operator did, and what paused it.
func (r *run) decided() (ended, paused *Decided) {
	for i := range r.acts {
		switch r.acts[i].Act {
		case Abort:
			if ended == nil {
				ended = &r.acts[i]
			}
		case Rollback: // also of what was aborted
			return &r.acts[i], paused
		case Pause:
			paused = &r.acts[i]
		case Resume:
			paused = nil
		}
	}
	return ended, paused
}

// unlevel is what a placement is that has not reached a level.
var unlevel = map[fleet.Level]string{"": "unproven", fleet.Proven: "unproven", fleet.Loaded: "not loaded", fleet.Delivered: "not delivered"}
