package pki

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"slices"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// MaxAnchors is the most anchors that a bundle may hold.
const MaxAnchors = 1000

// Bundle is an immutable set of anchors. The zero value is empty.
//
// Anchors are self-signed CA certificates. A cross-signed bridge is none: a
// bundle with one would accept leaves without the bridge in their chain, and
// OpenSSL would not take it as an anchor.
type Bundle struct {
	anchors []*x509.Certificate // sorted by fingerprint, each once
	digest  BundleDigest
}

// BundleDigest names a bundle by its content: the SHA-256 over the DERs of its
// anchors in the order of their fingerprints. The empty bundle has the zero
// digest.
type BundleDigest [sha256.Size]byte

// NewBundle makes a bundle of at least one anchor; order and repetition do not
// matter.
func NewBundle(anchors []*x509.Certificate) (Bundle, error) {
	if len(anchors) == 0 {
		return Bundle{}, fault.New(fault.Invalid, "a bundle needs at least one anchor")
	}
	if len(anchors) > MaxAnchors {
		return Bundle{}, fault.New(fault.Invalid, "a bundle of %d anchors; at most %d are allowed", len(anchors), MaxAnchors)
	}
	type hashed struct {
		sum  Fingerprint
		cert *x509.Certificate
	}
	all := make([]hashed, 0, len(anchors))
	for _, cert := range anchors {
		if err := checkAnchor(cert); err != nil {
			return Bundle{}, err
		}
		all = append(all, hashed{FingerprintOf(cert.Raw), cert})
	}
	slices.SortFunc(all, func(a, b hashed) int { return bytes.Compare(a.sum[:], b.sum[:]) })
	all = slices.CompactFunc(all, func(a, b hashed) bool { return a.sum == b.sum })

	var sorted []*x509.Certificate
	for _, h := range all {
		sorted = append(sorted, h.cert)
	}
	return bundleOfSorted(sorted), nil
}

// bundleOfSorted takes anchors that are checked and in order.
func bundleOfSorted(anchors []*x509.Certificate) Bundle {
	b := Bundle{anchors: anchors}
	sum := sha256.New()
	for _, cert := range anchors {
		sum.Write(cert.Raw)
	}
	sum.Sum(b.digest[:0])
	return b
}

func checkAnchor(cert *x509.Certificate) error {
	refuse := func(rule string) error {
		return fault.New(fault.Invalid, "anchor %q %s", cert.Subject, rule)
	}
	if !cert.BasicConstraintsValid || !cert.IsCA {
		return refuse("is not a CA certificate (basicConstraints CA:TRUE is missing)")
	}
	if cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return refuse("may not sign certificates (keyUsage lacks keyCertSign)")
	}
	if !bytes.Equal(cert.RawSubject, cert.RawIssuer) {
		return fault.New(fault.Invalid, "anchor %q is not self-signed: it was issued by %q", cert.Subject, cert.Issuer).
			WithRemedy("put the root into the bundle; intermediates and bridges belong into chains")
	}
	if checkKeyIdentifier(cert, cert) != nil {
		return refuse("is self-signed but its authority key identifier names another key, so OpenSSL does not take it for a root")
	}
	// The signature of an anchor proves nothing, so an old hash is no reason
	// to refuse it; one by another key is: then this is a link, no root.
	err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature)
	if _, old := err.(x509.InsecureAlgorithmError); err != nil && !old {
		return refuse("is not self-signed: its signature is not by its own key")
	}
	return nil
}

// ParseBundlePEM reads anchors as ParseCertificatesPEM reads certificates.
func ParseBundlePEM(data []byte) (Bundle, error) {
	certs, err := ParseCertificatesPEM(data)
	if err != nil {
		return Bundle{}, err
	}
	return NewBundle(certs)
}

// ParseBundleDER reads one anchor from each element.
func ParseBundleDER(ders [][]byte) (Bundle, error) {
	certs, err := parseDERs(ders, MaxAnchors)
	if err != nil {
		return Bundle{}, err
	}
	return NewBundle(certs)
}

// Digest names the bundle.
func (b Bundle) Digest() BundleDigest { return b.digest }

// Empty tells whether there is no anchor.
func (b Bundle) Empty() bool { return len(b.anchors) == 0 }

// Anchors are the certificates in the order of their fingerprints.
func (b Bundle) Anchors() []*x509.Certificate { return slices.Clone(b.anchors) }

// DER is each anchor's encoding, in the same order.
func (b Bundle) DER() [][]byte {
	out := make([][]byte, 0, len(b.anchors))
	for _, cert := range b.anchors {
		out = append(out, cert.Raw)
	}
	return out
}

// PEM is the anchors as a trust store file, in the same order.
func (b Bundle) PEM() []byte { return EncodeCertificatesPEM(b.DER()...) }

// Pool is a new pool of the anchors.
func (b Bundle) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, cert := range b.anchors {
		pool.AddCert(cert)
	}
	return pool
}

// Contains tells whether cert is one of the anchors.
func (b Bundle) Contains(cert *x509.Certificate) bool {
	return slices.ContainsFunc(b.anchors, cert.Equal)
}

// Without is the bundle less one anchor; b itself where it is none of them.
func (b Bundle) Without(cert *x509.Certificate) Bundle {
	if !b.Contains(cert) {
		return b
	}
	rest := slices.DeleteFunc(b.Anchors(), cert.Equal)
	if len(rest) == 0 {
		return Bundle{}
	}
	return bundleOfSorted(rest)
}

// ParseBundleDigest reads the 64 hexadecimal digits that String writes.
func ParseBundleDigest(text string) (BundleDigest, error) {
	var d BundleDigest
	err := parseHex(d[:], "bundle digest", text)
	return d, err
}

// String is 64 lower-case hexadecimal digits.
func (d BundleDigest) String() string { return hex.EncodeToString(d[:]) }

// IsZero tells whether d is the digest of the empty bundle.
func (d BundleDigest) IsZero() bool { return d == BundleDigest{} }

// Compare orders digests, for sorting.
func (d BundleDigest) Compare(other BundleDigest) int {
	return cmp.Compare(string(d[:]), string(other[:]))
}
