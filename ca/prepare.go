package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// Terms are what a profile says of a certificate, and an authority must know.
type Terms struct {
	Lifetime time.Duration // from now on
	Backdate time.Duration // how long before now the validity begins
	Usages   []x509.ExtKeyUsage
}

// Request is what a certificate is asked for. The public key comes from a CSR
// that was checked; the names come from what is declared.
type Request struct {
	PublicKey crypto.PublicKey
	Names     pki.Names
	Terms     Terms
}

// Prepared is a certificate that may be signed, once, by the authority that
// prepared it. Only Prepare makes one.
type Prepared struct {
	authority           *Authority
	tbs                 []byte
	serial              pki.Serial
	notBefore, notAfter time.Time
	spki                pki.SPKIHash
	used                atomic.Bool
}

// The bounds of what Prepare takes.
const (
	shortestLife    = time.Second
	longestBackdate = 24 * time.Hour
)

// Prepare checks the request against everything that binds this authority and
// lays out the certificate. Nothing is signed yet.
func (a *Authority) Prepare(now time.Time, r Request) (*Prepared, error) {
	if err := a.check(r); err != nil {
		return nil, err
	}
	return a.layOut(now, r, a.leafAccess, func(b *cryptobyte.Builder, serial pki.Serial) {
		addCRLAddress(b, a.CRLURL(serial.Shard()))
	})
}

// layOut is what certificates of all kinds have in common. They differ in where
// to ask about them (access), and in their last extension.
func (a *Authority) layOut(now time.Time, r Request, access []byte, last func(*cryptobyte.Builder, pki.Serial)) (*Prepared, error) {
	notBefore, notAfter, err := validity(now, r.Terms.Lifetime, r.Terms.Backdate, a.Certificate)
	if err != nil {
		return nil, err
	}
	serial, err := pki.NewSerial(now, rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := encodeKey(r.PublicKey)
	if err != nil {
		return nil, err
	}
	c := certificate{
		serial: serial, notBefore: notBefore, notAfter: notAfter, names: r.Names, key: key,
		keyUsage: keyUsage(r.PublicKey, r.Terms.Usages), usages: r.Terms.Usages, access: access, last: last,
	}
	tbs, err := a.encode(c)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "lay out a certificate")
	}
	return &Prepared{authority: a, tbs: tbs, serial: serial, notBefore: notBefore, notAfter: notAfter, spki: key.hash}, nil
}

func (a *Authority) check(r Request) error {
	if err := a.checkKey(r.PublicKey); err != nil {
		return err
	}
	if r.Names.IsEmpty() {
		return fault.New(fault.Invalid, "a certificate needs at least one name")
	}
	if len(r.Terms.Usages) == 0 {
		return fault.New(fault.Invalid, "a certificate needs a usage: serverAuth, clientAuth or both")
	}
	for i, usage := range r.Terms.Usages {
		if usage != x509.ExtKeyUsageServerAuth && usage != x509.ExtKeyUsageClientAuth {
			return fault.New(fault.Invalid, "usage %d: only serverAuth and clientAuth are issued", i+1)
		}
		if slices.Contains(r.Terms.Usages[:i], usage) {
			return fault.New(fault.Invalid, "usage %d stands twice", i+1)
		}
	}
	if r.Terms.Lifetime < shortestLife {
		return fault.New(fault.Invalid, "a lifetime of %s is too short; the least is %s", r.Terms.Lifetime, shortestLife)
	}
	if r.Terms.Backdate < 0 || r.Terms.Backdate > longestBackdate {
		return fault.New(fault.Invalid, "a backdate of %s is outside 0s to %s", r.Terms.Backdate, longestBackdate)
	}
	return a.Permits(r.Names)
}

func (a *Authority) checkKey(public crypto.PublicKey) error {
	if isRoot(a.Certificate) {
		return fault.New(fault.Invalid, "authority %s is a root: it signs authorities, not leaves", a.ID)
	}
	if _, err := pki.AlgorithmOf(public); err != nil {
		return err
	}
	if sameKey(a.signer.Public(), public) {
		return fault.New(fault.Invalid, "the key is the authority's own; a leaf needs its own key")
	}
	return nil
}

func sameKey(a, b crypto.PublicKey) bool {
	public, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(b)
}

// validity is from now − backdate to now + lifetime, cut to the issuer's own.
// When less than a tenth of the lifetime would be left it refuses: such a
// certificate would be due for renewal at once, again and again.
func validity(now time.Time, lifetime, backdate time.Duration, issuer *x509.Certificate) (notBefore, notAfter time.Time, err error) {
	if now.Before(issuer.NotBefore) {
		return notBefore, notAfter, fault.New(fault.Unavailable, "authority %q is not valid before %s; the clock says %s",
			issuer.Subject.CommonName, stamp(issuer.NotBefore), stamp(now)).WithRemedy("check this server's clock")
	}
	notBefore = now.Add(-backdate).UTC().Truncate(time.Second)
	if notBefore.Before(issuer.NotBefore) {
		notBefore = issuer.NotBefore
	}
	notAfter = now.Add(lifetime).UTC().Truncate(time.Second)
	if notAfter.After(issuer.NotAfter) {
		notAfter = issuer.NotAfter
		if left := notAfter.Sub(now); left < lifetime/10 {
			return notBefore, notAfter, fault.New(fault.Unavailable, "authority %q ends at %s; less than a tenth of the lifetime of %s is left",
				issuer.Subject.CommonName, stamp(issuer.NotAfter), lifetime).WithRemedy("replace the authority, or ask for a shorter lifetime")
		}
	}
	return notBefore, notAfter, nil
}

// keyUsage is what the key does in a TLS handshake: sign, and for the RSA key of
// a server under TLS 1.2 decrypt the premaster secret (RFC 5246, section 7.4.2).
// It must go with the extended usages (RFC 5280, section 4.2.1.12).
func keyUsage(public crypto.PublicKey, usages []x509.ExtKeyUsage) x509.KeyUsage {
	if _, ok := public.(*rsa.PublicKey); ok && slices.Contains(usages, x509.ExtKeyUsageServerAuth) {
		return x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	}
	return x509.KeyUsageDigitalSignature
}

// publicKey is a public key as a certificate carries and names it.
type publicKey struct {
	der  []byte // SubjectPublicKeyInfo
	hash pki.SPKIHash
	id   []byte // subject key identifier: the leftmost 160 bits of the SHA-256 of the bit string (RFC 7093, method 1)
}

func encodeKey(public crypto.PublicKey) (publicKey, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return publicKey{}, fault.Wrap(fault.Invalid, err, "encode public key")
	}
	var info cryptobyte.String
	var bits []byte
	input := cryptobyte.String(der)
	if !input.ReadASN1(&info, cryptobyte_asn1.SEQUENCE) || !info.SkipASN1(cryptobyte_asn1.SEQUENCE) || !info.ReadASN1BitStringAsBytes(&bits) {
		return publicKey{}, fault.New(fault.Invalid, "encode public key: its form is unknown")
	}
	sum := sha256.Sum256(bits)
	return publicKey{der, sha256.Sum256(der), sum[:20]}, nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
