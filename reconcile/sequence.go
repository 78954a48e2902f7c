// Package reconcile holds the control plane's loops: each waits for a reason
// to look, makes one pass that can be tested by itself, and leaves the rest to
// the store.
package reconcile

import (
	"context"
	"log/slog"
	"time"

	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Audit entries get their index within sequenceAfter of their commit; entries
// that come together share a checkpoint. sequenceAtLeast is how often the loop
// looks even when nobody woke it, and sequenceElsewhere how often while another
// server does the work.
const (
	sequenceAfter     = 200 * time.Millisecond
	sequenceAtLeast   = 15 * time.Second
	sequenceElsewhere = time.Second
)

// Sequence gives audit entries their place in the log until ctx ends. One
// failed pass is logged, and tried again.
func Sequence(ctx context.Context, c *control.Control, log *slog.Logger) error {
	defer func() {
		if err := c.LeaveSequence(context.WithoutCancel(ctx)); err != nil {
			log.Warn("leave the audit log to another server", "error", err) // it goes on once the lease has ended
		}
	}()
	for {
		_, next := c.Changed()
		taken, err := c.SequenceAudit(ctx)
		if taken > 0 {
			continue // the pass itself was a change, and there may be more
		}
		atLeast := sequenceAtLeast
		if fault.CodeOf(err) == fault.Conflict {
			next, atLeast = nil, sequenceElsewhere
		} else if err != nil && ctx.Err() == nil {
			log.Error("sequence the audit log", "error", err)
		}
		if !sleep(ctx, next, atLeast) || !sleep(ctx, nil, sequenceAfter) {
			return ctx.Err()
		}
	}
}

// sleep waits for a change or for the time to pass. It returns false when ctx
// ended.
func sleep(ctx context.Context, changed <-chan struct{}, most time.Duration) bool {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-timer.C:
	}
	return true
}
