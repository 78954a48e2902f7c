package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A bundle is a set: neither order nor repetition shows in its digest, and each
// of its forms reads back as the same set.
func TestBundleLaws(t *testing.T) {
	var roots []*x509.Certificate
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		roots = append(roots, newParty(t, name, nil).cert)
	}
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.SliceOfN(rapid.SampledFrom(roots), 1, 8).Draw(t, "anchors")
		other := rapid.Permutation(append(slices.Clone(some), some[0])).Draw(t, "shuffled")
		a, err := NewBundle(some)
		if err != nil {
			t.Fatal(err)
		}
		b, err := NewBundle(other)
		if err != nil || a.Digest() != b.Digest() || !bytes.Equal(a.PEM(), b.PEM()) {
			t.Fatalf("order or repetition shows: %v", err)
		}
		if c, err := ParseBundlePEM(a.PEM()); err != nil || c.Digest() != a.Digest() {
			t.Fatalf("PEM reads back otherwise: %v", err)
		}
		if c, err := ParseBundleDER(a.DER()); err != nil || c.Digest() != a.Digest() {
			t.Fatalf("DER reads back otherwise: %v", err)
		}
		if d, err := ParseBundleDigest(a.Digest().String()); err != nil || d != a.Digest() || d.IsZero() {
			t.Fatalf("digest reads back otherwise: %v", err)
		}
		for _, root := range roots {
			if a.Contains(root) != slices.ContainsFunc(some, root.Equal) {
				t.Fatal("contains what it should not, or not what it should")
			}
			with, err := NewBundle(append(slices.Clone(some), root))
			if err != nil || (with.Digest() == a.Digest()) != a.Contains(root) {
				t.Fatalf("another set has the same digest: %v", err)
			}
		}
	})
}

// The digest is fixed: SHA-256 over the DERs sorted by their SHA-256.
func TestBundleDigestIsWhatItSays(t *testing.T) {
	a, b := newParty(t, "a", nil).cert.Raw, newParty(t, "b", nil).cert.Raw
	if sa, sb := sha256.Sum256(a), sha256.Sum256(b); bytes.Compare(sa[:], sb[:]) > 0 {
		a, b = b, a
	}
	bundle, err := ParseBundleDER([][]byte{b, a})
	if err != nil || bundle.Digest() != sha256.Sum256(slices.Concat(a, b)) {
		t.Errorf("digest %s, %v", bundle.Digest(), err)
	}
}

func TestBundleCanNotBeChanged(t *testing.T) {
	b := bundleOf(t, newParty(t, "a", nil))
	b.Anchors()[0] = nil
	b.DER()[0] = nil
	if b.Anchors()[0] == nil || b.DER()[0] == nil {
		t.Error("the caller changed the bundle")
	}
}

func TestEmptyBundle(t *testing.T) {
	var b Bundle
	if !b.Empty() || !b.Digest().IsZero() || len(b.PEM()) != 0 {
		t.Error("the zero value must be the empty bundle")
	}
	if _, err := NewBundle(nil); err == nil {
		t.Error("a bundle of no anchors was made")
	}
}

func TestBadAnchors(t *testing.T) {
	h := newHierarchy(t)
	cases := map[string]struct {
		anchor *party
		rule   string
	}{
		"leaf":     {newParty(t, "leaf", nil, asLeaf), "CA:TRUE is missing"},
		"issuing":  {h.issuing, "is not self-signed"},
		"bridge":   {h.bridge, "is not self-signed"},
		"one name": {certify(t, h.b.key, "root A", h.a, func(c *x509.Certificate) { c.AuthorityKeyId = c.SubjectKeyId }), "not by its own key"},
		"usage":    {newParty(t, "r", nil, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }), "lacks keyCertSign"},
		"AKI":      {newParty(t, "r", nil, func(c *x509.Certificate) { c.AuthorityKeyId = []byte("another key's ident.") }), "names another key"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := NewBundle([]*x509.Certificate{h.a.cert, c.anchor.cert}); err == nil || !strings.Contains(err.Error(), c.rule) {
				t.Errorf("got %v, want %q", err, c.rule)
			}
		})
	}
	if _, err := NewBundle(slices.Repeat([]*x509.Certificate{h.a.cert}, MaxAnchors+1)); err == nil {
		t.Error("too many anchors were taken")
	}
}
