package ca

import (
	"crypto"
	"crypto/x509"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/pki"
)

const publicURL = "http://pki.example.org:8080/base"

var (
	now      = time.Date(2026, 11, 20, 12, 0, 0, 123456789, time.UTC)
	domain   = spiffeid.RequireTrustDomainFromString("prod.example.org")
	both     = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	dayTerms = Terms{Lifetime: 24 * time.Hour, Backdate: time.Minute, Usages: both}
)

// house is a root and an issuing authority under it.
type house struct {
	root    *x509.Certificate
	rootKey crypto.Signer
	issuing *Authority
}

func newHouse(t testing.TB, root, issuing pki.KeyAlgorithm, change ...func(*IssuingOrder)) house {
	t.Helper()
	h := house{}
	var err error
	h.root, h.rootKey, err = CreateRoot(now, RootOrder{TrustDomain: domain, Name: "root", Algorithm: root, Lifetime: 10 * 365 * 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	order := IssuingOrder{
		ParentID: "root-1", TrustDomain: domain, Name: "issuing", Algorithm: issuing, Lifetime: 365 * 24 * time.Hour,
		PermittedDNS: []string{"example.org", "localhost"},
		PermittedIPs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
	}
	for _, f := range change {
		f(&order)
	}
	cert, key, err := CreateIssuing(now, h.root, h.rootKey, order, publicURL)
	if err != nil {
		t.Fatal(err)
	}
	h.issuing, err = NewAuthority("issuing-1", cert, []*x509.Certificate{cert}, key, publicURL)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h house) bundle(t testing.TB) pki.Bundle {
	t.Helper()
	b, err := pki.NewBundle([]*x509.Certificate{h.root})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newKey(t testing.TB, algorithm pki.KeyAlgorithm) crypto.Signer {
	t.Helper()
	key, err := algorithm.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func names(t testing.TB, cn string, dns, ips []string, uri string) pki.Names {
	t.Helper()
	n, err := pki.ParseNames(cn, dns, ips, uri)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// issue prepares and signs, and reads the certificate back.
func issue(t testing.TB, a *Authority, r Request) (Issued, *x509.Certificate) {
	t.Helper()
	prepared, err := a.Prepare(now, r)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := a.Issue(prepared)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(issued.DER)
	if err != nil {
		t.Fatal(err)
	}
	return issued, cert
}

// openssl runs the real one in a directory with these files.
func openssl(t testing.TB, files map[string][]byte, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is not installed; run: make deps")
	}
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command("openssl", args...)
	command.Dir = dir
	out, err := command.CombinedOutput()
	return string(out), err
}

// opensslVerify is what a party that trusts root makes of the chain at now.
func opensslVerify(t testing.TB, root *x509.Certificate, chain [][]byte, more ...string) (string, error) {
	t.Helper()
	return opensslVerifyBundle(t, bundleOf(t, root), chain, more...)
}

func opensslVerifyBundle(t testing.TB, bundle pki.Bundle, chain [][]byte, more ...string) (string, error) {
	t.Helper()
	files := map[string][]byte{
		"root.pem":  bundle.PEM(),
		"leaf.pem":  pki.EncodeCertificatesPEM(chain[0]),
		"chain.pem": pki.EncodeCertificatesPEM(chain[1:]...),
	}
	args := []string{"verify", "-x509_strict", "-attime", attime(now), "-no-CApath", "-CAfile", "root.pem", "-untrusted", "chain.pem"}
	return openssl(t, files, append(append(args, more...), "leaf.pem")...)
}

func attime(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }
