package store

import (
	"context"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// Revocation is a revocation that was asked for. What is left of it follows
// from the records of its certificates.
type Revocation struct {
	ID      string
	Object  string // "Service/orders", "Certificate/01…"
	Reason  string // a CRLReason, by name
	Note    string // in an operator's words
	By      string
	BegunAt time.Time
	ForceAt time.Time // when what is still in use is revoked all the same; zero: never
	EndedAt time.Time // zero: some certificates wait for what takes their place
}

const revocationColumns = `id, object, reason, note, begun_by, begun_at, force_at, ended_at`

func (r *Revocation) columns() []any {
	return []any{&r.ID, &r.Object, &r.Reason, &r.Note, &r.By, moment{&r.BegunAt}, moment{&r.ForceAt}, moment{&r.EndedAt}}
}

// InsertRevocation records that certificates are to be revoked.
func (tx *Tx) InsertRevocation(ctx context.Context, r Revocation, serials []pki.Serial) error {
	err := tx.insert(ctx, thing{"revocation", r.ID}, `
		INSERT INTO revocation (`+revocationColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		r.ID, r.Object, r.Reason, r.Note, r.By, micros(tx.Now), micros(r.ForceAt), micros(r.EndedAt))
	if err != nil {
		return err
	}
	for _, serial := range serials {
		err := tx.insert(ctx, thing{"part of a revocation", serial}, `
			INSERT INTO revocation_part (revocation_id, serial) VALUES ($1, $2)`, r.ID, serial[:])
		if err != nil {
			return err
		}
	}
	return nil
}

// Revocation returns the one of the id.
func (tx *Tx) Revocation(ctx context.Context, id string) (Revocation, error) {
	return one[Revocation](ctx, tx, thing{"revocation", id}, `
		SELECT `+revocationColumns+` FROM revocation WHERE id = $1`, id)
}

// Revocations returns those that were asked for last, the newest first.
func (tx *Tx) Revocations(ctx context.Context, limit int) ([]Revocation, error) {
	return list[Revocation](ctx, tx, "revocations", `
		SELECT `+revocationColumns+` FROM revocation ORDER BY begun_at DESC, id DESC LIMIT $1`, limit)
}

// OpenRevocations returns those that wait for something, the oldest first.
func (tx *Tx) OpenRevocations(ctx context.Context) ([]Revocation, error) {
	return list[Revocation](ctx, tx, "open revocations", `
		SELECT `+revocationColumns+` FROM revocation WHERE ended_at IS NULL ORDER BY begun_at, id`)
}

// RevocationParts returns the certificates of a revocation.
func (tx *Tx) RevocationParts(ctx context.Context, id string) ([]Certificate, error) {
	return list[Certificate](ctx, tx, "certificates of a revocation", `
		SELECT `+certificateColumns+` FROM certificate
		WHERE serial IN (SELECT serial FROM revocation_part WHERE revocation_id = $1) ORDER BY kind, serial`, id)
}

// RecentRevocations returns those that are open or ended after then, and those of
// a compromise that is looked after.
func (tx *Tx) RecentRevocations(ctx context.Context, then time.Time) ([]Revocation, error) {
	return list[Revocation](ctx, tx, "recent revocations", `
		SELECT `+revocationColumns+` FROM revocation 
		WHERE ended_at IS NULL OR ended_at >= $1 OR id IN (SELECT revocation_id FROM compromise WHERE ended_at IS NULL)
		ORDER BY begun_at, id`, micros(then))
}

// RevocationSize is how many certificates a revocation is of.
func (tx *Tx) RevocationSize(ctx context.Context, id string) (int64, error) {
	return value[int64](ctx, tx, thing{"revocation", id}, `SELECT COUNT(*) FROM revocation_part WHERE revocation_id = $1`, id)
}

// EndRevocation says that nothing is left to wait for.
func (tx *Tx) EndRevocation(ctx context.Context, id string) error {
	return tx.swap(ctx, thing{"open revocation", id}, `
		UPDATE revocation SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL`, id, micros(tx.Now))
}

// NewestServerRevocation is the id of the newest revocation of a Rotunda
// server's certificate; empty: there was none.
func (tx *Tx) NewestServerRevocation(ctx context.Context) (string, error) {
	return value[string](ctx, tx, thing{noun: "revocation of a server"}, `
		SELECT COALESCE(MAX(p.revocation_id), '') FROM revocation_part p JOIN certificate c ON c.serial = p.serial WHERE c.kind = 'server'`)
}

// WaitsToBeRevoked says whether a certificate is to be revoked once it has a
// successor.
func (tx *Tx) WaitsToBeRevoked(ctx context.Context, serial pki.Serial) (bool, error) {
	waiting, err := value[int64](ctx, tx, thing{"revocation of", serial}, `
		SELECT COUNT(*) FROM revocation_part p JOIN revocation r ON r.id = p.revocation_id
		WHERE p.serial = $1 AND r.ended_at IS NULL`, serial[:])
	return waiting > 0, err
}
