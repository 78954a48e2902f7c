package store

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"regexp"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store/migrations"
)

// check says whether the database holds a store that this version may serve, or
// makes it, and brings an older one up to date.
func (e *postgres) check(ctx context.Context, db *sql.DB, o Options) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := e.usable(ctx, conn); err != nil {
		return err
	}
	found, err := e.look(ctx, conn)
	if err != nil {
		return err
	}
	if o.Create {
		return e.create(ctx, db, conn, found)
	}
	if !found.ours {
		return e.notOurs(found)
	}
	current, err := served(ctx, conn, e.shown, o.TrustDomain)
	if err != nil {
		return err
	}
	if !current {
		if err := e.migrate(ctx, db); err != nil {
			return err
		}
	}
	return e.allowed(ctx, conn)
}

// usable refuses a database that can't hold a store.
func (e *postgres) usable(ctx context.Context, conn *sql.Conn) error {
	var encoding, readOnly, schema string
	var standby bool
	err := conn.QueryRowContext(ctx, `SELECT current_setting('server_encoding'), current_setting('transaction_read_only'),
		pg_is_in_recovery(), COALESCE(current_schema(), '')`).Scan(&encoding, &readOnly, &standby, &schema)
	switch {
	case err != nil:
		return err
	case standby:
		return fault.New(fault.Unavailable, "%s is a standby: it takes no writes", e.shown).
			WithRemedy("name the primary, or all hosts and target_session_attrs=read-write in the store's URL")
	case readOnly == "on":
		return fault.New(fault.Unavailable, "%s is read-only for its role", e.shown).
			WithRemedy("name another role, or: ALTER ROLE … RESET default_transaction_read_only")
	case encoding != "UTF8":
		return fault.New(fault.Invalid, "%s has encoding %s, a store wants UTF8", e.shown, encoding).
			WithRemedy("CREATE DATABASE rotunda ENCODING 'UTF8' TEMPLATE template0")
	case schema == "":
		return fault.New(fault.Invalid, "%s has no schema on its search_path that exists", e.shown).
			WithRemedy("CREATE SCHEMA …, or another search_path in the store's URL")
	}
	return nil
}

// contents is what a database holds where a store is to be.
type contents struct {
	ours    bool   // a store, whole or begun
	domain  string // its trust domain; empty: it is not made to its end
	foreign string // a table of something else
}

func (e *postgres) look(ctx context.Context, conn *sql.Conn) (contents, error) {
	var found contents
	rows, err := conn.QueryContext(ctx, `SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename`)
	if err != nil {
		return found, err
	}
	meta := false
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return found, errors.Join(err, rows.Close())
		}
		switch name {
		case "store_meta":
			meta = true
		case migrationTable:
			found.ours = true
		case migrationLock:
		default:
			found.foreign = name
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return found, err
	}
	if found.ours = found.ours && meta; found.ours {
		found.foreign = ""
		err = conn.QueryRowContext(ctx, `SELECT trust_domain FROM store_meta`).Scan(&found.domain)
	}
	return found, err
}

func (e *postgres) notOurs(found contents) error {
	if found.foreign != "" {
		return fault.New(fault.Invalid, "%s is not a Rotunda store: it holds table %s of something else", e.shown, found.foreign).
			WithRemedy("name the database that rotunda init or rotunda store migrate filled")
	}
	return fault.New(fault.NotFound, "%s holds no store", e.shown).WithRemedy("make one with: rotunda init --store, or rotunda store migrate --to")
}

// vacant says whether a store could be made in the database.
func (e *postgres) vacant(ctx context.Context, db *sql.DB) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := e.usable(ctx, conn); err != nil {
		return err
	}
	found, err := e.look(ctx, conn)
	if err != nil {
		return err
	}
	return e.mayMake(found)
}

// mayMake lets a store be made where nothing is, and one be taken up again that
// a crash left without a trust domain.
func (e *postgres) mayMake(found contents) error {
	switch {
	case found.foreign != "":
		return fault.New(fault.Conflict, "%s holds table %s of something else: nothing is made there", e.shown, found.foreign).
			WithRemedy("make a database for Rotunda alone, or name a schema of its own with search_path in the store's URL")
	case found.domain != "":
		return fault.New(fault.Conflict, "%s holds the store of trust domain %s already", e.shown, found.domain).
			WithRemedy("use it as it is, or make another database: one holds one installation; where an init was killed before its state directory appeared, its keys are lost: drop the database and make it anew")
	}
	return nil
}

// create makes the tables.
func (e *postgres) create(ctx context.Context, db *sql.DB, conn *sql.Conn, found contents) error {
	if err := e.mayMake(found); err != nil {
		return err
	}
	if err := e.migrate(ctx, db); err != nil {
		return err
	}
	_, err := conn.ExecContext(ctx, `UPDATE store_meta SET created_at = $1`, e.now().UnixMicro())
	return err
}

// allowed says whether the role may write every table.
func (e *postgres) allowed(ctx context.Context, conn *sql.Conn) error {
	var table string
	err := conn.QueryRowContext(ctx, `SELECT tablename FROM pg_tables WHERE schemaname = current_schema()
		AND NOT (has_table_privilege(quote_ident(schemaname) || '.' || quote_ident(tablename), 'SELECT')
			AND has_table_privilege(quote_ident(schemaname) || '.' || quote_ident(tablename), 'INSERT')
			AND has_table_privilege(quote_ident(schemaname) || '.' || quote_ident(tablename), 'UPDATE')
			AND has_table_privilege(quote_ident(schemaname) || '.' || quote_ident(tablename), 'DELETE'))
		AND tablename NOT IN ($1, $2) ORDER BY tablename LIMIT 1`, migrationTable, migrationLock).Scan(&table)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return fault.New(fault.Forbidden, "the role of %s may not write table %s", e.shown, table).
		WithRemedy("make it the owner of the tables, or: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA … TO …")
}

// collated are the migrations as PostgreSQL needs them. Its texts are to be
// compared byte by byte, as SQLite's and Go's are, whatever the database's
// collation is; and servers of the version before write meanwhile.
type collated struct{}

func (collated) Open(name string) (fs.File, error) {
	file, err := migrations.Files.Open(name)
	if err != nil || !strings.HasSuffix(name, ".sql") {
		return file, err
	}
	text, err := fs.ReadFile(migrations.Files, name)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &rewritten{File: file, Reader: strings.NewReader(first(collate(string(text))))}, nil
}

// rewritten is a file with another content.
type rewritten struct {
	fs.File
	*strings.Reader
}

func (r *rewritten) Read(into []byte) (int, error) { return r.Reader.Read(into) }

var textColumn = regexp.MustCompile(`(?m)^(\s+(?:ADD COLUMN )?\w+\s+|ALTER TABLE \w+ ADD COLUMN \w+\s+)TEXT\b`)

func collate(text string) string { return textColumn.ReplaceAllString(text, `${1}TEXT COLLATE "C"`) }

// first has a migration wait for the writers that are at work before it touches
// any table. They begin by locking the store's own row: one that held it and
// waited for a table, while the migration held that and came to the row at its
// end, would wait for it forever.
func first(text string) string {
	if strings.Contains(text, "CREATE TABLE store_meta") {
		return text
	}
	const begin = "-- +goose Up\n"
	return strings.Replace(text, begin, begin+"LOCK TABLE store_meta IN EXCLUSIVE MODE;\n", 1)
}
