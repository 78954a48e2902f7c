package admission

import (
	"fmt"
	"sync"
	"time"
)

// CallerLimits bound what one caller does.
type CallerLimits struct {
	AtOnce    int    // calls under way
	PerSecond int    // of what is counted, in the long run
	Burst     int    // at once, after a pause
	Of        string // what is counted: calls, or what they ask for
}

// Callers holds each caller to the limits. It remembers none longer than its
// calls and its burst matter.
type Callers struct {
	limits CallerLimits
	now    func() time.Time

	mu    sync.Mutex
	known map[string]*caller
	sweep int // at this size
}

// caller is one of them. Its rate is held by the generic cell rate algorithm:
// each call moves paid on by a step, and it must not be further ahead than the
// burst.
type caller struct {
	calls int
	paid  time.Time
}

// fewestKnown is how many callers are remembered before any is forgotten.
const fewestKnown = 1024

// NewCallers returns an empty one.
func NewCallers(l CallerLimits, now func() time.Time) *Callers {
	return &Callers{limits: l, now: now, known: map[string]*caller{}, sweep: fewestKnown}
}

// Enter begins a call that counts n, which leave ends; or refuses it.
func (c *Callers) Enter(name string, n int) (leave func(), refused *Refusal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, step := c.now(), time.Second/time.Duration(c.limits.PerSecond)
	who := c.known[name]
	if who == nil {
		c.forget(now)
		who = new(caller)
		c.known[name] = who
	}
	if who.calls >= c.limits.AtOnce {
		return nil, &Refusal{fmt.Sprintf("a caller may have %d calls under way", c.limits.AtOnce), time.Second}
	}
	if who.paid.Before(now) {
		who.paid = now
	}
	if ahead := who.paid.Sub(now) - step*time.Duration(max(0, c.limits.Burst-n)); ahead > 0 {
		return nil, &Refusal{fmt.Sprintf("a caller may have %d %s a second", c.limits.PerSecond, c.limits.Of), max(ahead, shortestAfter)}
	}
	who.calls++
	who.paid = who.paid.Add(time.Duration(n) * step)
	return func() { c.leave(who) }, nil
}

func (c *Callers) leave(who *caller) {
	c.mu.Lock()
	defer c.mu.Unlock()
	who.calls--
}

// forget drops those of whom nothing matters any more, once there are twice as
// many as were left the last time.
func (c *Callers) forget(now time.Time) {
	if len(c.known) < c.sweep {
		return
	}
	for name, who := range c.known {
		if who.calls == 0 && !who.paid.After(now) {
			delete(c.known, name)
		}
	}
	c.sweep = max(fewestKnown, 2*len(c.known))
}
