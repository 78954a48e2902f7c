package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// KeyAlgorithm names a kind and size of key.
type KeyAlgorithm string

// The key algorithms that Rotunda makes and certifies.
const (
	ECDSAP256 KeyAlgorithm = "ecdsa-p256" // the default
	ECDSAP384 KeyAlgorithm = "ecdsa-p384"
	Ed25519   KeyAlgorithm = "ed25519"
	RSA2048   KeyAlgorithm = "rsa-2048"
	RSA3072   KeyAlgorithm = "rsa-3072"
	RSA4096   KeyAlgorithm = "rsa-4096"
)

// KeyAlgorithms lists all of them, the default first.
func KeyAlgorithms() []KeyAlgorithm {
	return []KeyAlgorithm{ECDSAP256, ECDSAP384, Ed25519, RSA2048, RSA3072, RSA4096}
}

// ParseKeyAlgorithm reads a name; an empty one is the default.
func ParseKeyAlgorithm(text string) (KeyAlgorithm, error) {
	if text == "" {
		return ECDSAP256, nil
	}
	if a := KeyAlgorithm(text); slices.Contains(KeyAlgorithms(), a) {
		return a, nil
	}
	return "", fault.New(fault.Invalid, "unknown key algorithm %q", text).WithRemedy("use one of %s", algorithmList())
}

// Generate makes a new private key of the algorithm.
func (a KeyAlgorithm) Generate() (crypto.Signer, error) {
	switch a {
	case ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return nil, fault.New(fault.Invalid, "unknown key algorithm %q", string(a)).WithRemedy("use one of %s", algorithmList())
}

// AlgorithmOf recognises a public key. A weak or unusual one is refused with
// the rule that it breaks.
func AlgorithmOf(pub crypto.PublicKey) (KeyAlgorithm, error) {
	switch key := pub.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return ECDSAP256, nil
		case elliptic.P384():
			return ECDSAP384, nil
		}
		return "", refuseKey("an ECDSA key on curve %s; the curve must be P-256 or P-384", key.Curve.Params().Name)
	case ed25519.PublicKey:
		if len(key) != ed25519.PublicKeySize {
			return "", refuseKey("an Ed25519 key of %d bytes; it must have %d", len(key), ed25519.PublicKeySize)
		}
		return Ed25519, nil
	case *rsa.PublicKey:
		return rsaAlgorithm(key)
	}
	return "", refuseKey("a key of type %T", pub)
}

func rsaAlgorithm(key *rsa.PublicKey) (KeyAlgorithm, error) {
	bits := key.N.BitLen()
	if bits < 2048 {
		return "", refuseKey("an RSA key of %d bits is too weak; the least is 2048", bits)
	}
	if key.E < 65537 || key.E%2 == 0 {
		return "", refuseKey("an RSA key with public exponent %d; it must be odd and at least 65537", key.E)
	}
	a := KeyAlgorithm(fmt.Sprintf("rsa-%d", bits))
	if !slices.Contains(KeyAlgorithms(), a) {
		return "", refuseKey("an RSA key of %d bits; it must have 2048, 3072 or 4096", bits)
	}
	return a, nil
}

func refuseKey(format string, args ...any) error {
	return fault.New(fault.Invalid, "key refused: "+format, args...).WithRemedy("use one of %s", algorithmList())
}

func algorithmList() string {
	var names []string
	for _, a := range KeyAlgorithms() {
		names = append(names, string(a))
	}
	return strings.Join(names, ", ")
}
