package pki

import (
	"crypto/x509"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestNeeds(t *testing.T) {
	h := newHierarchy(t)
	issuingA := newParty(t, "issuing A", h.a, pathLength(0))
	leafA := newParty(t, "", issuingA, asLeaf)
	lateLeaf := newParty(t, "", issuingA, asLeaf, expired)
	clientLeaf := newParty(t, "", issuingA, asLeaf, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] })
	againA := certify(t, h.a.key, "root A", nil) // A, renewed by its own key
	lateB := certify(t, h.b.key, "root B", nil, expired)
	stranger := newParty(t, "stranger", nil)
	bridged := chainOf(h.leaf, h.issuing, h.bridge)
	onA, onB, onBoth := bundleOf(t, h.a), bundleOf(t, h.b), bundleOf(t, h.a, h.b)

	for _, c := range []struct {
		name    string
		chain   Chain
		bundle  Bundle
		without *party
		needs   bool
		refused string // the rule for which the chain does not validate at all
		reason  string // that Explain must give
	}{
		{"A's leaf needs A", chainOf(leafA, issuingA), onBoth, h.a, true, "", `needs "CN=root A": chain refused: no anchor`},
		{"A's leaf does not need B", chainOf(leafA, issuingA), onBoth, h.b, false, "", `does not need "CN=root B": it chains to "CN=root A" too`},
		{"the only anchor", chainOf(leafA, issuingA), onA, h.a, true, "", "no anchor of the bundle 000000000000"},
		{"B's leaf does not need A", chainOf(h.leaf, h.issuing), onBoth, h.a, false, "", `chains to "CN=root B" too`},
		{"B's leaf and bridge do not need A where B is", bridged, onBoth, h.a, false, "", `chains to "CN=root B" too`},
		{"B's leaf and bridge do not need B where A is", bridged, onBoth, h.b, false, "", `chains to "CN=root A" too`},
		{"B's leaf without the bridge needs B", chainOf(h.leaf, h.issuing), onBoth, h.b, true, "", "needs"},
		{"B's leaf and bridge need A where B is not", bridged, onA, h.a, true, "", "needs"},
		{"a renewed A does as well", chainOf(leafA, issuingA), bundleOf(t, againA, h.b), h.b, false, "", "chains to"},
		{"an anchor that is not in the bundle", chainOf(leafA, issuingA), onA, stranger, false, "", "does not have it"},
		{"an expired B is no help", bridged, bundleOf(t, h.a, lateB), h.a, true, "", "unknown authority"},
		{"hand-made, with its root", chainOf(leafA, issuingA, h.a), onBoth, h.a, true, "", "needs"},
		{"hand-made, with another's root", chainOf(h.leaf, h.issuing, h.b), onBoth, h.a, false, "", "does not need"},
		{"hand-made, out of order", Chain{h.leaf.cert, []*x509.Certificate{h.bridge.cert, h.issuing.cert}}, onA, h.a, true, "", "needs"},
		{"hand-made, with its root before the bridge", chainOf(h.leaf, h.issuing, h.b, h.bridge), onBoth, h.b, true, "", "itself stands in it"},
		{"hand-made, with a root that is not in the bundle", chainOf(h.leaf, h.issuing, h.bridge, h.b), onA, h.b, false, "", "does not have it"},
		{"nobody takes it", chainOf(leafA, issuingA), onB, h.b, false, "no anchor", "does not validate under the bundle"},
		{"expired", chainOf(lateLeaf, issuingA), onBoth, h.a, false, "expired at", "expired at"},
		{"for another usage", chainOf(clientLeaf, issuingA), onBoth, h.a, false, "not for serverAuth", "not for serverAuth"},
		{"no leaf", Chain{}, onBoth, h.a, false, "no leaf", "no leaf"},
	} {
		t.Run(c.name, func(t *testing.T) {
			needs, err := Needs(c.chain, c.bundle, c.without.cert, x509.ExtKeyUsageServerAuth, now)
			if needs != c.needs || (err != nil) != (c.refused != "") || (err != nil && !strings.Contains(err.Error(), c.refused)) {
				t.Errorf("needs %v, %v", needs, err)
			}
			if got := Explain(c.chain, c.bundle, c.without.cert, x509.ExtKeyUsageServerAuth, now); !strings.Contains(got, c.reason) {
				t.Errorf("explained as %q, want %q", got, c.reason)
			}
		})
	}
	if _, err := Needs(bridged, onA, nil, x509.ExtKeyUsageServerAuth, now); err == nil {
		t.Error("no anchor was named, and there is an answer")
	}
}

// The law that Needs is for: when it says that an anchor is not needed, then
// neither a party that uses Go nor one that uses OpenSSL loses the chain.
func TestWhatIsNotNeededIsNotMissed(t *testing.T) {
	h := newHierarchy(t)
	again := certify(t, h.a.key, "root A", nil)
	lateB, lateBridge := certify(t, h.b.key, "root B", nil, expired), certify(t, h.b.key, "root B", h.a, expired)
	shallow := certify(t, h.a.key, "root A", nil, pathLength(1))
	issuingA := certify(t, h.issuing.key, "issuing A", h.a)
	leaves := []*party{h.leaf, newParty(t, "", issuingA, asLeaf)}
	links := []*party{h.issuing, issuingA, h.bridge, lateBridge, h.a, h.b}
	anchors := []*party{h.a, h.b, again, lateB, shallow}

	random := rand.New(rand.NewPCG(3, 4))
	pick := func(from []*party) *party { return from[random.IntN(len(from))] }
	asked, needed := 0, 0
	for i := 0; i < 4000 && (asked < 80 || needed < 80); i++ {
		chain := chainOf(pick(leaves))
		for range random.IntN(4) {
			chain.Intermediates = append(chain.Intermediates, pick(links).cert)
		}
		without := pick(anchors)
		bundle := bundleOf(t, without, pick(anchors))
		needs, err := Needs(chain, bundle, without.cert, x509.ExtKeyUsageServerAuth, now)
		if needs {
			needed++
		}
		if err != nil || needs || asked == 80 {
			continue
		}
		asked++
		rest := bundle.Without(without.cert)
		if goTakes(chain, bundle) && !goTakes(chain, rest) {
			t.Errorf("Go misses the anchor %q", without.cert.Subject)
		}
		before, _ := opensslTakes(t, chain, bundle)
		if after, out := opensslTakes(t, chain, rest); before && !after {
			t.Errorf("openssl misses the anchor %q: %s", without.cert.Subject, out)
		}
	}
	if asked < 80 || needed < 80 {
		t.Errorf("%d not needed, %d needed: the test says nothing", asked, needed)
	}
}

// Taking out an anchor and putting it back gives the same bundle, and Without
// is NewBundle of the others.
func TestWithout(t *testing.T) {
	var all []*party
	for _, name := range []string{"a", "b", "c", "d"} {
		all = append(all, newParty(t, name, nil))
	}
	rapid.Check(t, func(t *rapid.T) {
		chosen := rapid.SliceOfNDistinct(rapid.IntRange(0, 3), 1, 4, rapid.ID[int]).Draw(t, "chosen")
		out := rapid.IntRange(0, 3).Draw(t, "out")
		var certs, others []*x509.Certificate
		for _, i := range chosen {
			certs = append(certs, all[i].cert)
			if i != out {
				others = append(others, all[i].cert)
			}
		}
		b, err := NewBundle(certs)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := NewBundle(others) // of none it is the zero bundle
		rest := b.Without(all[out].cert)
		if rest.Digest() != want.Digest() || rest.Contains(all[out].cert) || len(rest.Anchors()) != len(others) {
			t.Fatalf("%d anchors without one are %d, want %d", len(certs), len(rest.Anchors()), len(others))
		}
		if len(b.Anchors()) != len(certs) {
			t.Fatal("the bundle itself has changed")
		}
	})
}

// The depth is exactly what OpenSSL wants: one less is refused.
func TestVerifyDepth(t *testing.T) {
	h := newHierarchy(t)
	direct := newParty(t, "direct", h.a, asLeaf)
	bridged := chainOf(h.leaf, h.issuing, h.bridge)
	for _, c := range []struct {
		name   string
		chain  Chain
		bundle Bundle
		depth  int
	}{
		{"straight under its root", chainOf(direct), bundleOf(t, h.a), 0},
		{"under B", chainOf(h.leaf, h.issuing), bundleOf(t, h.b), 1},
		{"bridge not needed", bridged, bundleOf(t, h.a, h.b), 1},
		{"bridge needed", bridged, bundleOf(t, h.a), 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			depth, err := c.chain.VerifyDepth(c.bundle)
			if err != nil || depth != c.depth {
				t.Fatalf("depth %d, %v; want %d", depth, err, c.depth)
			}
			if ok, out := opensslTakes(t, c.chain, c.bundle, "-verify_depth", strconv.Itoa(depth)); !ok {
				t.Errorf("openssl refuses depth %d: %s", depth, out)
			}
			if depth == 0 {
				return
			}
			if ok, _ := opensslTakes(t, c.chain, c.bundle, "-verify_depth", strconv.Itoa(depth-1)); ok {
				t.Errorf("openssl takes depth %d", depth-1)
			}
		})
	}
	for _, chain := range []Chain{{}, chainOf(h.leaf)} {
		if _, err := chain.VerifyDepth(bundleOf(t, h.a)); err == nil {
			t.Error("a depth for a chain that leads nowhere")
		}
	}
}

// A certificate that is not valid yet is not needed yet: nobody takes it.
func TestNeedsBeginsWithValidity(t *testing.T) {
	h := newHierarchy(t)
	tomorrow := newParty(t, "", h.issuing, asLeaf, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) })
	chain, onB := chainOf(tomorrow, h.issuing), bundleOf(t, h.b)
	if _, err := Needs(chain, onB, h.b.cert, x509.ExtKeyUsageServerAuth, now); err == nil {
		t.Error("it is needed before it is valid")
	}
	if needs, err := Needs(chain, onB, h.b.cert, x509.ExtKeyUsageServerAuth, now.Add(2*time.Hour)); !needs || err != nil {
		t.Errorf("needs %v, %v", needs, err)
	}
}
