package rotation

import (
	"fmt"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// begin asks for a new generation or stages a new revision where what is in use
// is not what is wanted. Where a new generation cannot be had now, a changed
// bundle goes ahead with the one that stands.
func (v *view) begin() *Step {
	if v.d.Orphan {
		return v.decline(time.Time{}, "no intent wants this placement any more")
	}
	if !v.d.Identity {
		return v.stage(v.validStanding(), "the bundle")
	}
	newest := v.newest()
	reason := v.outdated(newest)
	if reason == "" {
		if newest.Number != v.baseGeneration() {
			if step := v.stage(newest.Number, fmt.Sprintf("generation %d", newest.Number)); step != nil {
				return step
			}
			return v.spare()
		}
		if step := v.stage(newest.Number, "the bundle"); step != nil {
			return step
		}
		if !v.later.IsZero() && newest.Number <= v.through {
			v.decline(v.later, "generation %d is good; it is to be renewed from %s on", newest.Number, stamp(v.later))
		}
		at := v.dueAt(newest)
		return v.decline(at, "generation %d is good; its renewal is at %s", newest.Number, stamp(at))
	}
	if step := v.request(newest, reason); step != nil {
		return step
	}
	if standing := v.validStanding(); standing != 0 {
		return v.stage(standing, "the bundle")
	}
	return nil
}

// validStanding is the generation that stands, or 0 where none does or it is
// not valid. Where the identity was taken out of an intent it stays in use: a
// certificate is not withdrawn from under a process by an edit.
func (v *view) validStanding() uint64 {
	s := v.Standing()
	if s == nil || !v.usable(s) || (v.Current != s.Number && v.revoked(s.Generation)) {
		return 0
	}
	return s.Generation
}

// newest is the generation that was asked for last and may still do.
func (v *view) newest() *Generation {
	for i := len(v.Generations) - 1; i >= 0; i-- {
		if v.Generations[i].Refused == "" {
			return &v.Generations[i]
		}
	}
	return nil
}

// outdated says why a generation is not the wanted one, or "".
func (v *view) outdated(g *Generation) string {
	switch {
	case g == nil:
		return "first issuance"
	case v.revoked(g.Number):
		return fmt.Sprintf("generation %d was revoked", g.Number)
	case g.Number <= v.d.RenewThrough:
		return fmt.Sprintf("a renewal of everything through generation %d is asked for", v.d.RenewThrough)
	case g.Refused != "":
		return fmt.Sprintf("generation %d is unusable: %s", g.Number, g.Refused)
	case g.Leaf == nil:
		return fmt.Sprintf("generation %d was asked for and is not issued yet", g.Number)
	case g.Leaf.Terms != v.d.Terms && g.Wanted != v.d.Terms:
		return fmt.Sprintf("the terms changed from %q to %q", g.Leaf.Terms, v.d.Terms)
	case !v.now.Before(g.Leaf.NotAfter):
		return fmt.Sprintf("generation %d ran out at %s", g.Number, stamp(g.Leaf.NotAfter))
	case !v.now.Before(v.dueAt(g)):
		return fmt.Sprintf("the renewal of generation %d was due at %s", g.Number, stamp(v.dueAt(g)))
	}
	return ""
}

// dueAt is when a generation is to be renewed. One that never stood is due only
// when its end is near: it waits for its turn, is held, or fails its check, and
// a newer one would do so as well, and so on, as often as the window comes
// round. Where its end was near when it was made, it is used until then.
func (v *view) dueAt(g *Generation) time.Time {
	if g.Number <= v.baseGeneration() {
		return v.d.RenewAt(*g)
	}
	if at := v.d.urgentAt(*g); at.After(born(g)) {
		return at
	}
	return g.Leaf.NotAfter
}

// request asks for a generation: again for one that was begun, or for a new one.
func (v *view) request(newest *Generation, reason string) *Step {
	if v.backingOff(false) {
		return nil
	}
	if newest != nil && newest.Leaf == nil && newest.Number > v.d.RenewThrough && newest.Algorithm == v.d.Algorithm && newest.Number == v.LastGeneration {
		return &Step{Action: Request, Generation: newest.Number, Reason: reason}
	}
	if v.held(reason) || v.tooSoon(newest, reason) {
		return nil
	}
	number := max(v.LastGeneration, v.d.Window.Generation, v.through) + 1
	if v.newKey() {
		return &Step{Action: Request, Generation: number, NewKey: true, Reason: reason}
	}
	return &Step{Action: Request, Generation: number, KeyOf: v.leaf.Number, Reason: reason}
}

// tooSoon says whether the last certificate is so new that another one would
// come to the same, where time alone makes it the wrong one: what an authority
// signs near its end, or by a wrong clock, is due, or over, when it is made.
func (v *view) tooSoon(newest *Generation, reason string) bool {
	if newest == nil || newest.Leaf == nil || newest.Number <= v.d.RenewThrough || newest.Leaf.Terms != v.d.Terms {
		return false
	}
	pause, life := longestPause, newest.Leaf.NotAfter.Sub(born(newest))
	if life > 0 && v.d.RenewAt(*newest).After(born(newest)) {
		return false // so it is wanted, however short the window is
	}
	if life <= 0 || v.d.Window.Generation == newest.Number { // there the control plane may know why
		pause = refusedPause
	}
	if life > 0 {
		pause = min(pause, max(life/3, shortestPause))
	}
	next := notBeyond(born(newest), pause, v.now)
	if !v.now.Before(next) {
		return false
	}
	v.decline(next, "%s, soon after it was made; another is asked for at %s", reason, stamp(next))
	return true
}

// born is when a certificate came to be, by what is known here.
func born(g *Generation) time.Time {
	if g.AskedAt.After(g.Leaf.NotBefore) {
		return g.AskedAt
	}
	return g.Leaf.NotBefore
}

// newKey says whether the next generation needs a key of its own.
func (v *view) newKey() bool {
	last := v.leaf
	switch {
	case last == nil || last.Leaf == nil || last.Refused != "" || v.revoked(last.Number):
		return true
	case v.d.KeyAge <= 0 || v.now.Sub(last.KeyBorn) >= v.d.KeyAge:
		return true
	case last.Algorithm != v.d.Algorithm:
		return true
	}
	return v.d.NewKey && last.Number <= v.d.RenewThrough
}

// stage begins a revision of the generation with the wanted bundle and bridge,
// unless that is in use.
func (v *view) stage(generation uint64, what string) *Step {
	if r := v.base; r != nil && r.Generation == generation && v.carries(r) {
		return nil
	}
	if r := v.staged(); r != nil && r.Generation == generation && v.carries(r) {
		if v.usable(r) {
			return v.decline(time.Time{}, "revision %d is staged and checked", r.Number)
		}
		var from time.Time
		if g := v.Generation(generation); g != nil && g.Leaf != nil {
			from = g.Leaf.NotBefore // the clock was set back since the check
		}
		return v.decline(from, "revision %d is staged and checked; generation %d is not valid at %s by this host's clock", r.Number, generation, stamp(v.now))
	}
	lost := v.lost(generation)
	if v.pausing(generation) {
		return nil
	}
	what, changed := v.news(generation, what)
	begun := lost || generation != 0 && generation != v.baseGeneration() && v.untried(generation)
	if !begun && !v.overdue() && v.held(what) {
		return nil
	}
	reason := what + changed
	if lost {
		reason = "what was in use is gone"
	}
	return v.anew(Stage, generation, reason)
}

// news says what differs from what is in use.
func (v *view) news(generation uint64, what string) (thing, changed string) {
	r := v.base
	if r == nil || r.Generation != generation || r.Bundle != v.d.Bundle {
		return what, " is new here"
	}
	switch bridge := v.bridge(generation); {
	case r.Bridge != bridge && bridge.IsZero():
		return "the bridge", " is to leave the chain"
	case r.Bridge != bridge:
		return "the bridge", " is new here"
	case r.CRL.Digest != v.crl.Digest && v.aside():
		return "the CRLs", fmt.Sprintf(" are set aside: they end at %s, and no successor came", stamp(r.CRL.Until))
	case r.CRL.Digest != v.crl.Digest && v.crl.None():
		return "the CRLs", " are not wanted any more"
	case r.CRL.Digest != v.crl.Digest:
		return "the CRLs", " are new here"
	case v.staple(generation).None():
		return "the stapled answer", " is to go"
	}
	return "the stapled answer", " is new here"
}

// anew is the step that writes a revision with all that is desired.
func (v *view) anew(action Action, generation uint64, reason string) *Step {
	return &Step{Action: action, Revision: v.nextRevision(), Generation: generation, Bundle: v.d.Bundle, Bridge: v.bridge(generation),
		CRL: v.crl, Staple: v.staple(generation), Reason: reason}
}

// carries says whether a revision is what is desired, but for its generation.
func (v *view) carries(r *Revision) bool {
	return r.Bundle == v.d.Bundle && r.Bridge == v.bridge(r.Generation) &&
		r.CRL.Digest == v.crl.Digest && r.Staple.Digest == v.staple(r.Generation).Digest
}

// bridge is what the chain of a generation should have at its end. A bundle
// alone has no chain, and a certificate under another root no use for it.
func (v *view) bridge(generation uint64) pki.Fingerprint {
	if generation == 0 || slices.Contains(v.Apart, generation) {
		return pki.Fingerprint{}
	}
	return v.d.Bridge
}

// untried says whether a generation was issued, and neither activated nor
// caught at its check: its rotation is under way, and a hold does not stop it.
func (v *view) untried(generation uint64) bool {
	for _, r := range v.Revisions {
		cut := v.gone(r.Number) && r.Failed == nil // taken away in the middle
		if r.Generation == generation && !r.ActivatedAt.IsZero() && !cut {
			return false
		}
	}
	s := v.Setback
	return s == nil || s.Generation != generation || s.Step == Request || s.Step == Stage
}

func (v *view) baseGeneration() uint64 {
	if v.base == nil {
		return 0
	}
	return v.base.Generation
}

// nextRevision is above all that the record or the directory ever had.
func (v *view) nextRevision() uint64 {
	last := v.LastRevision
	for _, stray := range v.Strays {
		last = max(last, stray)
	}
	return last + 1
}
