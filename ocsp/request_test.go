package ocsp

import (
	"bytes"
	"crypto"
	"math/big"
	"slices"
	"testing"

	reference "golang.org/x/crypto/ocsp"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// asked is a request as the reference writes it.
func (h house) asked(t testing.TB, hash crypto.Hash) []byte {
	t.Helper()
	der, err := reference.CreateRequest(h.leaf, h.authority.Certificate, &reference.RequestOptions{Hash: hash})
	must(t, err)
	return der
}

// written is a request of parts that a test chooses.
type written struct {
	ids        [][]byte
	before     func(*cryptobyte.Builder) // of the list
	extensions func(*cryptobyte.Builder)
	after      func(*cryptobyte.Builder) // of what may be signed
}

func (w written) der(t testing.TB) []byte {
	t.Helper()
	sequence := cryptobyte_asn1.SEQUENCE
	call := func(f func(*cryptobyte.Builder), b *cryptobyte.Builder) {
		if f != nil {
			f(b)
		}
	}
	var b cryptobyte.Builder
	b.AddASN1(sequence, func(b *cryptobyte.Builder) {
		b.AddASN1(sequence, func(b *cryptobyte.Builder) {
			call(w.before, b)
			b.AddASN1(sequence, func(b *cryptobyte.Builder) {
				for _, id := range w.ids {
					b.AddASN1(sequence, func(b *cryptobyte.Builder) { b.AddBytes(id) })
				}
			})
			if w.extensions != nil {
				b.AddASN1(explicit(2), func(b *cryptobyte.Builder) { b.AddASN1(sequence, w.extensions) })
			}
		})
		call(w.after, b)
	})
	der, err := b.Bytes()
	must(t, err)
	return der
}

func addExtension(oid string, critical bool, value []byte) func(*cryptobyte.Builder) {
	return func(b *cryptobyte.Builder) {
		b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cryptobyte_asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes([]byte(oid)) })
			if critical {
				b.AddASN1Boolean(true)
			}
			b.AddASN1OctetString(value)
		})
	}
}

func nonceOf(n int) func(*cryptobyte.Builder) {
	var b cryptobyte.Builder
	b.AddASN1OctetString(bytes.Repeat([]byte{7}, n))
	return addExtension(nonceOID, false, b.BytesOrPanic())
}

func (h house) certID(t testing.TB) CertID {
	t.Helper()
	serial, err := pki.SerialOf(h.leaf)
	must(t, err)
	id, err := h.issuer.CertID(serial)
	must(t, err)
	return id
}

func TestRequestsOfTheReference(t *testing.T) {
	h := newHouse(t)
	other := newHouse(t)
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		request, err := ParseRequest(h.asked(t, hash))
		must(t, err)
		serial, ok := request.IDs[0].Serial()
		if len(request.IDs) != 1 || !ok || serial.Big().Cmp(h.leaf.SerialNumber) != 0 || request.Nonce != nil {
			t.Errorf("%s: read %+v", hash, request)
		}
		if !h.issuer.Names(request.IDs[0]) || other.issuer.Names(request.IDs[0]) {
			t.Errorf("%s: the issuer is taken for another", hash)
		}
	}
	request, err := ParseRequest(h.asked(t, crypto.SHA1))
	must(t, err)
	if request.IDs[0].Key() != h.certID(t).Key() {
		t.Error("a CertID of our own is not the one that others ask by")
	}
	// An algorithm that is not known here names no certificate of ours.
	if request, err = ParseRequest(h.asked(t, crypto.SHA512)); err != nil || h.issuer.Names(request.IDs[0]) {
		t.Errorf("SHA-512: %v", err)
	}
}

func TestRequestsWithinBounds(t *testing.T) {
	h := newHouse(t)
	id := h.certID(t).raw
	for name, c := range map[string]struct {
		written
		nonce int
	}{
		"the shortest nonce":     {written{ids: [][]byte{id}, extensions: nonceOf(1)}, 1},
		"the usual nonce":        {written{ids: [][]byte{id}, extensions: nonceOf(32)}, 32},
		"the longest nonce":      {written{ids: [][]byte{id}, extensions: nonceOf(128)}, 128},
		"as many as may be":      {written{ids: slices.Repeat([][]byte{id}, MaxCertIDs)}, 0},
		"another extension":      {written{ids: [][]byte{id}, extensions: addExtension("\x2a\x03", false, []byte{5, 0})}, 0},
		"the name of who asks":   {written{ids: [][]byte{id}, before: addEmpty(1)}, 0},
		"a signature":            {written{ids: [][]byte{id}, after: addEmpty(0)}, 0},
		"something of one alone": {written{ids: [][]byte{append(slices.Clone(id), single(addExtension("\x2a\x03", false, nil))...)}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := ParseRequest(c.der(t))
			if err != nil || len(request.IDs) != len(c.ids) || len(request.Nonce) != c.nonce {
				t.Errorf("%d certificates, a nonce of %d, %v", len(request.IDs), len(request.Nonce), err)
			}
		})
	}
}

func addEmpty(tag uint8) func(*cryptobyte.Builder) {
	return func(b *cryptobyte.Builder) { b.AddASN1(explicit(tag), func(*cryptobyte.Builder) {}) }
}

// single are extensions of one certificate of a request.
func single(extension func(*cryptobyte.Builder)) []byte {
	var b cryptobyte.Builder
	b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1(cryptobyte_asn1.SEQUENCE, extension) })
	return b.BytesOrPanic()
}

// certIDOf is a CertID of parts that a test chooses.
func certIDOf(oid string, parameters []byte, hash int, serial *big.Int) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cryptobyte_asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes([]byte(oid)) })
			b.AddBytes(parameters)
		})
		b.AddASN1OctetString(make([]byte, hash))
		b.AddASN1OctetString(make([]byte, hash))
		b.AddASN1BigInt(serial)
	})
	return b.BytesOrPanic()
}

func TestRequestsThatAreRefused(t *testing.T) {
	h := newHouse(t)
	id, sha1, null, one := h.certID(t).raw, hashes[0].oid, []byte{5, 0}, big.NewInt(1)
	good := written{ids: [][]byte{id}}.der(t)
	ask := func(id []byte) []byte { return written{ids: [][]byte{id}}.der(t) }
	two := func(b *cryptobyte.Builder) { nonceOf(32)(b); nonceOf(32)(b) }
	for name, der := range map[string][]byte{
		"nothing":             nil,
		"no DER":              []byte("GET / HTTP/1.1"),
		"a cut one":           good[:len(good)-1],
		"something behind it": append(slices.Clone(good), 0),
		"a huge one": written{ids: [][]byte{id}, before: func(b *cryptobyte.Builder) {
			b.AddASN1(explicit(1), func(b *cryptobyte.Builder) { b.AddBytes(make([]byte, MaxRequest)) })
		}}.der(t),
		"no certificate":             written{}.der(t),
		"too many certificates":      written{ids: slices.Repeat([][]byte{id}, MaxCertIDs+1)}.der(t),
		"another version":            written{ids: [][]byte{id}, before: func(b *cryptobyte.Builder) { b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1Int64(1) }) }}.der(t),
		"an empty nonce":             written{ids: [][]byte{id}, extensions: nonceOf(0)}.der(t),
		"a long nonce":               written{ids: [][]byte{id}, extensions: nonceOf(129)}.der(t),
		"two nonces":                 written{ids: [][]byte{id}, extensions: two}.der(t),
		"a nonce that is none":       written{ids: [][]byte{id}, extensions: addExtension(nonceOID, false, []byte{5, 0})}.der(t),
		"a critical extension":       written{ids: [][]byte{id}, extensions: addExtension("\x2a\x03", true, nil)}.der(t),
		"a critical one of one":      ask(append(slices.Clone(id), single(addExtension("\x2a\x03", true, nil))...)),
		"a serial that is too long":  ask(certIDOf(sha1, null, 20, new(big.Int).Lsh(one, 8*longestSerial))),
		"a hash that is too short":   ask(certIDOf(sha1, null, 19, one)),
		"a hash that is too long":    ask(certIDOf(sha1, null, 21, one)),
		"a hash of nothing":          ask(certIDOf("\x2a\x03", null, 0, one)),
		"a huge hash":                ask(certIDOf("\x2a\x03", null, 65, one)),
		"an algorithm's parameters":  ask(certIDOf(sha1, []byte{2, 1, 1}, 20, one)),
		"something behind a CertID":  ask(append(slices.Clone(id), 5, 0)),
		"a length that is not least": append([]byte{0x30, 0x81, byte(len(good) - 2)}, good[2:]...),
	} {
		t.Run(name, func(t *testing.T) {
			if request, err := ParseRequest(der); fault.CodeOf(err) != fault.Invalid || err == nil {
				t.Errorf("read as %+v, %v", request, err)
			}
		})
	}
}

// Of any serial of any length it can be said whether it may be ours.
func TestSerialsOfOthers(t *testing.T) {
	for _, c := range []struct {
		serial *big.Int
		ours   bool
	}{
		{big.NewInt(0), false}, {big.NewInt(-1), false}, {big.NewInt(1), true},
		{new(big.Int).Lsh(big.NewInt(1), 126), true}, {new(big.Int).Lsh(big.NewInt(1), 127), false},
		{new(big.Int).Lsh(big.NewInt(1), 8*longestSerial-2), false},
	} {
		request, err := ParseRequest(written{ids: [][]byte{certIDOf(hashes[0].oid, nil, 20, c.serial)}}.der(t))
		must(t, err)
		if serial, ours := request.IDs[0].Serial(); ours != c.ours || ours && serial.Big().Cmp(c.serial) != 0 {
			t.Errorf("serial %s: %s, %v", c.serial, serial, ours)
		}
	}
}

// What is taken is answered alike: each CertID stands in the answer as it stood
// in the request, and the reference reads the answer.
func FuzzParseRequest(f *testing.F) {
	h := newHouse(f)
	f.Add(h.asked(f, crypto.SHA1))
	f.Add(h.asked(f, crypto.SHA256))
	f.Add(written{ids: slices.Repeat([][]byte{h.certID(f).raw}, 3), extensions: nonceOf(32)}.der(f))
	f.Fuzz(func(t *testing.T, der []byte) {
		request, err := ParseRequest(der)
		if err != nil {
			return
		}
		if len(request.IDs) == 0 || len(request.IDs) > MaxCertIDs || len(request.Nonce) > longestNonce {
			t.Fatalf("beyond the bounds: %d certificates, a nonce of %d", len(request.IDs), len(request.Nonce))
		}
		var singles []Single
		for _, id := range request.IDs {
			if !bytes.Contains(der, id.raw) {
				t.Fatal("a CertID that was not asked about")
			}
			singles = append(singles, Single{ID: id, Status: Good, This: now, Next: now})
		}
		answer, err := h.responder.Sign(now, singles, request.Nonce)
		must(t, err)
		if len(singles) == 1 && singles[0].ID.hash != 0 {
			if _, err := reference.ParseResponse(answer, h.authority.Certificate); err != nil {
				t.Fatal(err)
			}
		}
	})
}
