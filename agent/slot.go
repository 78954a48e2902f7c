package agent

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/rotation"
)

// leave is a slot as the control plane grants it.
type leave struct {
	id       string
	revision uint64
	within   time.Duration // after its first arrival
}

// withoutSlots is a desired state that grants nothing. What was granted before
// a restart may be another's by now.
func withoutSlots(state *api.DesiredState) *api.DesiredState {
	state = proto.CloneOf(state)
	for _, d := range state.Placements {
		d.Slot = nil
	}
	return state
}

// granted is the slot that a desire carries, with its end on the clock that
// rotations go by. The time runs on a clock that nobody sets.
func (w *wished) granted(now time.Time, elapsed time.Duration) rotation.Slot {
	if w.wish == nil || w.slot.id == "" {
		return rotation.Slot{}
	}
	return rotation.Slot{ID: w.slot.id, Revision: w.slot.revision, Until: now.Add(w.arrived + w.slot.within - elapsed)}
}

// begin makes a change that begins a slot. The slot must stand in the newest
// desire; and from before that can be replaced by another, the reports have it
// as begun. So the control plane may take back what a report does not have that
// was made after a desire without it: it can't be begun any more.
//
// It says no where the slot is not granted any more.
func (p *placement) begin(b rotation.Begun, do func(r *record)) (bool, error) {
	now, elapsed := p.e.Now(), p.e.elapsed()
	p.granting.Lock()
	defer p.granting.Unlock()
	if b.ID != "" {
		slot := p.wished.Load().granted(now, elapsed)
		if slot.ID != b.ID || slot.Revision != b.Revision || !now.Before(slot.Until) {
			return false, nil
		}
	}
	err := p.change(func(r *record) {
		r.Begin(b)
		do(r)
	})
	if err != nil {
		return false, err
	}
	report := &api.PlacementReport{PlacementId: p.id}
	if last := p.shown.Load(); last != nil {
		report = proto.CloneOf(last)
	}
	report.SlotId, report.AsksSlot = b.ID, 0
	p.shown.Store(report)
	return true, nil
}

// release lets the slot go where the member is in its steady state.
func (p *placement) release(ctx context.Context, w *wish, s rotation.Step) error {
	known := p.wellAt.revision == s.Revision && p.e.elapsed()-p.wellAt.at < lookHolds
	if v := p.record.Revision(s.Revision); v != nil && w.member() && !known {
		if err := p.health(ctx, w, *v); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			now := p.e.Now()
			return p.change(func(r *record) { r.Linger(err.Error(), now) })
		}
	}
	return p.change(func(r *record) { r.LetGo() })
}
