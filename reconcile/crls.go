package reconcile

import (
	"context"
	"log/slog"
	"time"

	"github.com/rotunda-pki/rotunda/control"
)

// A revocation is on its lists within publishAfter of its commit; those that
// come together share them. publishAtLeast is how often it is looked whether a
// list has become old.
const (
	publishAfter   = 50 * time.Millisecond
	publishAtLeast = time.Minute
)

// CRLs keeps the lists of revoked certificates up to date until ctx ends. One
// failed pass is logged, and tried again.
func CRLs(ctx context.Context, c *control.Control, log *slog.Logger) error {
	for {
		_, next := c.Changed()
		_, err := c.PublishCRLs(ctx)
		if err != nil && ctx.Err() == nil {
			log.Error("publish CRLs", "error", err)
		}
		looked := time.Now()
		for behind := false; !behind && time.Since(looked) < publishAtLeast; {
			if !sleep(ctx, next, publishAtLeast) || !sleep(ctx, nil, publishAfter) {
				return ctx.Err()
			}
			_, next = c.Changed()
			if behind, err = c.CRLsBehind(ctx); err != nil && ctx.Err() == nil {
				log.Error("look for pending revocations", "error", err)
			}
		}
	}
}
