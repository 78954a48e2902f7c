package control

import (
	"context"
	"sync"
	"time"

	"github.com/rotunda-pki/rotunda/archive"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// What is over leaves the store after a while, so that a store is as large as
// its fleet and not as its past. Records of certificates go to archives: the
// file is durable before the transaction that takes the rows out, and that has
// its manifest as an audit entry. A crash between the two leaves a file that
// the next pass takes over, or finds of no use. History of which the newest
// stays goes for good.

// Retention is for how long what is over stays in the store. Zero: for ever.
type Retention struct {
	Certificates time.Duration // after their ends
	Evidence     time.Duration // history, after it was observed
	Notices      time.Duration // after they were sent
	Checkpoints  time.Duration // all of them; after that one a day
}

// One server at a time carries retention out. The lease spares the others the
// work: each transaction asks of each row whether it may go.
const (
	retentionLease = "retention"
	retentionLife  = time.Minute
)

// retaining is what this process knows of its passes.
type retaining struct {
	running sync.Mutex
	mu      sync.Mutex
	last    Pass
	err     error
}

// Pass is what one pass of retention moved, or would move.
type Pass struct {
	At           time.Time
	Certificates int
	Archives     []archive.Manifest
	Adopted      int // of Archives, that lay there already
	Strays       int // files removed that held nothing of their own
	Evidence     int
	Notices      int
	Checkpoints  int
}

// Retain makes one pass. While another server does, it is a Conflict.
func (c *Control) Retain(ctx context.Context) (Pass, error) {
	return c.retain(ctx, Caller{Kind: Server})
}

func (c *Control) retain(ctx context.Context, caller Caller) (Pass, error) {
	if still, err := c.standsStill(ctx); err != nil || still {
		return Pass{}, err
	}
	if !c.retaining.running.TryLock() {
		return Pass{}, fault.New(fault.Conflict, "retention is being carried out here").WithRemedy("wait until it is done")
	}
	defer c.retaining.running.Unlock()
	r := &retainer{c: c, caller: caller}
	r.pass.At = c.now()
	err := r.run(ctx)
	if fault.CodeOf(err) != fault.Conflict || err == nil {
		c.retaining.mu.Lock()
		c.retaining.last, c.retaining.err = r.pass, err
		c.retaining.mu.Unlock()
	}
	return r.pass, err
}

// LastPass is what the last pass of this process did, and how it ended.
func (c *Control) LastPass() (Pass, error) {
	c.retaining.mu.Lock()
	defer c.retaining.mu.Unlock()
	return c.retaining.last, c.retaining.err
}

// retainer is one pass.
type retainer struct {
	c      *Control
	caller Caller
	pass   Pass
}

func (r *retainer) run(ctx context.Context) error {
	if err := r.change(ctx, func(*store.Tx) error { return nil }); err != nil {
		return err
	}
	defer r.leave(context.WithoutCancel(ctx))
	if err := r.becomeTerse(ctx); err != nil {
		return err
	}
	if err := r.archiveCertificates(ctx); err != nil {
		return err
	}
	return r.prune(ctx)
}

// change is a change under the lease, which it takes or prolongs.
func (r *retainer) change(ctx context.Context, fn func(*store.Tx) error) error {
	return r.c.change(ctx, func(tx *store.Tx) error {
		tx.Quiet() // what is past retention is desired of nobody
		if _, err := tx.TakeLease(ctx, retentionLease, r.c.instance, retentionLife); err != nil {
			return err
		}
		return fn(tx)
	})
}

// becomeTerse has what is stored from now on take few bytes, once nobody goes back
// any more to servers that could not read it: this one has been here for a day,
// and no older one in that time.
func (r *retainer) becomeTerse(ctx context.Context) error {
	if r.c.now().Sub(r.c.started) < serverKnown {
		return nil
	}
	terse := false
	look := func(tx *store.Tx) (err error) { terse, err = tx.IsTerse(ctx); return err }
	if err := r.c.db.Read(ctx, look); err != nil || terse {
		return err
	}
	err := r.change(ctx, func(tx *store.Tx) error {
		if err := tx.BecomeTerse(ctx); err != nil {
			return err
		}
		return look(tx)
	})
	if err == nil && terse {
		r.c.log.Info("what is stored from now on takes less room; servers of versions before this are refused")
	}
	return err
}

// leave gives the lease back; where that fails, it ends by itself.
func (r *retainer) leave(ctx context.Context) {
	err := r.c.change(ctx, func(tx *store.Tx) error {
		tx.Quiet()
		lease, err := tx.Lease(ctx, retentionLease)
		if err != nil || lease.Holder != r.c.instance {
			return err
		}
		return tx.ReleaseLease(ctx, lease)
	})
	if err != nil {
		r.c.log.Warn("leave retention to another server", "error", err)
	}
}
