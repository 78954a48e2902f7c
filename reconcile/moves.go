package reconcile

import (
	"context"
	"log/slog"
	"time"

	"github.com/rotunda-pki/rotunda/control"
)

// lookForMovesEvery bounds how late an agent hears of a change that nobody came to
// tell of.
const lookForMovesEvery = 10 * time.Second

// Moves follows what may change the desires of agents without anybody telling
// this server, until ctx ends: one look for the streams of all.
func Moves(ctx context.Context, c *control.Control, log *slog.Logger) error {
	for {
		if err := c.LookForMoves(ctx); err != nil && ctx.Err() == nil {
			log.Error("look for what has moved in the store", "error", err)
		}
		if !sleep(ctx, nil, lookForMovesEvery) {
			return ctx.Err()
		}
	}
}
