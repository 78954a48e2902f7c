package store

import (
	"context"
	"time"
)

// TrustKind says what a change of trust replaces.
type TrustKind string

// The kinds of change.
const (
	RootChange    TrustKind = "root"    // a root, and the issuing authority under it
	IssuingChange TrustKind = "issuing" // an issuing authority; the root stays
)

// TrustChange is a change of trust, from one authority to another. How far it
// has come follows from other records.
type TrustChange struct {
	ID         string
	Kind       TrustKind
	OldRoot    string // ids of authorities; of an issuing change both roots are one
	NewRoot    string
	OldIssuing string
	NewIssuing string
	Bridge     string        // the new root's certificate under the old one; may be empty
	Carry      bool          // placements send the bridge along until it is dropped
	Close      bool          // once the old root is withdrawn, sessions that were opened under it are closed
	Standby    bool          // the new root stands by: OldRoot and OldIssuing are those of when it was prepared
	Pace       time.Duration // over which managed certificates are renewed; 0: as a rotation of so many
	Reissue    string        // how the renewals go, JSON; the store does not look into it
	Notice     time.Duration // how long the owners have known before it does anything
	Told       bool          // each owner has to have been reached before
	Reason     string
	BegunBy    string
	BegunAt    time.Time
	EndedAt    time.Time // zero: it is under way
}

const trustChangeColumns = `id, kind, old_root, new_root, old_issuing, new_issuing, bridge, carry, close, standby, pace, reissue, notice, told, reason, begun_by, begun_at, ended_at`

func (c *TrustChange) columns() []any {
	return []any{
		&c.ID, &c.Kind, &c.OldRoot, &c.NewRoot, &c.OldIssuing, &c.NewIssuing, optionalText{&c.Bridge},
		&c.Carry, &c.Close, &c.Standby, &c.Pace, &c.Reissue, &c.Notice, &c.Told, &c.Reason, &c.BegunBy, moment{&c.BegunAt}, moment{&c.EndedAt},
	}
}

// InsertTrustChange records a change that begins. BegunAt is now.
func (tx *Tx) InsertTrustChange(ctx context.Context, c TrustChange) error {
	return tx.insert(ctx, thing{"trust change", c.ID}, `
		INSERT INTO trust_change (`+trustChangeColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, NULL)`,
		c.ID, string(c.Kind), c.OldRoot, c.NewRoot, c.OldIssuing, c.NewIssuing, optional(c.Bridge),
		c.Carry, c.Close, c.Standby, int64(c.Pace), c.Reissue, int64(c.Notice), c.Told, c.Reason, c.BegunBy, micros(tx.Now))
}

// TrustChanges returns all changes, the newest first.
func (tx *Tx) TrustChanges(ctx context.Context) ([]TrustChange, error) {
	return list[TrustChange](ctx, tx, "trust changes", `
		SELECT `+trustChangeColumns+` FROM trust_change ORDER BY begun_at DESC, id DESC`)
}

// OpenTrustChanges returns those that have not ended, the oldest first.
func (tx *Tx) OpenTrustChanges(ctx context.Context) ([]TrustChange, error) {
	return list[TrustChange](ctx, tx, "open trust changes", `
		SELECT `+trustChangeColumns+` FROM trust_change WHERE ended_at IS NULL ORDER BY begun_at, id`)
}

// TrustChange returns the change of the id.
func (tx *Tx) TrustChange(ctx context.Context, id string) (TrustChange, error) {
	return one[TrustChange](ctx, tx, thing{"trust change", id}, `
		SELECT `+trustChangeColumns+` FROM trust_change WHERE id = $1`, id)
}

// EndTrustChange records that the change has ended; once only.
func (tx *Tx) EndTrustChange(ctx context.Context, id string) error {
	return tx.swap(ctx, thing{"trust change", id}, `
		UPDATE trust_change SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL`, id, micros(tx.Now))
}

// FailOver makes of a standby the change that it was kept for, of which c says
// the rest. BegunAt is now.
func (tx *Tx) FailOver(ctx context.Context, c TrustChange) error {
	return tx.swap(ctx, thing{"standby", c.ID}, `
		UPDATE trust_change
		SET standby = FALSE, old_root = $2, old_issuing = $3, bridge = $4, carry = $5, close = $6, pace = $7, reissue = $8, notice = $9, told = $10,
			reason = $11, begun_by = $12, begun_at = $13
		WHERE id = $1 AND standby AND ended_at IS NULL`,
		c.ID, c.OldRoot, c.OldIssuing, optional(c.Bridge), c.Carry, c.Close, int64(c.Pace), c.Reissue, int64(c.Notice), c.Told, c.Reason, c.BegunBy, micros(tx.Now))
}

// SetStandbyIssuing gives a standby another issuing authority.
func (tx *Tx) SetStandbyIssuing(ctx context.Context, id, issuing string) error {
	return tx.swap(ctx, thing{"standby", id}, `
		UPDATE trust_change SET new_issuing = $2 WHERE id = $1 AND standby AND ended_at IS NULL`, id, issuing)
}

// TrustDecisionKind is what an operator decided on a change.
type TrustDecisionKind string

// The decisions.
const (
	TrustAdvance TrustDecisionKind = "advance" // it may enter the phase
	TrustPause   TrustDecisionKind = "pause"
	TrustResume  TrustDecisionKind = "resume"
	TrustBack    TrustDecisionKind = "back"  // turn it back
	TrustForce   TrustDecisionKind = "force" // leave the phase although its gate holds
)

// TrustDecision is a dated act of an operator's on a change of trust.
type TrustDecision struct {
	ID       string
	ChangeID string
	Kind     TrustDecisionKind
	Phase    string
	Reason   string
	By       string
	At       time.Time
}

const trustDecisionColumns = `id, change_id, kind, phase, reason, by_whom, at`

func (d *TrustDecision) columns() []any {
	return []any{&d.ID, &d.ChangeID, &d.Kind, &d.Phase, &d.Reason, &d.By, moment{&d.At}}
}

// InsertTrustDecision records a decision. At is now.
func (tx *Tx) InsertTrustDecision(ctx context.Context, d TrustDecision) error {
	return tx.insert(ctx, thing{"trust decision", d.ID}, `
		INSERT INTO trust_decision (`+trustDecisionColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		d.ID, d.ChangeID, string(d.Kind), d.Phase, d.Reason, d.By, micros(tx.Now))
}

// TrustDecisions returns what was decided on a change, the oldest first.
func (tx *Tx) TrustDecisions(ctx context.Context, changeID string) ([]TrustDecision, error) {
	return list[TrustDecision](ctx, tx, "trust decisions", `
		SELECT `+trustDecisionColumns+` FROM trust_decision WHERE change_id = $1 ORDER BY at, id`, changeID)
}

// AgentAnchors says by which bundle an agent believes servers.
type AgentAnchors struct {
	AgentID string
	Digest  string // hex; empty: it has not said
	At      time.Time
}

func (a *AgentAnchors) columns() []any { return []any{&a.AgentID, &a.Digest, moment{&a.At}} }

// AgentAnchors returns what the active agents said last, by agent.
func (tx *Tx) AgentAnchors(ctx context.Context) ([]AgentAnchors, error) {
	return list[AgentAnchors](ctx, tx, "anchors of agents", `
		SELECT id, anchors, anchors_at FROM agent WHERE state = 'active' ORDER BY id`)
}

// SetAgentAnchors records by which bundle an agent believes servers from now
// on.
func (tx *Tx) SetAgentAnchors(ctx context.Context, id, digest string) error {
	return tx.set(ctx, thing{"agent", id}, `
		UPDATE agent SET anchors = $2, anchors_at = $3 WHERE id = $1`, id, digest, micros(tx.Now))
}
