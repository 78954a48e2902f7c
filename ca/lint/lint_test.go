package lint_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/ca/lint"
	"github.com/rotunda-pki/rotunda/pki"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

var (
	server = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	client = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
)

// What the authority issues is clean, for every kind of key and usage.
func TestOwnLeavesAreClean(t *testing.T) {
	for _, algorithm := range []pki.KeyAlgorithm{pki.ECDSAP256, pki.ECDSAP384, pki.Ed25519, pki.RSA2048} {
		for _, usages := range [][]x509.ExtKeyUsage{server, client, slices.Concat(server, client)} {
			terms := ca.Terms{Lifetime: 24 * time.Hour, Backdate: time.Minute, Usages: usages}
			findings, err := lint.Leaf(algorithm, terms, now)
			if err != nil || len(findings) > 0 {
				t.Errorf("%s %v: %v %v", algorithm, usages, findings, err)
			}
		}
	}
}

func TestTermsThatCanNotBeIssuedAreAnError(t *testing.T) {
	for _, terms := range []ca.Terms{
		{Lifetime: time.Hour},
		{Lifetime: -time.Hour, Usages: server},
		{Lifetime: time.Hour, Backdate: -time.Hour, Usages: server},
	} {
		if _, err := lint.Leaf(pki.ECDSAP256, terms, now); err == nil {
			t.Errorf("terms %+v linted without a word", terms)
		}
	}
}

// handMade signs a template as it is.
func handMade(t *testing.T, algorithm pki.KeyAlgorithm, change func(*x509.Certificate)) []byte {
	t.Helper()
	key, err := algorithm.Generate()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := pki.ECDSAP256.Generate()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1 << 60), NotBefore: now, NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: server, BasicConstraintsValid: true,
		SubjectKeyId: []byte{1}, AuthorityKeyId: []byte{2}, DNSNames: []string{"db.internal"},
	}
	change(template)
	parent := &x509.Certificate{Subject: pkix.Name{CommonName: "some authority"}, SubjectKeyId: []byte{2}}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestBrokenRulesAreFound(t *testing.T) {
	cases := []struct {
		name      string
		algorithm pki.KeyAlgorithm
		change    func(*x509.Certificate)
		lint      string
		severity  string
	}{
		{"key usage against extended usage", pki.RSA2048, func(c *x509.Certificate) {
			c.KeyUsage |= x509.KeyUsageKeyEncipherment
			c.ExtKeyUsage = client
		}, "e_key_usage_and_extended_key_usage_inconsistent", "error"},
		{"no subject key identifier", pki.ECDSAP256, func(c *x509.Certificate) { c.SubjectKeyId = nil }, "w_ext_subject_key_identifier_missing_sub_cert", "warning"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			findings, err := lint.Certificate(handMade(t, c.algorithm, c.change))
			if err != nil {
				t.Fatal(err)
			}
			at := slices.IndexFunc(findings, func(f lint.Finding) bool { return f.Lint == c.lint })
			if at < 0 {
				t.Fatalf("%s not among %v", c.lint, findings)
			}
			f := findings[at]
			if f.Severity != c.severity || f.Error != (c.severity == "error") || f.Message == "" || !strings.Contains(f.Citation, "5280") {
				t.Errorf("finding %+v", f)
			}
		})
	}
}

// A name of ours is no public suffix, our certificates are in no CT log, and
// their subjects are empty: rules of the public web must not speak.
func TestRulesOfThePublicWebAreLeftOut(t *testing.T) {
	findings, err := lint.Certificate(handMade(t, pki.ECDSAP256, func(c *x509.Certificate) {
		c.NotAfter = now.AddDate(10, 0, 0)
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		if !strings.Contains(f.Citation, "RFC") {
			t.Errorf("%s (%s) spoke on a private certificate: %s", f.Lint, f.Citation, f.Message)
		}
	}
}

func TestGarbageIsAnError(t *testing.T) {
	if _, err := lint.Certificate([]byte("garbage")); err == nil {
		t.Error("garbage linted")
	}
}
