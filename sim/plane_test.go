package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/rotation"
	"github.com/rotunda-pki/rotunda/schedule"
)

// The control plane of the simulation: what package control does with slots,
// windows and rotations, on the same pure decisions, in memory.

// startWithin is how long an agent has from the arrival of a grant, and
// withdrawnAfter how long the plane waits before it shows the grant no more.
const (
	startWithin    = 30 * time.Second
	withdrawnAfter = time.Minute
	sayAgain       = 15 * time.Second // after a message that was lost
)

type cluster struct {
	name    string
	members []schedule.Member
	holds   map[string]*hold // by placement
	asking  map[string]asking
	away    int // in truth
}

type hold struct {
	id        string
	of        *placement
	revision  uint64
	since     time.Time
	seq       int
	begun     bool
	withdrawn int // the seq from which on it is not shown; 0: it is
}

type asking struct {
	of       *placement
	since    time.Time
	revision uint64
}

// wish is what the plane wants of a placement.
type wish struct {
	seq     int
	window  rotation.Window
	through uint64
	from    time.Time
}

// report is what an agent says of its placement.
type report struct {
	asks uint64
	slot string
}

// report says how the placement stands, where that has changed since it was
// said last.
func (p *placement) report() {
	now := report{asks: p.asks}
	if p.record.Slot != nil && p.record.Slot.ID != "" {
		now = report{slot: p.record.Slot.ID}
	}
	if now != p.told {
		p.told, p.heard = now, false
		p.say()
	}
}

// say sends the report until it was heard, or there is a newer one.
func (p *placement) say() {
	said, seq := p.told, p.seq
	p.after(p.between(5*time.Millisecond, 200*time.Millisecond), func() {
		switch {
		case p.told != said || p.heard && p.seq == seq:
		case p.down() || p.lost():
			p.after(sayAgain, func() {
				if p.told == said && !p.heard {
					p.say()
				}
			})
		default:
			p.heard = true
			p.hear(p, said, seq)
		}
	})
}

// hear is followSlot of package control.
func (s *fleetSim) hear(p *placement, said report, seq int) {
	c := p.cluster
	if c == nil {
		return
	}
	held := c.holds[p.id]
	if held != nil {
		switch {
		case said.slot == held.id:
			held.begun = true
		case said.slot != "":
			s.t.Fatalf("%s has begun with %s, it holds %s", p.id, said.slot, held.id)
		case held.begun && seq >= held.seq && said.asks != held.revision:
			delete(c.holds, p.id)
		case !held.begun && held.withdrawn > 0 && seq >= held.withdrawn:
			delete(c.holds, p.id)
			c.asking[p.id] = asking{p, s.now, said.asks}
		}
	}
	if said.asks == 0 {
		delete(c.asking, p.id)
	} else {
		before, known := c.asking[p.id]
		if !known {
			before.since = s.now
		}
		c.asking[p.id] = asking{p, before.since, said.asks}
	}
	s.grant(c)
}

func (s *fleetSim) grant(c *cluster) {
	facts := schedule.Cluster{Name: c.name, Most: 1}
	for _, h := range c.holds {
		facts.Holds = append(facts.Holds, schedule.Hold{Member: h.of.member, Begun: h.begun, Since: h.since})
	}
	for id, a := range c.asking {
		if c.holds[id] == nil {
			facts.Asks = append(facts.Asks, schedule.Ask{Member: a.of.member, Placement: id, Since: a.since})
		}
	}
	for _, verdict := range facts.Decide(s.now) {
		if !verdict.Granted {
			s.waited++
			continue
		}
		a := c.asking[verdict.Placement]
		s.seq++
		h := &hold{id: fmt.Sprint("slot-", s.seq), of: a.of, revision: a.revision, since: s.now, seq: s.seq}
		c.holds[verdict.Placement] = h
		s.tell(a.of)
		s.after(withdrawnAfter, func() { s.withdraw(c, h) })
	}
}

// withdraw is tendSlots. Whether the plane is down then changes nothing: it
// would do so as soon as it is back.
func (s *fleetSim) withdraw(c *cluster, h *hold) {
	switch {
	case c.holds[h.of.id] != h || h.begun:
	case s.down():
		s.at(s.outageEnd, func() { s.withdraw(c, h) })
	default:
		s.seq++
		h.withdrawn = s.seq
		s.tell(h.of)
	}
}

// tell sends all that is desired of a placement, until it was taken or there is
// something newer.
func (s *fleetSim) tell(p *placement) {
	s.seq++
	w := s.wishes[p.id]
	w.seq = s.seq
	s.wishes[p.id] = w
	s.send(p, w.seq)
}

func (s *fleetSim) send(p *placement, seq int) {
	w := s.wishes[p.id]
	if w.seq != seq {
		return
	}
	slot := rotation.Slot{}
	if p.cluster != nil {
		if h := p.cluster.holds[p.id]; h != nil && h.withdrawn == 0 {
			slot = rotation.Slot{ID: h.id, Revision: h.revision}
		}
	}
	s.after(s.between(5*time.Millisecond, 200*time.Millisecond), func() {
		if s.down() || s.lost() {
			s.after(sayAgain, func() { s.send(p, seq) })
			return
		}
		p.take(w, slot)
	})
}

// take takes a desired state, unless it is older than what is known. A grant's
// time runs from when it came first.
func (p *placement) take(w wish, slot rotation.Slot) {
	if w.seq < p.seq {
		return
	}
	p.seq = w.seq
	gone := p.d.Slot.ID != "" && slot.ID == ""
	if slot.ID != p.d.Slot.ID {
		if slot.ID != "" {
			slot.Until = p.now.Add(startWithin)
		}
		p.d.Slot = slot
	}
	p.d.Window, p.d.RenewThrough, p.d.RenewFrom = w.window, w.through, w.from
	p.wake()
	if gone {
		p.heard = false
		p.say()
	}
}

// issuedTo reckons the window of a new certificate and sends it.
func (s *fleetSim) issuedTo(p *placement, generation uint64, issued, notAfter time.Time) {
	after, before := schedule.Window(p.profile, issued, notAfter)
	if p.cluster != nil {
		after, before = schedule.Part(p.cluster.name, p.member, p.cluster.members, after, before)
	}
	w := s.wishes[p.id]
	w.window = rotation.Window{Generation: generation, After: after, Before: before}
	s.wishes[p.id] = w
	s.tell(p)
}

// rotateAll is rotate --all at its default pace.
func (s *fleetSim) rotateAll() {
	var ids []string
	byID := map[string]*placement{}
	for _, p := range s.placements {
		ids = append(ids, p.id)
		byID[p.id] = p
	}
	slices.Sort(ids)
	for _, turn := range schedule.Pace(ids, schedule.DefaultOver(len(ids))) {
		p := byID[turn.Placement]
		w := s.wishes[p.id]
		w.through, w.from = p.record.LastGeneration, s.now.Add(turn.After)
		s.wishes[p.id] = w
		s.tell(p)
	}
}
