package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

func TestValidityEndsWithTheIssuer(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	end := h.issuing.Certificate.NotAfter
	key, who := newKey(t, pki.ECDSAP256).Public(), names(t, "db", nil, nil, "")
	cases := []struct {
		name     string
		at       time.Time
		life     time.Duration
		notAfter time.Time
		refused  string
	}{
		{"well before", end.Add(-48 * time.Hour), 24 * time.Hour, end.Add(-24 * time.Hour), ""},
		{"cut to the issuer's end", end.Add(-12 * time.Hour), 24 * time.Hour, end, ""},
		{"a tenth is left", end.Add(-1 * time.Hour), 10 * time.Hour, end, ""},
		{"less than a tenth is left", end.Add(-1*time.Hour + time.Second), 10 * time.Hour, time.Time{}, "less than a tenth"},
		{"the issuer has expired", end.Add(time.Second), time.Hour, time.Time{}, "less than a tenth"},
		{"the clock is before the issuer", h.issuing.Certificate.NotBefore.Add(-time.Second), time.Hour, time.Time{}, "check this server's clock"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p, err := h.issuing.Prepare(c.at, Request{key, who, Terms{Lifetime: c.life, Usages: both}})
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) || fault.CodeOf(err) != fault.Unavailable {
					t.Errorf("got %v, want a refusal with %q", err, c.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !p.notAfter.Equal(c.notAfter) {
				t.Errorf("notAfter %s, want %s", p.notAfter, c.notAfter)
			}
		})
	}
}

func TestBackdateStopsAtTheIssuer(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	p, err := h.issuing.Prepare(now, Request{newKey(t, pki.ECDSAP256).Public(), names(t, "db", nil, nil, ""), Terms{Lifetime: time.Hour, Backdate: time.Hour, Usages: both}})
	if err != nil || !p.notBefore.Equal(h.issuing.Certificate.NotBefore) {
		t.Errorf("notBefore %v, %v", p.notBefore, err)
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	good := Request{newKey(t, pki.ECDSAP256).Public(), names(t, "db", nil, nil, ""), dayTerms}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		change func(*Request)
		rule   string
	}{
		"weak curve":          {func(r *Request) { r.PublicKey = p224.Public() }, "P-256 or P-384"},
		"no key":              {func(r *Request) { r.PublicKey = nil }, "key refused"},
		"the authority's key": {func(r *Request) { r.PublicKey = h.issuing.signer.Public() }, "authority's own"},
		"no names":            {func(r *Request) { r.Names = pki.Names{} }, "at least one name"},
		"no usage":            {func(r *Request) { r.Terms.Usages = nil }, "needs a usage"},
		"odd usage":           {func(r *Request) { r.Terms.Usages = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }, "only serverAuth and clientAuth"},
		"any usage":           {func(r *Request) { r.Terms.Usages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, "only serverAuth and clientAuth"},
		"usage twice":         {func(r *Request) { r.Terms.Usages = []x509.ExtKeyUsage{1, 1} }, "twice"},
		"no lifetime":         {func(r *Request) { r.Terms.Lifetime = 0 }, "too short"},
		"negative lifetime":   {func(r *Request) { r.Terms.Lifetime = -time.Hour }, "too short"},
		"negative backdate":   {func(r *Request) { r.Terms.Backdate = -1 }, "outside"},
		"long backdate":       {func(r *Request) { r.Terms.Backdate = 25 * time.Hour }, "outside"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := good
			c.change(&r)
			_, err := h.issuing.Prepare(now, r)
			if err == nil || !strings.Contains(err.Error(), c.rule) || fault.CodeOf(err) != fault.Invalid {
				t.Errorf("got %v, want a refusal with %q", err, c.rule)
			}
		})
	}
	if _, err := h.issuing.Prepare(now, good); err != nil {
		t.Errorf("the good one is refused: %v", err)
	}
}
