package control

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/spool"
	"github.com/rotunda-pki/rotunda/store"
)

// A server that shares its store may be told to go on renewing while that is away.
//
//	in contact ──no contact for cutOffAfter──▶ cut off ──contact──▶ handing in
//	     ▲                                                              │
//	     └────────────────────── the store has all ─────────────────────┘
//
// While cut off it renews what its last snapshot holds, each certificate spooled
// before it leaves, within limits; all that changes state otherwise is refused as
// ever, since it can't be recorded. Handing in and cut off exclude each other, so
// that nothing is spooled behind what was handed in.

// Spooling is what a server does while its store is away.
type Spooling struct {
	Dir  string        // where the spool is; empty: there is none
	On   bool          // false: it only hands in what was left there
	For  time.Duration // since the last contact
	Most int           // certificates
}

const (
	// cutOffAfter is how long there must be no contact: a failover of the database
	// is no reason to go on without it.
	cutOffAfter = 5 * time.Second
	contactBeat = time.Second
	// A snapshot is made anew when the store has changed, at most this often, and
	// so that it takes a twentieth of a connection's time.
	snapshotBeat  = 2 * time.Second
	snapshotShare = 20
)

// cutOff is what a server needs to go on without its store. Times without a clock
// beside them are of this host's monotonic one.
type cutOff struct {
	Spooling

	mu       sync.Mutex
	spool    *spool.Spool // nil: nothing is spooled here
	snapshot *snapshot
	contact  time.Time            // the last
	cut      atomic.Bool          // changes under mu
	left     bool                 // a process before left records, which are to be handed in
	kept     bool                 // the spool could not be emptied: it holds what the store has
	failing  bool                 // the spool could not be written when that was tried last
	handing  error                // why what is spooled is not handed in, though there is contact
	given    map[string]*given    // by placement: what was spooled
	trying   map[string]ca.Issued // by placement and generation: what may have been recorded
}

// given are the certificates that a placement got while the store was away.
type given struct {
	newest uint64
	chains map[uint64]spooled
}

// openSpool opens the spool, and hands in what a process before left there.
func (c *Control) openSpool(ctx context.Context, o Spooling) error {
	s := &c.cutOff
	s.Spooling, s.contact = o, time.Now()
	s.given, s.trying = map[string]*given{}, map[string]ca.Issued{}
	if o.Dir == "" || !o.On && !spool.Exists(o.Dir) {
		return nil
	}
	if o.On && !c.db.Shared() {
		return fault.New(fault.Invalid, "onStoreOutage: spool, and the store is this server's own file %s: it is not away without the server", c.db.Place()).
			WithRemedy("leave onStoreOutage out, or share a PostgreSQL database")
	}
	owner, err := c.spoolOwner(ctx)
	if err != nil {
		return err
	}
	var held [][]byte
	if s.spool, held, err = spool.Open(o.Dir, owner); err != nil {
		return err
	}
	if aside := s.spool.Aside(); aside != "" {
		c.log.Error("what stood behind the spool's last whole record is set aside: a crash leaves it, of certificates that never left; if there was none, the disk has lost some that did, and they have no record", "file", aside)
	}
	if len(held) > 0 {
		err := c.handIn(ctx, held)
		if fault.CodeOf(err) == fault.Unavailable && err != nil { // such as a store that is rolled back, which this server has to be there for
			s.left = true
			c.log.Error("what a process before has spooled is not handed in yet", "certificates", len(held), "error", err)
			return nil
		}
		if err != nil {
			return fault.Wrap(fault.CodeOf(err), err, "hand in the %d certificates in the spool of %s", len(held), o.Dir)
		}
		c.log.Info("handed in what a process before has spooled", "certificates", len(held))
	}
	// A disk that is full is no reason to refuse those who ask while the store is there.
	if err = c.emptySpool(ctx); !spool.IsFull(err) {
		return err
	}
	c.log.Error("the spool can't be begun anew, which is tried again", "error", err)
	return nil
}

func (c *Control) spoolOwner(ctx context.Context) (owner spool.Owner, err error) {
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		owner = spool.Owner{TrustDomain: c.domain.Name(), LogKey: c.logKey}
		owner.Epoch, err = tx.Epoch(ctx)
		return err
	})
	return owner, err
}

// CutOff says whether this server renews without its store now.
func (c *Control) CutOff() bool {
	return c.cutOff.cut.Load()
}

// Spooled is how far a server is from its store.
type Spooled struct {
	CutOff  bool
	Waiting int           // certificates that are not handed in
	Contact time.Duration // since the last
	Known   int           // placements that would be renewed without the store
	Failing bool          // the spool can't be written, as on a full disk
}

// Spooled says how far this server is from its store, where it goes on without it.
func (c *Control) Spooled() (state Spooled, on bool) {
	s := &c.cutOff
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spool != nil && (s.cut.Load() || s.left) {
		state.Waiting = s.spool.Len()
	}
	if s.snapshot != nil {
		state.Known = len(s.snapshot.stood)
	}
	state.CutOff, state.Contact, state.Failing = s.cut.Load(), time.Since(s.contact), s.failing
	return state, s.On
}

// KeepContact looks at the store until ctx ends: it makes the snapshots, and says
// when this server is cut off and when no more.
func (c *Control) KeepContact(ctx context.Context) error {
	if c.cutOff.spool == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	looks := make(chan error, 1)
	look := func() { // may take as long as a database stands still
		began := time.Now()
		err := c.lookAtStore(ctx)
		if err == nil {
			c.inContact(began)
			err = c.comeBack(ctx)
		}
		looks <- err
	}
	go look()
	defer func() {
		<-looks
		c.closeSpool()
	}()
	beat := time.NewTicker(contactBeat)
	defer beat.Stop()
	for looking := true; ; {
		select {
		case <-ctx.Done():
			if !looking {
				looks <- nil
			}
			return ctx.Err()
		case err := <-looks:
			if looking = false; err != nil && ctx.Err() == nil {
				c.log.Warn("look at the store", "error", err)
			}
		case <-beat.C:
			c.noContact()
			if !looking {
				looking = true
				go look()
			}
		}
	}
}

// closeSpool lets go of the spool: another process may open it.
func (c *Control) closeSpool() {
	s := &c.cutOff
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.spool.Close(); err != nil {
		c.log.Error("close the spool", "error", err)
	}
}

// lookAtStore makes a snapshot where the store has changed since the last.
func (c *Control) lookAtStore(ctx context.Context) error {
	s := &c.cutOff
	s.mu.Lock()
	last := s.snapshot
	s.mu.Unlock()
	if !s.On || last != nil && time.Since(last.made) < max(snapshotBeat, snapshotShare*last.took) {
		return c.db.Read(ctx, func(tx *store.Tx) error { _, err := tx.LastCommit(ctx); return err })
	}
	began := time.Now()
	next, err := c.readSnapshot(ctx, last)
	if err != nil || next == last {
		return err
	}
	next.made, next.took = time.Now(), time.Since(began)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.cut.Load() { // what was spooled rests on the one before
		s.snapshot = next
	}
	return nil
}

func (c *Control) inContact(at time.Time) {
	s := &c.cutOff
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.After(s.contact) {
		s.contact = at
	}
}

func (c *Control) noContact() {
	s := &c.cutOff
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.contact) < cutOffAfter {
		return
	}
	s.handing = nil // it is away again
	if s.cut.Load() || s.snapshot == nil || !s.On {
		return
	}
	s.cut.Store(true)
	c.log.Error("CUT OFF FROM THE STORE: what the last snapshot holds is renewed into the spool",
		"since", time.Since(s.contact).Round(time.Second), "snapshot", s.snapshot.at, "for", s.For, "most", s.Most, "placements", len(s.snapshot.stood))
}

// comeBack hands in what was spooled, and ends being cut off.
func (c *Control) comeBack(ctx context.Context) error {
	s := &c.cutOff
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.cut.Load() && !s.left {
		if s.kept && c.emptySpool(ctx) == nil {
			c.log.Info("the spool is empty again")
		}
		return nil
	}
	held, err := s.spool.Records()
	if err == nil {
		err = c.handIn(ctx, held)
	}
	if s.handing = err; err != nil {
		return fault.Wrap(fault.CodeOf(err), err, "hand in %d certificates", len(held))
	}
	if err := c.emptySpool(ctx); err != nil {
		c.log.Error("the spool, which was handed in, can't be emptied, which is tried again", "error", err)
	}
	s.cut.Store(false)
	s.left, s.given, s.trying = false, map[string]*given{}, map[string]ca.Issued{}
	s.snapshot = nil // before it is cut off again there is another
	c.grants.Clear()
	c.identities.forget()
	c.log.Info("in contact with the store again", "handedIn", len(held))
	return nil
}

// emptySpool begins the spool anew. Where that can't be, what the store has stays in
// it, and is known for that when it is handed in again.
func (c *Control) emptySpool(ctx context.Context) error {
	owner, err := c.spoolOwner(ctx)
	if err == nil {
		err = c.cutOff.spool.Clear(owner)
		c.cutOff.failing = err != nil
	}
	c.cutOff.kept = err != nil
	return err
}

// attempt notes what is about to be recorded: where the store goes away meanwhile
// nobody knows whether it was, so that no other may take its place.
func (c *Control) attempt(signed []*order) {
	s := &c.cutOff
	if !s.On {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range signed {
		s.trying[tryOf(o.request)] = o.issued
	}
}

// attempted forgets what the store has recorded, refused, or was not asked. Where it
// failed nobody knows which.
func (c *Control) attempted(signed []*order, err error) {
	s := &c.cutOff
	if code := fault.CodeOf(err); !s.On || err != nil && (code == fault.Unavailable || code == fault.Internal) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range signed {
		delete(s.trying, tryOf(o.request))
	}
}

func tryOf(r *api.PlacementRequest) string { return fmt.Sprint(r.PlacementId, " ", r.Generation) }
