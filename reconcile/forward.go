package reconcile

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/forward"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// Sinks are looked at forwardAfter after something changed, and at least every
// forwardAtLeast: another server may have made entries, a connection may be lost.
const (
	forwardAfter   = 100 * time.Millisecond
	forwardAtLeast = 2 * time.Second
)

// What a server forwards by. A lease outlives the longest call by far enough to
// record what came of it.
const (
	forwardWithin  = 10 * time.Second
	forwardLease   = 20 * time.Second
	forwardMost    = 512
	shortestWait   = time.Second
	longestWait    = time.Minute
	releasedWithin = 2 * time.Second
)

// Forwarder sends the audit log to one sink. Each has a loop of its own, so that
// no sink waits for another.
type Forwarder struct {
	Config forward.Config
	Sink   forward.Sink
	Holder string        // of the lease; a process's own
	Within time.Duration // how long one call may take
	Lease  time.Duration // for how long this server alone forwards, at a time
	Wait   func(failures int) time.Duration

	lease    store.Lease
	open     bool
	next     uint64 // while open: the index of the entry that is sent next
	most     int    // entries at a time
	failures int    // one after the other
}

// NewForwarder returns a Forwarder to the sink of a configuration.
func NewForwarder(config forward.Config, origin, holder string) *Forwarder {
	return &Forwarder{
		Config: config, Sink: forward.New(config, origin), Holder: holder,
		Within: forwardWithin, Lease: forwardLease, Wait: wait,
	}
}

// wait doubles from failure to failure, and half of it is chance.
func wait(failures int) time.Duration {
	most := min(shortestWait<<min(failures-1, 20), longestWait)
	return most/2 + rand.N(most/2)
}

// Forward sends the audit log to all sinks until ctx ends.
func Forward(ctx context.Context, c *control.Control, configs []forward.Config, log *slog.Logger) error {
	group, ctx := errgroup.WithContext(ctx)
	holder := uuid.NewString()
	for _, config := range configs {
		f := NewForwarder(config, c.Origin(), holder)
		group.Go(func() error { return f.Run(ctx, c, log.With("sink", config.Name)) })
	}
	return group.Wait()
}

// Run forwards until ctx ends. A failure is logged once, recorded each time, and
// tried again after a growing pause, or a longer one that the sink asks for.
func (f *Forwarder) Run(ctx context.Context, c *control.Control, log *slog.Logger) error {
	defer f.stop(c, log)
	for declared := false; ; {
		_, changed := c.Changed()
		var err error
		if !declared {
			err = c.DeclareSink(ctx, f.Config)
			declared = err == nil
		}
		sent := 0
		if err == nil {
			sent, err = f.Pass(ctx, c)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			if f.failures == 1 {
				log.Warn("forward the audit log; trying again", "error", err)
			}
			if !sleep(ctx, nil, max(f.Wait(max(f.failures, 1)), fault.AfterOf(err))) {
				return ctx.Err()
			}
		case sent > 0: // there may be more
		case !sleep(ctx, changed, forwardAtLeast) || !sleep(ctx, nil, forwardAfter):
			return ctx.Err()
		}
	}
}

// stop lets another server go on at once.
func (f *Forwarder) stop(c *control.Control, log *slog.Logger) {
	f.Sink.Close()
	if f.lease.Holder == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), releasedWithin)
	defer cancel()
	if err := c.ReleaseSink(ctx, f.lease); err != nil {
		log.Warn("release the lease of a sink", "error", err)
	}
}

// Pass sends the entries that come next, and records that they were taken. It
// returns how many it sent. Killed between the two, or failing, it sends them
// again: a sink may see an entry twice, and never misses one.
func (f *Forwarder) Pass(ctx context.Context, c *control.Control) (sent int, err error) {
	_, size, err := c.SinkPosition(ctx, f.Config.Name)
	if err != nil || f.open && f.next >= size && !f.Sink.Lost() {
		return 0, err
	}
	if mine, err := f.hold(ctx, c); err != nil || !mine {
		return 0, err
	}
	sent, err = f.send(ctx, c)
	if err == nil {
		f.failures, f.most = 0, min(2*f.most, forwardMost)
		return sent, nil
	}
	f.close() // the next connection begins with what is recorded
	if ctx.Err() != nil {
		return 0, ctx.Err() // the server stops: that says nothing of the sink
	}
	// One entry may be too large among many, or refused.
	f.failures, f.most = f.failures+1, max(f.most/2, 1)
	return 0, errors.Join(err, c.SinkFailed(ctx, f.lease, f.Config.Name, err.Error()))
}

// hold makes sure that this server is the one that forwards, for longer than a
// call takes. False: another is.
func (f *Forwarder) hold(ctx context.Context, c *control.Control) (bool, error) {
	held, err := c.LeaseSink(ctx, f.Config.Name, f.Holder, f.Lease)
	if fault.CodeOf(err) == fault.Conflict {
		f.close()
		f.lease = store.Lease{}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if held.Fencing != f.lease.Fencing { // others may have forwarded meanwhile
		f.close()
	}
	f.lease = held
	return true, nil
}

func (f *Forwarder) send(ctx context.Context, c *control.Control) (sent int, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.Within)
	defer cancel()
	sink, _, err := c.SinkPosition(ctx, f.Config.Name)
	if err != nil {
		return 0, err
	}
	if err := f.ensureOpen(ctx, c, sink.Taken); err != nil {
		return 0, err
	}
	entries, err := c.SinkEntries(ctx, f.next, f.most)
	if err != nil {
		return 0, err
	}
	if len(entries) > 0 {
		if err := f.Sink.Send(ctx, entries); err != nil {
			return 0, err
		}
		f.next = entries[len(entries)-1].Index + 1
	}
	if f.next > sink.Taken || !sink.FailingSince.IsZero() {
		err = c.SinkTook(ctx, f.lease, f.Config.Name, sink.Taken, max(f.next, sink.Taken))
	}
	return len(entries), err
}

// ensureOpen opens the sink unless it is open. A fresh connection begins with
// what may not have come through the one before.
func (f *Forwarder) ensureOpen(ctx context.Context, c *control.Control, taken uint64) error {
	fresh, again, err := f.Sink.Open(ctx)
	if err != nil || !fresh {
		return err
	}
	if f.next, err = c.SinkBack(ctx, taken, again); err != nil {
		return err
	}
	f.open, f.most = true, cmp.Or(f.most, forwardMost)
	return nil
}

func (f *Forwarder) close() {
	f.Sink.Close()
	f.open = false
}
