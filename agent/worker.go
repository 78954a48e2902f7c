package agent

import (
	"context"
	"strings"
	"sync"
	"time"
)

// How long a worker sleeps at most. Timers follow the monotonic clock; after a
// jump of the wall clock, or a suspended host, this is how late it may be.
const longestSleep = 5 * time.Minute

// worker serves the placements of one target, one after the other.
type worker struct {
	e    *Executor
	wake chan struct{} // of capacity one

	mu         sync.Mutex
	placements []*placement
}

func (w *worker) assign(placements []*placement) {
	w.mu.Lock()
	w.placements = placements
	w.mu.Unlock()
	notify(w.wake)
}

func (w *worker) assigned() []*placement {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.placements
}

func (w *worker) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-timer.C:
		}
		timer.Reset(w.once(ctx))
	}
}

// once takes each placement as far as it can go now, and says how long there
// is nothing to do.
//
// A process may start only once it has the files of all its placements: an
// etcd member those for its clients and for its peers. So all are put in place
// before any of them waits for its first proof.
func (w *worker) once(ctx context.Context) time.Duration {
	placements := w.assigned()
	if len(placements) > 1 {
		for _, p := range placements {
			p.place(ctx)
		}
	}
	sleep := longestSleep
	for _, p := range placements {
		if ctx.Err() != nil {
			return 0
		}
		if until := p.advance(ctx); !until.IsZero() {
			sleep = min(sleep, max(until.Sub(w.e.Now()), 0))
		}
	}
	return sleep
}

func byID(a, b *placement) int { return strings.Compare(a.id, b.id) }

func compareStrings(a, b string) int { return strings.Compare(a, b) }
