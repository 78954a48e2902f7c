package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Chains that hold. OpenSSL must agree, or the rule set is too lax.
func TestGoodChains(t *testing.T) {
	h := newHierarchy(t)
	direct := newParty(t, "direct", h.a, asLeaf)
	lateBridge := certify(t, h.b.key, "root B", h.a, expired)
	noKeyIDs := newParty(t, "old root", nil, func(c *x509.Certificate) { c.SubjectKeyId = nil })
	cases := []struct {
		name   string
		chain  Chain
		bundle Bundle
	}{
		{"leaf and issuing under B", chainOf(h.leaf, h.issuing), bundleOf(t, h.b)},
		{"bridge to A", chainOf(h.leaf, h.issuing, h.bridge), bundleOf(t, h.a)},
		{"bridge that B's friends do not need", chainOf(h.leaf, h.issuing, h.bridge), bundleOf(t, h.b)},
		{"expired bridge that B's friends do not need", chainOf(h.leaf, h.issuing, lateBridge), bundleOf(t, h.b)},
		{"both anchors", chainOf(h.leaf, h.issuing, h.bridge), bundleOf(t, h.a, h.b)},
		{"a leaf straight under its root", chainOf(direct), bundleOf(t, h.a)},
		{"a root with no key identifier of ours", chainOf(newParty(t, "x", noKeyIDs, asLeaf)), bundleOf(t, noKeyIDs)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if err := c.chain.Verify(c.bundle, x509.ExtKeyUsageServerAuth, now); err != nil {
				t.Errorf("refused: %v", err)
			}
			if ok, out := opensslTakes(t, c.chain, c.bundle); !ok {
				t.Errorf("openssl refuses it: %s", out)
			}
		})
	}
}

// badChain is a chain that one of Go and OpenSSL refuses, or that a server must
// not send. The error must name the rule.
type badChain struct {
	name        string
	chain       Chain
	bundle      Bundle
	rule        string
	onlyOpenSSL bool // Go takes it
}

func (c badChain) check(t *testing.T) {
	err := c.chain.Verify(c.bundle, x509.ExtKeyUsageServerAuth, now)
	if err == nil || !strings.Contains(err.Error(), c.rule) || fault.CodeOf(err) != fault.Invalid {
		t.Errorf("got %v, want a refusal with %q", err, c.rule)
	}
	if !c.onlyOpenSSL {
		return
	}
	if !goTakes(c.chain, c.bundle) {
		t.Error("Go refuses it too")
	}
	if ok, _ := opensslTakes(t, c.chain, c.bundle); ok {
		t.Error("openssl takes it")
	}
}

func TestBadShapes(t *testing.T) {
	h := newHierarchy(t)
	sameName := certify(t, h.b.key, "root A", h.a) // a bridge with one name at both ends
	under := newParty(t, "issuing C", sameName, pathLength(0))
	forged := *h.leaf.cert
	forged.Signature = append([]byte(nil), forged.Signature...)
	forged.Signature[len(forged.Signature)-1] ^= 1
	noSign := newParty(t, "issuing E", h.b, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })
	for _, c := range []badChain{
		{"no leaf", Chain{}, bundleOf(t, h.b), "no leaf", false},
		{"no anchors", chainOf(h.leaf, h.issuing), Bundle{}, "no anchor", false},
		{"another anchor", chainOf(h.leaf, h.issuing), bundleOf(t, h.a), "no anchor", false},
		{"issuing missing", chainOf(h.leaf), bundleOf(t, h.b), "no anchor", false},
		{"order", chainOf(h.leaf, h.bridge, h.issuing), bundleOf(t, h.a), "followed by its issuer", false},
		{"CA first", chainOf(h.issuing, h.bridge), bundleOf(t, h.a), "must be the leaf", false},
		{"root at the end", chainOf(h.leaf, h.issuing, h.b), bundleOf(t, h.b), "must not be in a chain", false},
		{"root before the bridge", chainOf(h.leaf, h.issuing, h.b, h.bridge), bundleOf(t, h.a), "at most 2", true},
		{"stranger at the end", chainOf(h.leaf, h.issuing, newParty(t, "stranger", h.a)), bundleOf(t, h.b), "followed by its issuer", false},
		{"A and B of one name", chainOf(newParty(t, "", under, asLeaf), under, sameName), bundleOf(t, h.a), "must not be in a chain", false},
		{"forged signature", Chain{&forged, []*x509.Certificate{h.issuing.cert}}, bundleOf(t, h.b), "signature", false},
		{"issuer may not sign", chainOf(newParty(t, "", noSign, asLeaf), noSign), bundleOf(t, h.b), "lacks keyCertSign", false},
	} {
		t.Run(c.name, c.check)
	}
}

func TestBadLinks(t *testing.T) {
	h := newHierarchy(t)
	wrongAKI := func(c *x509.Certificate) { c.AuthorityKeyId = []byte("another key's ident.") }
	wrongSKI := func(c *x509.Certificate) { c.SubjectKeyId = []byte("another key's ident.") }
	byName := func(serial int64, issuer []byte) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, authorityKeyID(t, serial, issuer))
		}
	}
	rootLike := newParty(t, "root A", nil) // A's name, another key
	sameKeyID := newParty(t, "root A", nil, func(c *x509.Certificate) { c.SubjectKeyId = h.a.cert.SubjectKeyId })
	underA := newParty(t, "", h.a, asLeaf)
	serial := h.issuing.cert.SerialNumber
	for _, c := range []badChain{
		{"leaf's AKI", chainOf(newParty(t, "", h.issuing, asLeaf, wrongAKI), h.issuing), bundleOf(t, h.b), "key identifier must be equal", true},
		{"bridge's SKI is not B's", chainOf(h.leaf, h.issuing, certify(t, h.b.key, "root B", h.a, wrongSKI)), bundleOf(t, h.a), "key identifier must be equal", true},
		{"bridge's AKI is not A's", chainOf(h.leaf, h.issuing, certify(t, h.b.key, "root B", h.a, wrongAKI)), bundleOf(t, h.a), "key identifier must be equal", true},
		{"two anchors of one name and key identifier", chainOf(underA), bundleOf(t, h.a, sameKeyID), "would take either", false},
		{"anchor of the same name only", chainOf(underA), bundleOf(t, rootLike), "key identifier must be equal", false},
		{"AKI with another serial", chainOf(newParty(t, "", h.issuing, asLeaf, byName(77, h.b.cert.RawSubject)), h.issuing), bundleOf(t, h.b), "issuer's serial", true},
		{"AKI with another issuer", chainOf(newParty(t, "", h.issuing, asLeaf, byName(serial.Int64(), h.a.cert.RawSubject)), h.issuing), bundleOf(t, h.b), "issuer's serial", true},
	} {
		t.Run(c.name, c.check)
	}
}

func TestBadPaths(t *testing.T) {
	h := newHierarchy(t)
	bundleB := bundleOf(t, h.b)
	leafWith := func(change func(*x509.Certificate)) Chain {
		return chainOf(newParty(t, "", h.issuing, asLeaf, change), h.issuing)
	}
	shallow := newParty(t, "shallow root", nil, pathLength(0))
	tooDeep := newParty(t, "issuing S", shallow)
	mailOnly := newParty(t, "issuing M", h.b, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection} })
	constrained := newParty(t, "issuing D", h.a, func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.net"} })
	for _, c := range []badChain{
		{"expired leaf", leafWith(expired), bundleB, "expired at", false},
		{"leaf of tomorrow", leafWith(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) }), bundleB, "not valid before", false},
		{"expired bridge", chainOf(h.leaf, h.issuing, certify(t, h.b.key, "root B", h.a, expired)), bundleOf(t, h.a), "expired at", false},
		{"expired B beside A and a bridge", chainOf(h.leaf, h.issuing, h.bridge), bundleOf(t, h.a, certify(t, h.b.key, "root B", nil, expired)), "expired at", true},
		{"path length", chainOf(h.leaf, h.issuing, certify(t, h.b.key, "root B", h.a, pathLength(0))), bundleOf(t, h.a), "pathLenConstraint", false},
		{"root's path length", chainOf(newParty(t, "", tooDeep, asLeaf), tooDeep), bundleOf(t, shallow), "pathLenConstraint", false},
		{"usage", leafWith(func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] }), bundleB, "not for serverAuth", false},
		{"issuing for another usage", chainOf(newParty(t, "", mailOnly, asLeaf), mailOnly), bundleB, "not for serverAuth", false},
		{"no digitalSignature", leafWith(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }), bundleB, "digitalSignature", true},
		{"name constraint", chainOf(newParty(t, "", constrained, asLeaf), constrained), bundleOf(t, h.a), "not permitted", false},
		{"common name read as DNS name", chainOf(newParty(t, "db.example.org", constrained, asLeaf, func(c *x509.Certificate) { c.DNSNames = nil }), constrained), bundleOf(t, h.a), "reads it as a DNS name", true},
	} {
		t.Run(c.name, c.check)
	}
}

// authorityKeyID encodes the extension with issuer and serial only.
func authorityKeyID(t *testing.T, serial int64, issuer []byte) pkix.Extension {
	t.Helper()
	names, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: issuer})
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		Names  asn1.RawValue
		Serial int64 `asn1:"tag:2"`
	}{asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: names}, serial})
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: oidAuthorityKeyID, Value: der}
}

// Whatever Verify takes, Go and OpenSSL take: random chains and bundles from a
// pool of good and odd certificates.
func TestVerifyIsNeverLaxer(t *testing.T) {
	h := newHierarchy(t)
	odd := []func(*x509.Certificate){
		func(*x509.Certificate) {}, expired, pathLength(0), pathLength(1),
		func(c *x509.Certificate) { c.SubjectKeyId = []byte("odd") }, func(c *x509.Certificate) { c.AuthorityKeyId = []byte("odd") },
		func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }, func(c *x509.Certificate) { c.KeyUsage = 0 },
		func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.net"} },
		func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.org"} },
		func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} },
		func(c *x509.Certificate) {
			c.ExcludedIPRanges = []*net.IPNet{{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}}
		},
	}
	var leaves, links, anchors []*party
	anchors = append(anchors, h.a, h.b)
	for _, change := range odd {
		links = append(links, certify(t, h.issuing.key, "issuing B", h.b, change), certify(t, h.b.key, "root B", h.a, change))
		noPathLength := func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, false }
		leaves = append(leaves, newParty(t, "", h.issuing, asLeaf, change, noPathLength))
		anchors = append(anchors, certify(t, h.a.key, "root A", nil, change), certify(t, h.b.key, "root B", nil, change))
	}
	var usable []*party // as anchors
	for _, p := range anchors {
		if _, err := NewBundle([]*x509.Certificate{p.cert}); err == nil {
			usable = append(usable, p)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(from []*party) *party { return from[random.IntN(len(from))] }
	taken := 0
	for range 4000 {
		chain := chainOf(pick(leaves))
		for range random.IntN(3) {
			chain.Intermediates = append(chain.Intermediates, pick(links).cert)
		}
		bundle := bundleOf(t, pick(usable), pick(usable))
		if chain.Verify(bundle, x509.ExtKeyUsageServerAuth, now) != nil {
			continue
		}
		taken++
		if !goTakes(chain, bundle) {
			t.Errorf("Go refuses what Verify takes")
		}
		if ok, out := opensslTakes(t, chain, bundle); !ok {
			t.Errorf("openssl refuses what Verify takes: %s", out)
			for _, cert := range append(chain.Certificates(), bundle.Anchors()...) {
				t.Logf("%q under %q: permits %v, SKI %x, AKI %x, path length %d, usage %b %v, until %s", cert.Subject, cert.Issuer,
					cert.PermittedDNSDomains, cert.SubjectKeyId, cert.AuthorityKeyId, cert.MaxPathLen, cert.KeyUsage, cert.ExtKeyUsage, cert.NotAfter)
			}
		}
	}
	if taken < 20 {
		t.Errorf("only %d chains were taken; the test says nothing", taken)
	}
	t.Logf("%d chains compared", taken)
}
