package pki

import (
	"crypto/x509"
	"slices"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// MaxIntermediates is the most certificates that may follow a leaf: its issuing
// authority and one bridge.
const MaxIntermediates = 2

// Chain is what a server sends: a leaf, then its issuer, then that one's
// issuer. The root is not part of it.
type Chain struct {
	Leaf          *x509.Certificate
	Intermediates []*x509.Certificate
}

// ParseChainDER reads a chain, leaf first. Whether it holds together is for
// Verify to say.
func ParseChainDER(ders [][]byte) (Chain, error) {
	if len(ders) == 0 {
		return Chain{}, fault.New(fault.Invalid, "a chain needs at least a leaf")
	}
	certs, err := parseDERs(ders, 1+MaxIntermediates)
	if err != nil {
		return Chain{}, err
	}
	return Chain{Leaf: certs[0], Intermediates: certs[1:]}, nil
}

// Certificates is the chain in the order in which it is sent.
func (c Chain) Certificates() []*x509.Certificate {
	return append([]*x509.Certificate{c.Leaf}, c.Intermediates...)
}

// DER is each certificate's encoding, leaf first.
func (c Chain) DER() [][]byte {
	var out [][]byte
	for _, cert := range c.Certificates() {
		out = append(out, cert.Raw)
	}
	return out
}

// LeadsTo says whether the certificate that stands last in the chain is signed
// by the key that bridge certifies: then bridge may follow it. Whether it links
// as it must is for Verify to say.
func (c Chain) LeadsTo(bridge *x509.Certificate) bool {
	certs := c.Certificates()
	last := certs[len(certs)-1]
	return bridge.CheckSignature(last.SignatureAlgorithm, last.RawTBSCertificate, last.Signature) == nil
}

// With is the chain with a bridge at its end.
func (c Chain) With(bridge *x509.Certificate) Chain {
	return Chain{Leaf: c.Leaf, Intermediates: append(slices.Clone(c.Intermediates), bridge)}
}

// PEM is the chain as servers read it from a file, leaf first.
func (c Chain) PEM() []byte { return EncodeCertificatesPEM(c.DER()...) }

// IntermediatesPEM is the chain without its leaf; empty when there is none.
func (c Chain) IntermediatesPEM() []byte { return EncodeCertificatesPEM(c.DER()[1:]...) }
