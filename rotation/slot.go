package rotation

import (
	"fmt"
	"time"
)

// leave says whether a revision may be activated now as far as the cluster is
// concerned, and what is begun with that. Where it may not, it asks.
//
// What takes nobody away needs no leave: the first revision of all, and one
// that is put where what stood is gone. In an empty directory to which the
// files of a process moved nothing is gone: it runs with the old ones. A slot
// that is held already is leave for all that the placement still has to do.
func (v *view) leave(r *Revision) (Begun, bool) {
	standing := v.Standing() != nil
	first := v.Stood == nil && !standing && !doubted(r)
	gone := standing && v.Current == 0 && v.Drift == ""
	if !v.d.NeedsSlot || v.Slot != nil || first || gone {
		return Begun{}, true
	}
	if v.held(fmt.Sprintf("the activation of revision %d", r.Number)) {
		return Begun{}, false
	}
	slot := v.d.Slot
	if slot.ID != "" && slot.Revision == r.Number && v.now.Before(slot.Until) {
		return Begun{ID: slot.ID, Revision: r.Number}, true
	}
	alone := v.alone(r)
	if !alone.IsZero() && !v.now.Before(alone) {
		return Begun{Revision: r.Number}, true
	}
	v.asks = r.Number
	if g := v.Generation(r.Generation); alone.IsZero() && g != nil && g.Leaf != nil {
		v.wake(v.d.urgentAt(*g)) // then its own renewal waits no longer
	}
	if slot.ID != "" && slot.Revision == r.Number {
		v.decline(alone, "revision %d waits for a slot of its cluster: slot %s was not begun in time", r.Number, slot.ID)
	} else {
		v.decline(alone, "revision %d waits for a slot of its cluster", r.Number)
	}
	return Begun{}, false
}

// alone is when a revision is activated though nobody gave leave: what stands
// is about to run out by then. The members of a cluster do so at different
// times within what is left, of which a quarter remains for the work. Zero:
// never, for the revision would not help.
func (v *view) alone(r *Revision) time.Time {
	g := v.reliedOn()
	if v.aside() && r.CRL.None() {
		ends := v.base.CRL // or the process refuses everybody
		return ends.asideAt().Add(time.Duration(share(v.d.Placement, r.Generation) * float64(ends.lead()*3/4)))
	}
	if g == nil || r.Generation == g.Number {
		return time.Time{}
	}
	at := v.d.urgentAt(*g)
	left := g.Leaf.NotAfter.Sub(at) * 3 / 4
	return at.Add(time.Duration(share(v.d.Placement, g.Number) * float64(left)))
}

// release lets the slot go when the target is back in its steady state. That
// all is in place is known here; whether the member is well, the step finds out.
func (v *view) release() *Step {
	if v.Slot == nil || !v.settled() || !v.inUse.Committed() {
		return nil
	}
	name := "slot " + v.Slot.ID
	if v.Slot.ID == "" {
		name = "its turn without a slot"
	}
	if unwell := v.Slot.Unwell; unwell != nil && v.now.Before(unwell.again(v.now)) {
		v.alarm = true
		return v.decline(unwell.again(v.now), "%s is kept: %s", name, unwell.Reason)
	}
	return &Step{Action: Release, Revision: v.Current, Reason: name + " is over where the target is well"}
}

// Urgent says whether what stands is about to run out, or has: then nothing
// that could wait is waited for.
func (r *Record) Urgent(d Desired, now time.Time) bool {
	g := r.reliedOn()
	return g != nil && !now.Before(d.urgentAt(*g))
}

// doubted says whether a revision was loaded, and its proofs kept failing: the
// process may have said that it took it, and not have done it.
func doubted(r *Revision) bool { return r.Failed != nil && r.Failed.Step == Prove }

func (v *view) wantsLeave(r *Revision) bool {
	return v.Loaded != r.Number && doubted(r) && v.d.NeedsSlot && v.Slot == nil
}

// doubt lets a process be told once more of a revision that it is in doubt to
// have taken. That may restart it: for a member it needs leave, and while that
// is waited for, the process is looked at.
func (v *view) doubt(r *Revision) *Step {
	if !v.wantsLeave(r) {
		return nil
	}
	begins, ok := v.leave(r)
	if !ok {
		return nil
	}
	return &Step{Action: Activate, Revision: r.Number, Begins: begins, Reason: "the process may have said that it took it, and not have done so" + lastTry(r)}
}
