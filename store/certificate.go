package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// CertificateKind says what a certificate is for.
type CertificateKind string

// The kinds of certificate.
const (
	KindLeaf      CertificateKind = "leaf"      // of a placement
	KindAgent     CertificateKind = "agent"     // an agent's own
	KindServer    CertificateKind = "server"    // a Rotunda server's own
	KindOperator  CertificateKind = "operator"  // a person's
	KindCanary    CertificateKind = "canary"    // of a probe
	KindAuthority CertificateKind = "authority" // a CA's
	KindResponder CertificateKind = "responder" // of an OCSP responder
)

// Certificate is the record of one that was signed. Nothing leaves the server
// without it.
type Certificate struct {
	Serial      pki.Serial
	Kind        CertificateKind
	AuthorityID string // the issuer
	PlacementID string // of a leaf
	Generation  uint64 // of a leaf, from 1; (placement, generation) is unique
	AgentID     string
	Operator    string // name of an operator
	Intent      string
	Names       string // subject and alternative names, joined by spaces
	PolicyInput []byte // JSON of what the policy saw, to decide again
	Rule        string // the policy rule that allowed it
	SPKI        pki.SPKIHash
	Fingerprint pki.Fingerprint
	CRLShard    int
	NotBefore   time.Time
	NotAfter    time.Time
	IssuedAt    time.Time
	RevokedAt   time.Time // zero: not revoked
	Reason      string    // of the revocation
	DER         []byte
}

const certificateColumns = `serial, kind, authority_id, placement_id, generation, agent_id, operator, intent, names,
	policy_input, rule, spki, fingerprint, crl_shard, not_before, not_after, issued_at, revoked_at, reason, der`

func (c *Certificate) columns() []any {
	return []any{
		fixed(c.Serial[:]), &c.Kind, &c.AuthorityID, optionalText{&c.PlacementID}, optionalUint{&c.Generation},
		optionalText{&c.AgentID}, &c.Operator, &c.Intent, &c.Names,
		&c.PolicyInput, &c.Rule, fixed(c.SPKI[:]), fixed(c.Fingerprint[:]), &c.CRLShard,
		moment{&c.NotBefore}, moment{&c.NotAfter}, moment{&c.IssuedAt}, moment{&c.RevokedAt}, &c.Reason, &c.DER,
	}
}

var certificateTable = newTable("certificate", certificateColumns,
	"bytea", "text", "text", "text", "bigint", "text", "text", "text", "text",
	"text", "text", "bytea", "bytea", "bigint", "bigint", "bigint", "bigint", "bigint", "text", "bytea")

// InsertCertificates records certificates. A (placement, generation) that has
// one already is a Conflict.
func (tx *Tx) InsertCertificates(ctx context.Context, certificates ...Certificate) error {
	rows := make([][]any, len(certificates))
	for i, c := range certificates {
		if tx.session.terse {
			var err error
			if c, err = tx.packed(ctx, c); err != nil {
				return err
			}
		}
		rows[i] = c.row()
	}
	return tx.insertAll(ctx, of("certificate", "certificates", certificates, Certificate.name), certificateTable, rows)
}

func (c *Certificate) row() []any {
	return []any{
		c.Serial[:], string(c.Kind), c.AuthorityID, optional(c.PlacementID), optionalNumber(c.Generation),
		optional(c.AgentID), c.Operator, c.Intent, c.Names,
		optional(string(c.PolicyInput)), c.Rule, c.SPKI[:], c.Fingerprint[:], c.CRLShard,
		micros(c.NotBefore), micros(c.NotAfter), micros(c.IssuedAt), micros(c.RevokedAt), c.Reason, c.DER,
	}
}

func (c Certificate) name() any {
	if c.PlacementID != "" {
		return generation{c.PlacementID, c.Generation}
	}
	return c.Serial
}

// generation is what a leaf is known by.
type generation struct {
	placement string
	number    uint64
}

func (g generation) String() string {
	return fmt.Sprintf("of generation %d at placement %s", g.number, g.placement)
}

// Certificate returns the certificate of the serial.
func (tx *Tx) Certificate(ctx context.Context, serial pki.Serial) (Certificate, error) {
	return one[Certificate](ctx, tx, thing{"certificate", serial}, `
		SELECT `+certificateColumns+` FROM certificate WHERE serial = $1`, serial[:])
}

// Revoked says whether the certificate of the serial was revoked, and why.
func (tx *Tx) Revoked(ctx context.Context, serial pki.Serial) (revoked bool, reason string, err error) {
	err = tx.scan(ctx, func(rows *sql.Rows) (bool, error) { return false, rows.Scan(&revoked, &reason) }, `
		SELECT revoked_at IS NOT NULL, reason FROM certificate WHERE serial = $1`, serial[:])
	if errors.Is(err, errNoRow) {
		return false, "", thing{"certificate", serial}.missing()
	}
	return revoked, reason, thing{"certificate", serial}.wrap(err)
}

// PlacementCertificate returns the certificate of a generation at a placement.
func (tx *Tx) PlacementCertificate(ctx context.Context, placementID string, number uint64) (Certificate, error) {
	return one[Certificate](ctx, tx, thing{"certificate", generation{placementID, number}}, `
		SELECT `+certificateColumns+` FROM certificate WHERE placement_id = $1 AND generation = $2`, placementID, number)
}

// NewestPlacementCertificate returns the one of the highest generation at a
// placement.
func (tx *Tx) NewestPlacementCertificate(ctx context.Context, placementID string) (Certificate, error) {
	return one[Certificate](ctx, tx, thing{"certificate of placement", placementID}, `
		SELECT `+certificateColumns+` FROM certificate WHERE placement_id = $1
		ORDER BY generation DESC LIMIT 1`, placementID)
}

// PlacementCertificates returns all that were issued to a placement, the
// newest first.
func (tx *Tx) PlacementCertificates(ctx context.Context, placementID string) ([]Certificate, error) {
	return list[Certificate](ctx, tx, "certificates of a placement", `
		SELECT `+certificateColumns+` FROM certificate WHERE placement_id = $1
		ORDER BY generation DESC`, placementID)
}

// AgentIdentities returns the agent's own certificates, the newest first.
func (tx *Tx) AgentIdentities(ctx context.Context, agentID string) ([]Certificate, error) {
	return list[Certificate](ctx, tx, "identities of an agent", `
		SELECT `+certificateColumns+` FROM certificate WHERE agent_id = $1 AND kind = 'agent' AND placement_id IS NULL
		ORDER BY issued_at DESC, serial DESC`, agentID)
}

// NewestNamedCertificate returns the one that was issued last of those of a
// kind with the same names.
func (tx *Tx) NewestNamedCertificate(ctx context.Context, kind CertificateKind, names string) (Certificate, error) {
	return one[Certificate](ctx, tx, thing{string(kind) + " certificate of", names}, `
		SELECT `+certificateColumns+` FROM certificate WHERE kind = $1 AND names = $2
		ORDER BY issued_at DESC, serial DESC LIMIT 1`, string(kind), names)
}

// CertificateQuery chooses certificates. A field that is zero does not choose.
type CertificateQuery struct {
	Kind          CertificateKind
	AuthorityID   string
	AgentID       string // its own, and those of its canaries; its leaves are found by their placements
	Intent        string
	PlacementID   string
	SPKI          pki.SPKIHash
	Fingerprint   pki.Fingerprint
	ValidAfter    time.Time // not_after is later, and it is not revoked
	ExpiresBefore time.Time // not_after is earlier
	IssuedAfter   time.Time // issued then or later, before they ended
	Limit         int
}

func (q CertificateQuery) where() (string, []any) {
	var conditions []string
	var args []any
	add := func(condition string, arg any) {
		args = append(args, arg)
		conditions = append(conditions, fmt.Sprintf(condition, len(args)))
	}
	if q.Kind != "" {
		add("kind = $%d", string(q.Kind))
	}
	if q.AuthorityID != "" {
		add("authority_id = $%d", q.AuthorityID)
	}
	if q.AgentID != "" {
		add("agent_id = $%d AND placement_id IS NULL", q.AgentID)
	}
	if q.Intent != "" {
		add("intent = $%d", q.Intent)
	}
	if q.PlacementID != "" {
		add("placement_id = $%d", q.PlacementID)
	}
	if q.SPKI != (pki.SPKIHash{}) {
		add("spki = $%d", q.SPKI[:])
	}
	if q.Fingerprint != (pki.Fingerprint{}) {
		add("fingerprint = $%d", q.Fingerprint[:])
	}
	if !q.ValidAfter.IsZero() {
		add("not_after > $%d AND revoked_at IS NULL", micros(q.ValidAfter))
	}
	if !q.ExpiresBefore.IsZero() {
		add("not_after < $%d", micros(q.ExpiresBefore))
	}
	if !q.IssuedAfter.IsZero() {
		add("issued_at >= $%d", micros(q.IssuedAfter))
		add("not_after > $%d", micros(q.IssuedAfter)) // it follows, and has an index
	}
	text := ""
	if len(conditions) > 0 {
		text = " WHERE " + strings.Join(conditions, " AND ")
	}
	text += " ORDER BY not_after, serial"
	if q.Limit > 0 {
		args = append(args, q.Limit)
		text += fmt.Sprintf(" LIMIT $%d", len(args))
	}
	return text, args
}

// Certificates returns the certificates that the query chooses, those that
// expire first in front.
func (tx *Tx) Certificates(ctx context.Context, q CertificateQuery) ([]Certificate, error) {
	where, args := q.where()
	return list[Certificate](ctx, tx, "certificates", `SELECT `+certificateColumns+` FROM certificate`+where, args...)
}
