package control

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// ready is a call of h's that has signed the next certificates of its placement,
// and waits for them to be recorded.
func (h *host) ready(ctx context.Context, generations ...uint64) *recording {
	h.domain.t.Helper()
	r := &recording{ctx: ctx, done: make(chan error, 1)}
	for _, generation := range generations {
		_, request := csr(h.domain.t)
		o := &order{caller: h.caller, request: &api.PlacementRequest{PlacementId: h.placement(), Generation: generation, Csr: request}}
		o.readCSR()
		r.orders = append(r.orders, o)
	}
	if err := h.domain.Control.decide(ctx, h.caller, r.orders); err != nil {
		h.domain.t.Fatal(err)
	}
	for _, o := range r.orders {
		if h.domain.signOrder(o); !o.open() {
			h.domain.t.Fatal(o.err)
		}
	}
	return r
}

// recordNow has what waits recorded as one group.
func (d *domain) recordNow(waiting ...*recording) {
	for _, one := range waiting {
		d.recorder.add(one)
	}
	d.recordWaiting()
}

// Calls that wait together are recorded together: in one commit.
func TestCallsThatWaitShareOneCommit(t *testing.T) {
	d := found(t)
	d.apply(documents)
	a, b := d.enrolHost(map[string]string{"role": "orders", "host": "a"}), d.enrolHost(map[string]string{"role": "orders", "host": "b"})
	calls := []*recording{a.ready(t.Context(), 1), b.ready(t.Context(), 1, 2), a.ready(t.Context(), 2), a.ready(t.Context(), 2)}
	before, _ := d.Changed()
	d.recordNow(calls...)
	if after, _ := d.Changed(); after != before+1 {
		t.Errorf("%d commits", after-before)
	}
	for i, call := range calls {
		if err := <-call.done; err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if err := calls[3].orders[0].err; fault.CodeOf(err) != fault.Conflict {
		t.Errorf("a generation that another call of the group was given: %v", err)
	}
	if n := d.countIssued(); n != 4 {
		t.Errorf("%d certificates, want 4", n)
	}
}

// What one call does wrong harms no neighbour, and one that hung up is given
// nothing. None of them is taken for one whose record is in doubt.
func TestCallsOfAGroupStandForThemselves(t *testing.T) {
	d := found(t)
	d.apply(documents)
	a, b := d.enrolHost(map[string]string{"role": "orders", "host": "a"}), d.enrolHost(map[string]string{"role": "orders", "host": "b"})
	left, hangUp := context.WithCancel(t.Context())
	good, bad, gone := a.ready(t.Context(), 1), b.ready(t.Context(), 1), b.ready(left, 2)
	bad.orders[0].issued.Serial = good.orders[0].issued.Serial
	d.cutOff.On, d.cutOff.trying = true, map[string]ca.Issued{}
	for _, one := range []*recording{good, bad, gone} {
		d.attempt(one.orders)
	}
	hangUp()
	d.recordNow(good, bad, gone)
	if len(d.cutOff.trying) != 0 {
		t.Errorf("in doubt: %v", slices.Collect(maps.Keys(d.cutOff.trying)))
	}
	if err := <-good.done; err != nil || !good.orders[0].open() {
		t.Errorf("the good one: %v, %v", err, good.orders[0].err)
	}
	if err := <-bad.done; fault.CodeOf(err) != fault.Conflict {
		t.Errorf("a serial for the second time: %v", err)
	}
	if n := d.countIssued(); n != 1 {
		t.Errorf("%d certificates, want 1", n)
	}
	if d.recorder.queued {
		t.Error("nothing waits, and yet nobody else would begin")
	}
}

// A group waits until half of those who call at once of late have signed, but neither
// for ever nor once it is full. Who calls alone waits for nobody.
func TestGroupWaitsForHalf(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	r := &d.recorder
	wants := func(when string, want bool) {
		t.Helper()
		if r.gathered() != want {
			t.Errorf("%s: gathered is %v", when, !want)
		}
	}
	alone := r.begin()
	r.add(h.ready(t.Context(), 1))
	wants("one call, that waits", true)
	var ends []func()
	for range 3 {
		ends = append(ends, r.begin())
	}
	wants("one of four waits", false)
	r.gather() // till the moment has passed
	r.add(h.ready(t.Context(), 2))
	wants("two of four wait", true)
	r.gather()
	for _, end := range append(ends, alone) {
		end()
	}
	r.take()
	r.add(h.ready(t.Context(), 3))
	wants("one waits, where there were four", true) // 3.5 / 2
	for range 4 {
		defer r.begin()()
	}
	wants("one of four waits again", false)
	r.add(&recording{ctx: t.Context(), orders: make([]*order, maxIssueSlice)})
	wants("a full group", true)
}
