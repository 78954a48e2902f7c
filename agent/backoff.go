package agent

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is how long to wait after failures: a random time up to a limit that
// doubles with each (full jitter), so that the agents of a fleet don't come
// back together.
type backoff struct {
	base, limit time.Duration
}

func (b backoff) after(failures int) time.Duration {
	limit := b.base << min(failures, 30)
	if limit <= 0 || limit > b.limit {
		limit = b.limit
	}
	return rand.N(limit) + 1
}

// wait sleeps unless ctx ends or wake gets a token first.
func wait(ctx context.Context, d time.Duration, wake <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-wake:
	case <-timer.C:
	}
	return nil
}
