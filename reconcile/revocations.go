package reconcile

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/rotunda-pki/rotunda/control"
)

// What waits to be revoked is looked at revokeAfter after something changed,
// and at least every revokeAtLeast: time alone can be what it waited for.
const (
	revokeAfter   = 100 * time.Millisecond
	revokeAtLeast = 10 * time.Second
)

// Revocations revokes what has a successor now, until ctx ends. One failed pass
// is logged, and tried again.
func Revocations(ctx context.Context, c *control.Control, log *slog.Logger) error {
	for {
		_, next := c.Changed()
		if _, err := c.AdvanceRevocations(ctx); err != nil && ctx.Err() == nil {
			log.Error("advance the revocations", "error", err)
		}
		if !sleep(ctx, next, revokeAtLeast+rand.N(revokeAtLeast/4)) || !sleep(ctx, nil, revokeAfter) {
			return ctx.Err()
		}
	}
}
