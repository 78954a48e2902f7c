package control

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// A change wakes the streams of all agents at once, and each asks what is desired
// of it now. Those that wait are answered together, from one snapshot of the store
// and by as many statements as one of them takes.
const (
	mostDesiring      = 3 // groups at once: of the store's few readers one stays for what agents fetch then, such as lists
	mostDesiredAtOnce = 64
)

// desiring is who waits to be told what is desired. Whoever came while others were
// answered waits for the next round. A round is in the order of ids, since the
// rows of agents that enrolled one after the other lie side by side.
type desiring struct {
	mu      sync.Mutex
	waiting []*question
	round   []*question
	groups  int // that are under way
}

// question is one agent's, and the answer once it is done.
type question struct {
	caller Caller
	state  *api.DesiredState
	err    error
	done   chan struct{}
}

// Desired is all that is wanted of the calling agent, as one snapshot of the
// store shows it. seq is the time of the newest commit in that snapshot, in µs,
// so it grows with the store and means the same on every server.
func (c *Control) Desired(ctx context.Context, caller Caller) (*api.DesiredState, error) {
	if err := authorize(caller, "agent.connect"); err != nil {
		return nil, err
	}
	one := &question{caller: caller, done: make(chan struct{})}
	if c.desiring.add(one) {
		go c.answerDesires()
	}
	select {
	case <-one.done:
		return one.state, one.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// add says whether another group may begin.
func (d *desiring) add(one *question) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting = append(d.waiting, one)
	begins := d.groups < mostDesiring
	if begins {
		d.groups++
	}
	return begins
}

// take is the next group; where nobody waits any more it is empty, and counts as
// ended.
func (d *desiring) take() []*question {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.round) == 0 {
		d.round, d.waiting = d.waiting, nil
		slices.SortFunc(d.round, func(a, b *question) int { return strings.Compare(a.caller.ID, b.caller.ID) })
	}
	n := min(len(d.round), mostDesiredAtOnce)
	group := d.round[:n:n]
	if d.round = d.round[n:]; n == 0 {
		d.groups--
	}
	return group
}

// answerDesires answers until nobody waits.
func (c *Control) answerDesires() {
	for group := c.desiring.take(); len(group) > 0; group = c.desiring.take() {
		if err := c.answerGroup(group); err != nil {
			for _, one := range group { // what ails one of them harms no neighbour
				if err := c.answerGroup([]*question{one}); err != nil {
					one.err = err
				}
			}
		}
		for _, one := range group {
			close(one.done)
		}
	}
}

// answerGroup gives each its answer. An error is of all: the store failed.
func (c *Control) answerGroup(group []*question) error {
	ctx := context.Background() // who hangs up takes nobody along
	ids, shown := make([]string, len(group)), []pki.Serial{}
	for i, one := range group {
		ids[i] = one.caller.ID
		if serial := one.caller.shown(); serial != nil {
			shown = append(shown, *serial)
		}
	}
	return c.db.Read(ctx, func(tx *store.Tx) error {
		common, err := c.commonAt(ctx, tx)
		if err != nil {
			return err
		}
		hosts, err := tx.Hosts(ctx, ids)
		if err != nil {
			return err
		}
		good, err := tx.Unrevoked(ctx, shown)
		if err != nil {
			return err
		}
		for _, one := range group {
			host, known := hosts[one.caller.ID]
			if known && host.State == fleet.AgentActive && (one.caller.Serial == "" || good[*one.caller.shown()]) {
				one.state, one.err = c.desire(ctx, tx, common, host)
			} else {
				_, one.err = activeAgent(ctx, tx, one.caller) // why not
			}
			if code := fault.CodeOf(one.err); one.err != nil && (code == fault.Internal || code == fault.Unavailable) {
				return one.err
			}
		}
		return nil
	})
}
