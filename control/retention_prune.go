package control

import (
	"context"
	"time"

	"github.com/rotunda-pki/rotunda/store"
)

// pruneBatch bounds how many rows of history one transaction takes out.
const pruneBatch = 1000

// history is a kind of rows that go for good, and how they are taken out.
type history struct {
	noun   string
	keep   time.Duration
	count  *int
	forget func(*store.Tx, context.Context, time.Time, int) (int, error)
	old    func(*store.Tx, context.Context, time.Time) (int, error)
}

func (r *retainer) histories() []history {
	keep := r.c.retention
	return []history{
		{"evidence", keep.Evidence, &r.pass.Evidence, (*store.Tx).PruneEvidence, (*store.Tx).OldEvidence},
		{"notices", keep.Notices, &r.pass.Notices, (*store.Tx).PruneNotices, (*store.Tx).OldNotices},
		{"checkpoints", keep.Checkpoints, &r.pass.Checkpoints, (*store.Tx).PruneCheckpoints, (*store.Tx).OldCheckpoints},
	}
}

// prune takes out history that is older than it is kept for, a batch at a time,
// each with an audit entry that says how much went.
func (r *retainer) prune(ctx context.Context) error {
	for _, h := range r.histories() {
		if h.keep == 0 {
			continue
		}
		before := r.c.now().Add(-h.keep)
		for n := pruneBatch; n == pruneBatch; {
			err := r.change(ctx, func(tx *store.Tx) error {
				var err error
				if n, err = h.forget(tx, ctx, before, pruneBatch); err != nil || n == 0 {
					return err
				}
				_, err = done(ctx, tx, r.caller, "retention.prune", "", map[string]any{
					"of": h.noun, "count": n, "before": before.UTC().Format(time.RFC3339),
				})
				return err
			})
			if err != nil {
				return err
			}
			*h.count += n
		}
	}
	return nil
}
