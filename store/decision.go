package store

import (
	"context"
	"time"
)

// Decision is a dated act of an operator's that facts are read against.
type Decision struct {
	ID                string
	Kind              string // rotate, resume
	Intent            string
	PlacementID       string // empty: all of the intent
	ThroughGeneration uint64 // of rotate
	NewKey            bool   // of rotate
	Reason            string
	By                string
	At                time.Time
}

const decisionColumns = `id, kind, intent, placement_id, through_generation, new_key, reason, by_whom, at`

func (d *Decision) columns() []any {
	return []any{
		&d.ID, &d.Kind, &d.Intent, &d.PlacementID, &d.ThroughGeneration, &d.NewKey, &d.Reason, &d.By, moment{&d.At},
	}
}

// InsertDecision records a decision.
func (tx *Tx) InsertDecision(ctx context.Context, d Decision) error {
	return tx.insert(ctx, thing{"decision", d.ID}, `
		INSERT INTO decision (`+decisionColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		d.ID, d.Kind, d.Intent, d.PlacementID, d.ThroughGeneration, d.NewKey, d.Reason, d.By, micros(d.At))
}

// IntentDecisions returns the decisions on an intent, the newest first.
func (tx *Tx) IntentDecisions(ctx context.Context, intent string) ([]Decision, error) {
	return list[Decision](ctx, tx, "decisions on an intent", `
		SELECT `+decisionColumns+` FROM decision WHERE intent = $1 ORDER BY at DESC, id DESC`, intent)
}
