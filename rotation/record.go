package rotation

import (
	"slices"
	"time"
)

// The changes of a record, one for each fact that an action makes. Numbers
// that the record does not hold change nothing: the fact is about something
// that was removed in between.

// Ask reserves a generation: its key is saved, and may be certified from now.
func (r *Record) Ask(g Generation) {
	r.Generations = append(r.Generations, g)
	r.LastGeneration = max(r.LastGeneration, g.Number)
}

// Issue notes the certificate of a generation.
func (r *Record) Issue(generation uint64, leaf Leaf) {
	if g := r.Generation(generation); g != nil {
		g.Leaf = &leaf
	}
}

// Refuse notes that a generation will never do.
func (r *Record) Refuse(generation uint64, reason string) {
	if g := r.Generation(generation); g != nil {
		g.Refused = reason
	}
}

// Stage notes a revision whose files are all durable.
func (r *Record) Stage(v Revision) {
	r.Revisions = append(r.Revisions, v)
	r.LastRevision = max(r.LastRevision, v.Number)
}

// Check notes that a revision may be used.
func (r *Record) Check(revision uint64) {
	if v := r.Revision(revision); v != nil {
		v.Checked = true
	}
}

// Meet notes what was found of the process at the check, before anything is
// touched: that it does not run, or that the member is well.
func (r *Record) Meet(revision uint64, away, well bool) {
	if v := r.Revision(revision); v != nil {
		v.Away, v.Well = away, well
	}
}

// Begin notes that the target is about to leave its steady state, with leave or
// without. It goes with Switch, in one durable write.
func (r *Record) Begin(b Begun) { r.Slot = &b }

// Linger notes that the target is not back in its steady state yet.
func (r *Record) Linger(reason string, now time.Time) {
	if r.Slot == nil {
		return
	}
	begun, count := *r.Slot, 1
	if begun.Unwell != nil {
		count += begun.Unwell.Count
	}
	begun.Unwell = &Failure{Step: Release, Reason: reason, At: now, Count: count, Transient: true}
	r.Slot = &begun
}

// LetGo notes that the target is back in its steady state: others may go.
func (r *Record) LetGo() { r.Slot = nil }

// Switch notes that the directory is about to lead to a revision: from now
// until Load and Prove it is not known what the process uses.
func (r *Record) Switch(revision uint64, now time.Time) {
	r.Loaded, r.Proven = 0, 0
	if v := r.Revision(revision); v != nil && v.ActivatedAt.IsZero() {
		v.ActivatedAt = now
	}
}

// Load notes that the process took the revision.
func (r *Record) Load(revision uint64) { r.Loaded = revision }

// Prove notes that the process was seen with the revision: so it took it, also
// where that was in doubt.
func (r *Record) Prove(revision uint64) {
	r.Loaded, r.Proven = revision, revision
	if v := r.Revision(revision); v != nil {
		v.Failed = nil
	}
}

// Commit notes that the revision stands. The row of failures is over.
func (r *Record) Commit(revision uint64, now time.Time) {
	if v := r.Revision(revision); v != nil {
		v.CommittedAt = now
		if !r.Setback.spares(v.Generation) {
			r.Setback = nil
		}
		r.Stood = &Generation{}
		if g := r.Generation(v.Generation); g != nil {
			stood := *g
			r.Stood = &stood
		}
	}
}

// doubtAfter is the number of failed proofs after which the process is told
// to load once more: it may have said that it did, and not have done it.
const doubtAfter = 4

// Fail notes that a step did not succeed with a revision that is in use or was
// about to be. What comes of it, Next decides. The first failure of a revision
// that never stood puts the next attempt off; its repetitions do not, or no
// attempt would ever come while one revision is tried again and again.
func (r *Record) Fail(revision uint64, step Action, reason string, transient bool, d Desired, now time.Time) {
	v := r.Revision(revision)
	if v == nil {
		return
	}
	count := 1
	if v.Failed != nil {
		count += v.Failed.Count
	} else if !v.Committed() {
		r.SetBack(step, v.Generation, reason, transient, d, now)
		r.Setback.Aside = v.CRL.None() && !d.CRL.None()
	}
	v.Failed = &Failure{Step: step, Reason: reason, At: now, Count: count, Transient: transient}
	if step == Prove && count%doubtAfter == 0 && r.Loaded == revision {
		r.Loaded = 0
	}
}

// SetBack notes that an attempt failed, so that the next one is put off.
func (r *Record) SetBack(step Action, generation uint64, reason string, transient bool, d Desired, now time.Time) {
	count := 1
	if r.Setback != nil && r.Setback.binds(d) {
		count += r.Setback.Count
	}
	r.Setback = &Setback{
		Failure:    Failure{Step: step, Reason: reason, At: now, Count: count, Transient: transient},
		Generation: generation,
		Attempt:    d.Attempt, RenewThrough: d.RenewThrough, Terms: d.Terms, Bundle: d.Bundle, Bridge: d.Bridge,
		CRL: d.CRL.Digest, Staple: d.Staple.Digest,
	}
}

// Misfit notes that the CRLs of a revision must not be used. The revision is
// given up; no certificate has failed.
func (r *Record) Misfit(revision uint64, reason string, d Desired, now time.Time) {
	v := r.Revision(revision)
	if v == nil {
		return
	}
	count := 1
	if u := r.Unfit; u != nil && u.CRL == v.CRL.Digest && u.Bundle == v.Bundle {
		count += u.Count
	}
	v.Failed = &Failure{Step: Check, Reason: reason, At: now, Count: 1}
	r.Unfit = &Unfit{Failure: Failure{Step: Check, Reason: reason, At: now, Count: count}, CRL: v.CRL.Digest, Bundle: v.Bundle, Attempt: d.Attempt}
}

// Remove forgets a revision whose directory is gone.
func (r *Record) Remove(revision uint64) {
	r.Revisions = slices.DeleteFunc(r.Revisions, func(v Revision) bool { return v.Number == revision })
}

// Destroy forgets a generation whose key is gone. LastGeneration keeps its
// number from being used again.
func (r *Record) Destroy(generation uint64) {
	r.Generations = slices.DeleteFunc(r.Generations, func(g Generation) bool { return g.Number == generation })
}
