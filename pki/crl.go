package pki

import "encoding/pem"

const crlType = "X509 CRL"

// EncodeCRLPEM writes a PEM block (RFC 7468, section 6) for each DER.
func EncodeCRLPEM(lists ...[]byte) []byte {
	var out []byte
	for _, der := range lists {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: crlType, Bytes: der})...)
	}
	return out
}

// DecodeCRL takes a CRL as DER, or as the one PEM block in a file. It does not
// look into it.
func DecodeCRL(text []byte) ([]byte, bool) {
	block, rest := pem.Decode(text)
	if block == nil {
		return text, true
	}
	again, _ := pem.Decode(rest)
	return block.Bytes, block.Type == crlType && again == nil
}
