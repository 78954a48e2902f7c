package pki

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

const maxKeyPEM = 64 << 10

// ParseKeyPEM reads one private key of an algorithm that AlgorithmOf knows, in
// PKCS #8 or in the older forms of OpenSSL ("EC PRIVATE KEY", "RSA PRIVATE
// KEY"). No text of the key ever appears in an error.
func ParseKeyPEM(data []byte) (crypto.Signer, error) {
	blocks, err := decodePEM(data, maxKeyPEM)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "read private key")
	}
	if len(blocks) == 2 && blocks[0].Type == "EC PARAMETERS" { // as openssl ecparam -genkey writes
		blocks = blocks[1:]
	}
	if len(blocks) != 1 {
		return nil, fault.New(fault.Invalid, "read private key: %d PEM blocks; there must be one", len(blocks))
	}
	signer, err := parseKeyBlock(blocks[0])
	if err != nil {
		return nil, err
	}
	if _, err := AlgorithmOf(signer.Public()); err != nil {
		return nil, err
	}
	return signer, nil
}

func parseKeyBlock(block *pem.Block) (crypto.Signer, error) {
	if block.Type == "ENCRYPTED PRIVATE KEY" || len(block.Headers) > 0 {
		return nil, fault.New(fault.Invalid, "read private key: it is encrypted in a form that is not supported").
			WithRemedy("decrypt it with openssl pkey")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, fault.New(fault.Invalid, "read private key: the PEM block is a %s; it must be a PRIVATE KEY", printable(block.Type))
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "read private key: the %s block does not parse", block.Type)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fault.New(fault.Invalid, "read private key: a %T can't sign", key)
	}
	return signer, nil
}

// EncodeKeyPEM writes the key as PKCS #8.
func EncodeKeyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "encode private key")
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// KeyMatches tells whether cert certifies the public half of key.
func KeyMatches(key crypto.Signer, cert *x509.Certificate) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}
