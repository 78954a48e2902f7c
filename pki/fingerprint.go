package pki

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Fingerprint is the SHA-256 of a certificate's DER.
type Fingerprint [sha256.Size]byte

// FingerprintOf hashes one certificate.
func FingerprintOf(der []byte) Fingerprint { return sha256.Sum256(der) }

// ParseFingerprint reads the 64 hexadecimal digits that String writes.
func ParseFingerprint(text string) (Fingerprint, error) {
	var f Fingerprint
	err := parseHex(f[:], "fingerprint", text)
	return f, err
}

// String is 64 lower-case hexadecimal digits.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// IsZero tells whether f is the zero value.
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }

// SPKIHash is the SHA-256 of a SubjectPublicKeyInfo's DER. Two certificates
// have the same one exactly when they certify the same key.
type SPKIHash [sha256.Size]byte

// SPKIHashOf hashes a public key of any kind that crypto/x509 can encode.
func SPKIHashOf(pub crypto.PublicKey) (SPKIHash, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return SPKIHash{}, fault.Wrap(fault.Invalid, err, "encode public key")
	}
	return sha256.Sum256(der), nil
}

// ParseSPKIHash reads the 64 hexadecimal digits that String writes.
func ParseSPKIHash(text string) (SPKIHash, error) {
	var h SPKIHash
	err := parseHex(h[:], "SPKI hash", text)
	return h, err
}

// String is 64 lower-case hexadecimal digits.
func (h SPKIHash) String() string { return hex.EncodeToString(h[:]) }

// IsZero tells whether h is the zero value.
func (h SPKIHash) IsZero() bool { return h == SPKIHash{} }
