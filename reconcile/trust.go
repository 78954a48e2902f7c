package reconcile

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/rotunda-pki/rotunda/control"
)

// A change of trust is looked at trustAfter after something changed, and at
// least every trustAtLeast: time alone can be what it waited for. A look costs
// what the fleet is large, so it rests for trustRests times as long as it took.
const (
	trustAfter   = 300 * time.Millisecond
	trustAtLeast = 10 * time.Second
	trustRests   = 9
)

// Trust carries changes of trust on until ctx ends. One failed pass is logged,
// and tried again.
func Trust(ctx context.Context, c *control.Control, log *slog.Logger) error {
	for {
		_, next := c.Changed()
		begun := time.Now()
		acted, err := c.AdvanceTrust(ctx)
		rest := max(trustAfter, trustRests*time.Since(begun))
		if err != nil && ctx.Err() == nil {
			log.Error("advance the changes of trust", "error", err)
		}
		if acted > 0 {
			continue // what was done may be all that the next act waited for
		}
		if !sleep(ctx, next, trustAtLeast+rand.N(trustAtLeast/4)) || !sleep(ctx, nil, rest) {
			return ctx.Err()
		}
	}
}
