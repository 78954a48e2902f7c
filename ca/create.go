package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/netip"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// backdate of authorities: their parties' clocks may be a little behind.
const authorityBackdate = 5 * time.Minute

// RootOrder says what a new root is to be like.
type RootOrder struct {
	TrustDomain spiffeid.TrustDomain
	Name        string           // common name; unique among the roots that are ever trusted together
	Key         crypto.Signer    // nil: a new one is made
	Algorithm   pki.KeyAlgorithm // of a new key
	Lifetime    time.Duration
}

// CreateRoot makes a root, and its key where there is none yet. It has no path length: a bridge from
// another root to this one needs the depth.
func CreateRoot(now time.Time, order RootOrder) (*x509.Certificate, crypto.Signer, error) {
	template, err := authorityTemplate(now, order.TrustDomain, order.Name, order.Lifetime)
	if err != nil {
		return nil, nil, err
	}
	key := order.Key
	if key == nil {
		if key, err = generate(order.Algorithm); err != nil {
			return nil, nil, err
		}
	}
	template.MaxPathLen = -1
	cert, err := signAuthority(template, template, key.Public(), key)
	return cert, key, err
}

// IssuingOrder says what a new issuing authority is to be like. ParentID is the
// ID of the root in the store; it stands in the addresses that the certificate
// carries. With an empty ParentID it carries none.
//
// Empty lists of permitted DNS names or addresses leave those free. The host of
// SPIFFE IDs is always held to the trust domain.
type IssuingOrder struct {
	ParentID     string
	TrustDomain  spiffeid.TrustDomain
	Name         string
	Algorithm    pki.KeyAlgorithm
	Lifetime     time.Duration
	PermittedDNS []string // a domain and all below it; with a leading dot only what is below
	PermittedIPs []netip.Prefix
}

// CreateIssuing makes an issuing authority under root, and its key: path length
// 0, name constraints, never valid longer than the root.
func CreateIssuing(now time.Time, root *x509.Certificate, rootKey crypto.Signer, order IssuingOrder, publicURL string) (*x509.Certificate, crypto.Signer, error) {
	key, err := generate(order.Algorithm)
	if err != nil {
		return nil, nil, err
	}
	cert, err := signIssuing(now, root, rootKey, order, key.Public(), publicURL)
	if err != nil {
		return nil, nil, err
	}
	return cert, key, nil
}

// signIssuing is the one way to an issuing authority, whoever made its key.
func signIssuing(now time.Time, root *x509.Certificate, rootKey crypto.Signer, order IssuingOrder, public crypto.PublicKey, publicURL string) (*x509.Certificate, error) {
	if err := checkParent(root, rootKey, public); err != nil {
		return nil, err
	}
	template, err := authorityTemplate(now, order.TrustDomain, order.Name, order.Lifetime)
	if err != nil {
		return nil, err
	}
	if err := constrain(template, order); err != nil {
		return nil, err
	}
	if err := constraintsOf(root).contain(constraintsOf(template)); err != nil {
		return nil, err
	}
	template.NotBefore, template.NotAfter, err = validity(now, order.Lifetime, authorityBackdate, root)
	if err != nil {
		return nil, err
	}
	if order.ParentID != "" {
		if err := addAddresses(template, order.ParentID, publicURL); err != nil {
			return nil, err
		}
	}
	template.MaxPathLen, template.MaxPathLenZero = 0, true
	return signAuthority(template, root, public, rootKey)
}

// checkParent tells whether an issuing authority for the public key can stand
// under root.
func checkParent(root *x509.Certificate, rootKey crypto.Signer, public crypto.PublicKey) error {
	if !pki.KeyMatches(rootKey, root) {
		return fault.New(fault.Invalid, "the key is not that of the root %q", root.Subject)
	}
	if sameKey(public, root.PublicKey) {
		return fault.New(fault.Invalid, "the key is that of the root %q itself; an issuing authority needs its own", root.Subject)
	}
	if n, limited := pathLength(root); limited && n < 1 {
		return fault.New(fault.Invalid, "the root %q allows no authority below it (pathLenConstraint)", root.Subject)
	}
	_, err := pki.AlgorithmOf(public)
	return err
}

// generate makes a key; the zero algorithm is the default one.
func generate(algorithm pki.KeyAlgorithm) (crypto.Signer, error) {
	algorithm, err := pki.ParseKeyAlgorithm(string(algorithm))
	if err != nil {
		return nil, err
	}
	return algorithm.Generate()
}

// authorityTemplate is what all authorities share.
func authorityTemplate(now time.Time, td spiffeid.TrustDomain, name string, lifetime time.Duration) (*x509.Certificate, error) {
	if err := checkAuthority(td, name, lifetime); err != nil {
		return nil, err
	}
	serial, err := pki.NewSerial(now, rand.Reader)
	if err != nil {
		return nil, err
	}
	notBefore := now.Add(-authorityBackdate).UTC().Truncate(time.Second)
	return &x509.Certificate{
		SerialNumber:          serial.Big(),
		Subject:               authorityName(td, name),
		NotBefore:             notBefore,
		NotAfter:              now.Add(lifetime).UTC().Truncate(time.Second),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}, nil
}

// checkAuthority holds what can be said of an order before anything is made.
func checkAuthority(td spiffeid.TrustDomain, name string, lifetime time.Duration) error {
	if td.IsZero() {
		return fault.New(fault.Invalid, "authority %q needs a trust domain", name)
	}
	if _, err := pki.ParseNames(name, nil, nil, ""); err != nil {
		return fault.Wrap(fault.Invalid, err, "name of the authority")
	}
	if lifetime < time.Hour {
		return fault.New(fault.Invalid, "authority %q: a lifetime of %s is too short, the least is 1h", name, lifetime)
	}
	return nil
}

// authorityName has the trust domain as the organization, cut to RFC 5280's
// upper bound of 64.
func authorityName(td spiffeid.TrustDomain, name string) pkix.Name {
	organization := td.Name()
	return pkix.Name{Organization: []string{organization[:min(len(organization), 64)]}, CommonName: name}
}

// constrain checks the permitted names and puts them into the template.
func constrain(template *x509.Certificate, order IssuingOrder) error {
	for _, domain := range order.PermittedDNS {
		domain = strings.ToLower(domain)
		if err := pki.CheckDNSName(strings.TrimPrefix(domain, ".")); err != nil || strings.Contains(domain, "*") {
			return fault.New(fault.Invalid, "permitted DNS name %q must be a domain, or a dot and a domain", domain)
		}
		template.PermittedDNSDomains = append(template.PermittedDNSDomains, domain)
	}
	for _, p := range order.PermittedIPs {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fault.New(fault.Invalid, "permitted IP range %q must be an IPv4 or IPv6 prefix", p)
		}
	}
	template.PermittedIPRanges = ranges(order.PermittedIPs)
	template.PermittedURIDomains = []string{order.TrustDomain.Name()}
	template.PermittedDNSDomainsCritical = true
	return nil
}

// addAddresses names where the parent's certificate is published, and the CRL
// that would list this certificate.
func addAddresses(template *x509.Certificate, parentID, publicURL string) error {
	base, err := parsePublicURL(publicURL)
	if err != nil {
		return err
	}
	if err := checkID(parentID); err != nil {
		return err
	}
	serial, err := pki.SerialOf(template)
	if err != nil {
		return err
	}
	template.CRLDistributionPoints = []string{crlURL(base, parentID, serial.Shard())}
	template.IssuingCertificateURL = []string{certificateURL(base, parentID)}
	return nil
}

// signAuthority signs template by the parent's key and reads the result back.
func signAuthority(template, parent *x509.Certificate, public crypto.PublicKey, parentKey crypto.Signer) (*x509.Certificate, error) {
	if len(template.SubjectKeyId) == 0 { // a bridge has its root's
		key, err := encodeKey(public)
		if err != nil {
			return nil, err
		}
		template.SubjectKeyId = key.id
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, parentKey)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "sign authority %q", template.Subject.CommonName)
	}
	return x509.ParseCertificate(der)
}
