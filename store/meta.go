package store

import (
	"context"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Meta is what a store says of itself.
type Meta struct {
	Epoch           uint64    // raised by each restore from a backup
	TrustDomain     string    // set once, by init
	Schema          uint64    // of the newest migration that ran
	MinServerSchema uint64    // servers of a lower schema must not open this store
	LastCommit      time.Time // the newest one in this snapshot
	DocumentState   uint64    // counts the changes of documents
	TreeSize        uint64    // of the audit log
	CreatedAt       time.Time
}

func (m *Meta) columns() []any {
	return []any{
		&m.Epoch, &m.TrustDomain, &m.Schema, &m.MinServerSchema, moment{&m.LastCommit},
		&m.DocumentState, &m.TreeSize, moment{&m.CreatedAt},
	}
}

var theMeta = thing{noun: "the store's own record"}

// Meta returns what the store says of itself.
func (tx *Tx) Meta(ctx context.Context) (Meta, error) {
	return one[Meta](ctx, tx, theMeta, `
		SELECT epoch, trust_domain, schema_version, min_server_schema, last_commit,
		       document_state, tree_size, created_at
		FROM store_meta`)
}

// Epoch is the store's epoch.
func (tx *Tx) Epoch(ctx context.Context) (uint64, error) {
	return value[uint64](ctx, tx, theMeta, `SELECT epoch FROM store_meta`)
}

// RaiseEpoch begins a new epoch, after a restore.
func (tx *Tx) RaiseEpoch(ctx context.Context) error {
	return tx.set(ctx, theMeta, `UPDATE store_meta SET epoch = epoch + 1`)
}

// LastCommit is when the newest commit in this snapshot was made.
func (tx *Tx) LastCommit(ctx context.Context) (time.Time, error) {
	last, err := value[int64](ctx, tx, theMeta, `SELECT last_commit FROM store_meta`)
	return time.UnixMicro(last).UTC(), err
}

// LastMove is when the newest commit in this snapshot was made that was not
// Quiet; 0 µs: none that is known.
func (tx *Tx) LastMove(ctx context.Context) (time.Time, error) {
	last, err := value[int64](ctx, tx, theMeta, `SELECT moved_at FROM store_meta`)
	return time.UnixMicro(last).UTC(), err
}

// SetTrustDomain says which trust domain the store is of: once and for all.
func (tx *Tx) SetTrustDomain(ctx context.Context, domain string) error {
	rows, err := tx.exec(ctx, `UPDATE store_meta SET trust_domain = $1 WHERE trust_domain = ''`, domain)
	if err == nil && rows == 0 {
		return fault.New(fault.Conflict, "the store has a trust domain already").
			WithRemedy("make another store for another trust domain")
	}
	return theMeta.wrap(err)
}

// DocumentState counts the changes of documents: while it stands, so do they.
func (tx *Tx) DocumentState(ctx context.Context) (uint64, error) {
	return value[uint64](ctx, tx, theMeta, `SELECT document_state FROM store_meta`)
}

// RaiseDocumentState counts a change of documents.
func (tx *Tx) RaiseDocumentState(ctx context.Context) error {
	return tx.set(ctx, theMeta, `UPDATE store_meta SET document_state = document_state + 1`)
}
