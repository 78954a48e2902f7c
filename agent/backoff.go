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

// servers picks which server to try: the first in order of preference whose
// time to rest after failures is over.
type servers struct {
	backoff backoff
	list    []serverHealth
}

type serverHealth struct {
	address  string
	failures int
	rest     time.Time // until when it is left alone
}

func newServers(addresses []string, b backoff) *servers {
	s := &servers{backoff: b}
	for _, address := range addresses {
		s.list = append(s.list, serverHealth{address: address})
	}
	return s
}

// next is the server to try and how long to wait before.
func (s *servers) next(now time.Time) (*serverHealth, time.Duration) {
	best := &s.list[0]
	for i := range s.list {
		h := &s.list[i]
		if !h.rest.After(now) {
			return h, 0
		}
		if h.rest.Before(best.rest) {
			best = h
		}
	}
	return best, best.rest.Sub(now)
}

func (s *servers) failed(h *serverHealth, now time.Time) {
	h.rest = now.Add(s.backoff.after(h.failures))
	h.failures++
}

func (s *servers) worked(h *serverHealth) { h.failures, h.rest = 0, time.Time{} }

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
