// Package ca signs: certificates, and the lists of those that were revoked.
//
// An Authority prepares a certificate from a request and issues what it
// prepared, once. Between the two nothing can be changed, so what was checked
// is what is signed. The package keeps no state but that; who may have which
// certificate, and the record of it, are matters of the floors above.
package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"net/url"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// Shards is how many CRLs an authority publishes.
const Shards = pki.Shards

// Authority is an issuing authority that can sign: its certificate and key. What
// it certifies by does not change, and it is safe for use by many goroutines if
// its signer is.
type Authority struct {
	ID          string
	Certificate *x509.Certificate

	chain     [][]byte
	signer    crypto.Signer
	publicURL string
	permitted constraints
	algorithm algorithm
	selfCheck *selfCheck

	// What certificates of this authority have in common, encoded.
	keyID                         []byte // the authority's own key identifier, as an extension
	leafAccess, certificateAccess []byte // where to ask about a leaf; where the authority's certificate is
}

// NewAuthority puts an authority together. Chain is what is sent after a leaf:
// cert first, then a bridge if there is one, never a root. A root has no chain
// and signs CRLs only. What is public, the CRLs and the certificate, is found
// under publicURL.
func NewAuthority(id string, cert *x509.Certificate, chain []*x509.Certificate, signer crypto.Signer, publicURL string) (*Authority, error) {
	base, err := parsePublicURL(publicURL)
	if err != nil {
		return nil, err
	}
	if err := checkID(id); err != nil {
		return nil, err
	}
	switch {
	case !pki.KeyMatches(signer, cert):
		return nil, fault.New(fault.Invalid, "authority %s: the key is not the one that its certificate %q certifies", id, cert.Subject)
	case !cert.BasicConstraintsValid || !cert.IsCA:
		return nil, fault.New(fault.Invalid, "authority %s: %q is not a CA certificate", id, cert.Subject)
	case cert.KeyUsage&x509.KeyUsageCertSign == 0 || cert.KeyUsage&x509.KeyUsageCRLSign == 0:
		return nil, fault.New(fault.Invalid, "authority %s: the keyUsage of %q must have keyCertSign and cRLSign", id, cert.Subject)
	case len(cert.SubjectKeyId) == 0:
		return nil, fault.New(fault.Invalid, "authority %s: %q has no subject key identifier", id, cert.Subject)
	case isRoot(cert) && len(chain) > 0:
		return nil, fault.New(fault.Invalid, "authority %s: %q is a root, which is never sent", id, cert.Subject)
	case !isRoot(cert) && (len(chain) == 0 || !chain[0].Equal(cert)):
		return nil, fault.New(fault.Invalid, "authority %s: the chain must begin with its own certificate", id)
	case len(chain) > pki.MaxIntermediates:
		return nil, fault.New(fault.Invalid, "authority %s: the chain has %d certificates, at most %d may follow a leaf", id, len(chain), pki.MaxIntermediates)
	}
	a := &Authority{ID: id, Certificate: cert, signer: signer, publicURL: base, permitted: constraintsOf(cert)}
	a.selfCheck = &selfCheck{each: mustCheckEach(signer)}
	if a.algorithm, err = signatureAlgorithm(signer.Public()); err != nil {
		return nil, err
	}
	if err := a.encodeCommon(); err != nil {
		return nil, err
	}
	for _, link := range chain {
		a.chain = append(a.chain, link.Raw)
	}
	return a, nil
}

// ChainDER is what is sent after a leaf, the authority's own certificate first.
func (a *Authority) ChainDER() [][]byte { return slices.Clone(a.chain) }

// CRLURL is where the shard's CRL is published.
func (a *Authority) CRLURL(shard byte) string { return crlURL(a.publicURL, a.ID, shard) }

// OCSPURL is where the status of the authority's certificates is asked.
func (a *Authority) OCSPURL() string { return ocspURL(a.publicURL, a.ID) }

// CertificateURL is where the authority's certificate is published.
func (a *Authority) CertificateURL() string { return certificateURL(a.publicURL, a.ID) }

func isRoot(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawSubject, cert.RawIssuer)
}

func parsePublicURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", fault.New(fault.Invalid, "public URL %q must be http://HOST[:PORT][/PATH]", text).
			WithRemedy("it stands in each certificate as the base of its CRL's address")
	}
	return strings.TrimRight(text, "/"), nil
}

// checkID keeps an authority's ID fit to be a path segment of a URL.
func checkID(id string) error {
	fit := func(r rune) bool {
		return r == '-' || r == '_' || r == '.' || (r >= '0' && r <= '9') || (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z')
	}
	if id == "" || len(id) > 64 || strings.Trim(id, ".") == "" || strings.ContainsFunc(id, func(r rune) bool { return !fit(r) }) {
		return fault.New(fault.Invalid, "authority ID %q must be 1 to 64 letters, digits, hyphens, underscores and dots", id)
	}
	return nil
}

// Permits tells whether the authority's own name constraints let it certify
// these names; the error says which constraint does not.
func (a *Authority) Permits(names pki.Names) error { return a.permitted.check(names) }
