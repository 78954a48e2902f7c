package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// responder signs what is stapled.
type responder struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newResponder(t *testing.T, by *responder, change func(*x509.Certificate)) *responder {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "staple"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	change(template)
	r := &responder{key: key}
	if by == nil {
		by = &responder{cert: template, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	if r.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestStaples: only what the issuer, or whom it lets, says of this certificate,
// that it is good, and for now, is stapled.
func TestStaples(t *testing.T) {
	authority := func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	}
	plain := func(*x509.Certificate) {}
	issuer, other := newResponder(t, nil, authority), newResponder(t, nil, authority)
	leaf, another := newResponder(t, issuer, plain), newResponder(t, issuer, plain)
	delegate := newResponder(t, issuer, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} })
	over := newResponder(t, issuer, func(c *x509.Certificate) {
		c.ExtKeyUsage, c.NotAfter = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, time.Now().Add(-time.Minute)
	})
	good := ocsp.Response{Status: ocsp.Good, SerialNumber: leaf.cert.SerialNumber, ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	with := func(change func(*ocsp.Response)) ocsp.Response { r := good; change(&r); return r }
	for name, c := range map[string]struct {
		by       *responder
		response ocsp.Response
		want     string // "": it is good
	}{
		"the issuer":              {issuer, good, ""},
		"its delegate":            {delegate, with(func(r *ocsp.Response) { r.Certificate = delegate.cert }), ""},
		"a delegate that is over": {over, with(func(r *ocsp.Response) { r.Certificate = over.cert }), "may not respond"},
		"another leaf of its":     {another, with(func(r *ocsp.Response) { r.Certificate = another.cert }), "may not respond"},
		"another issuer":          {other, good, "OCSP response for certificate"},
		"revoked":                 {issuer, with(func(r *ocsp.Response) { r.Status = ocsp.Revoked }), "does not say that"},
		"ended":                   {issuer, with(func(r *ocsp.Response) { r.NextUpdate = time.Now().Add(-time.Second) }), "ended at"},
		"of the future":           {issuer, with(func(r *ocsp.Response) { r.ThisUpdate = time.Now().Add(time.Hour) }), "by this host's clock"},
		"of another certificate":  {issuer, with(func(r *ocsp.Response) { r.SerialNumber = another.cert.SerialNumber }), "OCSP response for certificate"},
	} {
		der, err := ocsp.CreateResponse(issuer.cert, c.by.cert, c.response, c.by.key)
		if err != nil {
			t.Fatal(err)
		}
		staple, err := ParseStaple(der)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		err = staple.Check(leaf.cert, issuer.cert, time.Now())
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestCRLsReadBack: a file of CRLs is read whole or not at all.
func TestCRLsReadBack(t *testing.T) {
	authority := newResponder(t, nil, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.SubjectKeyId = true, true, x509.KeyUsageCRLSign, []byte{1}
	})
	sign := func(extensions ...pkix.Extension) []byte {
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
			Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour), ExtraExtensions: extensions,
		}, authority.cert, authority.key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	crls, err := ParseCRLs([][]byte{sign(), sign()})
	if err != nil {
		t.Fatal(err)
	}
	text := crls.PEM()
	if read, err := ParseCRLsPEM(text); err != nil || read.Digest() != crls.Digest() {
		t.Errorf("read back: %v", err)
	}
	for name, broken := range map[string][]byte{
		"nothing": nil, "cut": text[:len(text)-9], "something behind": append(bytes.Clone(text), "x"...), "a certificate behind": append(bytes.Clone(text), EncodeCertificatesPEM(authority.cert.Raw)...),
	} {
		if _, err := ParseCRLsPEM(broken); err == nil {
			t.Errorf("%s is read", name)
		}
	}
	delta := pkix.Extension{Id: []int{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}
	if _, err := ParseCRLs([][]byte{sign(delta)}); err == nil || !strings.Contains(err.Error(), "a part of a list") {
		t.Errorf("a delta CRL: %v", err)
	}
}
