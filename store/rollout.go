package store

import (
	"context"
	"time"
)

// Rollout is a coordinated change that an operator asked for: its goal.
type Rollout struct {
	ID        string
	Name      string
	Selection []byte // JSON: what was chosen
	Spec      []byte // JSON: how it goes
	Waves     []byte // JSON: its plan
	Well      int    // placements that were well before
	Undoes    string // the rollout that this one rolls back; may be empty
	Reason    string
	BegunBy   string
	BegunAt   time.Time
	EndedAt   time.Time // when it asked for nothing more; zero: it is open
}

const rolloutColumns = `id, name, selection, spec, waves, well, undoes, reason, begun_by, begun_at, ended_at`

func (r *Rollout) columns() []any {
	return []any{
		&r.ID, &r.Name, &r.Selection, &r.Spec, &r.Waves, &r.Well, &r.Undoes, &r.Reason, &r.BegunBy, moment{&r.BegunAt}, moment{&r.EndedAt},
	}
}

// RolloutPart is a placement in a rollout. What was asked for and where it got
// are dated once.
type RolloutPart struct {
	PlacementID string
	Wave        int    // from 0
	Through     uint64 // the generation that must be passed
	AskedAt     time.Time
	SettledAt   time.Time
}

func (p *RolloutPart) columns() []any {
	return []any{&p.PlacementID, &p.Wave, &p.Through, moment{&p.AskedAt}, moment{&p.SettledAt}}
}

// RolloutDecision is a dated act of an operator's.
type RolloutDecision struct {
	Act    string // pause, resume, abort, rollback
	Reason string
	By     string
	At     time.Time
}

func (d *RolloutDecision) columns() []any { return []any{&d.Act, &d.Reason, &d.By, moment{&d.At}} }

// RolloutAnswer is what a gate outside said last about a wave.
type RolloutAnswer struct {
	Wave   int // from 0
	Gate   string
	Passed bool
	Words  string
	By     string
	At     time.Time
}

func (a *RolloutAnswer) columns() []any {
	return []any{&a.Wave, &a.Gate, &a.Passed, &a.Words, &a.By, moment{&a.At}}
}

// InsertRollout records a rollout that begins now, and whom it is over. Of open
// rollouts only one has the name.
func (tx *Tx) InsertRollout(ctx context.Context, r Rollout, parts []RolloutPart) error {
	err := tx.insert(ctx, thing{"open rollout", r.Name}, `
		INSERT INTO rollout (`+rolloutColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, NULL)`,
		r.ID, r.Name, string(r.Selection), string(r.Spec), string(r.Waves), r.Well, r.Undoes, r.Reason, r.BegunBy, micros(tx.Now))
	for position, part := range parts {
		if err != nil {
			return err
		}
		err = tx.insert(ctx, thing{"part of rollout", r.Name}, `
			INSERT INTO rollout_part (rollout_id, position, placement_id, wave, through_generation) VALUES ($1, $2, $3, $4, $5)`,
			r.ID, position, part.PlacementID, part.Wave, part.Through)
	}
	return err
}

// Rollout returns the rollout of the id.
func (tx *Tx) Rollout(ctx context.Context, id string) (Rollout, error) {
	return one[Rollout](ctx, tx, thing{"rollout", id}, `SELECT `+rolloutColumns+` FROM rollout WHERE id = $1`, id)
}

// NewestRollout returns the rollout of a name that began last.
func (tx *Tx) NewestRollout(ctx context.Context, name string) (Rollout, error) {
	return one[Rollout](ctx, tx, thing{"rollout", name}, `
		SELECT `+rolloutColumns+` FROM rollout WHERE name = $1 ORDER BY begun_at DESC, id DESC LIMIT 1`, name)
}

// OpenRollouts returns the rollouts that have not ended, by name.
func (tx *Tx) OpenRollouts(ctx context.Context) ([]Rollout, error) {
	return list[Rollout](ctx, tx, "open rollouts", `
		SELECT `+rolloutColumns+` FROM rollout WHERE ended_at IS NULL ORDER BY name`)
}

// Rollouts returns the newest rollouts, open or not, at most limit.
func (tx *Tx) Rollouts(ctx context.Context, limit int) ([]Rollout, error) {
	return list[Rollout](ctx, tx, "rollouts", `
		SELECT `+rolloutColumns+` FROM rollout ORDER BY begun_at DESC, id DESC LIMIT $1`, limit)
}

// RolloutParts returns whom a rollout is over, in the order of its waves.
func (tx *Tx) RolloutParts(ctx context.Context, id string) ([]RolloutPart, error) {
	return list[RolloutPart](ctx, tx, "parts of a rollout", `
		SELECT placement_id, wave, through_generation, asked_at, settled_at
		FROM rollout_part WHERE rollout_id = $1 ORDER BY position`, id)
}

// AskRolloutPart dates that a placement's rotation was asked for; a Conflict if
// it was before.
func (tx *Tx) AskRolloutPart(ctx context.Context, id, placementID string) error {
	return tx.swap(ctx, thing{"part of rollout", id}, `
		UPDATE rollout_part SET asked_at = $3 WHERE rollout_id = $1 AND placement_id = $2 AND asked_at IS NULL`, id, placementID, micros(tx.Now))
}

// SettleRolloutPart dates that a placement was seen where the rollout wants it;
// a Conflict if it was before.
func (tx *Tx) SettleRolloutPart(ctx context.Context, id, placementID string) error {
	return tx.swap(ctx, thing{"part of rollout", id}, `
		UPDATE rollout_part SET settled_at = $3 WHERE rollout_id = $1 AND placement_id = $2 AND settled_at IS NULL`, id, placementID, micros(tx.Now))
}

// InsertRolloutDecision records what an operator decided now.
func (tx *Tx) InsertRolloutDecision(ctx context.Context, id string, d RolloutDecision) error {
	return tx.insert(ctx, thing{"decision on rollout", id}, `
		INSERT INTO rollout_decision (rollout_id, act, reason, by_whom, at) VALUES ($1, $2, $3, $4, $5)`,
		id, d.Act, d.Reason, d.By, micros(tx.Now))
}

// RolloutDecisions returns what was decided about a rollout, the oldest first.
func (tx *Tx) RolloutDecisions(ctx context.Context, id string) ([]RolloutDecision, error) {
	return list[RolloutDecision](ctx, tx, "decisions on a rollout", `
		SELECT act, reason, by_whom, at FROM rollout_decision WHERE rollout_id = $1 ORDER BY at`, id)
}

// PutRolloutAnswer records what a gate outside says now.
func (tx *Tx) PutRolloutAnswer(ctx context.Context, id string, a RolloutAnswer) error {
	_, err := tx.exec(ctx, `
		INSERT INTO rollout_answer (rollout_id, wave, gate, passed, words, by_whom, at) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (rollout_id, wave, gate) DO UPDATE SET passed = $4, words = $5, by_whom = $6, at = $7`,
		id, a.Wave, a.Gate, a.Passed, a.Words, a.By, micros(tx.Now))
	return thing{"answer about rollout", id}.wrap(err)
}

// RolloutAnswers returns what the gates outside said, by wave and gate.
func (tx *Tx) RolloutAnswers(ctx context.Context, id string) ([]RolloutAnswer, error) {
	return list[RolloutAnswer](ctx, tx, "answers about a rollout", `
		SELECT wave, gate, passed, words, by_whom, at FROM rollout_answer WHERE rollout_id = $1 ORDER BY wave, gate`, id)
}

// EndRollout records that an open rollout asks for nothing more.
func (tx *Tx) EndRollout(ctx context.Context, id string) error {
	return tx.swap(ctx, thing{"open rollout", id}, `UPDATE rollout SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL`, id, micros(tx.Now))
}

// RolloutTurn counts what was decided about rollouts.
func (tx *Tx) RolloutTurn(ctx context.Context) (uint64, error) {
	return value[uint64](ctx, tx, thing{noun: "the turn of rollouts"}, `SELECT number FROM rollout_turn`)
}

// TakeRolloutTurn says that what was planned when RolloutTurn was turn is
// decided now; a Conflict if anything was decided since.
func (tx *Tx) TakeRolloutTurn(ctx context.Context, turn uint64) error {
	return tx.swap(ctx, thing{"turn of rollouts", turn}, `UPDATE rollout_turn SET number = number + 1 WHERE number = $1`, turn)
}

// RaiseRolloutTurn makes void what others have planned.
func (tx *Tx) RaiseRolloutTurn(ctx context.Context) error {
	return tx.set(ctx, thing{noun: "the turn of rollouts"}, `UPDATE rollout_turn SET number = number + 1`)
}
