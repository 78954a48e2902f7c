package store

import (
	"context"
	"time"
)

// ChangeState is the status of a change.
//
//	proposed ──approve──▶ approved ──carry out──▶ done
//	   └──────reject────▶ rejected
type ChangeState string

// The states of a change.
const (
	ChangeProposed ChangeState = "proposed"
	ChangeApproved ChangeState = "approved"
	ChangeDone     ChangeState = "done"
	ChangeRejected ChangeState = "rejected"
)

// Change is an operator's proposed act.
type Change struct {
	ID         string
	Verb       string
	Object     string // Kind/name
	Detail     []byte // JSON: what is to be done
	State      ChangeState
	ProposedBy string
	ProposedAt time.Time
	DecidedBy  string
	DecidedAt  time.Time
	DoneAt     time.Time
}

const changeColumns = `id, verb, object, detail, state, proposed_by, proposed_at, decided_by, decided_at, done_at`

func (c *Change) columns() []any {
	return []any{
		&c.ID, &c.Verb, &c.Object, &c.Detail, &c.State, &c.ProposedBy, moment{&c.ProposedAt},
		&c.DecidedBy, moment{&c.DecidedAt}, moment{&c.DoneAt},
	}
}

// InsertChange records a change as proposed now.
func (tx *Tx) InsertChange(ctx context.Context, c Change) error {
	return tx.insert(ctx, thing{"change", c.ID}, `
		INSERT INTO change (`+changeColumns+`) VALUES ($1, $2, $3, $4, 'proposed', $5, $6, '', NULL, NULL)`,
		c.ID, c.Verb, c.Object, string(c.Detail), c.ProposedBy, micros(tx.Now))
}

// Change returns the change of the id.
func (tx *Tx) Change(ctx context.Context, id string) (Change, error) {
	return one[Change](ctx, tx, thing{"change", id}, `SELECT `+changeColumns+` FROM change WHERE id = $1`, id)
}

// OpenChanges returns what is proposed or approved and not done, the oldest
// first.
func (tx *Tx) OpenChanges(ctx context.Context) ([]Change, error) {
	return list[Change](ctx, tx, "changes", `
		SELECT `+changeColumns+` FROM change WHERE state IN ('proposed', 'approved') ORDER BY proposed_at, id`)
}

// DecideChange approves or rejects a proposed change.
func (tx *Tx) DecideChange(ctx context.Context, id string, next ChangeState, by string) error {
	return tx.swap(ctx, thing{"proposed change", id}, `
		UPDATE change SET state = $2, decided_by = $3, decided_at = $4
		WHERE id = $1 AND state = 'proposed' AND $2 IN ('approved', 'rejected')`, id, string(next), by, micros(tx.Now))
}

// FinishChange records that an approved change was carried out.
func (tx *Tx) FinishChange(ctx context.Context, id string) error {
	return tx.swap(ctx, thing{"approved change", id}, `
		UPDATE change SET state = 'done', done_at = $2 WHERE id = $1 AND state = 'approved'`, id, micros(tx.Now))
}
