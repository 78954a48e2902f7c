package store

import (
	"context"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// SlotState is the status of a slot. Time alone frees none: one that was not
// begun lapses when its agent has said that it can't begin any more.
//
//	granted ──begin──▶ begun ──end──▶ ended
//	   │                 ▲               ▲
//	   │               begin             │
//	   ├──withdraw──▶ lapsed             │
//	   └─────────────────end─────────────┘
//
// One that ended without having begun may be begun late, as one that lapsed.
type SlotState string

// The states of a slot.
const (
	SlotGranted SlotState = "granted"
	SlotBegun   SlotState = "begun"
	SlotEnded   SlotState = "ended"
	SlotLapsed  SlotState = "lapsed"
)

// Slot is leave to take one member of a cluster out of its steady state.
type Slot struct {
	ID          string
	Cluster     string
	AgentID     string
	Target      string
	PlacementID string
	Revision    uint64 // that it was asked for
	State       SlotState
	GrantedAt   time.Time
	StartBy     time.Time
	WithdrawnAt time.Time // it is not shown to its agent any more; zero: it is
	BegunAt     time.Time
	EndedAt     time.Time
	EndedBy     string // agent, observer or operator
}

const slotColumns = `id, cluster, agent_id, target, placement_id, revision, state, granted_at, start_by, withdrawn_at, begun_at, ended_at, ended_by`

func (s *Slot) columns() []any {
	return []any{
		&s.ID, &s.Cluster, &s.AgentID, &s.Target, &s.PlacementID, &s.Revision, &s.State,
		moment{&s.GrantedAt}, moment{&s.StartBy}, moment{&s.WithdrawnAt}, moment{&s.BegunAt}, moment{&s.EndedAt}, &s.EndedBy,
	}
}

// GrantSlot grants a slot if fewer than most members of its cluster hold one,
// this member aside, and none is held by this placement; else it is a Conflict.
// The cluster's row is changed first: a grant at another server waits for this
// one there, and sees it then.
func (tx *Tx) GrantSlot(ctx context.Context, s Slot, most int) error {
	if _, err := tx.exec(ctx, `
		INSERT INTO cluster (name, grants) VALUES ($1, 1)
		ON CONFLICT (name) DO UPDATE SET grants = cluster.grants + 1`, s.Cluster); err != nil {
		return thing{"cluster", s.Cluster}.wrap(err)
	}
	held, err := tx.HeldSlots(ctx, s.Cluster)
	if err != nil {
		return err
	}
	type member struct{ agent, target string }
	away := map[member]bool{}
	for _, one := range held {
		away[member{one.AgentID, one.Target}] = true
	}
	delete(away, member{s.AgentID, s.Target})
	if len(away) >= most {
		return fault.New(fault.Conflict, "cluster %s has %d of %d members out of their steady state", s.Cluster, len(away), most).
			WithRemedy("wait until one ends")
	}
	return tx.insert(ctx, thing{"slot of placement", s.PlacementID}, `
		INSERT INTO slot (`+slotColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, 'granted', $7, $8, NULL, NULL, NULL, '')`,
		s.ID, s.Cluster, s.AgentID, s.Target, s.PlacementID, s.Revision, micros(tx.Now), micros(s.StartBy))
}

// InsertBegunSlot records a slot that its agent has begun with, and that this
// store has no record of: it was restored from a copy that is older.
func (tx *Tx) InsertBegunSlot(ctx context.Context, s Slot) error {
	return tx.insert(ctx, thing{"slot", s.ID}, `
		INSERT INTO slot (`+slotColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, 'begun', $7, $7, NULL, $7, NULL, '')`,
		s.ID, s.Cluster, s.AgentID, s.Target, s.PlacementID, s.Revision, micros(tx.Now))
}

// BeginSlot records that the work began. That is a fact, so one that lapsed
// can begin too, and one that was released unbegun.
func (tx *Tx) BeginSlot(ctx context.Context, id string) error {
	return tx.swap(ctx, thing{"granted slot", id}, `
		UPDATE slot SET state = 'begun', begun_at = $2, ended_at = NULL, ended_by = ''
		WHERE id = $1 AND state <> 'begun' AND begun_at IS NULL`, id, micros(tx.Now))
}

// EndSlot records that the member is back in its steady state, and who says so.
func (tx *Tx) EndSlot(ctx context.Context, id, by string) error {
	return tx.swap(ctx, thing{"held slot", id}, `
		UPDATE slot SET state = 'ended', ended_at = $2, ended_by = $3
		WHERE id = $1 AND state IN ('granted', 'begun')`, id, micros(tx.Now), by)
}

// WithdrawSlot takes a slot that was not begun out of what its agent is shown.
// It is held all the same.
func (tx *Tx) WithdrawSlot(ctx context.Context, id string) error {
	return tx.swap(ctx, thing{"granted slot", id}, `
		UPDATE slot SET withdrawn_at = $2 WHERE id = $1 AND state = 'granted' AND withdrawn_at IS NULL`, id, micros(tx.Now))
}

// LapseSlot takes back a withdrawn slot that can't begin any more.
func (tx *Tx) LapseSlot(ctx context.Context, id string) error {
	return tx.swap(ctx, thing{"withdrawn slot", id}, `
		UPDATE slot SET state = 'lapsed', ended_at = $2
		WHERE id = $1 AND state = 'granted' AND withdrawn_at IS NOT NULL`, id, micros(tx.Now))
}

// SetSlotRevision says for which revision a slot that was not begun is.
func (tx *Tx) SetSlotRevision(ctx context.Context, id string, revision uint64) error {
	return tx.swap(ctx, thing{"granted slot", id}, `
		UPDATE slot SET revision = $2 WHERE id = $1 AND state = 'granted'`, id, revision)
}

// Slot returns the slot of the id.
func (tx *Tx) Slot(ctx context.Context, id string) (Slot, error) {
	return one[Slot](ctx, tx, thing{"slot", id}, `SELECT `+slotColumns+` FROM slot WHERE id = $1`, id)
}

// PlacementSlot returns the slot that a placement holds.
func (tx *Tx) PlacementSlot(ctx context.Context, placementID string) (Slot, error) {
	return one[Slot](ctx, tx, thing{"slot of placement", placementID}, `
		SELECT `+slotColumns+` FROM slot WHERE placement_id = $1 AND state IN ('granted', 'begun')`, placementID)
}

// HeldSlots returns the slots that are granted or begun in a cluster, the
// oldest first: those that were granted as its own, and those of targets that
// have become its members since.
func (tx *Tx) HeldSlots(ctx context.Context, cluster string) ([]Slot, error) {
	return list[Slot](ctx, tx, "slots", `
		SELECT `+slotColumns+` FROM slot
		WHERE state IN ('granted', 'begun')
			AND (cluster = $1 OR placement_id IN (SELECT id FROM placement WHERE cluster = $1 AND cluster <> ''))
		ORDER BY granted_at, id`, cluster)
}

// AgentSlots returns the slots that an agent holds, the oldest first.
func (tx *Tx) AgentSlots(ctx context.Context, agentID string) ([]Slot, error) {
	return list[Slot](ctx, tx, "slots of an agent", `
		SELECT `+slotColumns+` FROM slot
		WHERE agent_id = $1 AND state IN ('granted', 'begun') ORDER BY granted_at, id`, agentID)
}

// OverdueSlots returns the slots that are shown to their agents and were not
// begun by the time given, the oldest first.
func (tx *Tx) OverdueSlots(ctx context.Context, by time.Time) ([]Slot, error) {
	return list[Slot](ctx, tx, "slots", `
		SELECT `+slotColumns+` FROM slot
		WHERE state = 'granted' AND withdrawn_at IS NULL AND start_by < $1 ORDER BY granted_at, id`, micros(by))
}

// Slots returns the slots that are held, the oldest first; with ended those
// that are over instead, the newest first, at most limit. cluster may be
// empty: of all.
func (tx *Tx) Slots(ctx context.Context, cluster string, ended bool, limit int) ([]Slot, error) {
	if !ended {
		return list[Slot](ctx, tx, "slots", `
			SELECT `+slotColumns+` FROM slot
			WHERE state IN ('granted', 'begun') AND ($1 = '' OR cluster = $1) ORDER BY granted_at, id LIMIT $2`, cluster, limit)
	}
	return list[Slot](ctx, tx, "slots", `
		SELECT `+slotColumns+` FROM slot
		WHERE state IN ('ended', 'lapsed') AND ($1 = '' OR cluster = $1) ORDER BY granted_at DESC, id DESC LIMIT $2`, cluster, limit)
}
