package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
)

// VerifyStatement says whether the key signed a statement: by ECDSA over its
// SHA-256 (ASN.1), or by Ed25519 over itself.
func VerifyStatement(public crypto.PublicKey, statement, signature []byte) bool {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(statement)
		return ecdsa.VerifyASN1(key, digest[:], signature)
	case ed25519.PublicKey:
		return ed25519.Verify(key, statement, signature)
	}
	return false
}
