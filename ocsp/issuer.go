package ocsp

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // by which most clients name an issuer; nothing rests on its strength
	_ "crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// hashes are the algorithms by which an issuer may be named, with the content of
// their identifiers.
var hashes = []struct {
	hash crypto.Hash
	oid  string
}{
	{crypto.SHA1, "\x2b\x0e\x03\x02\x1a"},
	{crypto.SHA256, "\x60\x86\x48\x01\x65\x03\x04\x02\x01"},
}

// Issuer is an authority as requests name it.
type Issuer struct {
	names, keys map[crypto.Hash][]byte
}

// NewIssuer hashes the name and the key of an authority's certificate.
func NewIssuer(cert *x509.Certificate) (Issuer, error) {
	key, err := keyBits(cert)
	if err != nil {
		return Issuer{}, err
	}
	issuer := Issuer{map[crypto.Hash][]byte{}, map[crypto.Hash][]byte{}}
	for _, known := range hashes {
		issuer.names[known.hash] = sum(known.hash, cert.RawSubject)
		issuer.keys[known.hash] = sum(known.hash, key)
	}
	return issuer, nil
}

// keyBits are the bits of a public key, without tag, length and count of unused
// bits (RFC 6960, section 4.1.1).
func keyBits(cert *x509.Certificate) ([]byte, error) {
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &spki); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "public key of %q", cert.Subject)
	}
	return spki.Key.RightAlign(), nil
}

func sum(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}

// Names says whether the CertID is of a certificate of this issuer.
func (i Issuer) Names(id CertID) bool {
	name, known := i.names[id.hash]
	return known && bytes.Equal(name, id.nameHash) && bytes.Equal(i.keys[id.hash], id.keyHash)
}

// CertID names a certificate of this issuer by SHA-1, as those do that look into
// a staple.
func (i Issuer) CertID(serial pki.Serial) (CertID, error) {
	id := CertID{hash: crypto.SHA1, nameHash: i.names[crypto.SHA1], keyHash: i.keys[crypto.SHA1], serial: serial.Big()}
	var b cryptobyte.Builder
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cryptobyte_asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes([]byte(hashes[0].oid)) })
			b.AddASN1NULL()
		})
		b.AddASN1OctetString(id.nameHash)
		b.AddASN1OctetString(id.keyHash)
		b.AddASN1BigInt(id.serial)
	})
	var err error
	id.raw, err = b.Bytes()
	return id, err
}
