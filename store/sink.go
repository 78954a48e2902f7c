package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// AuditSink is how far a sink outside has taken the audit log.
type AuditSink struct {
	Name         string
	Kind         string
	Address      string
	Taken        uint64 // entries, from the first on: the next one's index
	TakenAt      time.Time
	Tries        int       // that came to nothing since it took something last
	FailingSince time.Time // zero: it does not fail
	LastError    string
}

const auditSinkColumns = `name, kind, address, taken, taken_at, tries, failing_since, last_error`

func (s *AuditSink) columns() []any {
	return []any{&s.Name, &s.Kind, &s.Address, &s.Taken, moment{&s.TakenAt}, &s.Tries, moment{&s.FailingSince}, &s.LastError}
}

// DeclareAuditSink adds a sink that has taken nothing, or says where one is now.
func (tx *Tx) DeclareAuditSink(ctx context.Context, name, kind, address string) error {
	_, err := tx.exec(ctx, `
		INSERT INTO audit_sink (`+auditSinkColumns+`) VALUES ($1, $2, $3, 0, NULL, 0, NULL, '')
		ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, address = excluded.address`, name, kind, address)
	return thing{"audit sink", name}.wrap(err)
}

// AuditSink returns the sink of the name.
func (tx *Tx) AuditSink(ctx context.Context, name string) (AuditSink, error) {
	return one[AuditSink](ctx, tx, thing{"audit sink", name}, `SELECT `+auditSinkColumns+` FROM audit_sink WHERE name = $1`, name)
}

// AuditSinks returns all sinks, by name.
func (tx *Tx) AuditSinks(ctx context.Context) ([]AuditSink, error) {
	return list[AuditSink](ctx, tx, "audit sinks", `SELECT `+auditSinkColumns+` FROM audit_sink ORDER BY name`)
}

// AdvanceAuditSink records that a sink that had taken from entries has taken to
// now. It is a compare-and-swap: of two that forward one gets a Conflict.
func (tx *Tx) AdvanceAuditSink(ctx context.Context, name string, from, to uint64) error {
	return tx.swap(ctx, thing{"audit sink", name}, `
		UPDATE audit_sink SET taken = $3, taken_at = $4, tries = 0, failing_since = NULL, last_error = ''
		WHERE name = $1 AND taken = $2`, name, from, to, micros(tx.Now))
}

// FailAuditSink records why a try came to nothing.
func (tx *Tx) FailAuditSink(ctx context.Context, name, why string) error {
	return tx.set(ctx, thing{"audit sink", name}, `
		UPDATE audit_sink SET tries = tries + 1, failing_since = COALESCE(failing_since, $2), last_error = $3
		WHERE name = $1`, name, micros(tx.Now), why)
}

// AuditEntriesBack returns the index from which on the entries before the given
// one have at least so many bytes together; 0 where all have fewer.
func (tx *Tx) AuditEntriesBack(ctx context.Context, before uint64, size int) (uint64, error) {
	if size <= 0 {
		return before, nil
	}
	index, sum := before, 0
	err := tx.scan(ctx, func(rows *sql.Rows) (bool, error) {
		var entry AuditEntry
		err := errors.Join(rows.Scan(entry.columns()...), entry.unpack(ctx, tx))
		index, sum = entry.Index, sum+len(entry.Content)
		return sum < size, err
	}, `SELECT `+auditEntryColumns+` FROM audit_entry WHERE idx < $1 ORDER BY idx DESC`, before)
	if err != nil && !errors.Is(err, errNoRow) {
		return 0, thing{noun: "audit entries"}.wrap(err)
	}
	return index, nil
}
