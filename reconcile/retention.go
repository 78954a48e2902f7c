package reconcile

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// What is over goes by days: it is looked at every hour, and first a minute after
// the start, when agents have come back.
const (
	retainFirst = time.Minute
	retainEvery = time.Hour
)

// Retention moves what is over out of the store until ctx ends. One failed pass
// is logged, and tried again.
func Retention(ctx context.Context, c *control.Control, log *slog.Logger) error {
	for wait := retainFirst + rand.N(retainFirst); sleep(ctx, nil, wait); wait = retainEvery + rand.N(retainEvery/4) {
		pass, err := c.Retain(ctx)
		switch {
		case fault.CodeOf(err) == fault.Conflict && err != nil:
			log.Info("retention is left to the next pass", "why", err) // another is at it, or something moved meanwhile
		case err != nil && ctx.Err() == nil:
			log.Error("carry out retention", "error", err)
		case pass.Certificates > 0:
			log.Info("certificates archived", "certificates", pass.Certificates, "archives", len(pass.Archives))
		}
	}
	return ctx.Err()
}
