package ca

import (
	"crypto"
	"crypto/x509"
	"io"
	"testing"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// token is a key that is not in this process's memory, as far as one can tell.
// From faulty on it signs another text.
type token struct {
	crypto.Signer
	calls, faulty int
}

func (k *token) Sign(rand io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	k.calls++
	if k.calls > k.faulty {
		digest = append([]byte{digest[0] ^ 1}, digest[1:]...)
	}
	return k.Signer.Sign(rand, digest, o)
}

func withSigner(t *testing.T, a *Authority, signer crypto.Signer) *Authority {
	t.Helper()
	again, err := NewAuthority(a.ID, a.Certificate, []*x509.Certificate{a.Certificate}, signer, publicURL)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// A key that lies elsewhere, an RSA and an Ed25519 key are never believed.
func TestEachSignatureOfAForeignKeyIsVerified(t *testing.T) {
	for _, algorithm := range []pki.KeyAlgorithm{pki.ECDSAP256, pki.RSA2048, pki.Ed25519} {
		h := newHouse(t, pki.ECDSAP256, algorithm)
		key := &token{h.issuing.signer, 0, 3}
		a := withSigner(t, h.issuing, key)
		r := Request{newKey(t, pki.ECDSAP256).Public(), names(t, "", []string{"db.example.org"}, nil, ""), dayTerms}
		for i := range 6 {
			prepared, err := a.Prepare(now, r)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = a.Issue(prepared); (err != nil) != (i >= 3) || err != nil && fault.CodeOf(err) != fault.Internal {
				t.Errorf("%s: signature %d: %v", algorithm, i+1, err)
			}
		}
		if h.issuing.selfCheck.each != (algorithm != pki.ECDSAP256) {
			t.Errorf("%s in memory: each is verified: %v", algorithm, h.issuing.selfCheck.each)
		}
	}
}

// Of an ECDSA key in memory the first signature and then one in 64 is verified;
// once one was faulty, each is.
func TestSignaturesOfAKeyInMemoryAreSampled(t *testing.T) {
	h := newHouse(t, pki.ECDSAP256, pki.ECDSAP256)
	right := h.issuing.signer
	a := withSigner(t, h.issuing, right)
	r := Request{newKey(t, pki.ECDSAP256).Public(), names(t, "", []string{"db.example.org"}, nil, ""), dayTerms}
	bad := newKey(t, pki.ECDSAP256) // what it signs does not fit the authority's certificate
	issues := func(a *Authority) bool {
		prepared, err := a.Prepare(now, r)
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Issue(prepared)
		return err == nil
	}
	if !issues(a) {
		t.Fatal("a good key's signature was refused")
	}
	var verified []int
	before := a.selfCheck.signed.Load()
	for i := range 200 {
		var c selfCheck
		c.signed.Store(before + uint64(i))
		if c.due() {
			verified = append(verified, int(before)+i)
		}
	}
	if len(verified) != 3 || verified[0]%checkOneIn != 0 || verified[1]-verified[0] != checkOneIn {
		t.Errorf("verified after these: %v", verified)
	}
	a.signer = bad
	for n := 2; n <= checkOneIn; n++ {
		if !issues(a) {
			t.Fatalf("signature %d was verified", n)
		}
	}
	for n := range 3 {
		if issues(a) {
			t.Fatalf("%d after the sample a faulty signature was let out", n)
		}
	}
	fresh := withSigner(t, h.issuing, right)
	fresh.signer = bad
	if issues(fresh) {
		t.Error("the first signature after start was not verified")
	}
}
