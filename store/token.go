package store

import (
	"context"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/pki"
)

// Token is leave to enrol one agent. The store knows a digest of its secret.
type Token struct {
	ID          string
	SecretHash  [32]byte // SHA-256
	Labels      map[string]string
	Region      string
	Zone        string
	State       fleet.TokenState // as written: an open one may have expired
	RejoinAgent string           // the agent that it gives its identity back to; may be empty
	CreatedBy   string
	CreatedAt   time.Time
	ExpiresAt   time.Time
	UsedAt      time.Time
	AgentID     string       // that used it
	SPKI        pki.SPKIHash // of the key that used it
}

const tokenColumns = `id, secret_hash, labels, region, zone, state, rejoin_agent, created_by,
	created_at, expires_at, used_at, agent_id, spki`

func (t *Token) columns() []any {
	return []any{
		&t.ID, fixed(t.SecretHash[:]), labelMap{&t.Labels}, &t.Region, &t.Zone, &t.State, &t.RejoinAgent, &t.CreatedBy,
		moment{&t.CreatedAt}, moment{&t.ExpiresAt}, moment{&t.UsedAt}, &t.AgentID, fixed(t.SPKI[:]),
	}
}

// InsertToken records a token.
func (tx *Tx) InsertToken(ctx context.Context, t Token) error {
	return tx.insert(ctx, thing{"token", t.ID}, `
		INSERT INTO token (`+tokenColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		t.ID, t.SecretHash[:], labels(t.Labels), t.Region, t.Zone, string(t.State), t.RejoinAgent, t.CreatedBy,
		micros(t.CreatedAt), micros(t.ExpiresAt), micros(t.UsedAt), t.AgentID, optionalBytes(t.SPKI[:]))
}

// Token returns the token of the id.
func (tx *Tx) Token(ctx context.Context, id string) (Token, error) {
	return one[Token](ctx, tx, thing{"token", id}, `SELECT `+tokenColumns+` FROM token WHERE id = $1`, id)
}

// Tokens returns all tokens, the newest first.
func (tx *Tx) Tokens(ctx context.Context) ([]Token, error) {
	return list[Token](ctx, tx, "tokens", `SELECT `+tokenColumns+` FROM token ORDER BY created_at DESC, id`)
}

// UseToken spends an open token that has not expired: of any number that try,
// one succeeds and the others get a Conflict.
func (tx *Tx) UseToken(ctx context.Context, id, agentID string, spki pki.SPKIHash) error {
	return tx.swap(ctx, thing{"open token", id}, `
		UPDATE token SET state = 'used', used_at = $2, agent_id = $3, spki = $4
		WHERE id = $1 AND state = 'open' AND expires_at > $2`, id, micros(tx.Now), agentID, spki[:])
}

// RevokeToken makes an open token useless.
func (tx *Tx) RevokeToken(ctx context.Context, id string) error {
	return tx.swap(ctx, thing{"open token", id}, `
		UPDATE token SET state = 'revoked' WHERE id = $1 AND state = 'open'`, id)
}
