package reconcile

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/rotunda-pki/rotunda/control"
)

// tendSlotsEvery is how long a slot that nobody reported about may wait to be
// withdrawn or granted. Reports grant at once; this is for the rest.
const tendSlotsEvery = 5 * time.Second

// Slots looks after the slots of clusters, and turns synthetic intents, until ctx ends. One failed pass is
// logged, and tried again.
func Slots(ctx context.Context, c *control.Control, log *slog.Logger) error {
	for sleep(ctx, nil, tendSlotsEvery+rand.N(tendSlotsEvery/4)) {
		if _, err := c.TendSlots(ctx); err != nil && ctx.Err() == nil {
			log.Error("tend the slots", "error", err)
		}
		if _, err := c.AdvanceSynthetics(ctx); err != nil && ctx.Err() == nil {
			log.Error("turn the synthetic intents", "error", err)
		}
	}
	return ctx.Err()
}
