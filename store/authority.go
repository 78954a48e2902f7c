package store

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
)

// AuthorityKind is an authority's place in the chain.
type AuthorityKind string

// The kinds of authority.
const (
	RootAuthority    AuthorityKind = "root"
	IssuingAuthority AuthorityKind = "issuing"
)

// KeyOrigin says where an authority's key is.
type KeyOrigin string

// The origins of an authority's key.
const (
	KeyHere    KeyOrigin = "here"    // sealed in this store, or in a file of this server
	KeyOffline KeyOrigin = "offline" // ours, away from the servers
	KeyForeign KeyOrigin = "foreign" // somebody else's
)

// Authority is a CA: a root or an issuing one.
type Authority struct {
	ID          string
	Name        string // unique
	Kind        AuthorityKind
	State       fleet.AuthorityState
	Origin      KeyOrigin
	Region      string
	Zone        string
	ParentID    string // the authority that signed it; empty for a root
	CrossOf     string // the authority that this one is another certificate of; may be empty
	Certificate []byte // DER
	CreatedAt   time.Time
	Stopped     Stop // of an issuing authority; zero: it is in use
}

// Stop is an operator's word that an issuing authority is out of use.
type Stop struct {
	At  time.Time
	By  string
	Why string
}

const authorityColumns = `id, name, kind, state, origin, region, zone, parent_id, cross_of, certificate, created_at,
	stopped_at, stopped_by, stopped_why`

func (a *Authority) columns() []any {
	return []any{
		&a.ID, &a.Name, &a.Kind, &a.State, &a.Origin, &a.Region, &a.Zone,
		optionalText{&a.ParentID}, optionalText{&a.CrossOf}, &a.Certificate, moment{&a.CreatedAt},
		moment{&a.Stopped.At}, optionalText{&a.Stopped.By}, optionalText{&a.Stopped.Why},
	}
}

// InsertAuthority records an authority. CreatedAt is now.
func (tx *Tx) InsertAuthority(ctx context.Context, a Authority) error {
	return tx.insert(ctx, thing{"authority", a.Name}, `
		INSERT INTO authority (`+authorityColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, NULL, NULL, NULL)`,
		a.ID, a.Name, string(a.Kind), string(a.State), string(a.Origin), a.Region, a.Zone,
		optional(a.ParentID), optional(a.CrossOf), a.Certificate, micros(tx.Now))
}

// Authority returns the authority of the id.
func (tx *Tx) Authority(ctx context.Context, id string) (Authority, error) {
	return one[Authority](ctx, tx, thing{"authority", id}, `
		SELECT `+authorityColumns+` FROM authority WHERE id = $1`, id)
}

// AuthorityByName returns the authority of the name.
func (tx *Tx) AuthorityByName(ctx context.Context, name string) (Authority, error) {
	return one[Authority](ctx, tx, thing{"authority", name}, `
		SELECT `+authorityColumns+` FROM authority WHERE name = $1`, name)
}

// Authorities returns all authorities, the oldest first.
func (tx *Tx) Authorities(ctx context.Context) ([]Authority, error) {
	return list[Authority](ctx, tx, "authorities", `
		SELECT `+authorityColumns+` FROM authority ORDER BY created_at, id`)
}

// SetAuthorityState moves an authority from one state to the next. The caller
// asks the state itself whether that is legal.
func (tx *Tx) SetAuthorityState(ctx context.Context, id string, from, next fleet.AuthorityState) error {
	return tx.swap(ctx, thing{"authority", id}, `
		UPDATE authority SET state = $3 WHERE id = $1 AND state = $2`, id, string(from), string(next))
}

// StopAuthority puts an active issuing authority out of use.
func (tx *Tx) StopAuthority(ctx context.Context, id, by, why string) error {
	return tx.swap(ctx, thing{"authority", id}, `
		UPDATE authority SET stopped_at = $2, stopped_by = $3, stopped_why = $4
		WHERE id = $1 AND kind = 'issuing' AND state = 'active' AND stopped_at IS NULL`, id, micros(tx.Now), by, why)
}

// StartAuthority puts one that was stopped in use again.
func (tx *Tx) StartAuthority(ctx context.Context, id string) error {
	return tx.swap(ctx, thing{"authority", id}, `
		UPDATE authority SET stopped_at = NULL, stopped_by = NULL, stopped_why = NULL
		WHERE id = $1 AND stopped_at IS NOT NULL`, id)
}

// SigningAuthority returns the id of the issuing authority that signs for a region:
// its own; where that is none of those that can, the one of no region; else the first
// by name. unable are the ids of those by which the caller can't sign; empty: none can.
func (tx *Tx) SigningAuthority(ctx context.Context, region string, unable []string) (id string, err error) {
	err = tx.scan(ctx, func(rows *sql.Rows) (bool, error) { return false, rows.Scan(&id) },
		`SELECT COALESCE(`+signingText("$1", "$2")+`, '')`, region, strings.Join(unable, " "))
	if err != nil {
		return "", thing{noun: "authorities"}.wrap(err)
	}
	return id, nil
}

// signingText is the choice of SigningAuthority, as a term of a statement. A look at
// the index of regions is all that most take; the names are put in order for none
// but those who have neither.
func signingText(region, unable string) string {
	one := func(rest string) string {
		return `(SELECT signing.id FROM authority signing
			WHERE signing.kind = 'issuing' AND signing.state = 'active' AND signing.stopped_at IS NULL
				AND (` + unable + ` = '' OR ' ' || ` + unable + ` || ' ' NOT LIKE '% ' || signing.id || ' %')` + rest + `)`
	}
	return `COALESCE(` + one(` AND signing.region = `+region) + `, ` + one(` AND signing.region = ''`) + `, ` + one(` ORDER BY signing.name LIMIT 1`) + `)`
}
