package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

func TestForeignRootsAndWhatTheyLack(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	with := func(change func(*x509.Certificate)) *x509.Certificate {
		cert, _ := rootWith(t, "foreign", change)
		return cert
	}
	bare := *h.root
	bare.SubjectKeyId, bare.AuthorityKeyId = nil, nil
	for name, c := range map[string]struct {
		root *x509.Certificate
		want []string // beside the one about the key
	}{
		"a root of ours":    {h.root, nil},
		"ends soon":         {with(func(c *x509.Certificate) { c.NotAfter = now.Add(100 * 24 * time.Hour) }), []string{"it ends at"}},
		"no key identifier": {&bare, []string{"no subject key identifier"}},
		"P-521":             {p521Root(t), []string{"P-521"}},
		"path length":       {with(func(c *x509.Certificate) { c.MaxPathLen = 1 }), []string{"allows 1 authorities"}},
		"depth enough":      {with(func(c *x509.Certificate) { c.MaxPathLen = 2 }), nil},
		"no keyUsage":       {with(func(c *x509.Certificate) { c.KeyUsage = 0 }), []string{"has no keyUsage"}},
		"no CRLs":           {with(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }), []string{"lacks cRLSign"}},
		"for servers":       {with(func(c *x509.Certificate) { c.ExtKeyUsage = both[:1] }), []string{"leave out"}},
		"other constraints": {with(func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, directoryConstraint(t, "x")) }), []string{"constrains names"}},
		"several at once":   {with(func(c *x509.Certificate) { c.KeyUsage, c.MaxPathLen = 0, 1 }), []string{"allows 1 authorities", "has no keyUsage"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := CheckForeign(now, c.root)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 1+len(c.want) || !strings.Contains(got[0], "no canary") {
				t.Fatalf("warnings %q", got)
			}
			for i, want := range c.want {
				if !strings.Contains(got[i+1], want) {
					t.Errorf("warning %q, want one with %q", got[i+1], want)
				}
			}
		})
	}
}

func p521Root(t *testing.T) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template, err := authorityTemplate(now, domain, "foreign", 365*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	template.MaxPathLen = -1
	cert, err := signAuthority(template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestForeignRootsThatAreRefused(t *testing.T) {
	h, stranger := newHouse(t, pki.ECDSAP256, pki.ECDSAP256), newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	with := func(change func(*x509.Certificate)) *x509.Certificate {
		cert, _ := rootWith(t, "foreign", change)
		return cert
	}
	late := resigned(t, h.issuing.Certificate, h.issuing.signer.Public(), h.root, h.rootKey, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = now.Add(-2*time.Hour), now.Add(-time.Hour)
	})
	leaf := resigned(t, h.issuing.Certificate, h.issuing.signer.Public(), h.root, h.rootKey, func(c *x509.Certificate) {
		c.IsCA, c.MaxPathLen, c.MaxPathLenZero, c.KeyUsage = false, 0, false, x509.KeyUsageDigitalSignature
		c.PermittedDNSDomains, c.PermittedIPRanges, c.PermittedURIDomains = nil, nil, nil
	})
	for name, c := range map[string]struct {
		root    *x509.Certificate
		issuing []*x509.Certificate
		rule    string
	}{
		"an issuing authority": {h.issuing.Certificate, nil, "not self-signed"},
		"no CA":                {with(func(c *x509.Certificate) { c.IsCA, c.MaxPathLen = false, 0 }), nil, "not a CA"},
		"expired":              {with(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }), nil, "expired at"},
		"of tomorrow":          {with(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) }), nil, "not valid before"},
		"unknown extension": {with(func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
		}), nil, "critical extension 1.2.3"},
		"another's issuing": {h.root, []*x509.Certificate{h.issuing.Certificate, stranger.issuing.Certificate}, "key identifier must be equal"},
		"a root below":      {h.root, []*x509.Certificate{stranger.root}, "it is a root"},
		"a leaf below":      {h.root, []*x509.Certificate{leaf}, "not a CA certificate"},
		"expired issuing":   {h.root, []*x509.Certificate{late}, "expired at"},
	} {
		t.Run(name, func(t *testing.T) {
			warnings, err := CheckForeign(now, c.root, c.issuing...)
			if err == nil || !strings.Contains(err.Error(), c.rule) || fault.CodeOf(err) != fault.Invalid || warnings != nil {
				t.Errorf("got %v and %q, want a refusal with %q", err, warnings, c.rule)
			}
		})
	}
	if _, err := CheckForeign(now, h.root, h.issuing.Certificate); err != nil {
		t.Errorf("root and its own issuing authority: %v", err)
	}
}
