package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// party is a certificate and its key; as an issuer it can sign others.
type party struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newParty(t testing.TB, name string, issuer *party, change ...func(*x509.Certificate)) *party {
	t.Helper()
	key, err := ECDSAP256.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return certify(t, key, name, issuer, change...)
}

// certify makes a CA certificate for a key; a nil issuer means by itself.
func certify(t testing.TB, key crypto.Signer, name string, issuer *party, change ...func(*x509.Certificate)) *party {
	t.Helper()
	serial, err := NewSerial(now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := SPKIHashOf(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial.Big(), Subject: pkix.Name{CommonName: name}, SubjectKeyId: spki[:20],
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), BasicConstraintsValid: true,
		IsCA: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	for _, f := range change {
		f(template)
	}
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.cert, issuer.key
		if len(template.AuthorityKeyId) > 0 { // CreateCertificate would prefer the parent's
			copied := *parent
			copied.SubjectKeyId = template.AuthorityKeyId
			parent = &copied
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &party{cert, key}
}

// asLeaf turns the template into one for a server and client.
func asLeaf(c *x509.Certificate) {
	c.IsCA, c.MaxPathLen, c.KeyUsage = false, 0, x509.KeyUsageDigitalSignature
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	c.DNSNames = []string{"db.example.org"}
}

func pathLength(n int) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = n, n == 0 }
}

func expired(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }

// hierarchy is two roots, the bridge from A to B, and an issuing authority and
// leaf under B.
type hierarchy struct {
	a, b, bridge, issuing, leaf *party
}

func newHierarchy(t testing.TB) hierarchy {
	t.Helper()
	h := hierarchy{a: newParty(t, "root A", nil), b: newParty(t, "root B", nil)}
	h.bridge = certify(t, h.b.key, "root B", h.a)
	h.issuing = newParty(t, "issuing B", h.b, pathLength(0))
	h.leaf = newParty(t, "", h.issuing, asLeaf)
	return h
}

func chainOf(leaf *party, rest ...*party) Chain {
	c := Chain{Leaf: leaf.cert}
	for _, p := range rest {
		c.Intermediates = append(c.Intermediates, p.cert)
	}
	return c
}

func bundleOf(t testing.TB, anchors ...*party) Bundle {
	t.Helper()
	var certs []*x509.Certificate
	for _, p := range anchors {
		certs = append(certs, p.cert)
	}
	b, err := NewBundle(certs)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// opensslTakes asks the real OpenSSL, at the same moment, for a TLS server.
func opensslTakes(t testing.TB, c Chain, b Bundle, more ...string) (bool, string) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is not installed; run: make deps")
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"bundle.pem": b.PEM(), "leaf.pem": EncodeCertificatesPEM(c.Leaf.Raw), "chain.pem": c.IntermediatesPEM(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"verify", "-attime", strconv.FormatInt(now.Unix(), 10), "-purpose", "sslserver", "-no-CApath", "-CAfile", "bundle.pem"}
	if len(c.Intermediates) > 0 {
		args = append(args, "-untrusted", "chain.pem")
	}
	command := exec.Command("openssl", append(append(args, more...), "leaf.pem")...)
	command.Dir = dir
	out, err := command.CombinedOutput()
	return err == nil, string(out)
}

// goTakes asks crypto/x509 alone.
func goTakes(c Chain, b Bundle) bool {
	between := x509.NewCertPool()
	for _, cert := range c.Intermediates {
		between.AddCert(cert)
	}
	_, err := c.Leaf.Verify(x509.VerifyOptions{Roots: b.Pool(), Intermediates: between, CurrentTime: now})
	return err == nil
}
