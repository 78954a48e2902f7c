package reconcile

import (
	"context"
	"log/slog"
	"time"

	"github.com/rotunda-pki/rotunda/control"
)

// lookForMovesEvery bounds how late an agent hears of a change that nobody came
// to tell of; showLogEvery, how often agents are shown a log that grows;
// writePresenceEvery, how long who is to be recorded as there may wait for others.
const (
	lookForMovesEvery  = 10 * time.Second
	showLogEvery       = 500 * time.Millisecond
	writePresenceEvery = time.Minute
)

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

// Presence tells the store which agents are there, until ctx ends.
func Presence(ctx context.Context, c *control.Control, log *slog.Logger) error {
	for sleep(ctx, nil, writePresenceEvery) {
		if err := c.WritePresence(ctx); err != nil && ctx.Err() == nil {
			log.Error("record which agents are there", "error", err)
		}
	}
	return ctx.Err()
}

// ShowLog shows some agents the audit log as it grows, until ctx ends.
func ShowLog(ctx context.Context, c *control.Control, log *slog.Logger) error {
	for {
		_, next := c.Changed()
		if err := c.ShowLog(ctx); err != nil && ctx.Err() == nil {
			log.Error("show agents the audit log", "error", err)
		}
		if !sleep(ctx, next, lookForMovesEvery) || !sleep(ctx, nil, showLogEvery) {
			return ctx.Err()
		}
	}
}
