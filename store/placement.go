package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
)

// Placement is the place where a certificate lives: (intent, agent, instance).
type Placement struct {
	ID       string
	Intent   string
	AgentID  string
	Instance string
	Target   string // name of the target on the agent's host; may be empty
	Cluster  string // that the target is a member of; may be empty
	Orphan   bool   // no intent wants it any more

	RenewThrough uint64    // rotate while the generation is not above this
	RenewFrom    time.Time // and not before; zero: at once
	NewKey       bool      // and with a new key
	Attempt      uint64    // raised by rotate and resume
	ResumedAt    time.Time

	Report         []byte // as the agent sent it last; the store does not look into it
	ReportedAt     time.Time
	Generation     uint64    // in use; 0: none
	LastGeneration uint64    // the highest ever used here
	NotAfter       time.Time // of the certificate in use
	FailedAt       time.Time // the server's time when the failure that stands was reported; zero: none
	AsksSlot       uint64    // the revision that waits for leave of its cluster; 0: none
	AskedAt        time.Time // since when it asks, by the server's clock
	CreatedAt      time.Time
}

// RotationOpen says whether a rotation was asked for and has not come about.
func (p Placement) RotationOpen() bool { return p.RenewThrough > 0 && p.Generation <= p.RenewThrough }

const placementColumns = `id, intent, agent_id, instance, target, cluster, orphan, renew_through, renew_from, new_key, attempt, resumed_at,
	report, reported_at, generation, last_generation, not_after, failed_at, asks_slot, asked_at, created_at`

func (p *Placement) columns() []any {
	return []any{
		&p.ID, &p.Intent, &p.AgentID, &p.Instance, &p.Target, optionalText{&p.Cluster}, &p.Orphan,
		&p.RenewThrough, moment{&p.RenewFrom}, &p.NewKey, &p.Attempt,
		moment{&p.ResumedAt}, &p.Report, moment{&p.ReportedAt}, &p.Generation, &p.LastGeneration,
		moment{&p.NotAfter}, moment{&p.FailedAt}, &p.AsksSlot, moment{&p.AskedAt}, moment{&p.CreatedAt},
	}
}

// InsertPlacement records a placement at which nothing was reported yet.
// CreatedAt is now.
func (tx *Tx) InsertPlacement(ctx context.Context, p Placement) error {
	return tx.insert(ctx, thing{"placement", p.ID}, `
		INSERT INTO placement (id, intent, agent_id, instance, target, cluster, orphan, renew_through, new_key, attempt,
			generation, last_generation, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, 0, $11)`,
		p.ID, p.Intent, p.AgentID, p.Instance, p.Target, p.Cluster, p.Orphan, p.RenewThrough, p.NewKey, p.Attempt, micros(tx.Now))
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

// PlacementsAfter returns the placements whose ids come after that one, at most
// limit of them. Empty: from the first.
func (tx *Tx) PlacementsAfter(ctx context.Context, id string, limit int) ([]Placement, error) {
	return list[Placement](ctx, tx, "placements", `
		SELECT `+placementColumns+` FROM placement WHERE id > $1 ORDER BY id LIMIT $2`, id, limit)
}

// PlacementsBeyond returns the placements that come after the key in the order of
// Placements, at most limit of them.
func (tx *Tx) PlacementsBeyond(ctx context.Context, key fleet.PlacementKey, limit int) ([]Placement, error) {
	return list[Placement](ctx, tx, "placements", `
		SELECT `+placementColumns+` FROM placement WHERE (intent, agent_id, instance) > ($1, $2, $3)
		ORDER BY intent, agent_id, instance LIMIT $4`, string(key.Intent), key.Agent, string(key.Instance), limit)
}

// IntentPlacementsBeyond is PlacementsBeyond for those of the key's intent.
func (tx *Tx) IntentPlacementsBeyond(ctx context.Context, key fleet.PlacementKey, limit int) ([]Placement, error) {
	return list[Placement](ctx, tx, "placements of an intent", `
		SELECT `+placementColumns+` FROM placement WHERE intent = $1 AND (agent_id, instance) > ($2, $3)
		ORDER BY intent, agent_id, instance LIMIT $4`, string(key.Intent), key.Agent, string(key.Instance), limit)
}

// SignedBy counts the certificates in use at the placements whose ids are not
// before the first and not after the last, by region of their agents and id of
// their authority.
func (tx *Tx) SignedBy(ctx context.Context, first, last string) (map[[2]string]int, error) {
	counts := map[[2]string]int{}
	err := tx.scan(ctx, func(rows *sql.Rows) (bool, error) {
		var key [2]string
		var n int
		err := rows.Scan(&key[0], &key[1], &n)
		counts[key] = n
		return true, err
	}, `
		SELECT a.region, c.authority_id, COUNT(*) FROM placement p
		JOIN agent a ON a.id = p.agent_id
		JOIN certificate c ON c.placement_id = p.id AND c.generation = p.generation
		WHERE p.id BETWEEN $1 AND $2 AND NOT p.orphan AND p.generation > 0
		GROUP BY a.region, c.authority_id`, first, last)
	if err != nil && !errors.Is(err, errNoRow) {
		return nil, fmt.Errorf("count certificates by authority: %w", err)
	}
	return counts, nil
}

// AgentPlacements returns the placements on an agent's host, in the order of
// Placements.
func (tx *Tx) AgentPlacements(ctx context.Context, agentID string) ([]Placement, error) {
	return list[Placement](ctx, tx, "placements of an agent", `
		SELECT `+placementColumns+` FROM placement WHERE agent_id = $1 ORDER BY intent, agent_id, instance`, agentID)
}

// PlacementsOfActive returns the placements of the active agents whose ids are not
// before the first and not after the last, those of an agent together.
func (tx *Tx) PlacementsOfActive(ctx context.Context, first, last string) ([]Placement, error) {
	return list[Placement](ctx, tx, "placements of agents", `
		SELECT `+placementColumns+` FROM placement
		WHERE agent_id IN (SELECT id FROM agent WHERE id BETWEEN $1 AND $2 AND state = 'active') ORDER BY agent_id, id`, first, last)
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

// SetPlacementTarget says which target the placement is at, and which cluster
// that is a member of.
func (tx *Tx) SetPlacementTarget(ctx context.Context, id, target, cluster string) error {
	return tx.set(ctx, thing{"placement", id}, `UPDATE placement SET target = $2, cluster = $3 WHERE id = $1`, id, target, cluster)
}

// UnplacedTargets says whether there are placements from before the store knew
// clusters, for which SetPlacementTarget was never called.
func (tx *Tx) UnplacedTargets(ctx context.Context) (bool, error) {
	n, err := value[int64](ctx, tx, thing{noun: "placements"}, `SELECT COUNT(*) FROM (SELECT 1 FROM placement WHERE cluster IS NULL LIMIT 1) AS one`)
	return n > 0, err
}

// SetPlacementRotation asks for a new generation while the one in use is not
// above through, to begin at from; zero: at once. An earlier demand that is
// still open keeps its new key, and its time where that is earlier.
func (tx *Tx) SetPlacementRotation(ctx context.Context, id string, through uint64, newKey bool, from time.Time) error {
	return tx.set(ctx, thing{"placement", id}, `
		UPDATE placement SET attempt = attempt + 1,
			new_key = ($3 OR (new_key AND generation <= renew_through)),
			renew_from = CASE WHEN renew_through > 0 AND generation <= renew_through AND (renew_from IS NULL OR renew_from < $4)
				THEN renew_from ELSE $4 END,
			renew_through = CASE WHEN renew_through > $2 THEN renew_through ELSE $2 END
		WHERE id = $1`, id, through, newKey, micros(from))
}

// ResumePlacement lets the placement try again: its failures until now count
// no more.
func (tx *Tx) ResumePlacement(ctx context.Context, id string) error {
	return tx.set(ctx, thing{"placement", id}, `
		UPDATE placement SET attempt = attempt + 1, resumed_at = $2 WHERE id = $1`, id, micros(tx.Now))
}

// Reported is what an agent reports of a placement now: whole, and the parts
// of it that are asked for.
type Reported struct {
	Report     []byte
	Generation uint64
	Last       uint64 // the highest ever used
	NotAfter   time.Time
	FailedAt   time.Time // zero: no failure stands
	AsksSlot   uint64
	AskedAt    time.Time // zero with AsksSlot 0
}

// SetPlacementReport records a report. The highest generation never goes back.
func (tx *Tx) SetPlacementReport(ctx context.Context, id string, r Reported) error {
	if r.NotAfter.Unix() <= 0 { // how an absent time comes off the wire
		r.NotAfter = time.Time{}
	}
	return tx.set(ctx, thing{"placement", id}, `
		UPDATE placement SET report = $2, reported_at = $3, generation = $4,
			last_generation = CASE WHEN last_generation > $5 THEN last_generation ELSE $5 END, not_after = $6,
			failed_at = $7, asks_slot = $8, asked_at = $9
		WHERE id = $1`, id, r.Report, micros(tx.Now), r.Generation, max(r.Generation, r.Last), micros(r.NotAfter),
		micros(r.FailedAt), r.AsksSlot, micros(r.AskedAt))
}

// SetPlacementAsked puts a placement that asks for a slot behind those that
// asked before now.
func (tx *Tx) SetPlacementAsked(ctx context.Context, id string) error {
	return tx.set(ctx, thing{"placement", id}, `
		UPDATE placement SET asked_at = CASE WHEN asks_slot > 0 THEN CAST($2 AS BIGINT) ELSE NULL END WHERE id = $1`, id, micros(tx.Now))
}

// FailedPlacement returns the placement of an intent that failed first of those
// at which a failure stands that came after they were resumed last.
func (tx *Tx) FailedPlacement(ctx context.Context, intent string) (Placement, error) {
	return one[Placement](ctx, tx, thing{"failed placement of intent", intent}, `
		SELECT `+placementColumns+` FROM placement
		WHERE intent = $1 AND failed_at IS NOT NULL AND NOT orphan AND (resumed_at IS NULL OR failed_at > resumed_at)
		ORDER BY failed_at, id LIMIT 1`, intent)
}

// ClusterPlacements returns the placements at the members of a cluster that an
// intent wants, by id.
func (tx *Tx) ClusterPlacements(ctx context.Context, cluster string) ([]Placement, error) {
	return list[Placement](ctx, tx, "placements of a cluster", `
		SELECT `+placementColumns+` FROM placement
		WHERE cluster = $1 AND cluster <> '' AND NOT orphan ORDER BY id`, cluster)
}

// ClusterMembers returns the targets of a cluster's placements, each once, by
// agent and name.
func (tx *Tx) ClusterMembers(ctx context.Context, cluster string) ([]Target, error) {
	return list[Target](ctx, tx, "members of a cluster", `
		SELECT DISTINCT agent_id, target, '' AS kind, cluster FROM placement
		WHERE cluster = $1 AND cluster <> '' AND NOT orphan ORDER BY agent_id, target`, cluster)
}

// AskingClusters returns the clusters that some placement asks for leave of, by
// name.
func (tx *Tx) AskingClusters(ctx context.Context) ([]string, error) {
	var names []string
	err := tx.scan(ctx, func(rows *sql.Rows) (bool, error) {
		var name string
		err := rows.Scan(&name)
		names = append(names, name)
		return true, err
	}, `SELECT DISTINCT cluster FROM placement WHERE asks_slot > 0 AND cluster <> '' AND NOT orphan ORDER BY cluster`)
	if err != nil && !errors.Is(err, errNoRow) {
		return nil, fmt.Errorf("list asking clusters: %w", err)
	}
	return names, nil
}
