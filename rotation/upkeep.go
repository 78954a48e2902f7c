package rotation

import "fmt"

// repair puts back what someone edited on the host, as a new revision of what
// stands: nothing is written where a process may read it.
func (v *view) repair() *Step {
	s := v.Standing()
	if s == nil {
		return nil
	}
	drift := v.Drift
	if v.Current == 0 && drift == "" {
		return nil // gone, not edited
	}
	if drift == "" && v.inUse == nil {
		drift = "the link leads to no revision of ours"
	} else if drift == "" && v.inUse.Committed() && v.Current != s.Number {
		drift = fmt.Sprintf("the link leads to revision %d, and %d stood", v.Current, s.Number)
	}
	if drift == "" || (v.inUse != nil && !v.inUse.Committed()) {
		return nil
	}
	if !v.d.Repair || v.d.Orphan {
		v.why = "" // drift is what the operator should read
		v.alarm = true
		return v.decline(v.until, "drift: %s", drift)
	}
	if !v.usable(s) || v.held("repair of drift: "+drift) {
		return nil
	}
	if v.staged() != nil || v.backingOff(true) {
		return nil
	}
	return v.anew(Repair, s.Generation, "drift: "+drift)
}

// clean removes what nothing needs any more: what was never used at once, what
// a process may have used after the grace.
//
// By a clock that is off, every grace may seem over: then nothing goes.
func (v *view) clean() *Step {
	if v.d.ClockOff {
		return nil
	}
	s, staged := v.Standing(), v.staged()
	for i := range v.Revisions {
		r := &v.Revisions[i]
		if r.Number == v.Current || r == s || r == staged {
			continue
		}
		if r.ActivatedAt.IsZero() {
			return &Step{Action: Remove, Revision: r.Number, Reason: "it was never used"}
		}
		if v.graceOver(s) {
			return &Step{Action: Remove, Revision: r.Number, Reason: fmt.Sprintf("revision %d stands since %s", s.Number, stamp(s.CommittedAt))}
		}
	}
	for _, stray := range v.Strays {
		if stray != v.Current && v.graceOver(s) {
			return &Step{Action: Remove, Revision: stray, Reason: "the record does not know it"}
		}
	}
	return v.cleanGenerations()
}

// graceOver says whether the standing revision has stood for long enough, is
// what the process is known to use, and is valid.
func (v *view) graceOver(s *Revision) bool {
	if s == nil || s.Number != v.Current || !v.settled() || !v.usable(s) {
		return false
	}
	over := s.CommittedAt.Add(v.d.Grace)
	if v.now.Before(over) {
		v.wake(over)
		return false
	}
	return true
}

func (v *view) cleanGenerations() *Step {
	newest := v.newest()
	for i := range v.Generations {
		g := &v.Generations[i]
		if g == newest || v.needed(g.Number) {
			continue
		}
		return &Step{Action: DestroyKey, Generation: g.Number, Reason: "no revision holds it"}
	}
	return nil
}

// needed says whether a revision holds the generation.
func (v *view) needed(generation uint64) bool {
	for _, r := range v.Revisions {
		if r.Generation == generation {
			return true
		}
	}
	return false
}
