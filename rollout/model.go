package rollout

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/fleet"
)

// Model is what is known of the rollouts of a fleet. It holds facts and nothing
// that follows from them: which wave is the current one, who waits for what,
// whether a rollout is over, is reckoned anew at each question. So facts may
// come late, twice and in any order; what they make is the same as if all of
// them had come at once.
//
// It is not safe for use by several goroutines at once.
type Model struct {
	rollouts map[uuid.UUID]*run
	places   []place
	index    index
	intents  names
	clusters names // 0: none
	failing  map[uint32]bool
	held     map[string]map[string]Held // cluster → change
	windows  map[fleet.Name]window
}

// NewModel returns a model that knows nothing.
func NewModel() *Model {
	m := &Model{
		rollouts: map[uuid.UUID]*run{}, failing: map[uint32]bool{},
		held: map[string]map[string]Held{}, windows: map[fleet.Name]window{},
	}
	m.clusters.intern("")
	return m
}

// place is a placement at rest: 48 bytes.
type place struct {
	id         uuid.UUID
	at         int64 // µs; 0: never seen
	generation uint32
	intent     uint32
	cluster    uint32
	member     uint32 // a hash of who it is, looked at within one cluster only
	level      uint8
	flags      flags
}

type flags uint8

const (
	steady flags = 1 << iota
	failed
	well
	adopted
	gone
)

func (f flags) when(set bool) flags {
	if set {
		return f
	}
	return 0
}

var levels = map[fleet.Level]uint8{fleet.Delivered: 1, fleet.Loaded: 2, fleet.Proven: 3}

// run is a rollout.
type run struct {
	id      uuid.UUID
	begun   *Begun // without its parts; nil: not known yet
	parts   []part // in the order of the waves
	starts  []int  // where in parts a wave begins; one more at the end
	byPlace []uint32
	early   []Fact // about parts, from before the rollout was known
	acts    []Decided
	answers map[answered]GateAnswered
	told    map[toldOf]Told
	ended   time.Time
}

// part is a placement in a rollout: 16 bytes. Times are whole seconds since
// 1970, 0 for never: what hangs on them are reasons, pace and soak.
type part struct {
	place, through, asked, settled uint32
}

type answered struct {
	wave int
	gate fleet.Name
}

// Observe takes a fact.
func (m *Model) Observe(fact Fact) {
	switch f := fact.(type) {
	case Seen:
		m.see(f)
	case Begun:
		m.begin(f)
	case Asked:
		r := m.run(f.Rollout)
		if !m.date(r, f.Placement, f.At, (*part).ask) {
			r.early = append(r.early, f)
		}
	case Settled:
		r := m.run(f.Rollout)
		if !m.date(r, f.Placement, f.At, (*part).settle) {
			r.early = append(r.early, f)
		}
	case Decided:
		r := m.run(f.Rollout)
		if at, known := slices.BinarySearchFunc(r.acts, f, compareActs); !known {
			r.acts = slices.Insert(r.acts, at, f)
		}
	case GateAnswered:
		r, of := m.run(f.Rollout), answered{f.Wave, f.Gate}
		if before, known := r.answers[of]; !known || compareAnswers(before, f) < 0 {
			r.answers[of] = f
		}
	case Ended:
		r := m.run(f.Rollout)
		if r.ended.IsZero() || f.At.Before(r.ended) {
			r.ended = f.At
		}
	case Told:
		m.run(f.Rollout).tell(f)
	case Held:
		m.hold(f)
	case Declared:
		if before, known := m.windows[f.Name]; !known || before.Revision < f.Revision {
			m.windows[f.Name] = windowOf(f)
		}
	}
}

// window is a declared window with its zone looked up.
type window struct {
	Declared
	openings *fleet.Openings
}

func windowOf(d Declared) window {
	if d.Window == nil {
		return window{d, nil}
	}
	openings := d.Window.Openings()
	return window{d, &openings}
}

func (m *Model) run(id uuid.UUID) *run {
	r := m.rollouts[id]
	if r == nil {
		r = &run{id: id, answers: map[answered]GateAnswered{}, told: map[toldOf]Told{}}
		m.rollouts[id] = r
	}
	return r
}

func compareActs(a, b Decided) int {
	return cmp.Or(a.At.Compare(b.At), strings.Compare(string(a.Act), string(b.Act)), strings.Compare(a.By, b.By), strings.Compare(a.Reason, b.Reason))
}

// compareAnswers: the newer one counts, and of two of one moment the refusal.
func compareAnswers(a, b GateAnswered) int {
	if c := a.At.Compare(b.At); c != 0 {
		return c
	}
	if a.Passed != b.Passed {
		if a.Passed {
			return -1
		}
		return 1
	}
	return strings.Compare(a.Words, b.Words)
}

func (m *Model) hold(f Held) {
	changes := m.held[f.Cluster]
	if changes == nil {
		changes = map[string]Held{}
		m.held[f.Cluster] = changes
	}
	before, known := changes[f.Change]
	if !known || before.At.Before(f.At) || before.At.Equal(f.At) && f.Over {
		changes[f.Change] = f
	}
}

func hashID(id uuid.UUID) uint64 {
	return (binary.LittleEndian.Uint64(id[8:]) ^ binary.LittleEndian.Uint64(id[:8])) * 0x9e3779b97f4a7c15 >> 20
}

// placeOf is where the placement stands in the list; it is put there if need be.
func (m *Model) placeOf(id uuid.UUID) uint32 {
	hash := hashID(id)
	at, known := m.index.find(hash, func(at uint32) bool { return m.places[at].id == id })
	if !known {
		at = uint32(len(m.places))
		m.places = append(m.places, place{id: id})
		m.index.add(hash, at, func(at uint32) uint64 { return hashID(m.places[at].id) })
	}
	return at
}

func (m *Model) see(f Seen) {
	at := m.placeOf(f.Placement)
	next := place{
		id: f.Placement, at: f.At.UnixMicro(), generation: small(f.Generation),
		intent: m.intents.intern(f.Intent), cluster: m.clusters.intern(f.Cluster),
		member: uint32(hashText(f.Member.Agent + "\x00" + f.Member.Target)), level: levels[f.Level],
	}
	next.flags = steady.when(f.Steady) | failed.when(f.Failed) | well.when(f.Well) | adopted.when(f.Adopted) | gone.when(f.Gone)
	if m.compare(m.places[at], next) >= 0 {
		return
	}
	m.places[at] = next
	if next.is(failed) && !next.is(gone) {
		m.failing[at] = true
	} else {
		delete(m.failing, at)
	}
}

// compare orders what was seen of one placement: the newer one counts, and of
// two of one moment always the same.
func (m *Model) compare(a, b place) int {
	if c := cmp.Compare(a.at, b.at); c != 0 || a.at == 0 {
		return c
	}
	return cmp.Or(
		cmp.Compare(a.generation, b.generation), cmp.Compare(a.level, b.level), cmp.Compare(a.flags, b.flags),
		cmp.Compare(a.member, b.member), strings.Compare(m.intents.list[a.intent], m.intents.list[b.intent]),
		strings.Compare(m.clusters.list[a.cluster], m.clusters.list[b.cluster]),
	)
}

func (p place) is(flag flags) bool { return p.flags&flag != 0 }

// small keeps a generation in four bytes: at one a second they last for 136
// years.
func small(generation uint64) uint32 { return uint32(min(generation, 1<<32-1)) }

// begin takes the goal of a rollout, once: it never changes.
func (m *Model) begin(f Begun) {
	r := m.run(f.Rollout)
	if r.begun != nil {
		return
	}
	goal := f
	goal.Parts = nil
	r.begun = &goal
	r.parts = make([]part, len(f.Parts))
	r.byPlace = make([]uint32, len(f.Parts))
	r.starts = make([]int, len(f.Waves)+1)
	for i, one := range f.Parts {
		r.parts[i] = part{place: m.placeOf(one.Placement), through: small(one.Through)}
		r.byPlace[i] = uint32(i)
		r.starts[one.Wave+1]++
	}
	for i := range f.Waves {
		r.starts[i+1] += r.starts[i]
	}
	slices.SortFunc(r.byPlace, func(a, b uint32) int { return cmp.Compare(r.parts[a].place, r.parts[b].place) })
	early := r.early
	r.early = nil
	for _, fact := range early {
		m.Observe(fact)
	}
}

// date finds the part of a placement and dates it. It returns false if the
// rollout is not known yet. Of a placement that is no part nothing is kept.
func (m *Model) date(r *run, id uuid.UUID, at time.Time, set func(*part, uint32)) bool {
	if r.begun == nil {
		return false
	}
	where := m.placeOf(id)
	i, found := slices.BinarySearchFunc(r.byPlace, where, func(i, where uint32) int { return cmp.Compare(r.parts[i].place, where) })
	if found {
		set(&r.parts[r.byPlace[i]], uint32(at.Unix()))
	}
	return true
}

func (p *part) ask(at uint32)    { p.asked = first(p.asked, at) }
func (p *part) settle(at uint32) { p.settled = first(p.settled, at) }

func first(known, at uint32) uint32 {
	if known == 0 {
		return at
	}
	return min(known, at)
}

func moment(seconds uint32) time.Time { return time.Unix(int64(seconds), 0).UTC() }
