package targettest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// Authority is a root and an issuing CA under it, for tests that need what a
// control plane would never sign: expired, misnamed, of another root.
type Authority struct {
	Root    *x509.Certificate
	Issuing *x509.Certificate

	issuingKey crypto.Signer
}

// NewAuthority makes a root of that name and an issuing CA.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	rootKey, issuingKey := ecdsaKey(t), ecdsaKey(t)
	a := &Authority{issuingKey: issuingKey}
	root := caTemplate(name+" root", -1)
	a.Root = sign(t, root, root, rootKey.Public(), rootKey)
	a.Issuing = sign(t, caTemplate(name+" issuing", 0), a.Root, issuingKey.Public(), rootKey)
	return a
}

func caTemplate(name string, pathLength int) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: pathLength, MaxPathLenZero: pathLength == 0,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// Order is what a leaf is to be like. The zero order is a good one for
// "localhost" and 127.0.0.1, server and client, P-256, an hour.
type Order struct {
	CommonName          string
	DNS                 []string
	NotBefore, NotAfter time.Time
	Usages              []x509.ExtKeyUsage
	Key                 crypto.Signer // nil: a new one
}

// RSAKey is a key of another type than the usual one.
func RSAKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Credential is a chain and its key.
type Credential struct {
	Leaf  *x509.Certificate
	Chain [][]byte // DER, leaf first, no root
	Key   crypto.Signer
}

// Issue signs a leaf.
func (a *Authority) Issue(t testing.TB, o Order) *Credential {
	t.Helper()
	if o.Key == nil {
		o.Key = ecdsaKey(t)
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: o.CommonName}, DNSNames: o.DNS,
		NotBefore: o.NotBefore, NotAfter: o.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: o.Usages,
	}
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Minute)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	if len(o.DNS) == 0 {
		template.DNSNames, template.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	if o.Usages == nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	leaf := sign(t, template, a.Issuing, o.Key.Public(), a.issuingKey)
	return &Credential{Leaf: leaf, Chain: [][]byte{leaf.Raw, a.Issuing.Raw}, Key: o.Key}
}

// TLS is the credential as crypto/tls has it.
func (c *Credential) TLS() *tls.Certificate {
	return &tls.Certificate{Certificate: c.Chain, PrivateKey: c.Key, Leaf: c.Leaf}
}

// Fingerprints is the chain as proofs expect it.
func (c *Credential) Fingerprints() []pki.Fingerprint {
	var all []pki.Fingerprint
	for _, der := range c.Chain {
		all = append(all, pki.FingerprintOf(der))
	}
	return all
}

// Delivery is a placement's directory, written as an agent writes it.
type Delivery struct {
	Dir string

	t        testing.TB
	account  string
	revision int
}

// NewDelivery makes a directory whose key files belong to the account.
func NewDelivery(t testing.TB, account string) *Delivery {
	t.Helper()
	return &Delivery{Dir: Dir(t, "delivery-"), t: t, account: account}
}

// Switch writes a revision and lets current lead to it. A nil credential writes
// the anchors alone.
func (d *Delivery) Switch(c *Credential, anchors ...*x509.Certificate) {
	d.t.Helper()
	files := map[string][]byte{"bundle.pem": certificatesPEM(anchors)}
	if c != nil {
		key, err := pki.EncodeKeyPEM(c.Key)
		if err != nil {
			d.t.Fatal(err)
		}
		chain := pki.EncodeCertificatesPEM(c.Chain...)
		files["key.pem"], files["chain.pem"] = key, chain
		files["cert.pem"], files["combined.pem"] = pki.EncodeCertificatesPEM(c.Leaf.Raw), slices.Concat(key, chain)
	}
	d.SwitchFiles(files)
}

// SwitchFiles is Switch for any content, however broken.
func (d *Delivery) SwitchFiles(files map[string][]byte) {
	d.t.Helper()
	d.revision++
	name := fmt.Sprintf("rev-%06d", d.revision)
	if err := os.Mkdir(filepath.Join(d.Dir, name), 0o755); err != nil {
		d.t.Fatal(err)
	}
	for file, content := range files {
		mode := os.FileMode(0o644)
		if file == "key.pem" || file == "combined.pem" {
			mode = 0o600
		}
		Write(d.t, filepath.Join(d.Dir, name, file), string(content), mode, d.account)
	}
	next := filepath.Join(d.Dir, "next")
	if err := os.Symlink(name, next); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(d.Dir, "current")); err != nil {
		d.t.Fatal(err)
	}
}

// File is the path of a file of the revision in use.
func (d *Delivery) File(name string) string { return filepath.Join(d.Dir, "current", name) }

// Bundle is anchors as a proof has them.
func Bundle(t testing.TB, anchors ...*x509.Certificate) pki.Bundle {
	t.Helper()
	b, err := pki.NewBundle(anchors)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func certificatesPEM(certificates []*x509.Certificate) []byte {
	var ders [][]byte
	for _, c := range certificates {
		ders = append(ders, c.Raw)
	}
	return pki.EncodeCertificatesPEM(ders...)
}

func ecdsaKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return n.Add(n, big.NewInt(1))
}
