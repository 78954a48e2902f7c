package rotation

import (
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// Desired is what the control plane wants of one placement.
type Desired struct {
	Placement string // its id, by which renewals are spread
	Identity  bool   // false: deliver the bundle only
	Algorithm string // of the key
	Terms     Terms  // what a certificate must say to be the wanted one
	Bundle    pki.BundleDigest

	KeyAge  time.Duration // how long a key may be used again; 0: each generation has a new one
	RideOut time.Duration // the longest outage of the control plane to outlive
	Grace   time.Duration // how long the previous revision is kept after a commit
	Repair  bool          // whether drift is put back, or only reported

	Window       Window
	RenewThrough uint64 // renew now if the generation is not above this
	NewKey       bool   // with RenewThrough: whatever the key's age
	Attempt      uint64 // raised by an operator: clears the back-off
	ClockOff     bool   // this host's clock is wrong or was never compared: nothing is destroyed by it
	Hold         string // not empty: begin nothing new, and why
	Orphan       bool   // nothing wants this placement any more: keep it, begin nothing
}

// Window is the span in which an ordinary renewal of a generation falls
// (RFC 9773).
type Window struct {
	Generation    uint64
	After, Before time.Time
}

// Terms is the part of a certificate that, when something else is wanted,
// makes another certificate necessary at once: its names, its key's algorithm
// and its usages. A changed lifetime is not: it comes with the next renewal,
// so that an edit does not reissue a fleet.
type Terms string

// TermsOf writes terms in one way whatever the order of names and usages.
func TermsOf(algorithm string, usages, names []string) Terms {
	usages, names = slices.Clone(usages), slices.Clone(names)
	slices.Sort(usages)
	slices.Sort(names)
	return Terms(strings.Join([]string{
		algorithm, strings.Join(slices.Compact(usages), "+"), strings.Join(slices.Compact(names), " "),
	}, " | "))
}
