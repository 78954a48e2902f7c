package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/bits"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// algorithm is a way to sign: the AlgorithmIdentifier, and what is hashed before.
type algorithm struct {
	der  []byte
	hash crypto.Hash // 0: the signer takes the whole text
}

// signatureAlgorithm is how a key of the kind signs here, as crypto/x509 would
// have it sign (RFC 5758, 8410, 4055).
func signatureAlgorithm(public crypto.PublicKey) (algorithm, error) {
	kind, err := pki.AlgorithmOf(public)
	if err != nil {
		return algorithm{}, err
	}
	id, hash := asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, crypto.SHA256
	parameters := asn1.RawValue{}
	switch kind {
	case pki.ECDSAP256:
	case pki.ECDSAP384:
		id, hash = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, crypto.SHA384
	case pki.Ed25519:
		id, hash = asn1.ObjectIdentifier{1, 3, 101, 112}, 0
	default:
		id, parameters = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, asn1.NullRawValue
	}
	der, err := asn1.Marshal(pkix.AlgorithmIdentifier{Algorithm: id, Parameters: parameters})
	return algorithm{der, hash}, err
}

// pieces are DER in three parts, one behind the other, of which the middle may
// be large and is never copied.
type pieces struct{ head, middle, tail []byte }

func (p pieces) len() int { return len(p.head) + len(p.middle) + len(p.tail) }

func (p pieces) whole() []byte { return slices.Concat(p.head, p.middle, p.tail) }

// sequence makes the pieces the content of a SEQUENCE.
func (p pieces) sequence() pieces {
	return pieces{append(sequenceHeader(p.len()), p.head...), p.middle, p.tail}
}

// sequenceHeader is the tag and length of a SEQUENCE (X.690, section 8.1.3).
func sequenceHeader(length int) []byte {
	if length < 0x80 {
		return []byte{0x30, byte(length)}
	}
	size := (bits.Len(uint(length)) + 7) / 8
	header := []byte{0x30, 0x80 | byte(size)}
	for i := size - 1; i >= 0; i-- {
		header = append(header, byte(length>>(8*i)))
	}
	return header
}

// signTBS wraps what is to be signed and its signature (RFC 5280, section 4.1).
// The signature is verified before it leaves: a faulty signer must not be
// noticed by those who fetch it.
func signTBS(tbs pieces, a algorithm, signer crypto.Signer) (pieces, error) {
	return signChecked(tbs, a, signer, signer.Public())
}

// signChecked verifies the signature by that public key; by none it is believed.
func signChecked(tbs pieces, a algorithm, signer crypto.Signer, public crypto.PublicKey) (pieces, error) {
	digest := a.digest(tbs)
	signature, err := signer.Sign(rand.Reader, digest, a.hash)
	if err != nil {
		return pieces{}, err
	}
	if public != nil && !verifies(public, a.hash, digest, signature) {
		return pieces{}, errFaultySigner
	}
	var b cryptobyte.Builder
	b.AddBytes(tbs.tail)
	b.AddBytes(a.der)
	b.AddASN1BitString(signature)
	tail, err := b.Bytes()
	return pieces{tbs.head, tbs.middle, tail}.sequence(), err
}

// digest is what the signer is given.
func (a algorithm) digest(tbs pieces) []byte {
	if a.hash == 0 {
		return tbs.whole()
	}
	h := a.hash.New()
	for _, piece := range [][]byte{tbs.head, tbs.middle, tbs.tail} {
		h.Write(piece)
	}
	return h.Sum(nil)
}

var errFaultySigner = fault.New(fault.Internal, "the signer made a signature that its own key does not verify")

// addTime writes a Time as RFC 5280, section 4.1.2.5 wants it, in whole seconds.
func addTime(b *cryptobyte.Builder, t time.Time) {
	t = t.UTC().Truncate(time.Second)
	if t.Year() < 2050 {
		b.AddASN1UTCTime(t)
		return
	}
	b.AddASN1GeneralizedTime(t)
}

func addExtensions(b *cryptobyte.Builder, extensions []pkix.Extension) {
	for _, extension := range extensions {
		b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(extension.Id)
			if extension.Critical {
				b.AddASN1Boolean(true)
			}
			b.AddASN1OctetString(extension.Value)
		})
	}
}
