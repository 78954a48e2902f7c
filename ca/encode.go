package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/rotunda-pki/rotunda/pki"
)

// The to-be-signed part of certificates is put together here rather than by
// crypto/x509, which does it by reflection and verifies each signature of its own
// besides. Whatever is encoded here is, byte for byte, what
// crypto/x509 would make of the same content: encode_test.go holds the two
// against each other, and so does FuzzCertificate.

var (
	oidCommonName       = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidCRLAddresses     = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidAccess           = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}
	oidAccessOCSP       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1}
	oidAccessIssuer     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 2}

	oidsOfUsage = map[x509.ExtKeyUsage]asn1.ObjectIdentifier{
		x509.ExtKeyUsageServerAuth:  {1, 3, 6, 1, 5, 5, 7, 3, 1},
		x509.ExtKeyUsageClientAuth:  {1, 3, 6, 1, 5, 5, 7, 3, 2},
		x509.ExtKeyUsageOCSPSigning: {1, 3, 6, 1, 5, 5, 7, 3, 9},
	}
)

// Tags of a GeneralName (RFC 5280, section 4.2.1.6).
var (
	nameDNS = cryptobyte_asn1.Tag(2).ContextSpecific()
	nameURI = cryptobyte_asn1.Tag(6).ContextSpecific()
	nameIP  = cryptobyte_asn1.Tag(7).ContextSpecific()
)

// certificate is what is to stand in one, but for what its authority adds.
type certificate struct {
	serial              pki.Serial
	notBefore, notAfter time.Time
	names               pki.Names
	key                 publicKey
	keyUsage            x509.KeyUsage
	usages              []x509.ExtKeyUsage
	access              []byte // extension
	last                func(*cryptobyte.Builder, pki.Serial)
}

// encodeCommon encodes what all certificates of the authority carry.
func (a *Authority) encodeCommon() (err error) {
	extension := func(oid asn1.ObjectIdentifier, value func(*cryptobyte.Builder)) []byte {
		var b cryptobyte.Builder
		addExtension(&b, oid, false, value)
		der, failed := b.Bytes()
		if failed != nil {
			err = failed
		}
		return der
	}
	issuer := func(b *cryptobyte.Builder) { addAccess(b, oidAccessIssuer, a.CertificateURL()) }
	a.certificateAccess = extension(oidAccess, func(b *cryptobyte.Builder) { b.AddASN1(cryptobyte_asn1.SEQUENCE, issuer) })
	a.leafAccess = extension(oidAccess, func(b *cryptobyte.Builder) {
		b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addAccess(b, oidAccessOCSP, a.OCSPURL())
			issuer(b)
		})
	})
	a.keyID = extension(oidAuthorityKeyID, func(b *cryptobyte.Builder) {
		b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cryptobyte_asn1.Tag(0).ContextSpecific(), addBytes(a.Certificate.SubjectKeyId))
		})
	})
	return err
}

// encode writes the TBSCertificate (RFC 5280, section 4.1).
func (a *Authority) encode(c certificate) ([]byte, error) {
	subject, err := encodeSubject(c.names.CommonName)
	if err != nil {
		return nil, err
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, 1024))
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cryptobyte_asn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) }) // v3
		b.AddASN1BigInt(c.serial.Big())
		b.AddBytes(a.algorithm.der)
		b.AddBytes(a.Certificate.RawSubject)
		b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addTime(b, c.notBefore)
			addTime(b, c.notAfter)
		})
		b.AddBytes(subject)
		b.AddBytes(c.key.der)
		b.AddASN1(cryptobyte_asn1.Tag(3).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) { a.addExtensions(b, c, subject) })
		})
	})
	return b.Bytes()
}

func (a *Authority) addExtensions(b *cryptobyte.Builder, c certificate, subject []byte) {
	addExtension(b, oidKeyUsage, true, func(b *cryptobyte.Builder) { addKeyUsage(b, c.keyUsage) })
	addExtension(b, oidExtKeyUsage, false, func(b *cryptobyte.Builder) {
		b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, usage := range c.usages {
				b.AddASN1ObjectIdentifier(oidsOfUsage[usage])
			}
		})
	})
	addExtension(b, oidBasicConstraints, true, func(b *cryptobyte.Builder) {
		b.AddASN1(cryptobyte_asn1.SEQUENCE, func(*cryptobyte.Builder) {}) // no CA
	})
	addExtension(b, oidSubjectKeyID, false, func(b *cryptobyte.Builder) { b.AddASN1OctetString(c.key.id) })
	if !bytes.Equal(subject, a.Certificate.RawSubject) {
		b.AddBytes(a.keyID)
	}
	b.AddBytes(c.access)
	if names := c.names; len(names.DNS) > 0 || len(names.IPs) > 0 || names.URI != "" {
		critical := names.CommonName == "" // RFC 5280, section 4.2.1.6
		addExtension(b, oidSubjectAltName, critical, func(b *cryptobyte.Builder) { addAltNames(b, names) })
	}
	c.last(b, c.serial)
}

func addExtension(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, critical bool, value func(*cryptobyte.Builder)) {
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		if critical {
			b.AddASN1Boolean(true)
		}
		b.AddASN1(cryptobyte_asn1.OCTET_STRING, value)
	})
}

// addKeyUsage writes the named bits, the first of them highest (RFC 5280,
// section 4.2.1.3), without zeros at the end, as DER wants it. Only the first
// three are used here.
func addKeyUsage(b *cryptobyte.Builder, usage x509.KeyUsage) {
	var bits byte
	unused := 8
	for i := range 8 {
		if usage&(1<<i) != 0 {
			bits |= 0x80 >> i
			unused = 7 - i
		}
	}
	b.AddASN1(cryptobyte_asn1.BIT_STRING, addBytes([]byte{byte(unused), bits}))
}

func addAccess(b *cryptobyte.Builder, method asn1.ObjectIdentifier, location string) {
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(method)
		b.AddASN1(nameURI, addBytes([]byte(location)))
	})
}

func addCRLAddress(b *cryptobyte.Builder, address string) {
	addExtension(b, oidCRLAddresses, false, func(b *cryptobyte.Builder) {
		b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) { // of one DistributionPoint
			b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				choice := cryptobyte_asn1.Tag(0).ContextSpecific().Constructed() // distributionPoint, of it fullName
				b.AddASN1(choice, func(b *cryptobyte.Builder) {
					b.AddASN1(choice, func(b *cryptobyte.Builder) { b.AddASN1(nameURI, addBytes([]byte(address))) })
				})
			})
		})
	})
}

func addAltNames(b *cryptobyte.Builder, names pki.Names) {
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, name := range names.DNS {
			addIA5(b, nameDNS, name)
		}
		for _, addr := range names.IPs {
			b.AddASN1(nameIP, addBytes(addr.Unmap().AsSlice()))
		}
		if names.URI != "" {
			addIA5(b, nameURI, names.URI)
		}
	})
}

func addIA5(b *cryptobyte.Builder, tag cryptobyte_asn1.Tag, text string) {
	for _, r := range text {
		if r > unicode.MaxASCII {
			b.SetError(fmt.Errorf("%q is not ASCII", text))
			return
		}
	}
	b.AddASN1(tag, addBytes([]byte(text)))
}

// encodeSubject writes a Name of a common name, or of nothing.
func encodeSubject(commonName string) ([]byte, error) {
	if !utf8.ValidString(commonName) {
		return nil, fmt.Errorf("common name %q is not UTF-8", commonName)
	}
	tag := cryptobyte_asn1.UTF8String
	if !strings.ContainsFunc(commonName, func(r rune) bool { return !isPrintable(r) }) {
		tag = cryptobyte_asn1.PrintableString
	}
	var b cryptobyte.Builder
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if commonName == "" {
			return
		}
		b.AddASN1(cryptobyte_asn1.SET, func(b *cryptobyte.Builder) {
			b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidCommonName)
				b.AddASN1(tag, addBytes([]byte(commonName)))
			})
		})
	})
	return b.Bytes()
}

// isPrintable is the alphabet of a PrintableString (X.680, section 41.4).
func isPrintable(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(" '()+,-./:=?", r)
}

func addBytes(content []byte) func(*cryptobyte.Builder) {
	return func(b *cryptobyte.Builder) { b.AddBytes(content) }
}
