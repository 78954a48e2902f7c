package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// MaxCSR is the most bytes that a certificate request may have.
const MaxCSR = 16 << 10

// ParseCSR reads a PKCS #10 request (DER) and checks that its sender holds the
// key, and that the key is strong enough. Names in it mean nothing to us.
func ParseCSR(der []byte) (*x509.CertificateRequest, error) {
	if len(der) == 0 {
		return nil, fault.New(fault.Invalid, "certificate request is empty")
	}
	if len(der) > MaxCSR {
		return nil, fault.New(fault.Invalid, "certificate request has %d bytes; the most is %d", len(der), MaxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "certificate request does not parse as PKCS #10")
	}
	// Strength before signature: a check against an odd key can be costly.
	if _, err := AlgorithmOf(csr.PublicKey); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "certificate request")
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "certificate request is not signed by the key that it asks for")
	}
	return csr, nil
}

// NewCSR returns a request (DER) that proves possession of key and says
// nothing else: names come from what is declared, never from a request.
func NewCSR(key crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "create certificate request")
	}
	return der, nil
}

const requestType = "CERTIFICATE REQUEST"

// ParseCSRPEM reads one request in PEM, as ParseCSR does.
func ParseCSRPEM(data []byte) (*x509.CertificateRequest, error) {
	blocks, err := decodePEM(data, 2*MaxCSR)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "certificate request")
	}
	if len(blocks) != 1 || blocks[0].Type != requestType || len(blocks[0].Headers) > 0 {
		return nil, fault.New(fault.Invalid, "certificate request: there must be one PEM block, a %s without headers", requestType)
	}
	return ParseCSR(blocks[0].Bytes)
}

// EncodeCSRPEM writes a request as PEM.
func EncodeCSRPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: requestType, Bytes: der})
}
