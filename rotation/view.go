package rotation

import (
	"fmt"
	"slices"
	"time"
)

// view is the facts as the rules see them. Rules that decline leave in it why,
// and when to look again.
type view struct {
	Facts
	d   Desired
	now time.Time

	inUse *Revision   // what the directory leads to; nil: nothing, or nothing known
	base  *Revision   // what counts as in use: inUse while that is not committed, else what stands
	leaf  *Generation // of base; nil: none
	crl   Dated       // the CRLs that are to be in use now

	through uint64    // the desired RenewThrough, whether it counts yet or not
	later   time.Time // when it will; zero: it does, or there is none

	why   string
	lacks string // why the desired CRLs are not what is to be in use
	asks  uint64 // the revision that waits for a slot
	alarm bool
	until time.Time
}

func look(f Facts, d Desired, now time.Time) *view {
	v := &view{Facts: f, d: d, now: now, through: d.RenewThrough}
	if d.RenewThrough > 0 && now.Before(d.RenewFrom) {
		v.later, v.d.RenewThrough, v.d.NewKey = d.RenewFrom, 0, false
	}
	if v.gone(v.Current) {
		v.Current, v.Drift = 0, ""
	}
	v.inUse = v.Revision(v.Current)
	v.base = v.Standing()
	if v.inUse != nil && !v.inUse.Committed() {
		v.base = v.inUse
	}
	if v.base != nil {
		v.leaf = v.Generation(v.base.Generation)
	}
	v.crl = v.lists()
	return v
}

// gone says whether a revision of the record is not all there any more.
func (v *view) gone(revision uint64) bool { return slices.Contains(v.Gone, revision) }

// lost says whether a generation was in use, nothing is now, and all that was
// staged of it is gone. It is put back at once: neither a hold nor the pause
// after a failed proof is meant for that. A failure to stage it, or at its
// check, is.
func (v *view) lost(generation uint64) bool {
	if v.Current != 0 || v.Drift != "" || v.d.Orphan {
		return false
	}
	if s := v.Setback; s != nil && s.Generation == generation && (s.Step == Stage || s.Step == Check) {
		return false
	}
	was := false
	for i := range v.Revisions {
		r := &v.Revisions[i]
		if r.Generation != generation {
			continue
		}
		used := !r.ActivatedAt.IsZero()
		if !v.gone(r.Number) && (used || r.Failed != nil) {
			return false
		}
		was = was || used
	}
	return was
}

// decline notes why nothing is done yet; the first reason is the one shown.
func (v *view) decline(until time.Time, format string, args ...any) *Step {
	if v.why == "" {
		v.why = fmt.Sprintf(format, args...)
	}
	v.wake(until)
	return nil
}

// wake asks to be called again at t.
func (v *view) wake(t time.Time) {
	if !t.IsZero() && (v.until.IsZero() || t.Before(v.until)) {
		v.until = t
	}
}

func (v *view) wait() Step {
	if v.why == "" {
		v.why = "nothing to do"
	}
	return Step{Action: Wait, AsksSlot: v.asks, Reason: v.why, Until: v.until, Alarm: v.alarm}
}

// backingOff says whether attempts are put off after a failure, and declines.
// What is done on this host alone is not put off where it was the control plane
// that gave no certificate.
func (v *view) backingOff(local bool) bool {
	if !v.putOff() || (local && v.Setback.Step == Request) {
		return false
	}
	s, until := v.Setback, v.Setback.until(v.leaf, v.now)
	v.alarm = true
	v.decline(until, "%s failed %s: %s; next attempt at %s", s.Step, times(s.Count), s.Reason, stamp(until))
	return true
}

// putOff says whether attempts are put off, without declining.
func (v *view) putOff() bool {
	s := v.Setback
	return s != nil && s.binds(v.d) && v.now.Before(s.until(v.leaf, v.now))
}

// urgent says whether the certificate in use is about to run out, or has.
func (v *view) urgent() bool {
	return v.leaf != nil && v.leaf.Leaf != nil && !v.now.Before(v.d.urgentAt(*v.leaf))
}

// held says whether beginnings are stopped, and declines.
func (v *view) held(what string) bool {
	if v.d.Hold == "" || v.urgent() {
		return false
	}
	var until time.Time
	if v.leaf != nil && v.leaf.Leaf != nil {
		until = v.d.urgentAt(*v.leaf)
	}
	v.decline(until, "held: %s (to be done: %s)", v.d.Hold, what)
	return true
}

// usable says whether a revision's credential may be used now.
func (v *view) usable(r *Revision) bool {
	return r != nil && (r.Generation == 0 || v.Generation(r.Generation).Valid(v.now))
}

// settled says whether the process is known to use what the directory leads to.
func (v *view) settled() bool {
	return v.inUse != nil && v.Loaded == v.Current && v.Proven == v.Current
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

func times(count int) string {
	if count == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", count)
}
