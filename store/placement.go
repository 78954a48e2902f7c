package store

import (
	"context"
	"time"
)

// Placement is the place where a certificate lives: (intent, agent, instance).
type Placement struct {
	ID       string
	Intent   string
	AgentID  string
	Instance string
	Target   string // name of the target on the agent's host; may be empty
	Orphan   bool   // no intent wants it any more

	RenewThrough uint64 // rotate while the generation is not above this
	NewKey       bool   // and with a new key
	Attempt      uint64 // raised by rotate and resume
	ResumedAt    time.Time

	Report         []byte // as the agent sent it last; the store does not look into it
	ReportedAt     time.Time
	Generation     uint64    // in use; 0: none
	LastGeneration uint64    // the highest ever used here
	NotAfter       time.Time // of the certificate in use
	CreatedAt      time.Time
}

const placementColumns = `id, intent, agent_id, instance, target, orphan, renew_through, new_key, attempt, resumed_at,
	report, reported_at, generation, last_generation, not_after, created_at`

func (p *Placement) columns() []any {
	return []any{
		&p.ID, &p.Intent, &p.AgentID, &p.Instance, &p.Target, &p.Orphan, &p.RenewThrough, &p.NewKey, &p.Attempt,
		moment{&p.ResumedAt}, &p.Report, moment{&p.ReportedAt}, &p.Generation, &p.LastGeneration,
		moment{&p.NotAfter}, moment{&p.CreatedAt},
	}
}

// InsertPlacement records a placement at which nothing was reported yet.
// CreatedAt is now.
func (tx *Tx) InsertPlacement(ctx context.Context, p Placement) error {
	return tx.insert(ctx, thing{"placement", p.ID}, `
		INSERT INTO placement (id, intent, agent_id, instance, target, orphan, renew_through, new_key, attempt,
			generation, last_generation, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 0, $10)`,
		p.ID, p.Intent, p.AgentID, p.Instance, p.Target, p.Orphan, p.RenewThrough, p.NewKey, p.Attempt, micros(tx.Now))
}

// Placement returns the placement of the id.
func (tx *Tx) Placement(ctx context.Context, id string) (Placement, error) {
	return one[Placement](ctx, tx, thing{"placement", id}, `
		SELECT `+placementColumns+` FROM placement WHERE id = $1`, id)
}

// Placements returns all placements, orphans too, by intent, agent and
// instance.
func (tx *Tx) Placements(ctx context.Context) ([]Placement, error) {
	return list[Placement](ctx, tx, "placements", `
		SELECT `+placementColumns+` FROM placement ORDER BY intent, agent_id, instance`)
}

// AgentPlacements returns the placements on an agent's host, in the order of
// Placements.
func (tx *Tx) AgentPlacements(ctx context.Context, agentID string) ([]Placement, error) {
	return list[Placement](ctx, tx, "placements of an agent", `
		SELECT `+placementColumns+` FROM placement WHERE agent_id = $1 ORDER BY intent, agent_id, instance`, agentID)
}

// IntentPlacements returns the placements of an intent, in the order of
// Placements.
func (tx *Tx) IntentPlacements(ctx context.Context, intent string) ([]Placement, error) {
	return list[Placement](ctx, tx, "placements of an intent", `
		SELECT `+placementColumns+` FROM placement WHERE intent = $1 ORDER BY intent, agent_id, instance`, intent)
}

// SetPlacementOrphan says whether an intent wants the placement.
func (tx *Tx) SetPlacementOrphan(ctx context.Context, id string, orphan bool) error {
	return tx.set(ctx, thing{"placement", id}, `UPDATE placement SET orphan = $2 WHERE id = $1`, id, orphan)
}

// SetPlacementTarget says which target the placement is at.
func (tx *Tx) SetPlacementTarget(ctx context.Context, id, target string) error {
	return tx.set(ctx, thing{"placement", id}, `UPDATE placement SET target = $2 WHERE id = $1`, id, target)
}

// SetPlacementRotation asks for a new generation while the one in use is not
// above through. An earlier demand that is still open keeps its new key.
func (tx *Tx) SetPlacementRotation(ctx context.Context, id string, through uint64, newKey bool) error {
	return tx.set(ctx, thing{"placement", id}, `
		UPDATE placement SET attempt = attempt + 1,
			new_key = ($3 OR (new_key AND generation <= renew_through)),
			renew_through = CASE WHEN renew_through > $2 THEN renew_through ELSE $2 END
		WHERE id = $1`, id, through, newKey)
}

// ResumePlacement lets the placement try again: its failures until now count
// no more.
func (tx *Tx) ResumePlacement(ctx context.Context, id string) error {
	return tx.set(ctx, thing{"placement", id}, `
		UPDATE placement SET attempt = attempt + 1, resumed_at = $2 WHERE id = $1`, id, micros(tx.Now))
}

// SetPlacementReport records what the agent reports now, whole, and the parts
// of it that are asked for. The highest generation never goes back.
func (tx *Tx) SetPlacementReport(ctx context.Context, id string, report []byte, generation, last uint64, notAfter time.Time) error {
	if notAfter.Unix() <= 0 { // how an absent time comes off the wire
		notAfter = time.Time{}
	}
	return tx.set(ctx, thing{"placement", id}, `
		UPDATE placement SET report = $2, reported_at = $3, generation = $4,
			last_generation = CASE WHEN last_generation > $5 THEN last_generation ELSE $5 END, not_after = $6
		WHERE id = $1`, id, report, micros(tx.Now), generation, max(generation, last), micros(notAfter))
}
