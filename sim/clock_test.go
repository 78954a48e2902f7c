package sim

import (
	"container/heap"
	"math/rand/v2"
	"testing"
	"time"
)

// fleetSim is a fleet, its control plane and the clock of both.
type fleetSim struct {
	t      *testing.T
	now    time.Time
	events events
	count  int
	random *rand.Rand

	placements             []*placement
	wishes                 map[string]wish
	seq                    int
	outageBegin, outageEnd time.Time
	issued                 int
	slots, alone, waited   int // begun with leave, without it; asks that were not granted at once
	together               int // times that a second member of a cluster left its steady state
	lossPercent            int
}

type event struct {
	at time.Time
	n  int // events of one moment come in the order in which they were set
	do func()
}

type events []event

func (e events) Len() int      { return len(e) }
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e events) Less(i, j int) bool {
	if !e[i].at.Equal(e[j].at) {
		return e[i].at.Before(e[j].at)
	}
	return e[i].n < e[j].n
}

func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	(*e)[len(*e)-1] = event{}
	*e = (*e)[:len(*e)-1]
	return last
}

func (s *fleetSim) at(when time.Time, do func()) {
	s.count++
	heap.Push(&s.events, event{when, s.count, do})
}

func (s *fleetSim) after(d time.Duration, do func()) { s.at(s.now.Add(d), do) }

// run lets time pass.
func (s *fleetSim) run(until time.Time) {
	for len(s.events) > 0 && s.events[0].at.Before(until) {
		next := heap.Pop(&s.events).(event)
		s.now = next.at
		next.do()
	}
	s.now = until
}

func (s *fleetSim) between(least, most time.Duration) time.Duration {
	return least + time.Duration(s.random.Int64N(int64(most-least)))
}

func (s *fleetSim) lost() bool { return s.random.IntN(100) < s.lossPercent }
func (s *fleetSim) down() bool { return !s.now.Before(s.outageBegin) && s.now.Before(s.outageEnd) }
