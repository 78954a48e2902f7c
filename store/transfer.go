package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// tables are all that a store holds, each behind those that it refers to.
var tables = []string{
	"store_meta", "authority", "authority_key", "secret", "certificate", "bundle_anchor", "bundle",
	"document", "document_revision", "agent", "token", "target", "cluster", "placement", "slot", "adoption",
	"evidence_latest", "evidence", "decision", "change", "lease", "audit_entry", "audit_pending", "audit_tile", "checkpoint",
	"trust_change", "trust_decision", "rollout", "rollout_part", "rollout_decision", "rollout_answer", "rollout_turn",
	"notice", "profile_override", "crl", "crl_entries", "crl_pending", "revocation", "revocation_part",
	"audit_sink", "rolled_back", "testimony", "emergency_window", "emergency_credential", "staple", "compromise",
	"archive", "log_witness", "cosignature", "server",
}

// Tables are the names of all tables that a store has.
func Tables() []string { return slices.Clone(tables) }

// Copied is how far a transfer has come.
type Copied struct {
	Table string
	Rows  uint64 // of all tables so far
}

// transfer copies every row that from shows into the empty tables at to, and
// compares what is there then with what was read.
func transfer(ctx context.Context, from *Tx, to *sql.Conn, each func(Copied)) error {
	var all Copied
	for i := range tables { // what migrations have put there
		table := tables[len(tables)-1-i]
		if _, err := to.ExecContext(ctx, "DELETE FROM "+table); err != nil {
			return fmt.Errorf("table %s: %w", table, err)
		}
	}
	for _, table := range tables {
		read, err := copyTable(ctx, from, to, table, func() {
			if all.Rows++; all.Rows%1000 == 0 {
				each(all)
			}
		})
		if err != nil {
			return fmt.Errorf("copy table %s: %w", table, err)
		}
		written, err := tallyOf(ctx, to, table, read.columns)
		if err != nil {
			return fmt.Errorf("check table %s: %w", table, err)
		}
		if written != read.tally {
			return fault.New(fault.Internal, "table %s: %d rows were read and %d are there, or they differ: nothing is kept", table, read.rows, written.rows).
				WithRemedy("try again; if it stays so, keep both and tell Rotunda's authors")
		}
		all.Table = table
		each(all)
	}
	return nil
}

// tally tells the rows of a table from those of another, in whatever order they
// are read: their number and the sum of their hashes.
type tally struct {
	rows uint64
	sum  [sha256.Size]byte
}

func (t *tally) add(values []any) {
	t.rows++
	hash := sha256.New()
	for _, value := range values {
		writeValue(hash.Write, value)
	}
	sum := new(big.Int).Add(new(big.Int).SetBytes(t.sum[:]), new(big.Int).SetBytes(hash.Sum(nil)))
	modulus := new(big.Int).Lsh(big.NewInt(1), 8*sha256.Size)
	sum.Mod(sum, modulus).FillBytes(t.sum[:])
}

// writeValue writes a value so that no two differ in nothing. A truth is 0 or 1
// in SQLite, and bytes may be a text there.
func writeValue(write func([]byte) (int, error), value any) {
	put := func(kind byte, content []byte) {
		length := binary.BigEndian.AppendUint64([]byte{kind}, uint64(len(content)))
		_, _ = write(append(length, content...)) // a hash takes all
	}
	switch v := value.(type) {
	case nil:
		put('n', nil)
	case bool:
		number := int64(0)
		if v {
			number = 1
		}
		put('i', binary.BigEndian.AppendUint64(nil, uint64(number)))
	case int64:
		put('i', binary.BigEndian.AppendUint64(nil, uint64(v)))
	case string:
		put('t', []byte(v))
	case []byte:
		put('t', v)
	default:
		put('?', fmt.Appendf(nil, "%T %v", v, v))
	}
}

type readTable struct {
	tally
	columns []string
}

// copyTable copies a table in the order in which it is read.
func copyTable(ctx context.Context, from *Tx, to *sql.Conn, table string, each func()) (readTable, error) {
	rows, err := from.session.conn.QueryContext(ctx, "SELECT * FROM "+table)
	if err != nil {
		return readTable{}, err
	}
	defer rows.Close()
	source := &rowSource{rows: rows, each: each}
	if err := source.describe(); err != nil {
		return readTable{}, err
	}
	err = to.Raw(func(driver any) error {
		if conn, ok := driver.(*stdlib.Conn); ok {
			_, err := conn.Conn().CopyFrom(ctx, pgx.Identifier{table}, source.columns, source)
			return err
		}
		return errNotPostgres
	})
	if errors.Is(err, errNotPostgres) {
		err = insertAll(ctx, to, table, source)
	}
	return readTable{source.tally, source.columns}, errors.Join(err, rows.Close())
}

var errNotPostgres = errors.New("not PostgreSQL")

func insertAll(ctx context.Context, to *sql.Conn, table string, source *rowSource) error {
	marks := make([]string, len(source.columns))
	for i := range marks {
		marks[i] = fmt.Sprintf("$%d", i+1)
	}
	insert, err := to.PrepareContext(ctx, "INSERT INTO "+table+" ("+strings.Join(source.columns, ", ")+") VALUES ("+strings.Join(marks, ", ")+")")
	if err != nil {
		return err
	}
	defer insert.Close()
	// Rows of one table may refer to later ones; at the commit all are there.
	if _, err := to.ExecContext(ctx, "PRAGMA defer_foreign_keys = 1"); err != nil {
		return err
	}
	for source.Next() {
		values, err := source.Values()
		if err == nil {
			_, err = insert.ExecContext(ctx, values...)
		}
		if err != nil {
			return err
		}
	}
	return source.Err()
}

// rowSource hands rows on, and tallies them.
type rowSource struct {
	tally

	rows    *sql.Rows
	columns []string
	truths  []bool // which columns hold a truth, that SQLite keeps as 0 or 1
	each    func()
	failed  error
}

func (s *rowSource) describe() error {
	types, err := s.rows.ColumnTypes()
	for _, column := range types {
		s.columns = append(s.columns, column.Name())
		s.truths = append(s.truths, column.DatabaseTypeName() == "BOOLEAN")
	}
	return err
}

func (s *rowSource) Next() bool { return s.rows.Next() }

func (s *rowSource) Values() ([]any, error) {
	values := make([]any, len(s.columns))
	into := make([]any, len(s.columns))
	for i := range values {
		into[i] = &values[i]
	}
	if s.failed = s.rows.Scan(into...); s.failed != nil {
		return nil, s.failed
	}
	for i, value := range values {
		if empty, ok := value.([]byte); ok && empty == nil {
			values[i] = []byte{} // what has no bytes is not NULL
		}
	}
	s.add(values)
	for i, truth := range s.truths {
		if number, ok := values[i].(int64); ok && truth {
			values[i] = number != 0
		}
	}
	if s.each != nil {
		s.each()
	}
	return values, nil
}

func (s *rowSource) Err() error { return errors.Join(s.failed, s.rows.Err()) }

func tallyOf(ctx context.Context, conn *sql.Conn, table string, columns []string) (tally, error) {
	rows, err := conn.QueryContext(ctx, "SELECT "+strings.Join(columns, ", ")+" FROM "+table)
	if err != nil {
		return tally{}, err
	}
	defer rows.Close()
	source := &rowSource{rows: rows, columns: columns}
	for source.Next() {
		if _, err := source.Values(); err != nil {
			return tally{}, err
		}
	}
	return source.tally, source.Err()
}
