package store

import (
	"context"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// LogWitness is what a witness outside has of the audit log.
type LogWitness struct {
	Name         string
	Key          string // its vkey: another one is another witness
	URL          string
	Size         uint64 // of the newest checkpoint that it cosigned; 0: none
	CosignedAt   time.Time
	Tries        int       // that came to nothing since it cosigned last
	FailingSince time.Time // zero: it does not fail
	LastError    string
	AlarmAt      time.Time // zero: there is no alarm
	Alarm        string
}

const logWitnessColumns = `name, vkey, url, size, cosigned_at, tries, failing_since, last_error, alarm_at, alarm`

func (w *LogWitness) columns() []any {
	return []any{
		&w.Name, &w.Key, &w.URL, &w.Size, moment{&w.CosignedAt}, &w.Tries, moment{&w.FailingSince}, &w.LastError, moment{&w.AlarmAt}, &w.Alarm,
	}
}

// Cosignature is a witness's line below the checkpoint of a size.
type Cosignature struct {
	Size uint64
	Key  string
	Line string
	At   time.Time // in the line
}

func (c *Cosignature) columns() []any { return []any{&c.Size, &c.Key, &c.Line, moment{&c.At}} }

// DeclareLogWitness adds a witness that has seen nothing, or says where one is
// now. One of another key begins anew.
func (tx *Tx) DeclareLogWitness(ctx context.Context, name, key, url string) error {
	what := thing{"witness", name}
	if _, err := tx.exec(ctx, `DELETE FROM log_witness WHERE name = $1 AND vkey <> $2`, name, key); err != nil {
		return what.wrap(err)
	}
	_, err := tx.exec(ctx, `
		INSERT INTO log_witness (`+logWitnessColumns+`) VALUES ($1, $2, $3, 0, NULL, 0, NULL, '', NULL, '')
		ON CONFLICT (name) DO UPDATE SET url = excluded.url`, name, key, url)
	return what.wrap(err)
}

// LogWitness returns the witness of the name.
func (tx *Tx) LogWitness(ctx context.Context, name string) (LogWitness, error) {
	return one[LogWitness](ctx, tx, thing{"witness", name}, `SELECT `+logWitnessColumns+` FROM log_witness WHERE name = $1`, name)
}

// LogWitnesses returns all witnesses, by name.
func (tx *Tx) LogWitnesses(ctx context.Context) ([]LogWitness, error) {
	return list[LogWitness](ctx, tx, "witnesses", `SELECT `+logWitnessColumns+` FROM log_witness ORDER BY name`)
}

// PutCosignature keeps what the witness of the name cosigned, in the place of its
// earlier line of the same checkpoint. What it fails by ends.
func (tx *Tx) PutCosignature(ctx context.Context, name string, c Cosignature) error {
	_, err := tx.exec(ctx, `
		INSERT INTO cosignature (size, vkey, line, at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (size, vkey) DO UPDATE SET line = excluded.line, at = excluded.at`, c.Size, c.Key, c.Line, micros(c.At))
	if err != nil {
		return thing{"cosignature of witness", name}.wrap(err)
	}
	return tx.set(ctx, thing{"witness", name}, `
		UPDATE log_witness SET size = $3, cosigned_at = $4, tries = 0, failing_since = NULL, last_error = ''
		WHERE name = $1 AND vkey = $2`, name, c.Key, c.Size, micros(tx.Now))
}

// FailLogWitness records why a try came to nothing.
func (tx *Tx) FailLogWitness(ctx context.Context, name, why string) error {
	return tx.set(ctx, thing{"witness", name}, `
		UPDATE log_witness SET tries = tries + 1, failing_since = COALESCE(failing_since, $2), last_error = $3
		WHERE name = $1`, name, micros(tx.Now), why)
}

// AlarmLogWitness records that a witness contradicts the log, or itself. The
// first alarm stays; news says that this is the first.
func (tx *Tx) AlarmLogWitness(ctx context.Context, name, alarm string) (news bool, err error) {
	rows, err := tx.exec(ctx, `UPDATE log_witness SET alarm_at = $2, alarm = $3 WHERE name = $1 AND alarm_at IS NULL`, name, micros(tx.Now), alarm)
	return rows > 0, thing{"witness", name}.wrap(err)
}

// Cosignatures returns those of the checkpoints from one size to another, both
// included, the newest first at each.
func (tx *Tx) Cosignatures(ctx context.Context, from, to uint64) ([]Cosignature, error) {
	return list[Cosignature](ctx, tx, "cosignatures", `
		SELECT size, vkey, line, at FROM cosignature WHERE size >= $1 AND size <= $2 ORDER BY size, at DESC, vkey`, from, to)
}

// Publish says that the checkpoint of the size has the cosignatures required. It
// never goes back.
func (tx *Tx) Publish(ctx context.Context, size uint64) error {
	_, err := tx.exec(ctx, `UPDATE store_meta SET published_size = $1 WHERE published_size < $1`, size)
	return thing{"published checkpoint of size", size}.wrap(err)
}

// PublishedSize is the size of the newest checkpoint that had the cosignatures
// required, 0 before there was one.
func (tx *Tx) PublishedSize(ctx context.Context) (uint64, error) {
	return value[uint64](ctx, tx, thing{noun: "store"}, `SELECT published_size FROM store_meta`)
}

// SignedAfter is when the first checkpoint beyond a size was signed; zero: there
// is none.
func (tx *Tx) SignedAfter(ctx context.Context, size uint64) (time.Time, error) {
	at, err := value[int64](ctx, tx, thing{noun: "checkpoint"}, `SELECT at FROM checkpoint WHERE size > $1 ORDER BY size LIMIT 1`, size)
	if fault.CodeOf(err) == fault.NotFound {
		return time.Time{}, nil
	}
	return time.UnixMicro(at).UTC(), err
}
