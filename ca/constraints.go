package ca

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// constraints are the name constraints of an authority (RFC 5280, section
// 4.2.1.10). An empty list of permitted names leaves that kind of name free.
type constraints struct {
	authority                 string
	permittedDNS, excludedDNS []string
	permittedIPs, excludedIPs []netip.Prefix
	permittedURI, excludedURI []string // hosts
}

func constraintsOf(cert *x509.Certificate) constraints {
	return constraints{
		authority:    cert.Subject.CommonName,
		permittedDNS: cert.PermittedDNSDomains, excludedDNS: cert.ExcludedDNSDomains,
		permittedIPs: prefixes(cert.PermittedIPRanges), excludedIPs: prefixes(cert.ExcludedIPRanges),
		permittedURI: cert.PermittedURIDomains, excludedURI: cert.ExcludedURIDomains,
	}
}

// check holds every name against the constraints, before anything is signed:
// a certificate outside them would be refused by each who sees it.
func (c constraints) check(names pki.Names) error {
	for _, name := range names.DNS {
		// A wildcard stands for names below its domain; a permitted domain
		// covers all of those exactly when it covers one of them.
		if !pki.WithinDNS(strings.Replace(name, "*.", "any.", 1), c.permittedDNS, c.excludedDNS) {
			return c.refuse("DNS name", name, describeDNS(c.permittedDNS, c.excludedDNS))
		}
	}
	for _, addr := range names.IPs {
		if !withinIPs(addr, c.permittedIPs, c.excludedIPs) {
			return c.refuse("IP address", addr.String(), describeIPs(c.permittedIPs, c.excludedIPs))
		}
	}
	if names.URI != "" {
		u, err := url.Parse(names.URI)
		if err != nil {
			return fault.Wrap(fault.Invalid, err, "URI name %q", names.URI)
		}
		if !withinHosts(u.Hostname(), c.permittedURI, c.excludedURI) {
			return c.refuse("URI", names.URI, describeDNS(c.permittedURI, c.excludedURI))
		}
	}
	// OpenSSL reads the common name as a DNS name where there is none.
	if name := names.CommonName; len(names.DNS) == 0 && pki.LooksLikeDNS(name) && !pki.WithinDNS(name, c.permittedDNS, c.excludedDNS) {
		return c.refuse("common name (read as a DNS name)", name, describeDNS(c.permittedDNS, c.excludedDNS))
	}
	return nil
}

func (c constraints) refuse(kind, name, rule string) error {
	return fault.New(fault.Invalid, "%s %q is outside the name constraints of authority %q, which %s", kind, name, c.authority, rule).
		WithRemedy("use a name within them, or an issuing authority that permits this one")
}

func describeDNS(permitted, excluded []string) string {
	return describeLists(strings.Join(permitted, ", "), strings.Join(excluded, ", "))
}

func describeIPs(permitted, excluded []netip.Prefix) string {
	join := func(list []netip.Prefix) string {
		var texts []string
		for _, p := range list {
			texts = append(texts, p.String())
		}
		return strings.Join(texts, ", ")
	}
	return describeLists(join(permitted), join(excluded))
}

func describeLists(permitted, excluded string) string {
	switch {
	case excluded == "":
		return "permits " + permitted
	case permitted == "":
		return "excludes " + excluded
	}
	return fmt.Sprintf("permits %s and excludes %s", permitted, excluded)
}

func withinIPs(addr netip.Addr, permitted, excluded []netip.Prefix) bool {
	covers := func(p netip.Prefix) bool { return p.Contains(addr) }
	if slices.ContainsFunc(excluded, covers) {
		return false
	}
	return len(permitted) == 0 || slices.ContainsFunc(permitted, covers)
}

// withinHosts is as for DNS names, but a host without a leading dot covers
// itself only.
func withinHosts(host string, permitted, excluded []string) bool {
	covers := func(domain string) bool {
		if strings.HasPrefix(domain, ".") {
			return strings.HasSuffix(strings.ToLower(host), strings.ToLower(domain))
		}
		return strings.EqualFold(domain, host)
	}
	if slices.ContainsFunc(excluded, covers) {
		return false
	}
	return len(permitted) == 0 || slices.ContainsFunc(permitted, covers)
}

func prefixes(ranges []*net.IPNet) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range ranges {
		addr, ok := netip.AddrFromSlice(r.IP)
		ones, _ := r.Mask.Size()
		if ok {
			out = append(out, netip.PrefixFrom(addr, ones))
		}
	}
	return out
}

func ranges(prefixes []netip.Prefix) []*net.IPNet {
	var out []*net.IPNet
	for _, p := range prefixes {
		p = p.Masked()
		out = append(out, &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	return out
}
