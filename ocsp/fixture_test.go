package ocsp

import (
	"crypto"
	"crypto/x509"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/pki"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 123456789, time.UTC)

// house is an issuing authority, a responder of its and a leaf.
type house struct {
	authority *ca.Authority
	issuer    Issuer
	responder *Responder
	key       crypto.Signer // the responder's
	leaf      *x509.Certificate
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newHouse(t testing.TB) house {
	t.Helper()
	const publicURL = "http://pki.example.org"
	td := spiffeid.RequireTrustDomainFromString("example.org")
	root, rootKey, err := ca.CreateRoot(now, ca.RootOrder{TrustDomain: td, Name: "root", Algorithm: pki.ECDSAP256, Lifetime: 1000 * time.Hour})
	must(t, err)
	cert, key, err := ca.CreateIssuing(now, root, rootKey, ca.IssuingOrder{
		ParentID: "root", TrustDomain: td, Name: "issuing", Algorithm: pki.ECDSAP384, Lifetime: 500 * time.Hour,
	}, publicURL)
	must(t, err)
	h := house{}
	h.authority, err = ca.NewAuthority("issuing", cert, []*x509.Certificate{cert}, key, publicURL)
	must(t, err)
	h.issuer, err = NewIssuer(cert)
	must(t, err)
	names, err := pki.ParseNames("OCSP responder", nil, nil, "")
	must(t, err)
	h.key, err = pki.ECDSAP256.Generate()
	must(t, err)
	prepared, err := h.authority.PrepareResponder(now, h.key.Public(), names, time.Hour, time.Minute)
	must(t, err)
	h.responder, err = NewResponder(cert, h.issue(t, prepared), h.key)
	must(t, err)
	names, err = pki.ParseNames("", []string{"db.example.org"}, nil, "")
	must(t, err)
	leafKey, err := pki.ECDSAP256.Generate()
	must(t, err)
	prepared, err = h.authority.Prepare(now, ca.Request{PublicKey: leafKey.Public(), Names: names, Terms: ca.Terms{
		Lifetime: time.Hour, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}})
	must(t, err)
	h.leaf = h.issue(t, prepared)
	return h
}

func (h house) issue(t testing.TB, prepared *ca.Prepared) *x509.Certificate {
	t.Helper()
	issued, err := h.authority.Issue(prepared)
	must(t, err)
	cert, err := x509.ParseCertificate(issued.DER)
	must(t, err)
	return cert
}
