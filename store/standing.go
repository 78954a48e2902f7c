package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/pki"
)

// Standing is all in the store that a decision to issue rests on. While it is
// the same, what was decided stays decided; so it is looked at again, whole,
// in the transaction that records a certificate.
type Standing struct {
	Intent   string
	Instance string
	Orphan   bool // no intent wants the placement any more

	AgentID    string // whose placement it is
	AgentState fleet.AgentState
	Labels     string // attested, as they are stored
	Region     string
	Zone       string

	DocumentState uint64
	Profile       string // that a rollout has used in the place of the intent's; empty: none
	Issuer        string // id of the authority that signs

	Revoked bool // the certificate that the caller showed; also when it has no record
}

// Standing returns what a certificate at a placement rests on, and the highest
// generation that was issued there; 0 when there is none. shown is the serial
// of the certificate that the caller showed; nil when it showed none.
func (tx *Tx) Standing(ctx context.Context, placementID string, shown *pki.Serial) (Standing, uint64, error) {
	what := thing{"placement", placementID}
	var serial any
	if shown != nil {
		serial = shown[:]
	}
	var s Standing
	var newest uint64
	err := tx.scan(ctx, func(rows *sql.Rows) (bool, error) {
		return false, rows.Scan(
			&s.Intent, &s.Instance, &s.Orphan, &s.AgentID, &s.AgentState, &s.Labels, &s.Region, &s.Zone,
			&s.DocumentState, &s.Profile, &s.Issuer, &s.Revoked, &newest)
	}, `
		SELECT p.intent, p.instance, p.orphan, a.id, a.state, a.labels, a.region, a.zone, m.document_state,
			COALESCE((SELECT profile FROM profile_override WHERE placement_id = $1 AND ended_at IS NULL), ''),
			COALESCE((SELECT MAX(id) FROM authority WHERE kind = 'issuing' AND state = 'active'), ''),
			$2 IS NOT NULL AND (shown.serial IS NULL OR shown.revoked_at IS NOT NULL),
			COALESCE((SELECT MAX(generation) FROM certificate WHERE placement_id = $1), 0)
		FROM placement p JOIN agent a ON a.id = p.agent_id CROSS JOIN store_meta m
		LEFT JOIN certificate shown ON shown.serial = $2
		WHERE p.id = $1`, placementID, serial)
	if errors.Is(err, errNoRow) {
		return s, 0, what.missing()
	}
	return s, newest, what.wrap(err)
}
