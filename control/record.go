package control

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// recorder records what concurrent calls have signed, as one group: a look at the
// store and the statements that record are paid for once by all. Who is in it is
// settled when the store begins to write, so while one group commits, and whatever
// else is written, the next one gathers. It waits, a moment, until half of the calls
// that there were at once of late are in it: a commit costs as much as a few
// signatures, and while one half is recorded the other signs.
type recorder struct {
	mu      sync.Mutex
	waiting []*recording
	open    int           // calls that are not answered
	lately  float64       // the most there were at once, an eighth less with each group
	queued  bool          // somebody is about to take what waits
	news    chan struct{} // of capacity one: what waits has changed
}

// groupMoment is how long a group waits for others.
const groupMoment = 4 * time.Millisecond

// recording is what one call has signed.
type recording struct {
	ctx    context.Context
	orders []*order
	done   chan error // holds one
}

// begin says that a call is there, until it calls ended.
func (r *recorder) begin() (ended func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open++
	r.lately = max(r.lately, float64(r.open))
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.open--
	}
}

func (r *recorder) tell() {
	select {
	case r.news <- struct{}{}:
	default: // it is told already
	}
}

// recordOrders makes the records and audit entries of all that was signed
// durable. Only after it returns may a certificate leave the server. An order
// whose decision does not stand any more is marked as moved. When it returns an
// error the orders may still be looked at by others.
func (c *Control) recordOrders(ctx context.Context, signed []*order) error {
	if len(signed) == 0 {
		return nil
	}
	r := &recording{ctx, signed, make(chan error, 1)}
	if first := c.recorder.add(r); first {
		go c.recordWaiting()
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// add says whether nobody is about to take what waits.
func (r *recorder) add(one *recording) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, one)
	r.tell()
	first := !r.queued
	r.queued = true
	return first
}

// gather waits until a group is large enough, or the moment has passed.
func (r *recorder) gather() {
	moment := time.NewTimer(groupMoment)
	defer moment.Stop()
	for !r.gathered() {
		select {
		case <-r.news:
		case <-moment.C:
			return
		}
	}
}

func (r *recorder) gathered() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	size := 0
	for _, one := range r.waiting {
		size += len(one.orders)
	}
	return len(r.waiting) >= int(r.lately/2) || size == 0 || size >= maxIssueSlice
}

// take is a group: at least one call's, if any waits, and about as much as one call
// may ask for. What nobody waits for any more is left out. more says that others
// wait still, which is for the caller to see to.
func (r *recorder) take() (group, left []*recording, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for size := 0; len(r.waiting) > 0 && size < maxIssueSlice; {
		one := r.waiting[0]
		r.waiting = r.waiting[1:]
		if one.ctx.Err() != nil {
			left = append(left, one)
			continue
		}
		group, size = append(group, one), size+len(one.orders)
	}
	r.lately = max(float64(r.open), r.lately*7/8)
	r.queued = len(r.waiting) > 0
	return group, left, r.queued
}

// recordWaiting records what waits when it is its turn to write.
func (c *Control) recordWaiting() {
	c.recorder.gather()
	var group, left []*recording
	take := sync.OnceFunc(func() { // however often the store tries
		var more bool
		if group, left, more = c.recorder.take(); more {
			go c.recordWaiting()
		}
	})
	err := c.change(context.Background(), func(tx *store.Tx) error { // who hangs up takes nobody along
		take()
		return c.recordGroup(tx, group)
	})
	take() // if it did not come to that
	for _, one := range left {
		c.attempted(one.orders, nil)
	}
	if err != nil && len(group) > 1 && fault.CodeOf(err) != fault.Unavailable {
		c.recordEach(group) // what one of them does harms no neighbour
		return
	}
	for _, one := range group {
		c.recorded(one, err)
	}
}

// recorded is for whom has signed, and also where he waits no more.
func (c *Control) recorded(one *recording, err error) {
	c.attempted(one.orders, err)
	one.done <- err
}

func (c *Control) recordEach(group []*recording) {
	for _, one := range group {
		c.recorded(one, c.change(context.Background(), func(tx *store.Tx) error { return c.recordGroup(tx, []*recording{one}) }))
	}
}

// recordGroup records what calls have signed.
func (c *Control) recordGroup(tx *store.Tx, group []*recording) error {
	tx.Quiet() // the agents that called know
	ctx := context.Background()
	var orders []*order
	for _, one := range group {
		orders = append(orders, one.orders...)
	}
	shown, err := c.shownNow(ctx, tx, orders)
	if err != nil {
		return err
	}
	var batch unrecorded
	for _, o := range orders {
		if batch.has(o) { // its certificate is to be found
			if err := batch.flush(ctx, tx); err != nil {
				return err
			}
		}
		o.known, o.err, o.moved = nil, nil, false
		var standing store.Standing
		if standing, o.err = c.look(ctx, tx, o, shown); !o.open() {
			continue
		}
		if o.moved = standing != o.grant.basis; o.moved {
			continue
		}
		batch = append(batch, o)
		shown.raise(o.request.PlacementId, o.request.Generation)
	}
	return batch.flush(ctx, tx)
}

// unrecorded are orders whose certificates are to be recorded.
type unrecorded []*order

// has says whether another order is for the same generation.
func (u unrecorded) has(o *order) bool {
	return slices.ContainsFunc(u, func(other *order) bool {
		return other.request.Generation == o.request.Generation && other.request.PlacementId == o.request.PlacementId
	})
}

func (u *unrecorded) flush(ctx context.Context, tx *store.Tx) error {
	certificates, entries := make([]store.Certificate, len(*u)), make([]audit.Entry, len(*u))
	for i, o := range *u {
		certificates[i], entries[i] = o.record(tx.Now), o.entry(tx.Now)
	}
	*u = nil
	if err := tx.InsertCertificates(ctx, certificates...); err != nil {
		return err
	}
	return appendEntries(ctx, tx, entries)
}

// record is of the certificate that was signed for the order.
func (o *order) record(now time.Time) store.Certificate {
	g := o.grant
	record := certificateRecord(store.KindLeaf, o.issued, *g.expanded.Names, now)
	record.PlacementID, record.Generation, record.AgentID = o.request.PlacementId, o.request.Generation, o.caller.ID
	record.Intent, record.Rule, record.PolicyInput = g.basis.Intent, g.rule, g.input
	return record
}

func (o *order) entry(now time.Time) audit.Entry {
	g := o.grant
	detail := map[string]any{
		"intent": g.basis.Intent, "generation": o.request.Generation, "serial": o.issued.Serial.String(),
		"fingerprint": o.issued.Fingerprint.String(), "names": g.expanded.Names.Strings(), "rule": g.rule,
		"notAfter": o.issued.NotAfter.UTC().Format(time.RFC3339), "authority": o.issued.Authority,
	}
	if g.away != "" {
		detail["inPlaceOf"] = g.away
	}
	return doneEntry(now, o.caller, "issue", "Placement/"+o.request.PlacementId, detail)
}

func certificateRecord(kind store.CertificateKind, issued ca.Issued, names pki.Names, now time.Time) store.Certificate {
	return store.Certificate{
		Serial: issued.Serial, Kind: kind, AuthorityID: issued.Authority, Names: strings.Join(names.Strings(), " "),
		SPKI: issued.SPKI, Fingerprint: issued.Fingerprint, CRLShard: issued.Shard,
		NotBefore: issued.NotBefore, NotAfter: issued.NotAfter, IssuedAt: now, DER: issued.DER,
	}
}
