package rotation

import (
	"fmt"
	"time"
)

// finish brings to an end what the directory was switched to: loaded, proven
// and committed; or taken back. With nothing to go back to it stays, and the
// step that failed is repeated.
func (v *view) finish() *Step {
	r := v.inUse
	if r == nil || r.Committed() {
		return nil
	}
	if r.Failed != nil {
		return v.giveUp(r)
	}
	return v.bring(r)
}

// bring takes the revision in use through its next step.
func (v *view) bring(r *Revision) *Step {
	if step := v.doubt(r); step != nil {
		return step
	}
	switch {
	case !r.Checked:
		return &Step{Action: Check, Revision: r.Number, Reason: "someone linked to it before it was checked"}
	case v.Loaded != r.Number && !v.wantsLeave(r):
		begins, ok := Begun{}, true
		if r.ActivatedAt.IsZero() { // by hand; what the agent began goes on
			begins, ok = v.leave(r)
		}
		if !ok {
			return nil
		}
		return &Step{Action: Activate, Revision: r.Number, Begins: begins, Reason: "the process has not been told of it yet, or the agent was stopped before it knew"}
	case v.Proven != r.Number:
		return &Step{Action: Prove, Revision: r.Number, Reason: "in place, not yet shown as far as the intent asks" + lastTry(r)}
	default:
		return &Step{Action: Commit, Revision: r.Number, Reason: "shown as far as the intent asks"}
	}
}

// lastTry says how the try before came out, while another is under way.
func lastTry(r *Revision) string {
	if r.Failed == nil {
		return ""
	}
	return fmt.Sprintf("; %s failed %s: %s", r.Failed.Step, times(r.Failed.Count), r.Failed.Reason)
}

// giveUp goes back from a revision that failed to the one that stood.
func (v *view) giveUp(r *Revision) *Step {
	back := v.Standing()
	// A process that did not run before the switch, and does not yet, would not
	// run with what stood either: the new files are for its next start.
	absent := r.Away && r.Failed.Transient
	if v.returnable(back) && !absent {
		if back.Failed != nil && v.now.Before(back.Failed.again(v.now)) {
			v.alarm = true
			return v.decline(back.Failed.again(v.now), "restore of revision %d failed %s: %s", back.Number, times(back.Failed.Count), back.Failed.Reason)
		}
		return &Step{Action: Restore, Revision: back.Number, Generation: back.Generation,
			Reason: fmt.Sprintf("revision %d failed at %s: %s", r.Number, r.Failed.Step, r.Failed.Reason)}
	}
	if again := r.Failed.again(v.now); v.now.Before(again) {
		v.alarm = true
		why := "nothing valid to go back to"
		if back != nil && v.revoked(back.Generation) {
			why = fmt.Sprintf("generation %d, which stood, was revoked", back.Generation)
		}
		if absent {
			why = "the process could not be reached before the switch either, and finds the new files at its start"
		}
		v.decline(again, "revision %d failed at %s %s: %s; %s", r.Number, r.Failed.Step, times(r.Failed.Count), r.Failed.Reason, why)
		return v.doubt(r)
	}
	if v.renewing() {
		return nil // a fresh certificate does more than another try with this one
	}
	return v.bring(r)
}

// renewing says whether another generation, bundle or bridge is wanted in place
// of what is in use.
func (v *view) renewing() bool {
	if v.d.Orphan || !v.carries(v.inUse) {
		return !v.d.Orphan && !v.putOff()
	}
	g := v.Generation(v.inUse.Generation)
	return v.d.Identity && v.outdated(g) != "" && !v.putOff()
}

// advance takes a staged revision to its check and to the switch. It was begun,
// so no hold counts; but it is left where something else is wanted by now.
func (v *view) advance() *Step {
	r := v.staged()
	if r == nil || v.pausing(r.Generation) {
		return nil
	}
	if !r.Checked {
		return &Step{Action: Check, Revision: r.Number, Reason: "staged"}
	}
	if !v.usable(r) {
		return nil // its dates passed since the check, or the clock was set
	}
	begins, ok := v.leave(r)
	if !ok {
		return nil
	}
	return &Step{Action: Activate, Revision: r.Number, Begins: begins, Reason: "checked"}
}

// staged is the newest revision, where it waits for its turn and is still
// wanted.
func (v *view) staged() *Revision {
	if len(v.Revisions) == 0 {
		return nil
	}
	r := &v.Revisions[len(v.Revisions)-1]
	if r.Committed() || r.Failed != nil || r.Number == v.Current || v.gone(r.Number) {
		return nil
	}
	if g := v.Generation(r.Generation); r.Generation != 0 && (g == nil || g.Refused != "") {
		return nil
	}
	if !v.d.Orphan && !v.carries(r) {
		return nil
	}
	if v.revoked(r.Generation) && r.Generation != v.baseGeneration() {
		return nil
	}
	return r
}

// refill puts back what is gone. To edit is an operator's right, and repair
// asks whether it is to be undone; but a process that finds no credential at
// all helps nobody, so this asks neither that nor for holds. A revision that is
// gone is staged anew beside its place, lest a process read half of it.
func (v *view) refill() *Step {
	s := v.Standing()
	if v.Current != 0 || v.Drift != "" || v.d.Orphan || !v.returnable(s) {
		return nil
	}
	if !v.gone(s.Number) {
		if s.Failed != nil && v.now.Before(s.Failed.again(v.now)) {
			v.alarm = true
			return v.decline(s.Failed.again(v.now), "restore of revision %d failed %s: %s", s.Number, times(s.Failed.Count), s.Failed.Reason)
		}
		return &Step{Action: Restore, Revision: s.Number, Generation: s.Generation, Reason: "what the link led to is gone, and this stood"}
	}
	if v.staged() != nil || (!v.lost(s.Generation) && v.backingOff(true)) {
		return nil
	}
	return v.anew(Repair, s.Generation, fmt.Sprintf("revision %d, which stood, is gone", s.Number))
}

// settle sees to it that what stands is in use by the process: after a restore
// that was interrupted or that failed, and after a switch that never came.
func (v *view) settle() *Step {
	s := v.Standing()
	if s == nil || v.Current != s.Number || v.settled() || (v.Drift != "" && v.d.Repair) {
		return nil
	}
	if s.Failed != nil {
		if again := s.Failed.again(v.now); v.now.Before(again) {
			v.alarm = true
			return v.decline(again, "revision %d, which stood, failed at %s %s: %s", s.Number, s.Failed.Step, times(s.Failed.Count), s.Failed.Reason)
		}
	}
	if v.Loaded != s.Number && v.revoked(s.Generation) {
		v.alarm = true
		return v.decline(time.Time{}, "generation %d, which stood, was revoked: the process is not told to load it again", s.Generation)
	}
	if v.Loaded != s.Number {
		return &Step{Action: Restore, Revision: s.Number, Generation: s.Generation, Reason: "it stood, and the process may have something else"}
	}
	return &Step{Action: Prove, Revision: s.Number, Reason: "it stood, and is to be seen again" + lastTry(s)}
}
