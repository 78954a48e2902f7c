package reconcile

import (
	"context"
	"log/slog"
	"time"

	"github.com/rotunda-pki/rotunda/control"
)

// writePresenceEvery is how long an agent that is to be recorded as there may wait
// for others.
const writePresenceEvery = time.Minute

// Presence tells the store which agents are there, until ctx ends.
func Presence(ctx context.Context, c *control.Control, log *slog.Logger) error {
	for sleep(ctx, nil, writePresenceEvery) {
		if err := c.WritePresence(ctx); err != nil && ctx.Err() == nil {
			log.Error("record which agents are there", "error", err)
		}
	}
	return ctx.Err()
}
