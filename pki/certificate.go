package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Limits on what is read from outside, in bytes.
const (
	MaxPEM            = 4 << 20  // one file of certificates
	MaxCertificateDER = 64 << 10 // one certificate
)

const certificateType = "CERTIFICATE"

// ParseCertificatesPEM reads one or more certificates. It is strict, because
// servers differ in what they make of a broken file: between, before and after
// the blocks only white space may stand, and every block must parse.
func ParseCertificatesPEM(data []byte) ([]*x509.Certificate, error) {
	blocks, err := decodePEM(data, MaxPEM)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for i, block := range blocks {
		if block.Type != certificateType {
			return nil, fault.New(fault.Invalid, "PEM block %d is a %s; every block must be a CERTIFICATE", i+1, printable(block.Type))
		}
		if len(block.Headers) > 0 {
			return nil, fault.New(fault.Invalid, "PEM block %d has headers; a certificate has none (RFC 7468)", i+1)
		}
		cert, err := ParseCertificateDER(block.Bytes)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "PEM block %d", i+1)
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

// ParseCertificateDER reads exactly one certificate.
func ParseCertificateDER(der []byte) (*x509.Certificate, error) {
	if len(der) > MaxCertificateDER {
		return nil, fault.New(fault.Invalid, "certificate of %d bytes; the most is %d", len(der), MaxCertificateDER)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "parse certificate")
	}
	return cert, nil
}

// EncodeCertificatesPEM writes a PEM block for each DER.
func EncodeCertificatesPEM(certs ...[]byte) []byte {
	var out []byte
	for _, der := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: certificateType, Bytes: der})...)
	}
	return out
}

func parseDERs(ders [][]byte, most int) ([]*x509.Certificate, error) {
	if len(ders) > most {
		return nil, fault.New(fault.Invalid, "%d certificates; the most is %d", len(ders), most)
	}
	var certs []*x509.Certificate
	for i, der := range ders {
		cert, err := ParseCertificateDER(der)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "certificate %d", i+1)
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

var (
	pemBegin = []byte("-----BEGIN ")
	pemEnd   = []byte("-----END ")
)

// decodePEM splits data into its blocks and refuses what encoding/pem would
// skip without a word: text between blocks, and blocks that are damaged.
func decodePEM(data []byte, most int) ([]*pem.Block, error) {
	if len(data) > most {
		return nil, fault.New(fault.Invalid, "PEM of %d bytes; the most is %d", len(data), most)
	}
	var blocks []*pem.Block
	for rest := bytes.TrimSpace(data); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		number := len(blocks) + 1
		if !bytes.HasPrefix(rest, pemBegin) {
			return nil, fault.New(fault.Invalid, "text that is not PEM stands before block %d", number).
				WithRemedy("only BEGIN and END blocks and white space may be there")
		}
		one, after, ok := cutBlock(rest)
		if !ok {
			return nil, fault.New(fault.Invalid, "PEM block %d is cut short: it has no END line", number)
		}
		block, left := pem.Decode(one)
		if block == nil || len(bytes.TrimSpace(left)) > 0 || bytes.Count(one, pemBegin) != 1 {
			return nil, fault.New(fault.Invalid, "PEM block %d is damaged", number)
		}
		blocks = append(blocks, block)
		rest = after
	}
	if len(blocks) == 0 {
		return nil, fault.New(fault.Invalid, "no PEM block: the input is empty")
	}
	return blocks, nil
}

// cutBlock cuts data behind the line of its first END.
func cutBlock(data []byte) (block, after []byte, ok bool) {
	end := bytes.Index(data, pemEnd)
	if end < 0 {
		return nil, nil, false
	}
	if line := bytes.IndexByte(data[end:], '\n'); line >= 0 {
		return data[:end+line+1], data[end+line+1:], true
	}
	return data, nil, true
}

// printable keeps foreign text from filling or steering a terminal.
func printable(text string) string {
	const most = 40
	clean := []rune{}
	for _, r := range text {
		if len(clean) == most {
			break
		}
		if r < ' ' || r > '~' {
			r = '?'
		}
		clean = append(clean, r)
	}
	return string(clean)
}
