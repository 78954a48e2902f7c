package control

import (
	"context"
	"fmt"
	"sync"

	"github.com/rotunda-pki/rotunda/store"
)

// breakers are those of intents, as one commit of the store left them. Each is
// looked at once, when it is first asked about. The zero value is ready.
type breakers struct {
	mu   sync.Mutex
	open map[string]string // by intent: the words that hold its placements; "" where it is closed
}

// hold says why nothing may begin at a placement: another placement of its
// intent failed and has not recovered since. One that failed itself goes on,
// with its back-off, so that it can heal and close the breaker: two that failed
// at once must not hold each other.
func (b *breakers) hold(ctx context.Context, tx *store.Tx, placement store.Placement) (string, error) {
	if placement.FailedAt.After(placement.ResumedAt) {
		return "", nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	words, known := b.open[placement.Intent]
	if known {
		return words, nil
	}
	words, err := breaker(ctx, tx, placement.Intent)
	if err != nil {
		return "", err
	}
	if b.open == nil {
		b.open = map[string]string{}
	}
	b.open[placement.Intent] = words
	return words, nil
}

// breaker says which placement holds the others of its intent; empty: none does.
func breaker(ctx context.Context, tx *store.Tx, intent string) (string, error) {
	failed, err := tx.FailedPlacement(ctx, intent)
	if err != nil {
		return "", ignoreMissing(err)
	}
	report, err := storedReport(failed)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("the breaker of intent %s is open: its placement on agent %s failed at %s since %s; rotunda resume %s",
		intent, failed.AgentID, report.GetFailure().GetStep(), failed.FailedAt.Format("15:04"), intent), nil
}
