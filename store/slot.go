package store

import (
	"context"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// SlotState is the status of a slot. Time ends only one that was not begun.
//
//	granted ──begin──▶ begun ──end──▶ ended
//	   └─────time────▶ lapsed
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
	State       SlotState
	GrantedAt   time.Time
	StartBy     time.Time
	BegunAt     time.Time
	EndedAt     time.Time
	EndedBy     string // agent, observer or operator
}

const slotColumns = `id, cluster, agent_id, target, placement_id, state, granted_at, start_by, begun_at, ended_at, ended_by`

func (s *Slot) columns() []any {
	return []any{
		&s.ID, &s.Cluster, &s.AgentID, &s.Target, &s.PlacementID, &s.State,
		moment{&s.GrantedAt}, moment{&s.StartBy}, moment{&s.BegunAt}, moment{&s.EndedAt}, &s.EndedBy,
	}
}

// GrantSlot grants a slot if fewer than most of its cluster are held, and none
// by this placement; else it is a Conflict.
func (tx *Tx) GrantSlot(ctx context.Context, s Slot, most int) error {
	held, err := tx.HeldSlots(ctx, s.Cluster)
	if err != nil {
		return err
	}
	if len(held) >= most {
		return fault.New(fault.Conflict, "cluster %s has %d of %d members out of their steady state", s.Cluster, len(held), most).
			WithRemedy("wait until one ends")
	}
	return tx.insert(ctx, thing{"slot of placement", s.PlacementID}, `
		INSERT INTO slot (`+slotColumns+`)
		VALUES ($1, $2, $3, $4, $5, 'granted', $6, $7, NULL, NULL, '')`,
		s.ID, s.Cluster, s.AgentID, s.Target, s.PlacementID, micros(tx.Now), micros(s.StartBy))
}

// BeginSlot records that the work began. A slot that lapsed can't begin.
func (tx *Tx) BeginSlot(ctx context.Context, id string) error {
	return tx.swap(ctx, thing{"granted slot", id}, `
		UPDATE slot SET state = 'begun', begun_at = $2 WHERE id = $1 AND state = 'granted'`, id, micros(tx.Now))
}

// EndSlot records that the member is back in its steady state, and who says so.
func (tx *Tx) EndSlot(ctx context.Context, id, by string) error {
	return tx.swap(ctx, thing{"held slot", id}, `
		UPDATE slot SET state = 'ended', ended_at = $2, ended_by = $3
		WHERE id = $1 AND state IN ('granted', 'begun')`, id, micros(tx.Now), by)
}

// LapseSlots takes back the slots that were not begun in time, and returns how
// many.
func (tx *Tx) LapseSlots(ctx context.Context) (int, error) {
	rows, err := tx.exec(ctx, `
		UPDATE slot SET state = 'lapsed', ended_at = $1 WHERE state = 'granted' AND start_by < $1`, micros(tx.Now))
	return int(rows), thing{noun: "slots"}.wrap(err)
}

// HeldSlots returns the slots of a cluster that are granted or begun, the
// oldest first.
func (tx *Tx) HeldSlots(ctx context.Context, cluster string) ([]Slot, error) {
	return list[Slot](ctx, tx, "slots", `
		SELECT `+slotColumns+` FROM slot
		WHERE cluster = $1 AND state IN ('granted', 'begun') ORDER BY granted_at, id`, cluster)
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
