package store

import (
	"context"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// RolledBack is that a witness of the audit log has seen more than the store
// holds, or something else: the store was put back from a copy.
type RolledBack struct {
	ID       string
	FoundAt  time.Time
	Witness  string // the agent
	Seen     []byte // the checkpoint that it showed, signed; the greatest shown since
	SeenSize uint64
	OwnSize  uint64    // of the log here when that was found
	EndedAt  time.Time // zero: it stands
	Epoch    uint64    // that the restore began
	EntryID  string    // of the restore, in the audit log
}

const rolledBackColumns = `id, found_at, witness, seen, seen_size, own_size, ended_at, epoch, entry_id`

func (r *RolledBack) columns() []any {
	return []any{
		&r.ID, moment{&r.FoundAt}, &r.Witness, &r.Seen, &r.SeenSize, &r.OwnSize, moment{&r.EndedAt}, optionalUint{&r.Epoch}, optionalText{&r.EntryID},
	}
}

var theRollback = thing{noun: "a record that the store was rolled back"}

// RolledBack returns the state while it stands; nil: the store is not rolled
// back.
func (tx *Tx) RolledBack(ctx context.Context) (*RolledBack, error) {
	return oneOrNone(one[RolledBack](ctx, tx, theRollback, `
		SELECT `+rolledBackColumns+` FROM rolled_back WHERE ended_at IS NULL`))
}

// LastRestore returns the newest one that a restore has ended; nil: there was
// none.
func (tx *Tx) LastRestore(ctx context.Context) (*RolledBack, error) {
	return oneOrNone(one[RolledBack](ctx, tx, theRollback, `
		SELECT `+rolledBackColumns+` FROM rolled_back WHERE ended_at IS NOT NULL ORDER BY epoch DESC LIMIT 1`))
}

func oneOrNone(r RolledBack, err error) (*RolledBack, error) {
	if fault.CodeOf(err) == fault.NotFound {
		return nil, nil
	}
	return &r, err
}

// RollBack records that the store is rolled back: id, witness and what it has
// seen are r's. Where that stands already, the greatest checkpoint seen counts.
func (tx *Tx) RollBack(ctx context.Context, r RolledBack) error {
	rows, err := tx.exec(ctx, `UPDATE rolled_back SET seen = $1, seen_size = $2, witness = $3 WHERE ended_at IS NULL AND seen_size < $2`, r.Seen, r.SeenSize, r.Witness)
	if err != nil || rows > 0 {
		return theRollback.wrap(err)
	}
	if open, err := tx.RolledBack(ctx); err != nil || open != nil {
		return err
	}
	return tx.insert(ctx, theRollback, `
		INSERT INTO rolled_back (id, found_at, witness, seen, seen_size, own_size) VALUES ($1, $2, $3, $4, $5, $6)`,
		r.ID, micros(tx.Now), r.Witness, r.Seen, r.SeenSize, r.OwnSize)
}

// EndRollBack says that a restore is done: its audit entry, and the epoch that
// began with it.
func (tx *Tx) EndRollBack(ctx context.Context, id, entryID string) error {
	return tx.swap(ctx, theRollback, `
		UPDATE rolled_back SET ended_at = $2, entry_id = $3, epoch = (SELECT epoch FROM store_meta) WHERE id = $1 AND ended_at IS NULL`,
		id, micros(tx.Now), entryID)
}

// Testimony is what an agent said that it holds.
type Testimony struct {
	AgentID string
	At      time.Time
	Content []byte // as it was sent; the store does not look into it
}

func (t *Testimony) columns() []any { return []any{&t.AgentID, moment{&t.At}, &t.Content} }

// PutTestimony keeps what an agent says, in the place of what it said before.
func (tx *Tx) PutTestimony(ctx context.Context, agentID string, content []byte) error {
	_, err := tx.exec(ctx, `DELETE FROM testimony WHERE agent_id = $1`, agentID)
	if err != nil {
		return thing{"testimony of agent", agentID}.wrap(err)
	}
	return tx.insert(ctx, thing{"testimony of agent", agentID}, `
		INSERT INTO testimony (agent_id, at, content) VALUES ($1, $2, $3)`, agentID, micros(tx.Now), content)
}

// Testimonies returns all of them, by agent.
func (tx *Tx) Testimonies(ctx context.Context) ([]Testimony, error) {
	return list[Testimony](ctx, tx, "testimonies", `SELECT agent_id, at, content FROM testimony ORDER BY agent_id`)
}

// DropTestimonies forgets them: a restore has taken what was in them.
func (tx *Tx) DropTestimonies(ctx context.Context) error {
	_, err := tx.exec(ctx, `DELETE FROM testimony`)
	return thing{noun: "testimonies"}.wrap(err)
}

// RaiseLastGeneration says that the numbers up to this one are used up at a
// placement.
func (tx *Tx) RaiseLastGeneration(ctx context.Context, placementID string, last uint64) error {
	_, err := tx.exec(ctx, `UPDATE placement SET last_generation = $2 WHERE id = $1 AND last_generation < $2`, placementID, last)
	return thing{"placement", placementID}.wrap(err)
}
