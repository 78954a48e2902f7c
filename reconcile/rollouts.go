package reconcile

import (
	"context"
	"log/slog"
	"time"

	"github.com/rotunda-pki/rotunda/control"
)

// Rollouts are looked at after each change, at most once in advanceAfter and for
// a fifth of the time, and at least once in advanceAtLeast: windows open and
// soaks end by themselves.
const (
	advanceAfter   = 500 * time.Millisecond
	advanceAtLeast = 5 * time.Second
)

// Rollouts advances the rollouts until ctx ends. One failed pass is logged, and
// tried again. Gates answer in their own time: no pass waits for one.
func Rollouts(ctx context.Context, c *control.Control, gates *Gates, log *slog.Logger) error {
	defer gates.Wait()
	for {
		_, next := c.Changed()
		began := time.Now()
		if _, err := c.EndOverrides(ctx); err != nil && ctx.Err() == nil {
			log.Error("end profiles that were taken back", "error", err)
		}
		_, asks, err := c.AdvanceRollouts(ctx)
		took := time.Since(began)
		if err != nil && ctx.Err() == nil {
			log.Error("advance the rollouts", "error", err)
		}
		gates.Ask(ctx, c, asks, log)
		if !sleep(ctx, next, advanceAtLeast) || !sleep(ctx, nil, max(advanceAfter, 4*took)) {
			return ctx.Err()
		}
	}
}
