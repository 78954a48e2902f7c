package reconcile

import (
	"context"
	"log/slog"
	"time"

	"github.com/rotunda-pki/rotunda/control"
)

// A new certificate has its staple within staplesAfter; those that come together
// share a pass. staplesAtLeast is how often it is looked whether one has become
// old.
const (
	staplesAfter   = time.Second
	staplesAtLeast = time.Minute
)

// Staples keeps the OCSP responses that are delivered to hosts young until ctx
// ends. One failed pass is logged, and tried again.
func Staples(ctx context.Context, c *control.Control, log *slog.Logger) error {
	for {
		_, next := c.Changed()
		if _, err := c.TendStaples(ctx); err != nil && ctx.Err() == nil {
			log.Error("make staples", "error", err)
		}
		if !sleep(ctx, next, staplesAtLeast) || !sleep(ctx, nil, staplesAfter) {
			return ctx.Err()
		}
	}
}
