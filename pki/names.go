package pki

import (
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Names are what a certificate says of its holder: a common name and subject
// alternative names. At least one is there. DNS names are in lower case,
// addresses in their shortest form, nothing stands twice; order is kept.
type Names struct {
	CommonName string
	DNS        []string
	IPs        []netip.Addr
	URI        string // a SPIFFE ID, or empty
}

// ParseNames checks each name by its own rule: RFC 5280's upper bound for the
// common name, RFC 1123's syntax for DNS names (a leading "*." is allowed), no
// zones in addresses, a SPIFFE ID with a path as the URI.
func ParseNames(commonName string, dns, ips []string, uri string) (Names, error) {
	n := Names{CommonName: commonName}
	if err := checkCommonName(commonName); err != nil {
		return Names{}, err
	}
	for _, text := range dns {
		name := strings.ToLower(text)
		if err := CheckDNSName(name); err != nil {
			return Names{}, err
		}
		if !slices.Contains(n.DNS, name) {
			n.DNS = append(n.DNS, name)
		}
	}
	for _, text := range ips {
		addr, err := parseAddress(text)
		if err != nil {
			return Names{}, err
		}
		if !slices.Contains(n.IPs, addr) {
			n.IPs = append(n.IPs, addr)
		}
	}
	if uri != "" {
		id, err := spiffeid.FromString(uri)
		if err != nil {
			return Names{}, fault.Wrap(fault.Invalid, err, "URI name %q must be a SPIFFE ID", uri)
		}
		if id.Path() == "" {
			return Names{}, fault.New(fault.Invalid, "SPIFFE ID %q names a trust domain; a certificate's must have a path", uri)
		}
		n.URI = id.String()
	}
	if n.IsEmpty() {
		return Names{}, fault.New(fault.Invalid, "no names: a certificate needs a common name, a DNS name, an IP address or a SPIFFE ID")
	}
	return n, nil
}

func checkCommonName(name string) error {
	if name == "" {
		return nil
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fault.New(fault.Invalid, "common name %q must be printable UTF-8", name)
	}
	if strings.TrimSpace(name) != name {
		return fault.New(fault.Invalid, "common name %q must not begin or end with a space", name)
	}
	if n := utf8.RuneCountInString(name); n > 64 {
		return fault.New(fault.Invalid, "common name %q has %d characters; RFC 5280 allows 64", name, n).
			WithRemedy("put long names into dnsNames")
	}
	return nil
}

// CheckDNSName tells what is wrong with a lower-case DNS name.
func CheckDNSName(name string) error {
	refuse := func(rule string) error {
		return fault.New(fault.Invalid, "DNS name %q %s", name, rule)
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return fault.New(fault.Invalid, "DNS name %q is an IP address", name).WithRemedy("list it under ipAddresses")
	}
	if len(name) == 0 || len(name) > 253 {
		return refuse("must have 1 to 253 characters")
	}
	labels := strings.Split(name, ".")
	if labels[0] == "*" {
		if len(labels) < 2 {
			return refuse("is a bare wildcard; it must stand before a domain")
		}
		labels = labels[1:]
	}
	for _, label := range labels {
		if len(label) == 0 || len(label) > 63 {
			return refuse("must have labels of 1 to 63 characters")
		}
		if label[0] == '-' || label[len(label)-1] == '-' {
			return refuse("has a label that begins or ends with a hyphen")
		}
		if strings.ContainsFunc(label, func(r rune) bool {
			return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9')
		}) {
			return refuse("may only have letters, digits, hyphens and dots (RFC 1123; other scripts as xn-- labels; * only as the whole first label)")
		}
	}
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" {
		return refuse("ends in a number, so clients would read it as an address")
	}
	return nil
}

func parseAddress(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, fault.New(fault.Invalid, "IP address %q must be IPv4 or IPv6 text", text)
	}
	if addr.Zone() != "" {
		return netip.Addr{}, fault.New(fault.Invalid, "IP address %q has a zone, which a certificate can't hold", text)
	}
	if addr = addr.Unmap(); addr.IsUnspecified() {
		return netip.Addr{}, fault.New(fault.Invalid, "IP address %q is the unspecified address, which names no host", text)
	}
	return addr, nil
}

// NamesOf reads the names of a certificate as they are. Only the first URI
// counts; e-mail addresses have no place in Names.
func NamesOf(cert *x509.Certificate) Names {
	n := Names{CommonName: cert.Subject.CommonName, DNS: slices.Clone(cert.DNSNames)}
	for _, ip := range cert.IPAddresses {
		if addr, ok := netip.AddrFromSlice(ip); ok {
			n.IPs = append(n.IPs, addr.Unmap())
		}
	}
	if len(cert.URIs) > 0 {
		n.URI = cert.URIs[0].String()
	}
	return n
}

// IsEmpty tells whether there is no name at all.
func (n Names) IsEmpty() bool {
	return n.CommonName == "" && len(n.DNS) == 0 && len(n.IPs) == 0 && n.URI == ""
}

// Equal tells whether both hold the same names, in whatever order.
func (n Names) Equal(other Names) bool {
	return n.CommonName == other.CommonName && n.URI == other.URI &&
		sameSet(n.DNS, other.DNS) && sameSet(n.IPs, other.IPs)
}

func sameSet[T comparable](a, b []T) bool {
	inAll := func(a, b []T) bool {
		return !slices.ContainsFunc(a, func(v T) bool { return !slices.Contains(b, v) })
	}
	return inAll(a, b) && inAll(b, a)
}

// Strings lists the names for people: "CN=" and the common name unless it
// stands among the DNS names too, then DNS names, addresses, URI.
func (n Names) Strings() []string {
	var out []string
	if n.CommonName != "" && !slices.Contains(n.DNS, n.CommonName) {
		out = append(out, "CN="+n.CommonName)
	}
	out = append(out, n.DNS...)
	for _, ip := range n.IPs {
		out = append(out, ip.String())
	}
	if n.URI != "" {
		out = append(out, n.URI)
	}
	return out
}
