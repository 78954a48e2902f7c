// Package lab is a control plane for the suite: two roots and what it takes to
// hand an agent certificates under either, with faults that no CA would sign.
//
// All of it lies in one directory, so that an agent in a process of its own
// that is killed finds the same control plane when it comes back.
package lab

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// Root is a root and the issuing CA under it.
type Root struct {
	Name    string
	Anchor  *x509.Certificate
	Issuing *x509.Certificate

	key crypto.Signer // of the issuing CA
}

// NewRoot makes a root in memory.
func NewRoot(name string) (*Root, error) {
	rootKey, err := newKey()
	if err != nil {
		return nil, err
	}
	r := &Root{Name: name}
	if r.key, err = newKey(); err != nil {
		return nil, err
	}
	root := authority("root "+name, false)
	if r.Anchor, err = sign(root, root, rootKey.Public(), rootKey); err != nil {
		return nil, err
	}
	r.Issuing, err = sign(authority("issuing "+name, true), r.Anchor, r.key.Public(), rootKey)
	return r, err
}

// openRoot reads a root of the directory, or makes it there.
func openRoot(dir, name string) (*Root, error) {
	at := filepath.Join(dir, "root-"+name+".pem")
	text, err := os.ReadFile(at)
	if errors.Is(err, fs.ErrNotExist) {
		return createRoot(at, name)
	}
	if err != nil {
		return nil, err
	}
	certificates, err := pki.ParseCertificatesPEM(text)
	if err != nil {
		return nil, err
	}
	if text, err = os.ReadFile(at + ".key"); err != nil {
		return nil, err
	}
	key, err := pki.ParseKeyPEM(text)
	return &Root{name, certificates[0], certificates[1], key}, err
}

func createRoot(at, name string) (*Root, error) {
	r, err := NewRoot(name)
	if err != nil {
		return nil, err
	}
	key, err := pki.EncodeKeyPEM(r.key)
	if err != nil {
		return nil, err
	}
	return r, errors.Join(
		os.WriteFile(at+".key", key, 0o600),
		os.WriteFile(at, pki.EncodeCertificatesPEM(r.Anchor.Raw, r.Issuing.Raw), 0o600))
}

// Order is what a leaf is to be like. Nothing of it is checked: that is what
// the agent is there for.
type Order struct {
	Public              crypto.PublicKey
	CommonName          string
	DNS                 []string
	IPs                 []net.IP
	NotBefore, NotAfter time.Time
	Usages              []x509.ExtKeyUsage
}

// Sign signs a leaf; the chain is leaf and issuing CA.
func (r *Root) Sign(o Order) ([][]byte, error) {
	leaf, err := sign(&x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: o.CommonName},
		DNSNames: o.DNS, IPAddresses: o.IPs, NotBefore: o.NotBefore, NotAfter: o.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: o.Usages,
	}, r.Issuing, o.Public, r.key)
	if err != nil {
		return nil, err
	}
	return [][]byte{leaf.Raw, r.Issuing.Raw}, nil
}

// Client makes a client's certificate for an hour.
func (r *Root) Client(name string) (*tls.Certificate, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	chain, err := r.Sign(Order{Public: key.Public(), CommonName: name, NotBefore: time.Now().Add(-time.Minute),
		NotAfter: time.Now().Add(time.Hour), Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return &tls.Certificate{Certificate: chain, PrivateKey: key}, err
}

func authority(name string, leafOnly bool) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: -1,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if leafOnly {
		template.MaxPathLen, template.MaxPathLenZero = 0, true
	}
	return template
}

func newKey() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return n.Add(n, new(big.Int).Lsh(big.NewInt(1), 101))
}
