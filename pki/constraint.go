package pki

import (
	"crypto/x509"
	"strings"
)

// checkCommonNameConstraints holds a rule of OpenSSL's that crypto/x509 does
// not have: the common name of a leaf without DNS names counts as one, if it
// could be one, and must then be within the name constraints.
func checkCommonNameConstraints(path []*x509.Certificate) error {
	leaf := path[0]
	name := leaf.Subject.CommonName
	if len(leaf.DNSNames) > 0 || !LooksLikeDNS(name) {
		return nil
	}
	for _, ca := range path[1:] {
		if !WithinDNS(name, ca.PermittedDNSDomains, ca.ExcludedDNSDomains) {
			return refuseChain("the common name %q is not within the DNS names that %s permits; OpenSSL reads it as a DNS name", name, describe(ca))
		}
	}
	return nil
}

// LooksLikeDNS tells whether OpenSSL would read a common name as a DNS name:
// two or more labels of letters, digits, hyphens and underscores.
func LooksLikeDNS(name string) bool {
	dotted := false
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_':
		case i == 0 || i == len(name)-1:
			return false
		case c == '-':
		case c == '.' && name[i-1] != '.' && name[i-1] != '-' && name[i+1] != '.' && name[i+1] != '-':
			dotted = true
		default:
			return false
		}
	}
	return dotted
}

// WithinDNS tells whether a DNS name is within permitted domains (no list: all
// are) and outside excluded ones. A domain covers itself and all below it; with
// a leading dot only what is below it (RFC 5280, section 4.2.1.10).
func WithinDNS(name string, permitted, excluded []string) bool {
	for _, domain := range excluded {
		if coversDNS(domain, name) {
			return false
		}
	}
	for _, domain := range permitted {
		if coversDNS(domain, name) {
			return true
		}
	}
	return len(permitted) == 0
}

func coversDNS(domain, name string) bool {
	domain, name = strings.ToLower(domain), strings.ToLower(name)
	if domain == "" || domain == name {
		return true
	}
	return strings.HasSuffix(name, "."+strings.TrimPrefix(domain, "."))
}
