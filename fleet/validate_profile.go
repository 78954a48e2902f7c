package fleet

import (
	"math"
	"time"
)

// Bounds of what a profile may say.
const (
	maxLifetime  = 3650 * day
	longLifetime = 398 * day
	maxBackdate  = 24 * time.Hour
	maxHeap      = 3.0 // renewals in the fullest hour, in means
)

func (v *validator) profile(p *Profile) {
	v.lifetime(p)
	v.renewal(p)
	if p.Backdate.Std() > maxBackdate {
		v.fail("spec.backdate", "value", "write 24h or less", "backdate %s is longer than a day", p.Backdate)
	}
	switch {
	case p.KeyAge > 0 && p.KeyAge < p.Lifetime:
		v.fail("spec.keyAge", "arithmetic", "write a longer keyAge, or 0s for a new key each time",
			"keyAge %s is shorter than the lifetime %s: no key could ever be used twice", p.KeyAge, p.Lifetime)
	case p.KeyAge.Std() > maxLifetime:
		v.fail("spec.keyAge", "value", "write a shorter keyAge", "keyAge %s is longer than ten years", p.KeyAge)
	}
	if len(p.Usages) == 0 {
		v.fail("spec.usages", "required", "write [serverAuth], [clientAuth], or both where one leaf must do both", "spec.usages is missing")
	}
	unique(v, "spec.usages", p.Usages)
	unique(v, "spec.tls.groups", p.TLS.Groups)
	v.revocation(p)
}

// revocation checks that lists outlive the outage that certificates outlive.
func (v *validator) revocation(p *Profile) {
	switch {
	case !p.Revocation.CRL && p.Revocation.OnStale != "":
		v.fail("spec.revocation.onStale", "arithmetic", "write revocation.crl: true, or leave onStale out",
			"onStale says what becomes of CRLs, and this profile asks for none")
	case p.Revocation.CRL && p.RideOut.Std() > MostRideOutWithCRL:
		v.fail("spec.rideOut", "crl-ends-first", "write rideOut: "+Duration(MostRideOutWithCRL).String()+" or less, or leave revocation.crl out",
			"rideOut %s is longer than CRLs last: they are good for %s, are signed afresh every %s, and a day is kept as margin; after their end the process refuses everybody",
			p.RideOut, Duration(CRLLife), Duration(CRLPeriod))
	}
}

func (v *validator) lifetime(p *Profile) {
	switch life := p.Lifetime.Std(); {
	case life == 0:
		v.fail("spec.lifetime", "required", "write how long a certificate is good for, such as 24h", "spec.lifetime is missing")
	case life%time.Second != 0:
		v.fail("spec.lifetime", "value", "write whole seconds", "lifetime %s: certificates count whole seconds", p.Lifetime)
	case life > maxLifetime:
		v.fail("spec.lifetime", "value", "write a shorter lifetime", "lifetime %s is longer than ten years", p.Lifetime)
	case life > longLifetime:
		v.warn("spec.lifetime", "long-lifetime", "write a shorter lifetime: renewal costs nobody any work",
			"lifetime %s is longer than 398 days, which many verifiers refuse", p.Lifetime)
	}
}

// renewal checks that the window opens before it closes, rideOut before the end.
func (v *validator) renewal(p *Profile) {
	if math.IsNaN(p.RenewAt) || p.RenewAt <= 0 || p.RenewAt >= 1 {
		v.fail("spec.renewAt", "value", "write a share such as 0.5", "renewAt %v must be more than 0 and less than 1", p.RenewAt)
		return
	}
	if p.Lifetime <= 0 {
		return
	}
	opens, closes := p.RenewalWindow()
	if closes <= opens {
		v.fail("spec.rideOut", "arithmetic", "write a longer lifetime, a shorter rideOut or a lower renewAt",
			"certificates must be renewed %s before their end to outlive an outage of rideOut %s, but of lifetime %s the window opens at %v, with only %s left",
			p.RideOut, p.RideOut, p.Lifetime, p.RenewAt, Duration(p.Lifetime.Std()-opens))
		return
	}
	if heap := heapOf(opens, closes); heap > maxHeap {
		v.warn("spec.renewAt", "narrow-window", "write a lower renewAt, a shorter rideOut or a longer lifetime",
			"the renewal window is %s of lifetime %s: certificates that were issued together renew in a heap, %.0f times as many an hour as on average",
			Duration((closes - opens).Round(time.Second)), p.Lifetime, heap)
	}
}

// heapOf is how many times the average the renewals of an hour can be, where
// all certificates were issued together and renew evenly over their window.
func heapOf(opens, closes time.Duration) float64 {
	window := closes - opens
	return float64(opens+window/2) / float64(window)
}
