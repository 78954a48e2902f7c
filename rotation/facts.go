package rotation

import (
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// Facts are a placement's record and what its directory shows now.
type Facts struct {
	Record
	Current uint64   // the revision that the directory's link leads to; 0: none that is there
	Drift   string   // how the link or the revision in use was edited; "": it was not
	Gone    []uint64 // revisions of the record of which the directory, or a file, is not there any more
	Strays  []uint64 // revisions in the directory that the record does not know
	Apart   []uint64 // generations that are known to be under another root than the desired bridge is for
	NoCRL   bool     // the desired CRLs could not be had yet
	Stapled uint64   // the generation that the desired staple is for; 0: none that is known here
}

// Record is what an agent remembers of a placement. It is written durably
// after each change; the methods in record.go are the only changes.
type Record struct {
	LastGeneration uint64       `json:"lastGeneration"` // highest number ever used
	LastRevision   uint64       `json:"lastRevision"`
	Generations    []Generation `json:"generations,omitempty"` // ascending, those with a key
	Revisions      []Revision   `json:"revisions,omitempty"`   // ascending, those with a directory
	// Loaded is the revision that the process took last, Proven the one that
	// was last seen with it, at the level that is asked for. Both are zero
	// from before each switch until it is known again.
	Loaded  uint64   `json:"loaded"`
	Proven  uint64   `json:"proven"`
	Setback *Setback `json:"setback,omitempty"` // since the last commit
	Unfit   *Unfit   `json:"unfit,omitempty"`   // CRLs that the check refused last
	// Stood is the generation that was committed last, in whatever directory:
	// of number 0 for a bundle alone. nil: nothing ever stood here.
	Stood *Generation `json:"stood,omitempty"`
	// Slot is the leave with which the target was taken out of its steady
	// state, from before that until it is back.
	Slot *Begun `json:"slot,omitempty"`
}

// Begun is a slot that was begun. Without an ID it is no slot: the certificate
// was about to run out, and nobody gave leave.
type Begun struct {
	ID       string   `json:"id,omitempty"`
	Revision uint64   `json:"revision"`
	Unwell   *Failure `json:"unwell,omitempty"` // the target is not back in its steady state, and why
}

// Generation is a certificate and its key, or a key that a certificate was
// asked for. Its number is never used again, whatever becomes of it.
type Generation struct {
	Number    uint64    `json:"number"`
	Algorithm string    `json:"algorithm"`
	KeyBorn   time.Time `json:"keyBorn"` // an earlier generation's, where the key is kept
	AskedAt   time.Time `json:"askedAt"`
	Wanted    Terms     `json:"wanted"`            // when it was asked for
	Leaf      *Leaf     `json:"leaf,omitempty"`    // nil: not issued yet
	Refused   string    `json:"refused,omitempty"` // it will never do, and why
}

// Leaf is what a certificate says.
type Leaf struct {
	Serial    string    `json:"serial"`
	Terms     Terms     `json:"terms"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
}

// Revision is what stands, stood or is to stand in the directory.
type Revision struct {
	Number      uint64           `json:"number"`
	Generation  uint64           `json:"generation"` // 0: bundle only
	Bundle      pki.BundleDigest `json:"bundle"`
	Bridge      pki.Fingerprint  `json:"bridge,omitzero"` // in its chain; zero: none
	CRL         Dated            `json:"crl,omitzero"`
	Staple      Dated            `json:"staple,omitzero"`
	StagedAt    time.Time        `json:"stagedAt"`
	Checked     bool             `json:"checked,omitempty"`
	ActivatedAt time.Time        `json:"activatedAt,omitzero"` // first
	CommittedAt time.Time        `json:"committedAt,omitzero"`
	Failed      *Failure         `json:"failed,omitempty"` // until the same step succeeds
	// What the check found of the process, before anything was touched.
	Away bool `json:"away,omitempty"` // it was not running, or could not be told
	Well bool `json:"well,omitempty"` // the member of the cluster was in its steady state
}

// Committed says whether the revision was proven and stood.
func (r Revision) Committed() bool { return !r.CommittedAt.IsZero() }

// Failure is a step that did not succeed.
type Failure struct {
	Step   Action    `json:"step"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
	Count  int       `json:"count"` // in a row
	// Transient: nothing was refused; something could not be reached.
	Transient bool `json:"transient,omitempty"`
	// After is when the one who could not said to come back; zero: it did not.
	After time.Duration `json:"after,omitempty"`
}

// Setback is the row of failed attempts since the last commit, for the same
// desires.
type Setback struct {
	Failure
	Generation uint64 `json:"generation"` // that was tried
	// What was desired then. A change of these begins a new row.
	Attempt      uint64           `json:"attempt"`
	RenewThrough uint64           `json:"renewThrough"`
	Terms        Terms            `json:"terms"`
	Bundle       pki.BundleDigest `json:"bundle"`
	Bridge       pki.Fingerprint  `json:"bridge,omitzero"`
	CRL          pki.Fingerprint  `json:"crl,omitzero"`
	Staple       pki.Fingerprint  `json:"staple,omitzero"`
	Aside        bool             `json:"aside,omitempty"` // what failed was to set the CRLs aside
}

// Generation returns the generation with the number, or nil.
func (r *Record) Generation(number uint64) *Generation {
	i := slices.IndexFunc(r.Generations, func(g Generation) bool { return g.Number == number })
	if i < 0 {
		return nil
	}
	return &r.Generations[i]
}

// Revision returns the revision with the number, or nil.
func (r *Record) Revision(number uint64) *Revision {
	i := slices.IndexFunc(r.Revisions, func(v Revision) bool { return v.Number == number })
	if i < 0 {
		return nil
	}
	return &r.Revisions[i]
}

// Standing returns the revision that was committed last, or nil: the one that
// stands, and that restores lead to.
func (r *Record) Standing() *Revision {
	for i := len(r.Revisions) - 1; i >= 0; i-- {
		if r.Revisions[i].Committed() {
			return &r.Revisions[i]
		}
	}
	return nil
}

// reliedOn is the generation that a process may live by, or nil: the one that
// stands, else the one that stood in another directory.
func (r *Record) reliedOn() *Generation {
	g := r.Stood
	if s := r.Standing(); s != nil {
		g = r.Generation(s.Generation)
	}
	if g == nil || g.Leaf == nil {
		return nil
	}
	return g
}

// Valid says whether the certificate is issued and within its dates.
func (g *Generation) Valid(now time.Time) bool {
	return g != nil && g.Leaf != nil && g.Refused == "" && !now.Before(g.Leaf.NotBefore) && now.Before(g.Leaf.NotAfter)
}
