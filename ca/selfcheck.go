package ca

import (
	"crypto"
	"crypto/ecdsa"
	"errors"
	"sync/atomic"
)

// checkOneIn is how often the signature of an ECDSA key in this process's
// memory is verified.
const checkOneIn = 64

// selfCheck decides which signatures on certificates are verified before they
// leave. It costs twice what the signature does, so where a fault harms nobody
// it is a sample: a key in memory that signs well signs well again, and the
// agent verifies each certificate before it uses it.
//
// All others are verified each: a key behind PKCS #11 may fail for reasons of
// its own, and a single faulty signature by RSA (with the CRT) or Ed25519, where
// nonces are a function of the message, can give the key away.
//
// After a signature that was found to be faulty each is verified.
type selfCheck struct {
	each   bool
	signed atomic.Uint64
	faulty atomic.Bool
}

func mustCheckEach(signer crypto.Signer) bool {
	_, inMemory := signer.(*ecdsa.PrivateKey)
	return !inMemory
}

// due says whether the next signature is to be verified. The first one is.
func (c *selfCheck) due() bool {
	return c.each || c.faulty.Load() || c.signed.Add(1)%checkOneIn == 1
}

// sign makes a certificate of what is to be signed.
func (a *Authority) sign(tbs []byte) ([]byte, error) {
	var public crypto.PublicKey
	if a.selfCheck.due() {
		public = a.Certificate.PublicKey
	}
	der, err := signChecked(pieces{middle: tbs}, a.algorithm, a.signer, public)
	if errors.Is(err, errFaultySigner) {
		a.selfCheck.faulty.Store(true)
	}
	return der.whole(), err
}
