package probe

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"flag"
	"io"
	"math/big"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// TestMain lets many tests run at once: they wait for servers more than they
// compute.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// authority is a root with an issuing authority under it.
type authority struct {
	root, issuing *x509.Certificate
	key           crypto.Signer
	bundle        pki.Bundle
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = serial
	if template.NotBefore.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func newAuthority(t testing.TB, name string) authority {
	t.Helper()
	ca := func(cn string, depth int) *x509.Certificate {
		return &x509.Certificate{
			Subject: pkix.Name{CommonName: cn}, IsCA: true, BasicConstraintsValid: true,
			MaxPathLen: depth, MaxPathLenZero: depth == 0,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
	}
	rootKey, issuingKey := newKey(t), newKey(t)
	root := ca(name+" root", -1)
	rootCert := sign(t, root, root, rootKey.Public(), rootKey)
	issuing := sign(t, ca(name+" issuing", 0), rootCert, issuingKey.Public(), rootKey)
	bundle, err := pki.NewBundle([]*x509.Certificate{rootCert})
	if err != nil {
		t.Fatal(err)
	}
	return authority{root: rootCert, issuing: issuing, key: issuingKey, bundle: bundle}
}

// leaf issues a certificate for db.example and 127.0.0.1.
func (a authority) leaf(t testing.TB, change ...func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "db.example"},
		DNSNames:    []string{"db.example"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1).To4()},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, f := range change {
		f(template)
	}
	key := newKey(t)
	certificate := sign(t, template, a.issuing, key.Public(), a.key)
	return tls.Certificate{Certificate: [][]byte{certificate.Raw, a.issuing.Raw}, PrivateKey: key, Leaf: certificate}
}

func expired(template *x509.Certificate) {
	template.NotBefore, template.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
}

func fingerprints(certificate tls.Certificate) []pki.Fingerprint {
	var chain []pki.Fingerprint
	for _, der := range certificate.Certificate {
		chain = append(chain, pki.FingerprintOf(der))
	}
	return chain
}

// serve accepts connections until the test ends and gives each to handle,
// which may block until the connection is closed.
func serve(t testing.TB, handle func(net.Conn)) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	var open sync.Map
	t.Cleanup(func() {
		_ = listener.Close()
		open.Range(func(conn, _ any) bool { _ = conn.(net.Conn).Close(); return true })
		wait.Wait()
	})
	wait.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			open.Store(conn, true)
			wait.Go(func() {
				defer func() { open.Delete(conn); _ = conn.Close() }()
				handle(conn)
			})
		}
	})
	return listener.Addr().String()
}

// serveTLS is a TLS server that reads until its clients are gone.
func serveTLS(t testing.TB, config *tls.Config) (address string) {
	t.Helper()
	return serve(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, tls.Server(conn, config)) })
}

func shake(t testing.TB, spec Spec) Observation {
	t.Helper()
	if spec.Now == nil {
		spec.Now = time.Now
	}
	seen, err := Handshake(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return seen
}
