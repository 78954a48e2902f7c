// Package papertest delivers certificates for the tests of the demo's own
// processes, into directories that look as Rotunda leaves them.
package papertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Office issues certificates under one root.
type Office struct {
	root   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

// New makes an office with a root of its own.
func New(t testing.TB) *Office {
	t.Helper()
	o := &Office{key: newKey(t)}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "papertest root"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	o.root = o.sign(t, template, template, &o.key.PublicKey)
	return o
}

// Deliver puts a new revision with a new key into directory, and switches
// current to it.
func (o *Office) Deliver(t testing.TB, directory string) *x509.Certificate {
	t.Helper()
	key := newKey(t)
	leaf := o.sign(t, &x509.Certificate{
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, o.root, &key.PublicKey)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	revision := fmt.Sprintf("rev-%06d", o.serial)
	must(t, os.MkdirAll(filepath.Join(directory, revision), 0o700))
	for name, block := range map[string]*pem.Block{
		"chain.pem":  {Type: "CERTIFICATE", Bytes: leaf.Raw},
		"key.pem":    {Type: "PRIVATE KEY", Bytes: der},
		"bundle.pem": {Type: "CERTIFICATE", Bytes: o.root.Raw},
	} {
		must(t, os.WriteFile(filepath.Join(directory, revision, name), pem.EncodeToMemory(block), 0o600))
	}
	link := filepath.Join(directory, "current")
	must(t, os.Symlink(revision, link+".new"))
	must(t, os.Rename(link+".new", link))
	return leaf
}

// Roots is the office's root as a pool.
func (o *Office) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(o.root)
	return pool
}

func (o *Office) sign(t testing.TB, template, parent *x509.Certificate, public *ecdsa.PublicKey) *x509.Certificate {
	t.Helper()
	o.serial++
	template.SerialNumber = big.NewInt(o.serial)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, o.key)
	must(t, err)
	certificate, err := x509.ParseCertificate(der)
	must(t, err)
	return certificate
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
