package admission

import (
	"context"
	"sync"
	"time"
)

// Gate lets requests in.
type Gate struct {
	now    func() time.Time
	limits Limits

	mu    sync.Mutex
	queue *queue
	count Count
}

// Count is what a gate has done since it was made, and what is there now.
type Count struct {
	Admitted, Refused [classes]uint64
	Unasked           uint64 // admitted while there was room for all
	Running, Waiting  int
	Rate              float64 // requests a second, as seen last while some waited
}

// Classes are all, the most urgent first.
var Classes = [...]Class{Expiring, First, Renewal}

// New returns a gate with limits.
func New(l Limits, now func() time.Time) *Gate {
	return &Gate{now: now, limits: l, queue: newQueue(l)}
}

// Count is what the gate has done, and what is there now.
func (g *Gate) Count() Count {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.count
	c.Running, c.Waiting, c.Rate = g.queue.running, g.queue.waiting.len(), g.queue.rate.perSecond
	return c
}

// Run has n requests of a caller carried out by do, which is given the indexes
// of some of them at a time, and returns those that were refused. asks is called
// only when there is no room for all at once; it says what each request is to
// replace. The error is that of asks, of do, or of ctx: then some may not have been
// carried out.
func (g *Gate) Run(ctx context.Context, caller string, n int, asks func() ([]Ask, error), do func(indexes []int) error) (map[int]Refusal, error) {
	if n == 0 {
		return nil, do(nil)
	}
	if g.offer(caller, n) {
		defer g.done(caller, n)
		return nil, do(all(n))
	}
	wanted, err := asks()
	if err != nil {
		return nil, err
	}
	return g.enter(caller, wanted).run(ctx, do)
}

func all(n int) []int {
	indexes := make([]int, n)
	for i := range indexes {
		indexes[i] = i
	}
	return indexes
}

func (g *Gate) offer(caller string, n int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	taken := g.queue.offer(caller, n)
	if taken {
		g.count.Unasked += uint64(n)
	}
	return taken
}

func (g *Gate) done(caller string, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue.done(g.now(), caller, n)
}

// visit is a call's requests at the gate.
type visit struct {
	*Gate
	caller  string
	tickets []*ticket
	wake    chan struct{} // of capacity one: a ticket has settled
	begun   []bool        // by index: was given to do, or refused
}

func (g *Gate) enter(caller string, asks []Ask) *visit {
	v := &visit{Gate: g, caller: caller, wake: make(chan struct{}, 1), begun: make([]bool, len(asks))}
	settled := func() {
		select {
		case v.wake <- struct{}{}:
		default: // one is waiting already
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, ask := range asks {
		v.tickets = append(v.tickets, g.queue.enter(g.now(), caller, ask, settled))
	}
	return v
}

// run gives to do what may run, until all has run or is refused.
func (v *visit) run(ctx context.Context, do func(indexes []int) error) (map[int]Refusal, error) {
	defer v.giveBack()
	refused := map[int]Refusal{}
	tired := time.NewTimer(v.limits.Patience)
	defer tired.Stop()
	for {
		running, left := v.next(refused)
		if len(running) > 0 {
			if err := v.carryOut(running, do); err != nil {
				return refused, err
			}
			continue
		}
		if left == 0 {
			return refused, nil
		}
		select {
		case <-v.wake:
		case <-tired.C:
			v.tire()
		case <-ctx.Done():
			return refused, ctx.Err()
		}
	}
}

func (v *visit) carryOut(running []int, do func(indexes []int) error) error {
	defer v.done(v.caller, len(running))
	return do(running)
}

// next takes what has settled, and says how many have not.
func (v *visit) next(refused map[int]Refusal) (running []int, left int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, t := range v.tickets {
		switch {
		case v.begun[i]:
		case t.running:
			v.begun[i] = true
			v.count.Admitted[t.class]++
			running = append(running, i)
		case t.refused != nil:
			v.begun[i] = true
			v.count.Refused[t.class]++
			refused[i] = *t.refused
		default:
			left++
		}
	}
	return running, left
}

func (v *visit) tire() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, t := range v.tickets {
		v.queue.tire(v.now(), t)
	}
}

// giveBack frees what the call still holds when it ends before its time.
func (v *visit) giveBack() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, t := range v.tickets {
		switch {
		case v.begun[i]:
		case t.running:
			v.queue.done(v.now(), v.caller, 1)
		default:
			v.queue.leave(t)
		}
	}
}
