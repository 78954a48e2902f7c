package fleet

import (
	"math"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// Profile is what a certificate of a kind is like.
type Profile struct {
	// The key's algorithm.
	Algorithm Algorithm `json:"algorithm"`
	// How long a certificate is good for from its issuance.
	Lifetime Duration `json:"lifetime"`
	// The share of the lifetime after which the renewal window opens. It
	// closes rideOut before the end. Certificates that were issued at one
	// moment are spread over it, so a wide one keeps them apart. Default:
	// 0.5, which makes it a third of the life.
	RenewAt float64 `json:"renewAt"`
	// The longest outage of the control plane that certificates outlive: the
	// renewal window closes this long before the end. Default: a sixth of
	// the lifetime.
	RideOut Duration `json:"rideOut"`
	// How far before its issuance a certificate is already valid, for clocks
	// that are slow.
	Backdate Duration `json:"backdate"`
	// How long a key may be used again at renewals. 0s: each certificate has
	// a new key.
	KeyAge Duration `json:"keyAge"`
	// What certificates are for: serverAuth, clientAuth or, where one leaf
	// must do both, both.
	Usages []Usage `json:"usages,omitempty"`
	// What handshakes with the running process must look like.
	TLS TLS `json:"tls"`
	// How long the previous generation is kept, with its key, after the new
	// one was proven.
	Grace Duration `json:"grace"`
	// Whether files that someone edited on the host are put back. Without it
	// the edit is only reported.
	RepairDrift bool `json:"repairDrift,omitempty"`
	// How relying parties learn of revocations.
	Revocation Revocation `json:"revocation,omitzero"`
}

func (*Profile) kind() Kind { return KindProfile }

// TLS is what handshakes with the running process must look like.
type TLS struct {
	// The lowest protocol version that may be served: "1.2" or "1.3".
	MinVersion TLSVersion `json:"minVersion"`
	// The key exchange groups of which one must be used. Empty: any.
	Groups []Group `json:"groups,omitempty"`
}

// Revocation is how relying parties learn of revocations.
type Revocation struct {
	// Whether CRLs are delivered beside the bundle.
	CRL bool `json:"crl,omitempty"`
	// What becomes of delivered CRLs whose successors do not come in time.
	// closed: they stay, and after their end the process refuses every
	// client. open: the agent takes them away and reloads before that, on
	// record. Default: closed.
	OnStale OnStale `json:"onStale,omitempty"`
	// Whether OCSP responses are delivered for the process to staple.
	Staple bool `json:"staple,omitempty"`
}

// How long a CRL of an issuing authority is good for; after how long it is signed
// afresh although nothing changed; and the longest rideOut of a profile that has
// CRLs delivered: what is left of a list at the worst, less a day.
const (
	CRLLife            = 10 * 24 * time.Hour
	CRLPeriod          = 24 * time.Hour
	MostRideOutWithCRL = CRLLife - CRLPeriod - 24*time.Hour
)

// OnStale says what becomes of CRLs that are about to end.
type OnStale string

// What becomes of CRLs that are about to end.
const (
	StaleClosed OnStale = "closed"
	StaleOpen   OnStale = "open"
)

func (OnStale) values() []string { return []string{string(StaleClosed), string(StaleOpen)} }

// Algorithm names a key algorithm, as pki has it.
type Algorithm string

func (Algorithm) values() []string {
	return []string{"ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-2048", "rsa-3072", "rsa-4096"}
}

// Key is the algorithm as pki has it.
func (a Algorithm) Key() pki.KeyAlgorithm { return pki.KeyAlgorithm(a) }

// Usage is an extended key usage, by its name in RFC 5280.
type Usage string

// The usages.
const (
	ServerAuth Usage = "serverAuth"
	ClientAuth Usage = "clientAuth"
)

func (Usage) values() []string { return []string{string(ServerAuth), string(ClientAuth)} }

// TLSVersion is a version of TLS: "1.2" or "1.3".
type TLSVersion string

func (TLSVersion) values() []string { return []string{"1.2", "1.3"} }

// Group is a TLS key exchange group, by the name that crypto/tls gives it.
type Group string

func (Group) values() []string {
	return []string{
		"X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024",
		"X25519", "CurveP256", "CurveP384", "CurveP521",
	}
}

func defaultProfile() *Profile {
	return &Profile{
		Algorithm: "ecdsa-p256",
		RenewAt:   0.5,
		Backdate:  Duration(time.Minute),
		TLS:       TLS{MinVersion: "1.2"},
		Grace:     Duration(time.Hour),
	}
}

func (p *Profile) complete(given func(string) bool) {
	if !given("spec.rideOut") {
		p.RideOut = Duration((p.Lifetime.Std() / 6).Truncate(time.Millisecond))
	}
	if p.Revocation.CRL && !given("spec.revocation.onStale") {
		p.Revocation.OnStale = StaleClosed
	}
}

// RenewalWindow is the span, from a certificate's notBefore + backdate, in
// which an ordinary renewal falls.
func (p *Profile) RenewalWindow() (opens, closes time.Duration) {
	opens = time.Duration(float64(p.Lifetime) * p.RenewAt)
	return opens, p.Lifetime.Std() - p.RideOut.Std()
}

// MostCrowding is the Crowding above which a renewal window is too narrow.
const MostCrowding = 3

// Crowding is how many times the mean rate of renewals is reached within the
// window of certificates that were issued at one moment: the mean time between
// two renewals of one placement over the width of the window. A window of no
// width has none: +Inf.
func (p *Profile) Crowding() float64 {
	opens, closes := p.RenewalWindow()
	if closes <= opens {
		return math.Inf(1)
	}
	return (opens + closes).Seconds() / 2 / (closes - opens).Seconds()
}
