package store

import (
	"context"
	"database/sql"
	"strings"

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
	Issuer        string // id of the authority that signs for the region: see SigningAuthority
}

// Stood is a Standing, and the highest generation that was issued at its
// placement; 0 when there is none.
type Stood struct {
	Standing
	Newest uint64
}

// Standings returns what certificates at placements rest on, by the placements'
// ids; those that do not exist are left out. unable are the authorities by which
// the caller can't sign.
func (tx *Tx) Standings(ctx context.Context, placementIDs []string, unable ...string) (map[string]Stood, error) {
	found := make(map[string]Stood, len(placementIDs))
	err := tx.scanAll(ctx, func(rows *sql.Rows) error {
		var id string
		var s Stood
		err := rows.Scan(
			&id, &s.Intent, &s.Instance, &s.Orphan, &s.AgentID, &s.AgentState, &s.Labels, &s.Region, &s.Zone,
			&s.DocumentState, &s.Profile, &s.Issuer, &s.Newest)
		found[id] = s
		return err
	}, `
		SELECT p.id, p.intent, p.instance, p.orphan, a.id, a.state, a.labels, a.region, a.zone, m.document_state,
			COALESCE((SELECT profile FROM profile_override WHERE placement_id = p.id AND ended_at IS NULL), ''),
			COALESCE(`+signingText("a.region", "$1")+`, ''),
			COALESCE((SELECT MAX(generation) FROM certificate WHERE placement_id = p.id), 0)
		FROM placement p JOIN agent a ON a.id = p.agent_id CROSS JOIN store_meta m
		WHERE p.id IN `, anys(placementIDs), strings.Join(unable, " "))
	return found, thing{noun: "placements"}.wrap(err)
}

// Unrevoked returns which of the certificates are recorded and not revoked.
func (tx *Tx) Unrevoked(ctx context.Context, serials []pki.Serial) (map[pki.Serial]bool, error) {
	found := make(map[pki.Serial]bool, len(serials))
	keys := make([]any, len(serials))
	for i := range serials {
		keys[i] = serials[i][:]
	}
	err := tx.scanAll(ctx, func(rows *sql.Rows) error {
		var serial pki.Serial
		err := rows.Scan(fixed(serial[:]))
		found[serial] = true
		return err
	}, `SELECT serial FROM certificate WHERE revoked_at IS NULL AND serial IN `, keys)
	return found, thing{noun: "certificates"}.wrap(err)
}
