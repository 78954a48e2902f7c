package reconcile

import (
	"context"
	"log/slog"
	"time"

	"github.com/rotunda-pki/rotunda/control"
)

// How often a server says that it is there, and how often it looks at most which
// agents are connected to others.
const (
	sayHereEvery       = 10 * time.Second
	lookElsewhereEvery = time.Second
)

// Servers says that this server is there, and follows which agents are connected
// to others that share its store, until ctx ends. Of a store that is this
// server's alone there is nothing to follow.
func Servers(ctx context.Context, c *control.Control, log *slog.Logger) error {
	if !c.Shared() {
		<-ctx.Done()
		return ctx.Err()
	}
	defer func() {
		leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), releasedWithin)
		defer cancel()
		if err := c.SayGone(leaving); err != nil {
			log.Warn("record that this server stops", "error", err) // it is taken for dead after a while
		}
	}()
	said := time.Time{}
	for {
		_, next := c.Changed()
		if time.Since(said) >= sayHereEvery {
			if err := c.SayHere(ctx); err == nil {
				said = time.Now()
			} else if ctx.Err() == nil {
				log.Error("record that this server is there", "error", err)
			}
		}
		if err := c.LookElsewhere(ctx); err != nil && ctx.Err() == nil {
			log.Error("look for agents at other servers", "error", err)
		}
		if !sleep(ctx, next, sayHereEvery-time.Since(said)) || !sleep(ctx, nil, lookElsewhereEvery) {
			return ctx.Err()
		}
	}
}
