package ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// rootWith makes a root that CreateRoot would not make.
func rootWith(t testing.TB, name string, change ...func(*x509.Certificate)) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	template, err := authorityTemplate(now, domain, name, 5*365*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	template.MaxPathLen = -1
	key := newKey(t, pki.ECDSAP256)
	for _, f := range change {
		f(template)
	}
	cert, err := signAuthority(template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func bundleOf(t testing.TB, anchors ...*x509.Certificate) pki.Bundle {
	t.Helper()
	b, err := pki.NewBundle(anchors)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// succession is an old root, a house under a new one, and a leaf of it, with
// and without the bridge.
type succession struct {
	old    *x509.Certificate
	oldKey crypto.Signer
	next   house
	bridge *x509.Certificate
}

func newSuccession(t testing.TB, algorithm pki.KeyAlgorithm, change ...func(*x509.Certificate)) succession {
	t.Helper()
	s := succession{next: newHouse(t, algorithm, pki.ECDSAP256)}
	s.old, s.oldKey = rootWith(t, "old root", change...)
	var err error
	if s.bridge, err = CreateBridge(now, s.old, s.oldKey, s.next.root, publicURL, "root-0"); err != nil {
		t.Fatal(err)
	}
	return s
}

// chains are what a leaf of the new house is sent with: by itself, and with the
// bridge behind.
func (s succession) chains(t testing.TB, asked pki.Names) (bare, bridged pki.Chain) {
	t.Helper()
	issuing := s.next.issuing.Certificate
	with, err := NewAuthority("issuing-1", issuing, []*x509.Certificate{issuing, s.bridge}, s.next.issuing.signer, publicURL)
	if err != nil {
		t.Fatal(err)
	}
	request := Request{newKey(t, pki.ECDSAP256).Public(), asked, dayTerms}
	for authority, chain := range map[*Authority]*pki.Chain{s.next.issuing: &bare, with: &bridged} {
		issued, _ := issue(t, authority, request)
		if *chain, err = pki.ParseChainDER(issued.Chain); err != nil {
			t.Fatal(err)
		}
	}
	return bare, bridged
}

// Go, OpenSSL in its strict mood and package pki are of one mind about who
// takes a new leaf, and about the depth that it needs.
func TestBridgeCarriesToTheOldRoot(t *testing.T) {
	unchanged := func(*x509.Certificate) {}
	cases := map[string]struct {
		algorithm pki.KeyAlgorithm
		change    func(*x509.Certificate)
	}{
		"plain":           {pki.ECDSAP256, unchanged},
		"Ed25519":         {pki.Ed25519, unchanged},
		"RSA":             {pki.RSA2048, unchanged},
		"path length 2":   {pki.ECDSAP256, func(c *x509.Certificate) { c.MaxPathLen = 2 }},
		"constrained":     {pki.ECDSAP256, constrainOld},
		"for TLS":         {pki.ECDSAP256, func(c *x509.Certificate) { c.ExtKeyUsage = both }},
		"odd key id":      {pki.ECDSAP256, func(c *x509.Certificate) { c.SubjectKeyId = []byte("an older way") }},
		"begins just now": {pki.ECDSAP256, func(c *x509.Certificate) { c.NotBefore = now.Truncate(time.Second) }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := newSuccession(t, c.algorithm, c.change)
			if err := CheckBridge(now, s.old, s.next.root, s.next.issuing.Certificate); err != nil {
				t.Fatal(err)
			}
			bare, bridged := s.chains(t, names(t, "", []string{"db.example.org"}, []string{"127.0.0.1"}, "spiffe://prod.example.org/db"))
			for _, p := range []struct {
				name    string
				chain   pki.Chain
				anchors []*x509.Certificate
				depth   int // that it needs; 0: it is refused
			}{
				{"old root, with the bridge", bridged, []*x509.Certificate{s.old}, 2},
				{"new root, with the bridge", bridged, []*x509.Certificate{s.next.root}, 1},
				{"both roots, with the bridge", bridged, []*x509.Certificate{s.old, s.next.root}, 1},
				{"new root, bare", bare, []*x509.Certificate{s.next.root}, 1},
				{"old root, bare", bare, []*x509.Certificate{s.old}, 0},
			} {
				compareVerifiers(t, p.name, p.chain, bundleOf(t, p.anchors...), p.depth)
			}
		})
	}
}

// compareVerifiers holds the verdicts of Go, OpenSSL and package pki against
// the depth that the chain needs; 0 means that all refuse it.
func compareVerifiers(t *testing.T, name string, chain pki.Chain, bundle pki.Bundle, depth int) {
	t.Helper()
	between := x509.NewCertPool()
	for _, cert := range chain.Intermediates {
		between.AddCert(cert)
	}
	_, goErr := chain.Leaf.Verify(x509.VerifyOptions{Roots: bundle.Pool(), Intermediates: between, CurrentTime: now, KeyUsages: both})
	openssl := func(depth int) (string, error) {
		return opensslVerifyBundle(t, bundle, chain.DER(), "-purpose", "sslserver", "-verify_depth", strconv.Itoa(depth))
	}
	out, opensslErr := openssl(max(depth, 2))
	pkiErr := chain.Verify(bundle, x509.ExtKeyUsageServerAuth, now)
	if depth == 0 {
		if goErr == nil || opensslErr == nil || pkiErr == nil {
			t.Errorf("%s: taken by Go (%v), OpenSSL (%v) or pki (%v)", name, goErr, opensslErr, pkiErr)
		}
		return
	}
	if goErr != nil || opensslErr != nil || pkiErr != nil {
		t.Errorf("%s: Go %v, OpenSSL %s, pki %v", name, goErr, out, pkiErr)
	}
	if got, err := chain.VerifyDepth(bundle); got != depth || err != nil {
		t.Errorf("%s: depth %d, %v; want %d", name, got, err, depth)
	}
	if _, err := openssl(depth); err != nil {
		t.Errorf("%s: OpenSSL wants more than depth %d", name, depth)
	}
	if _, err := openssl(depth - 1); err == nil {
		t.Errorf("%s: OpenSSL takes depth %d", name, depth-1)
	}
}

// constrainOld gives an old root constraints that newHouse's issuing authority
// is just within.
func constrainOld(c *x509.Certificate) {
	c.PermittedDNSDomainsCritical = true
	c.PermittedDNSDomains, c.ExcludedDNSDomains = []string{"org", "localhost"}, []string{"example.net"}
	c.PermittedIPRanges = ranges([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("fc00::/7")})
	c.PermittedURIDomains = []string{"prod.example.org"}
}

func TestBridgeIsTheNewRootByTheOld(t *testing.T) {
	s := newSuccession(t, pki.ECDSAP256)
	b, next := s.bridge, s.next.root
	if !bytes.Equal(b.RawSubject, next.RawSubject) || !bytes.Equal(b.RawSubjectPublicKeyInfo, next.RawSubjectPublicKeyInfo) || !bytes.Equal(b.SubjectKeyId, next.SubjectKeyId) {
		t.Errorf("it is for %s, key identifier %x", b.Subject, b.SubjectKeyId)
	}
	if !bytes.Equal(b.RawIssuer, s.old.RawSubject) || !bytes.Equal(b.AuthorityKeyId, s.old.SubjectKeyId) || b.CheckSignatureFrom(s.old) != nil {
		t.Errorf("it is by %s, key identifier %x", b.Issuer, b.AuthorityKeyId)
	}
	if !b.IsCA || b.MaxPathLen != -1 || b.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || len(b.ExtKeyUsage) > 0 {
		t.Errorf("CA %v, path length %d, key usage %b %v", b.IsCA, b.MaxPathLen, b.KeyUsage, b.ExtKeyUsage)
	}
	if !b.NotAfter.Equal(s.old.NotAfter) || !b.NotBefore.Equal(now.Add(-authorityBackdate).Truncate(time.Second)) {
		t.Errorf("valid from %s to %s, the old root to %s", b.NotBefore, b.NotAfter, s.old.NotAfter)
	}
	serial, err := pki.SerialOf(b)
	if err != nil || !slices.Equal(b.CRLDistributionPoints, []string{crlURL(publicURL, "root-0", serial.Shard())}) ||
		!slices.Equal(b.IssuingCertificateURL, []string{publicURL + "/ca/root-0.crt"}) {
		t.Errorf("addresses %v %v, %v", b.CRLDistributionPoints, b.IssuingCertificateURL, err)
	}
	if _, err := pki.NewBundle([]*x509.Certificate{b}); err == nil {
		t.Error("a bridge was taken for an anchor")
	}
}

// The bridge ends with the first of its roots, begins with the last, and allows no more depth than
// either does.
func TestBridgeIsWithinBothRoots(t *testing.T) {
	old, oldKey := rootWith(t, "old root", func(c *x509.Certificate) { c.MaxPathLen = 3 })
	short, _ := rootWith(t, "next", func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter, c.MaxPathLen = now.Add(-time.Minute), now.Add(2*time.Hour), 1
		c.PermittedDNSDomains = []string{"example.org"}
	})
	deep, _ := rootWith(t, "next", func(c *x509.Certificate) { c.MaxPathLen, c.SubjectKeyId = 5, []byte("an older way") })
	plain, _ := rootWith(t, "next")
	for next, want := range map[*x509.Certificate]int{short: 1, deep: 2, plain: 2} {
		bridge, err := CreateBridge(now, old, oldKey, next, publicURL, "")
		if err != nil {
			t.Fatal(err)
		}
		if bridge.MaxPathLen != want {
			t.Errorf("path length %d, want %d", bridge.MaxPathLen, want)
		}
		if bridge.NotAfter.After(old.NotAfter) || bridge.NotAfter.After(next.NotAfter) || bridge.NotBefore.Before(old.NotBefore) || bridge.NotBefore.Before(next.NotBefore) {
			t.Errorf("valid from %s to %s", bridge.NotBefore, bridge.NotAfter)
		}
		if !slices.Equal(bridge.PermittedDNSDomains, next.PermittedDNSDomains) {
			t.Errorf("permits %v, the new root %v", bridge.PermittedDNSDomains, next.PermittedDNSDomains)
		}
		if !bytes.Equal(bridge.SubjectKeyId, next.SubjectKeyId) {
			t.Errorf("key identifier %x, the new root's is %x", bridge.SubjectKeyId, next.SubjectKeyId)
		}
		if len(bridge.CRLDistributionPoints)+len(bridge.IssuingCertificateURL) != 0 {
			t.Error("without the old root's ID there is no address to carry")
		}
	}
	for _, key := range []crypto.Signer{newKey(t, pki.ECDSAP256), newKey(t, pki.Ed25519)} {
		if _, err := CreateBridge(now, old, key, plain, publicURL, ""); err == nil || fault.CodeOf(err) != fault.Invalid {
			t.Errorf("by a key that is not the old root's: %v", err)
		}
	}
	if _, err := CreateBridge(now, old, oldKey, plain, publicURL, "a/b"); err == nil {
		t.Error("an ID that is no path segment was taken")
	}
}

// directoryConstraint permits one organization, not critically: Go overlooks
// it, OpenSSL does not.
func directoryConstraint(t testing.TB, organization string) pkix.Extension {
	t.Helper()
	name, err := asn1.Marshal(pkix.Name{Organization: []string{organization}}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	wrap := func(class, tag int, inner []byte) []byte {
		der, err := asn1.Marshal(asn1.RawValue{Class: class, Tag: tag, IsCompound: true, Bytes: inner})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	subtree := wrap(asn1.ClassUniversal, asn1.TagSequence, wrap(asn1.ClassContextSpecific, 4, name))
	return pkix.Extension{Id: oidNameConstraints, Value: wrap(asn1.ClassUniversal, asn1.TagSequence, wrap(asn1.ClassContextSpecific, 0, subtree))}
}

// Each reason for which there is none.
func TestNoBridge(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	oldWith := func(change func(*x509.Certificate)) *x509.Certificate {
		cert, _ := rootWith(t, "old root", change)
		return cert
	}
	plain := oldWith(func(*x509.Certificate) {})
	sameName, _ := rootWith(t, "ROOT")
	shallow, _ := rootWith(t, "shallow", func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	withoutID := *h.root
	withoutID.SubjectKeyId, withoutID.AuthorityKeyId = nil, nil
	stranger := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	cases := map[string]struct {
		old, next *x509.Certificate
		issuing   *x509.Certificate
		rule      string
	}{
		"a leaf":             {h.issuing.Certificate, h.root, nil, "not self-signed"},
		"itself":             {h.root, h.root, nil, "one subject"},
		"one subject":        {sameName, h.root, nil, "one subject"},
		"one key identifier": {oldWith(func(c *x509.Certificate) { c.SubjectKeyId = h.root.SubjectKeyId }), h.root, nil, "both roots have the subject key identifier"},
		"no key identifier":  {plain, &withoutID, nil, "new root has no subject key identifier"},
		"path length 0":      {oldWith(func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }), h.root, nil, "allows 0 authorities"},
		"path length 1":      {oldWith(func(c *x509.Certificate) { c.MaxPathLen = 1 }), h.root, nil, "allows 1 authorities below it (pathLenConstraint); the chain has 2"},
		"new path length":    {plain, shallow, nil, `"shallow" allows 0 authorities`},
		"expired":            {oldWith(func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-2*time.Hour), now.Add(-time.Second) }), h.root, nil, "expired at"},
		"nearly expired":     {oldWith(func(c *x509.Certificate) { c.NotAfter = now.Add(59 * time.Minute) }), h.root, nil, "in less than 1h"},
		"of tomorrow":        {oldWith(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) }), h.root, nil, "not valid before"},
		"for clients only":   {oldWith(func(c *x509.Certificate) { c.ExtKeyUsage = both[1:] }), h.root, nil, "serverAuth or clientAuth"},
		"directory names": {oldWith(func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, directoryConstraint(t, "other"))
		}), h.root, nil, "treat differently"},
		"another root's issuing": {plain, h.root, stranger.issuing.Certificate, "authority and subject key identifier"},
		"DNS names":              {oldWith(func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.org"} }), h.root, h.issuing.Certificate, "permits example.org, localhost (DNS names)"},
		"excluded DNS names":     {oldWith(func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"db.example.org"} }), h.root, h.issuing.Certificate, "excludes db.example.org"},
		"addresses": {oldWith(func(c *x509.Certificate) {
			c.PermittedIPRanges = ranges([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/9")})
		}), h.root, h.issuing.Certificate, "(IP addresses)"},
		"trust domain": {oldWith(func(c *x509.Certificate) { c.PermittedURIDomains = []string{"dev.example.org"} }), h.root, h.issuing.Certificate, "(URIs)"},
		"unhandled extension": {oldWith(func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
		}), h.root, nil, "critical extension 1.2.3"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			err := CheckBridge(now, c.old, c.next, c.issuing)
			if err == nil || !strings.Contains(err.Error(), c.rule) || fault.CodeOf(err) != fault.Invalid {
				t.Errorf("got %v, want a refusal with %q", err, c.rule)
			}
		})
	}
	if err := CheckBridge(now, plain, h.root, h.issuing.Certificate); err != nil {
		t.Errorf("the plain old root is refused: %v", err)
	}
}

// A bridge signed in spite of CheckBridge is refused by Go or OpenSSL, so the
// rules are no stricter than the world.
func TestBridgesAgainstTheRulesFail(t *testing.T) {
	for name, change := range map[string]func(*x509.Certificate){
		"path length": func(c *x509.Certificate) { c.MaxPathLen = 1 },
		"usage":       func(c *x509.Certificate) { c.ExtKeyUsage = both[1:] },
		"directory names": func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, directoryConstraint(t, "other"))
		},
		"DNS names": func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.net"} },
		"excluded":  func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"db.example.org"} },
		"addresses": func(c *x509.Certificate) {
			c.ExcludedIPRanges = []*net.IPNet{{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(30, 32)}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSuccession(t, pki.ECDSAP256)
			s.old, s.oldKey = rootWith(t, "old root", change)
			serial, err := pki.NewSerial(now, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			template := *s.bridge
			template.SerialNumber = serial.Big()
			if s.bridge, err = signAuthority(&template, s.old, s.next.root.PublicKey, s.oldKey); err != nil {
				t.Fatal(err)
			}
			if CheckBridge(now, s.old, s.next.root, s.next.issuing.Certificate) == nil {
				t.Error("CheckBridge takes it")
			}
			_, chain := s.chains(t, names(t, "", []string{"db.example.org"}, []string{"127.0.0.1"}, ""))
			between := x509.NewCertPool()
			between.AddCert(chain.Intermediates[0])
			between.AddCert(chain.Intermediates[1])
			_, goErr := chain.Leaf.Verify(x509.VerifyOptions{Roots: bundleOf(t, s.old).Pool(), Intermediates: between, CurrentTime: now, KeyUsages: both[:1]})
			out, opensslErr := opensslVerify(t, s.old, chain.DER(), "-purpose", "sslserver")
			if goErr == nil && opensslErr == nil {
				t.Errorf("Go and OpenSSL both take it: %s", out)
			}
		})
	}
}
