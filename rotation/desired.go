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
	// Bridge is the certificate that follows the issuing authority in the chain
	// of each generation that it leads on from. Zero: none does.
	Bridge pki.Fingerprint
	// CRL is the certificate revocation lists that the process is to read, all in
	// one file. OpenOnStale: they are taken away before they end, where no
	// successor came; else they stay, and the process refuses everybody.
	CRL         Dated
	OpenOnStale bool
	// Staple is the OCSP response for the newest generation that the control
	// plane knows.
	Staple Dated
	// Revoked are generations that are not to be gone back to.
	Revoked []uint64

	KeyAge  time.Duration // how long a key may be used again; 0: each generation has a new one
	RideOut time.Duration // the longest outage of the control plane to outlive
	Grace   time.Duration // how long the previous revision is kept after a commit
	Repair  bool          // whether drift is put back, or only reported

	Window       Window
	RenewThrough uint64    // renew now if the generation is not above this
	RenewFrom    time.Time // RenewThrough and NewKey count from then on; zero: at once
	NewKey       bool      // with RenewThrough: whatever the key's age
	Attempt      uint64    // raised by an operator: clears the back-off
	ClockOff     bool      // this host's clock is wrong or was never compared: nothing is destroyed by it
	Hold         string    // not empty: begin nothing new, and why
	Orphan       bool      // nothing wants this placement any more: keep it, begin nothing

	// NeedsSlot: the target is a member of a cluster, and what stands is not
	// switched from without leave. Slot is that leave, where it was granted.
	NeedsSlot bool
	Slot      Slot
}

// Slot is leave to take a member of a cluster out of its steady state once.
type Slot struct {
	ID       string    // empty: none is granted
	Revision uint64    // that it was asked for
	Until    time.Time // not begun by then, it may not be begun any more
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
