// Package ocsp speaks the Online Certificate Status Protocol (RFC 6960) as its
// responder does: it reads requests, strictly and within bounds, and signs
// answers. What the status of a certificate is, is a matter of the floors above.
package ocsp

import (
	"bytes"
	"crypto"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// The bounds of a request. Anybody may send one, so nothing beyond them is read.
const (
	MaxRequest = 4 << 10 // bytes
	MaxCertIDs = 16      // certificates in one request

	longestNonce  = 128 // RFC 9654, section 2.1
	longestSerial = 20  // RFC 5280, section 4.1.2.2
	longestHash   = 64
)

// Request is what somebody asks: the status of some certificates.
type Request struct {
	IDs   []CertID
	Nonce []byte // to be answered alike; nil: none
}

// CertID names a certificate by its issuer's hashes and its serial.
type CertID struct {
	raw      []byte // as it was asked; it is answered alike, to the byte
	hash     crypto.Hash
	nameHash []byte
	keyHash  []byte
	serial   *big.Int
}

// Key tells the CertID from any other.
func (id CertID) Key() string { return string(id.raw) }

// Serial is the serial that is asked about; false: it is none that was issued
// here, whatever the issuer.
func (id CertID) Serial() (pki.Serial, bool) {
	var serial pki.Serial
	if id.serial.Sign() <= 0 || id.serial.BitLen() > 127 {
		return serial, false
	}
	id.serial.FillBytes(serial[:])
	return serial, true
}

// ParseRequest reads a request in DER. A signature on it is passed over: no one
// needs leave to ask. Whatever is not as RFC 6960 has it, or beyond the bounds,
// is Invalid; the answer to that is Malformed.
func ParseRequest(der []byte) (Request, error) {
	if len(der) > MaxRequest {
		return Request{}, malformed("it is longer than %d bytes", MaxRequest)
	}
	input := cryptobyte.String(der)
	var request, tbs, list cryptobyte.String
	if !input.ReadASN1(&request, cryptobyte_asn1.SEQUENCE) || !input.Empty() ||
		!request.ReadASN1(&tbs, cryptobyte_asn1.SEQUENCE) ||
		!request.SkipOptionalASN1(explicit(0)) || !request.Empty() {
		return Request{}, malformed("it is not a sequence of a request and perhaps a signature")
	}
	var version int64
	if !tbs.ReadOptionalASN1Integer(&version, explicit(0), int64(0)) || version != 0 {
		return Request{}, malformed("its version is not 1")
	}
	if !tbs.SkipOptionalASN1(explicit(1)) || !tbs.ReadASN1(&list, cryptobyte_asn1.SEQUENCE) {
		return Request{}, malformed("it has no list of certificates")
	}
	var parsed Request
	var err error
	if parsed.IDs, err = readCertIDs(list); err != nil {
		return Request{}, err
	}
	if parsed.Nonce, err = readExtensions(&tbs, explicit(2)); err != nil {
		return Request{}, err
	}
	if !tbs.Empty() {
		return Request{}, malformed("something follows its extensions")
	}
	return parsed, nil
}

func malformed(format string, args ...any) error {
	return fault.Wrap(fault.Invalid, fault.New(fault.Invalid, format, args...), "OCSP request")
}

func explicit(n uint8) cryptobyte_asn1.Tag {
	return cryptobyte_asn1.Tag(n).ContextSpecific().Constructed()
}

func readCertIDs(list cryptobyte.String) ([]CertID, error) {
	var ids []CertID
	for !list.Empty() {
		if len(ids) == MaxCertIDs {
			return nil, malformed("it asks about more than %d certificates", MaxCertIDs)
		}
		var single cryptobyte.String
		if !list.ReadASN1(&single, cryptobyte_asn1.SEQUENCE) {
			return nil, malformed("certificate %d is not a sequence", len(ids)+1)
		}
		id, err := readCertID(&single)
		if err != nil {
			return nil, err
		}
		if _, err := readExtensions(&single, explicit(0)); err != nil {
			return nil, err
		}
		if !single.Empty() {
			return nil, malformed("something follows certificate %d", len(ids)+1)
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil, malformed("it asks about no certificate")
	}
	return ids, nil
}

func readCertID(from *cryptobyte.String) (CertID, error) {
	var element, body, algorithm, nameHash, keyHash cryptobyte.String
	id := CertID{serial: new(big.Int)}
	if !from.ReadASN1Element(&element, cryptobyte_asn1.SEQUENCE) {
		return id, malformed("a CertID is not a sequence")
	}
	// What is kept of a certificate must not keep the whole request.
	element = bytes.Clone(element)
	id.raw = element
	switch {
	case !element.ReadASN1(&body, cryptobyte_asn1.SEQUENCE),
		!body.ReadASN1(&algorithm, cryptobyte_asn1.SEQUENCE),
		!body.ReadASN1(&nameHash, cryptobyte_asn1.OCTET_STRING),
		!body.ReadASN1(&keyHash, cryptobyte_asn1.OCTET_STRING),
		!body.ReadASN1Integer(id.serial), !body.Empty():
		return id, malformed("a CertID is not algorithm, two hashes and a serial")
	case len(id.serial.Bytes()) > longestSerial:
		return id, malformed("a serial is longer than %d bytes", longestSerial)
	}
	var err error
	if id.hash, err = readHash(algorithm); err != nil {
		return id, err
	}
	id.nameHash, id.keyHash = nameHash, keyHash
	want := longestHash
	if id.hash != 0 {
		want = id.hash.Size()
	}
	for _, hash := range [][]byte{nameHash, keyHash} {
		if len(hash) > want || len(hash) == 0 || id.hash != 0 && len(hash) != want {
			return id, malformed("a hash of %d bytes, where its algorithm makes %d", len(hash), want)
		}
	}
	return id, nil
}

// readHash returns 0 for an algorithm that is not known here: what is asked by it
// is no certificate of ours, which is no error.
func readHash(algorithm cryptobyte.String) (crypto.Hash, error) {
	var oid cryptobyte.String
	if !algorithm.ReadASN1(&oid, cryptobyte_asn1.OBJECT_IDENTIFIER) || len(oid) == 0 {
		return 0, malformed("a hash algorithm has no identifier")
	}
	for _, known := range hashes {
		if string(oid) != known.oid {
			continue
		}
		var null cryptobyte.String
		if !algorithm.Empty() && (!algorithm.ReadASN1(&null, cryptobyte_asn1.NULL) || !null.Empty() || !algorithm.Empty()) {
			return 0, malformed("a hash algorithm has parameters")
		}
		return known.hash, nil
	}
	return 0, nil
}

// The nonce's identifier, id-pkix-ocsp-nonce (RFC 9654).
const nonceOID = "\x2b\x06\x01\x05\x05\x07\x30\x01\x02"

// readExtensions reads extensions under the tag, where there are any, and
// returns the nonce; nil when there is none. What is critical and not known
// here is refused.
func readExtensions(from *cryptobyte.String, tag cryptobyte_asn1.Tag) (nonce []byte, err error) {
	var outer, list cryptobyte.String
	var present bool
	if !from.ReadOptionalASN1(&outer, &present, tag) {
		return nil, malformed("its extensions can't be read")
	}
	if !present {
		return nil, nil
	}
	if !outer.ReadASN1(&list, cryptobyte_asn1.SEQUENCE) || !outer.Empty() {
		return nil, malformed("its extensions are not a sequence")
	}
	for !list.Empty() {
		var extension, oid, value cryptobyte.String
		critical := false
		if !list.ReadASN1(&extension, cryptobyte_asn1.SEQUENCE) ||
			!extension.ReadASN1(&oid, cryptobyte_asn1.OBJECT_IDENTIFIER) ||
			extension.PeekASN1Tag(cryptobyte_asn1.BOOLEAN) && !extension.ReadASN1Boolean(&critical) ||
			!extension.ReadASN1(&value, cryptobyte_asn1.OCTET_STRING) || !extension.Empty() {
			return nil, malformed("an extension can't be read")
		}
		switch {
		case string(oid) == nonceOID && tag == explicit(2):
			if nonce, err = readNonce(value, nonce); err != nil {
				return nil, err
			}
		case critical:
			return nil, malformed("it has a critical extension that is not known here")
		}
	}
	return nonce, nil
}

func readNonce(value cryptobyte.String, before []byte) ([]byte, error) {
	var nonce cryptobyte.String
	switch {
	case before != nil:
		return nil, malformed("it has two nonces")
	case !value.ReadASN1(&nonce, cryptobyte_asn1.OCTET_STRING) || !value.Empty():
		return nil, malformed("its nonce is not an octet string")
	case len(nonce) == 0 || len(nonce) > longestNonce:
		return nil, malformed("its nonce has %d bytes, 1 to %d may be", len(nonce), longestNonce)
	}
	return nonce, nil
}
