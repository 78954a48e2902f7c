package ca

import (
	"crypto/x509"
	"encoding/asn1"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// contain tells whether whatever inner lets through, c lets through too: then
// an authority with inner's constraints loses no name by standing under one
// with c's. It errs on the side of no.
func (c constraints) contain(inner constraints) error {
	switch {
	case !contains(c.permittedDNS, c.excludedDNS, inner.permittedDNS, inner.excludedDNS, coversDNS):
		return c.refuseAll("DNS names", inner, describeDNS(inner.permittedDNS, inner.excludedDNS), describeDNS(c.permittedDNS, c.excludedDNS))
	case !contains(c.permittedIPs, c.excludedIPs, inner.permittedIPs, inner.excludedIPs, coversIPs):
		return c.refuseAll("IP addresses", inner, describeIPs(inner.permittedIPs, inner.excludedIPs), describeIPs(c.permittedIPs, c.excludedIPs))
	case !contains(c.permittedURI, c.excludedURI, inner.permittedURI, inner.excludedURI, coversHosts):
		return c.refuseAll("URIs", inner, describeDNS(inner.permittedURI, inner.excludedURI), describeDNS(c.permittedURI, c.excludedURI))
	}
	return nil
}

func (c constraints) refuseAll(kind string, inner constraints, innerRule, rule string) error {
	if innerRule == describeLists("", "") {
		innerRule = "permits all"
	}
	return fault.New(fault.Invalid, "authority %q %s (%s), which is more than %q lets through: it %s", inner.authority, innerRule, kind, c.authority, rule)
}

// contains compares one kind of name. The sets that two constraints of a kind
// cover are either apart or one within the other.
func contains[T any](permitted, excluded, innerPermitted, innerExcluded []T, covers func(outer, inner T) bool) bool {
	coveredBy := func(list []T, one T) bool {
		return slices.ContainsFunc(list, func(outer T) bool { return covers(outer, one) })
	}
	if len(permitted) > 0 && len(innerPermitted) == 0 {
		return false
	}
	for _, one := range innerPermitted {
		if len(permitted) > 0 && !coveredBy(permitted, one) {
			return false
		}
	}
	for _, out := range excluded {
		touches := func(one T) bool { return covers(out, one) || covers(one, out) }
		reached := len(innerPermitted) == 0 || slices.ContainsFunc(innerPermitted, touches)
		if reached && !coveredBy(innerExcluded, out) {
			return false
		}
	}
	return true
}

// coversDNS compares domains: each covers itself and all below, with a leading
// dot only what is below; the empty one covers all.
func coversDNS(outer, inner string) bool {
	outer, inner = strings.ToLower(outer), strings.ToLower(inner)
	domain, below := strings.TrimPrefix(outer, "."), strings.TrimPrefix(inner, ".")
	if domain == below {
		return outer == domain || inner != below
	}
	return domain == "" || strings.HasSuffix(below, "."+domain)
}

// coversHosts compares hosts of URIs: each covers itself alone, with a leading
// dot all that is below.
func coversHosts(outer, inner string) bool {
	outer, inner = strings.ToLower(outer), strings.ToLower(inner)
	if strings.HasPrefix(outer, ".") {
		return strings.HasSuffix(inner, outer)
	}
	return outer == inner
}

func coversIPs(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

var oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}

// The kinds of general names (RFC 5280, section 4.2.1.6) that constraints knows,
// and e-mail, which no certificate of ours has.
var comparableKinds = []uint8{1, 2, 6, 7}

// constrainsOtherNames tells whether cert constrains names of a kind that
// constraints does not hold, such as directory names: crypto/x509 overlooks
// those where they are not critical, OpenSSL does not.
func constrainsOtherNames(cert *x509.Certificate) bool {
	for _, extension := range cert.Extensions {
		if extension.Id.Equal(oidNameConstraints) && !onlyComparable(extension.Value) {
			return true
		}
	}
	return false
}

func onlyComparable(value cryptobyte.String) bool {
	var body cryptobyte.String
	if !value.ReadASN1(&body, cryptobyte_asn1.SEQUENCE) {
		return false
	}
	for !body.Empty() {
		var subtrees cryptobyte.String
		var list cryptobyte_asn1.Tag
		if !body.ReadAnyASN1(&subtrees, &list) {
			return false
		}
		for !subtrees.Empty() {
			var subtree, name cryptobyte.String
			var kind cryptobyte_asn1.Tag
			if !subtrees.ReadASN1(&subtree, cryptobyte_asn1.SEQUENCE) || !subtree.ReadAnyASN1(&name, &kind) {
				return false
			}
			if !slices.ContainsFunc(comparableKinds, func(n uint8) bool { return kind == cryptobyte_asn1.Tag(n).ContextSpecific() }) {
				return false
			}
		}
	}
	return true
}
