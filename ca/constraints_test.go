package ca

import (
	"net/netip"
	"strings"
	"testing"

	"crypto/x509"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// Every verdict here is compared with those of Go and OpenSSL: what Permits
// takes, both take; what it refuses, at least one of them refuses.
func TestNameConstraints(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256, func(o *IssuingOrder) {
		o.PermittedDNS = append(o.PermittedDNS, ".below.test")
	})
	cases := []struct {
		cn, dns, ip, uri string
		refused          string // the constraint that the error must name
	}{
		{dns: "example.org"},
		{dns: "a.b.example.org"},
		{dns: "*.example.org"},
		{dns: "localhost"},
		{dns: "x.below.test"},
		{dns: "*.below.test"},
		{dns: "below.test", refused: ".below.test"},
		{dns: "badexample.org", refused: "example.org"},
		{dns: "example.org.evil.test", refused: "example.org"},
		{dns: "org", refused: "example.org"},
		{dns: "*.org", refused: "example.org"},
		{ip: "127.0.0.1"},
		{ip: "127.255.0.1"},
		{ip: "fd00::1"},
		{ip: "128.0.0.1", refused: "127.0.0.0/8"},
		{ip: "::1", refused: "fd00::/8"},
		{uri: "spiffe://prod.example.org/db"},
		{uri: "spiffe://prod.example.org/rotunda/agent/a1"},
		{uri: "spiffe://dev.example.org/db", refused: "prod.example.org"},
		{uri: "spiffe://sub.prod.example.org/db", refused: "prod.example.org"},
		{cn: "db.example.org"},
		{cn: "orders"},
		{cn: "Orders of the day."},
		{cn: "db.evil.test", refused: "example.org"},
		{cn: "db_1.evil.test", refused: "example.org"},
		{cn: "db.evil.test", ip: "127.0.0.1", refused: "example.org"},
		{cn: "db.evil.test", dns: "db.example.org"}, // with DNS names nobody reads the common name as one
	}
	blind := *h.issuing
	blind.permitted = constraints{}
	for _, c := range cases {
		t.Run(strings.TrimSpace(c.cn+" "+c.dns+c.ip+c.uri), func(t *testing.T) {
			list := func(s string) []string {
				if s == "" {
					return nil
				}
				return []string{s}
			}
			r := Request{newKey(t, pki.ECDSAP256).Public(), names(t, c.cn, list(c.dns), list(c.ip), c.uri), dayTerms}
			_, err := h.issuing.Prepare(now, r)
			if c.refused == "" && err != nil {
				t.Fatalf("refused: %v", err)
			}
			if c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused) || fault.CodeOf(err) != fault.Invalid) {
				t.Fatalf("got %v, want a refusal naming %q", err, c.refused)
			}
			issued, leaf := issue(t, &blind, r)
			out, opensslErr := opensslVerify(t, h.root, issued.Chain)
			goErr := verifyInGo(h, leaf)
			if c.refused == "" && (opensslErr != nil || goErr != nil) {
				t.Errorf("permitted, but OpenSSL says %s, Go %v", out, goErr)
			}
			if c.refused != "" && opensslErr == nil && goErr == nil {
				t.Error("refused, but OpenSSL and Go both take it")
			}
		})
	}
}

func verifyInGo(h house, leaf *x509.Certificate) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(h.root)
	between.AddCert(h.issuing.Certificate)
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: both})
	return err
}

// With empty lists a kind of name is free; the trust domain never is.
func TestNoConstraintLeavesNamesFree(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256, func(o *IssuingOrder) { o.PermittedDNS, o.PermittedIPs = nil, nil })
	for _, free := range []pki.Names{names(t, "", []string{"any.test"}, nil, ""), names(t, "", nil, []string{"8.8.8.8"}, "")} {
		if err := h.issuing.Permits(free); err != nil {
			t.Errorf("%v refused: %v", free.Strings(), err)
		}
	}
	if err := h.issuing.Permits(names(t, "", nil, nil, "spiffe://dev.example.org/db")); err == nil {
		t.Error("another trust domain is permitted")
	}
}

// Exclusions of a foreign authority bind as well.
func TestExclusionsBind(t *testing.T) {
	c := constraintsOf(&x509.Certificate{
		ExcludedDNSDomains: []string{"secret.example.org"}, ExcludedURIDomains: []string{".test"},
		ExcludedIPRanges: ranges([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}),
	})
	for _, refused := range []pki.Names{
		names(t, "", []string{"a.secret.example.org"}, nil, ""), names(t, "", nil, []string{"10.1.2.3"}, ""), names(t, "", nil, nil, "spiffe://x.test/a"),
	} {
		if err := c.check(refused); err == nil || !strings.Contains(err.Error(), "excludes") {
			t.Errorf("%v: %v", refused.Strings(), err)
		}
	}
	if err := c.check(names(t, "", []string{"example.org"}, []string{"11.0.0.1"}, "spiffe://test/a")); err != nil {
		t.Error(err)
	}
}
