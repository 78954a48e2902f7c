package reconcile

import (
	"context"
	"log/slog"
	"time"

	"github.com/rotunda-pki/rotunda/control"
)

// A log that grows is shown no more often than showLogEvery; showLogAtLeast is how
// often the loop looks though nothing woke it.
const (
	showLogEvery   = 500 * time.Millisecond
	showLogAtLeast = 10 * time.Second
)

// ShowLog shows some agents the audit log as it grows, until ctx ends.
func ShowLog(ctx context.Context, c *control.Control, log *slog.Logger) error {
	for {
		_, next := c.Changed()
		if err := c.ShowLog(ctx); err != nil && ctx.Err() == nil {
			log.Error("show agents the audit log", "error", err)
		}
		if !sleep(ctx, next, showLogAtLeast) || !sleep(ctx, nil, showLogEvery) {
			return ctx.Err()
		}
	}
}
