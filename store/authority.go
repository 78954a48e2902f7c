package store

import (
	"context"
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
}

const authorityColumns = `id, name, kind, state, origin, region, zone, parent_id, cross_of, certificate, created_at`

func (a *Authority) columns() []any {
	return []any{
		&a.ID, &a.Name, &a.Kind, &a.State, &a.Origin, &a.Region, &a.Zone,
		optionalText{&a.ParentID}, optionalText{&a.CrossOf}, &a.Certificate, moment{&a.CreatedAt},
	}
}

// InsertAuthority records an authority. CreatedAt is now.
func (tx *Tx) InsertAuthority(ctx context.Context, a Authority) error {
	return tx.insert(ctx, thing{"authority", a.Name}, `
		INSERT INTO authority (`+authorityColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
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
