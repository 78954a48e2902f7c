package store

import (
	"context"
	"time"
)

// CompromiseKind is of what an operator said that it is in wrong hands.
type CompromiseKind string

// The kinds of compromise.
const (
	CompromisedAgent     CompromiseKind = "agent"
	CompromisedService   CompromiseKind = "service"
	CompromisedAuthority CompromiseKind = "authority"
	CompromisedKey       CompromiseKind = "key"
)

// Compromise is what was begun about something in wrong hands.
type Compromise struct {
	ID           string
	Kind         CompromiseKind
	Name         string // id of an agent, name of a service or authority, hex SHA-256 of a SubjectPublicKeyInfo
	Labels       string // JSON: the agents that it is narrowed to
	Note         string
	ContainFirst bool
	Rehearsal    bool
	RevocationID string // empty: nothing was revoked
	RolloutID    string // empty: nothing rotates in waves
	BegunBy      string
	BegunAt      time.Time
	ContainedAt  time.Time // zero: not yet
	RecoveredAt  time.Time // zero: not yet
	EndedAt      time.Time // zero: it is looked after
}

const compromiseColumns = `id, kind, name, labels, note, contain_first, rehearsal, revocation_id, rollout_id, begun_by, begun_at, contained_at, recovered_at, ended_at`

func (c *Compromise) columns() []any {
	return []any{
		&c.ID, &c.Kind, &c.Name, &c.Labels, &c.Note, &c.ContainFirst, &c.Rehearsal, optionalText{&c.RevocationID}, optionalText{&c.RolloutID},
		&c.BegunBy, moment{&c.BegunAt}, moment{&c.ContainedAt}, moment{&c.RecoveredAt}, moment{&c.EndedAt},
	}
}

// InsertCompromise records a compromise that begins now. Of one subject one is
// open at a time.
func (tx *Tx) InsertCompromise(ctx context.Context, c Compromise) error {
	return tx.insert(ctx, thing{"open compromise", c.Name}, `
		INSERT INTO compromise (`+compromiseColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, NULL, NULL, NULL)`,
		c.ID, string(c.Kind), c.Name, c.Labels, c.Note, c.ContainFirst, c.Rehearsal, optional(c.RevocationID), optional(c.RolloutID),
		c.BegunBy, micros(tx.Now))
}

// Compromise returns the one of the id.
func (tx *Tx) Compromise(ctx context.Context, id string) (Compromise, error) {
	return one[Compromise](ctx, tx, thing{"compromise", id}, `SELECT `+compromiseColumns+` FROM compromise WHERE id = $1`, id)
}

// Compromises returns those that began last, the newest first.
func (tx *Tx) Compromises(ctx context.Context, limit int) ([]Compromise, error) {
	return list[Compromise](ctx, tx, "compromises", `
		SELECT `+compromiseColumns+` FROM compromise ORDER BY begun_at DESC, id DESC LIMIT $1`, limit)
}

// OpenCompromises returns those that are looked after, the oldest first.
func (tx *Tx) OpenCompromises(ctx context.Context) ([]Compromise, error) {
	return list[Compromise](ctx, tx, "open compromises", `
		SELECT `+compromiseColumns+` FROM compromise WHERE ended_at IS NULL ORDER BY begun_at, id`)
}

// ContainCompromise dates that nothing is left to be done for containment; a
// Conflict if it was before.
func (tx *Tx) ContainCompromise(ctx context.Context, id string) error {
	return tx.swap(ctx, thing{"uncontained compromise", id}, `
		UPDATE compromise SET contained_at = $2 WHERE id = $1 AND contained_at IS NULL AND ended_at IS NULL`, id, micros(tx.Now))
}

// RecoverCompromise dates that all has what takes the place of what was in wrong
// hands; a Conflict if it was before.
func (tx *Tx) RecoverCompromise(ctx context.Context, id string) error {
	return tx.swap(ctx, thing{"unrecovered compromise", id}, `
		UPDATE compromise SET recovered_at = $2 WHERE id = $1 AND recovered_at IS NULL AND ended_at IS NULL`, id, micros(tx.Now))
}

// EndCompromise says that nobody looks after it any more.
func (tx *Tx) EndCompromise(ctx context.Context, id string) error {
	return tx.swap(ctx, thing{"open compromise", id}, `
		UPDATE compromise SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL`, id, micros(tx.Now))
}
