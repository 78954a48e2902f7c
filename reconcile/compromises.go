package reconcile

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/rotunda-pki/rotunda/control"
)

// A compromise is looked at after each commit, but for a tenth of the time at the
// most: a look reads every placement that it is about.
const compromiseShare = 10

// Compromises dates when they were contained and recovered from, until ctx ends.
// One failed pass is logged, and tried again.
func Compromises(ctx context.Context, c *control.Control, log *slog.Logger) error {
	for {
		_, next := c.Changed()
		began := time.Now()
		if _, err := c.AdvanceCompromises(ctx); err != nil && ctx.Err() == nil {
			log.Error("look after the compromises", "error", err)
		}
		took := time.Since(began)
		if !sleep(ctx, next, revokeAtLeast+rand.N(revokeAtLeast/4)) || !sleep(ctx, nil, max(revokeAfter, (compromiseShare-1)*took)) {
			return ctx.Err()
		}
	}
}
