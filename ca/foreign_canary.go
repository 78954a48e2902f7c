package ca

import (
	"crypto/x509"
	"net/netip"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// What an authority for canaries may certify where its root permits all: with no
// list it could certify any name, and a canary has none of these kinds.
const noDNS = "invalid" // RFC 2606, section 2

var noIP = netip.MustParsePrefix("192.0.2.0/32") // RFC 5737

// CanaryOrder narrows an order to an authority that signs canaries under a root that
// is not ours: names of the trust domain's own, and of all other kinds one that
// nobody has. It refuses a root under which there can be none.
func CanaryOrder(root *x509.Certificate, order IssuingOrder) (IssuingOrder, error) {
	if n, limited := pathLength(root); limited && n < 1 {
		return order, fault.New(fault.Invalid, "the root %q allows no authority below it (pathLenConstraint), and its own key is not kept here: no canary can be signed under it", root.Subject).
			WithRemedy("import it without its key: what is under it stays unprovable")
	}
	if !forTLS(root) {
		return order, fault.New(fault.Invalid, "the extended key usages of the root %q leave out serverAuth or clientAuth: no process would take a canary under it", root.Subject).
			WithRemedy("import it without its key: what is under it stays unprovable")
	}
	order.PermittedDNS, order.PermittedIPs = []string{noDNS}, []netip.Prefix{noIP}
	if len(root.PermittedDNSDomains) > 0 {
		order.PermittedDNS[0] = "rotunda-canaries." + strings.TrimPrefix(root.PermittedDNSDomains[0], ".")
	}
	if len(root.PermittedIPRanges) > 0 {
		block, err := netip.ParsePrefix(root.PermittedIPRanges[0].String())
		if err != nil {
			return order, fault.Wrap(fault.Invalid, err, "permitted range of the root %q", root.Subject)
		}
		order.PermittedIPs[0] = netip.PrefixFrom(block.Addr(), block.Addr().BitLen())
	}
	return order, constraintsOf(root).contain(constraintsOf(constrained(order)))
}

// constrained is a certificate with no more than the order's constraints.
func constrained(order IssuingOrder) *x509.Certificate {
	certificate := &x509.Certificate{}
	certificate.Subject.CommonName = order.Name
	_ = constrain(certificate, order) // what it refuses the ceremony refuses, too
	return certificate
}
