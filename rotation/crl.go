package rotation

import (
	"fmt"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// Dated is something signed that is delivered beside a certificate, and ends:
// CRLs, or the answer that is stapled to it.
type Dated struct {
	Digest pki.Fingerprint `json:"digest"`
	From   time.Time       `json:"from,omitzero"` // thisUpdate, of the one that ends first
	Until  time.Time       `json:"until,omitzero"`
}

// None says that there is nothing.
func (d Dated) None() bool { return d.Digest.IsZero() }

// The least and the most that is left of CRLs when they are set aside. A reload
// and its proof, tried twice, have to fit into it.
const (
	leastAside = 5 * time.Minute
	mostAside  = time.Hour
)

// asideAt is when it is taken away, where no successor came and it must not be
// in use at its end: a tenth of its life before. Zero: its end is not known.
func (d Dated) asideAt() time.Time {
	if d.Until.IsZero() {
		return time.Time{}
	}
	return d.Until.Add(-d.lead())
}

func (d Dated) lead() time.Duration {
	if d.From.IsZero() {
		return leastAside
	}
	life := d.Until.Sub(d.From)
	return min(max(life/10, leastAside), mostAside, life/2)
}

// ending says whether so little is left that it is taken away. This host's own
// clock decides, right or wrong: by that one the process will refuse.
func (d Dated) ending(now time.Time) bool {
	at := d.asideAt()
	return !at.IsZero() && !now.Before(at)
}

// warnAt is when an operator is told that CRLs are about to end: a day before,
// or where they do not live for four, in the last quarter of their life.
func (d Dated) warnAt() time.Time {
	warn := 24 * time.Hour
	if life := d.Until.Sub(d.From); !d.From.IsZero() {
		warn = min(warn, life/4)
	}
	return d.Until.Add(-warn)
}

// Unfit is CRLs that the check refused. Those in use stay, and what else is
// desired goes on without them. They are looked at again after a pause, for
// what was wrong may have been the bundle, or this host's clock.
type Unfit struct {
	Failure
	CRL     pki.Fingerprint  `json:"crl"`
	Bundle  pki.BundleDigest `json:"bundle"` // that they were delivered with
	Attempt uint64           `json:"attempt"`
}

// unfit says whether the desired CRLs were refused, and why.
func (v *view) unfit() string {
	u := v.Unfit
	if u == nil || u.CRL != v.d.CRL.Digest || u.Bundle != v.d.Bundle || v.d.Attempt > u.Attempt {
		return ""
	}
	again := notBeyond(u.At, doubled(refusedPause, u.Count, longestPause), v.now)
	if !v.now.Before(again) {
		return ""
	}
	v.wake(again)
	return u.Reason
}

// lists is the CRLs that are to be in use now.
func (v *view) lists() Dated {
	want := v.d.CRL
	if want.None() {
		return Dated{}
	}
	if reason := v.unfit(); reason != "" || v.NoCRL {
		if want = (Dated{}); v.base != nil {
			want = v.base.CRL
		}
		v.notice(reason)
	}
	if v.d.OpenOnStale && want.ending(v.now) {
		return Dated{}
	}
	return want
}

func (v *view) notice(refused string) {
	v.lacks = fmt.Sprintf("CRLs %.12s are not to be had yet", v.d.CRL.Digest)
	if refused != "" {
		v.alarm = true
		v.lacks = fmt.Sprintf("CRLs %.12s were refused: %s", v.d.CRL.Digest, refused)
	}
}

// aside says whether the CRLs in use are to be taken away, because their end is
// near and the profile says so.
func (v *view) aside() bool {
	return v.base != nil && !v.base.CRL.None() && v.crl.None() && v.d.OpenOnStale && !v.d.CRL.None()
}

// overdue says whether CRLs are to be set aside, and nothing that failed before
// was just that: then neither a hold nor a pause counts.
func (v *view) overdue() bool {
	s := v.Setback
	return v.aside() && (s == nil || !(s.Aside || s.Step == Stage))
}

// staple is the answer that is to be stapled to a generation: the desired one
// where it is for that, else the one that it has, until that is about to end. One
// that ended is worse than none.
func (v *view) staple(generation uint64) Dated {
	if generation == 0 || v.d.Staple.None() {
		return Dated{}
	}
	if v.Stapled == generation {
		return v.unlessEnding(v.d.Staple)
	}
	for _, r := range slices.Backward(v.Revisions) {
		if r.Generation == generation {
			return v.unlessEnding(r.Staple)
		}
	}
	return Dated{}
}

func (v *view) unlessEnding(staple Dated) Dated {
	if staple.ending(v.now) {
		return Dated{}
	}
	if !staple.None() {
		v.wake(staple.asideAt())
	}
	return staple
}

// revoked says whether a generation was revoked: it is never gone back to, and
// another is asked for.
func (v *view) revoked(generation uint64) bool { return slices.Contains(v.d.Revoked, generation) }

// returnable says whether a revision may be gone back to.
func (v *view) returnable(r *Revision) bool { return v.usable(r) && !v.revoked(r.Generation) }

// innocent says whether what failed was another, newer certificate: that is no
// reason to keep a bundle or CRLs from the one that stands.
func (v *view) innocent(generation uint64) bool { return v.Setback.spares(generation) }

func (s *Setback) spares(generation uint64) bool {
	return s != nil && generation != 0 && s.Generation > generation && (s.Step == Check || s.Step == Activate || s.Step == Prove)
}

// pausing says whether a revision of the generation is put off after a failure,
// and declines.
func (v *view) pausing(generation uint64) bool {
	return !v.lost(generation) && !v.overdue() && !v.innocent(generation) && v.backingOff(true)
}

// spare brings the newest bundle and CRLs to the certificate that stands, where
// a newer one failed and waits for its next attempt.
func (v *view) spare() *Step {
	standing := v.validStanding()
	if standing == 0 || !v.innocent(standing) || !v.settled() || !v.putOff() {
		return nil
	}
	return v.stage(standing, "the bundle")
}

// watch says what an operator should know of the CRLs, and wakes when that
// changes.
func (v *view) watch() string {
	r := v.inUse
	if v.d.CRL.None() || v.d.Orphan {
		return ""
	}
	switch {
	case r == nil:
		return v.lacks
	case v.lacks != "" && r.CRL.None():
		return v.lacks
	case v.d.OpenOnStale && r.CRL.None() && v.crl.None():
		v.alarm = true
		return fmt.Sprintf("the CRLs with the end %s are set aside: no successor came, and the profile says that the process is to go on without; "+
			"it accepts revoked certificates until there are fresh ones", stamp(v.d.CRL.Until))
	case r.CRL.None() || r.CRL.Until.IsZero():
		return v.lacks
	case v.d.OpenOnStale:
		if !r.CRL.ending(v.now) {
			v.wake(r.CRL.asideAt())
			return v.lacks
		}
		v.alarm = true
		return fmt.Sprintf("the CRLs in use end at %s, no successor came, and they are still to be set aside", stamp(r.CRL.Until))
	}
	return v.warn(r.CRL)
}

func (v *view) warn(used Dated) string {
	text := v.lacks
	switch at := used.warnAt(); {
	case v.now.Before(at):
		v.wake(at)
		return text
	case v.now.Before(used.Until):
		v.wake(used.Until)
		text = fmt.Sprintf("the CRLs in use end at %s, and no successor came: from then on the process refuses everybody", stamp(used.Until))
	default:
		text = fmt.Sprintf("the CRLs in use ended at %s, and no successor came: the process refuses everybody", stamp(used.Until))
	}
	v.alarm = true
	if v.lacks != "" {
		text += "; " + v.lacks
	}
	return text
}
