package admission

import (
	"cmp"
	"container/heap"
)

// room is the tickets that wait. The most urgent is at hand, and the least.
type room struct {
	sides [2]side
	of    [classes]int
}

// The sides of a room.
const (
	soonest = 0
	latest  = 1
)

func (r *room) len() int { return len(r.sides[soonest].tickets) }

// at is the ticket at the head of a side of a room that is not empty.
func (r *room) at(which int) *ticket { return r.sides[which].tickets[0] }

func (r *room) add(t *ticket) {
	for which := range r.sides {
		r.sides[which].which = which
		heap.Push(&r.sides[which], t)
	}
	r.of[t.class]++
}

func (r *room) remove(t *ticket) {
	for which := range r.sides {
		heap.Remove(&r.sides[which], t.at[which])
	}
	r.of[t.class]--
}

// ahead is how many wait that are at least as urgent, by class.
func (r *room) ahead(t *ticket) (n int) {
	for class := Expiring; class <= t.class; class++ {
		n += r.of[class]
	}
	return n
}

// before orders by class, then by who ends first, then by arrival.
func (t *ticket) before(u *ticket) int {
	return cmp.Or(cmp.Compare(t.class, u.class), t.ask.NotAfter.Compare(u.ask.NotAfter), cmp.Compare(t.number, u.number))
}

// side is a heap of the room's tickets.
type side struct {
	which   int
	tickets []*ticket
}

func (s *side) Len() int { return len(s.tickets) }

func (s *side) Less(i, j int) bool {
	order := s.tickets[i].before(s.tickets[j])
	return s.which == soonest && order < 0 || s.which == latest && order > 0
}

func (s *side) Swap(i, j int) {
	s.tickets[i], s.tickets[j] = s.tickets[j], s.tickets[i]
	s.tickets[i].at[s.which], s.tickets[j].at[s.which] = i, j
}

// Push implements heap.Interface.
func (s *side) Push(x any) {
	t := x.(*ticket)
	t.at[s.which] = len(s.tickets)
	s.tickets = append(s.tickets, t)
}

// Pop implements heap.Interface.
func (s *side) Pop() any {
	last := len(s.tickets) - 1
	t := s.tickets[last]
	s.tickets[last] = nil
	s.tickets = s.tickets[:last]
	t.at[s.which] = -1
	return t
}
