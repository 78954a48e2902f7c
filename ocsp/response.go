package ocsp

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// The answers that say nothing of a certificate, and are not signed (RFC 6960,
// section 4.2.1). Nobody may change them.
var (
	Malformed    = unsigned(1)
	Internal     = unsigned(2)
	TryLater     = unsigned(3)
	Unauthorized = unsigned(6)
)

func unsigned(status byte) []byte { return []byte{0x30, 3, byte(cryptobyte_asn1.ENUM), 1, status} }

// Status is what there is to say of a certificate.
type Status int

// The statuses, by their tags.
const (
	Good    Status = 0
	Revoked Status = 1
	Unknown Status = 2
)

// Single is what is said of one certificate.
type Single struct {
	ID        CertID
	Status    Status
	RevokedAt time.Time
	Reason    int       // a CRLReason of RFC 5280; 0: none is said
	This      time.Time // when it was known to be so
	Next      time.Time // when more will be known at the latest
}

// Responder signs answers for one issuing authority, which has certified its
// key for nothing else. It is immutable, and safe for use by many goroutines.
type Responder struct {
	Certificate *x509.Certificate

	key   crypto.Signer
	keyID []byte
}

// NewResponder puts a responder together. Its key is ECDSA P-256, whatever the
// authority's: every client can verify that, and it costs little to sign.
func NewResponder(issuer, cert *x509.Certificate, key crypto.Signer) (*Responder, error) {
	public, ok := key.Public().(*ecdsa.PublicKey)
	switch {
	case !ok || public.Curve != elliptic.P256():
		return nil, fault.New(fault.Invalid, "OCSP responder %q: its key must be ECDSA P-256", cert.Subject)
	case !pki.KeyMatches(key, cert):
		return nil, fault.New(fault.Invalid, "OCSP responder %q: the key is not the one that its certificate certifies", cert.Subject)
	case !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) || cert.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return nil, fault.New(fault.Invalid, "OCSP responder %q: its certificate is not for signing OCSP responses", cert.Subject)
	case !bytes.Equal(cert.RawIssuer, issuer.RawSubject) || cert.CheckSignatureFrom(issuer) != nil:
		return nil, fault.New(fault.Invalid, "OCSP responder %q was not certified by %q", cert.Subject, issuer.Subject)
	}
	bits, err := keyBits(cert)
	if err != nil {
		return nil, err
	}
	return &Responder{Certificate: cert, key: key, keyID: sum(crypto.SHA1, bits)}, nil
}

// Sign answers for some certificates, and to the nonce where there is one.
func (r *Responder) Sign(produced time.Time, singles []Single, nonce []byte) ([]byte, error) {
	tbs, err := r.responseData(produced, singles, nonce)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "encode OCSP response")
	}
	digest := sha256.Sum256(tbs)
	signature, err := r.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "sign OCSP response")
	}
	der, err := r.encode(tbs, signature)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "encode OCSP response")
	}
	return der, nil
}

func (r *Responder) responseData(produced time.Time, singles []Single, nonce []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, 256))
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(explicit(2), func(b *cryptobyte.Builder) { b.AddASN1OctetString(r.keyID) }) // byKey
		addTime(b, produced)
		b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, one := range singles {
				addSingle(b, one)
			}
		})
		if nonce != nil {
			addNonce(b, nonce)
		}
	})
	return b.Bytes()
}

func addSingle(b *cryptobyte.Builder, one Single) {
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(one.ID.raw)
		tag := cryptobyte_asn1.Tag(one.Status).ContextSpecific()
		if one.Status == Revoked {
			b.AddASN1(tag.Constructed(), func(b *cryptobyte.Builder) {
				addTime(b, one.RevokedAt)
				if one.Reason != 0 {
					b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(one.Reason)) })
				}
			})
		} else {
			b.AddASN1(tag, func(*cryptobyte.Builder) {})
		}
		addTime(b, one.This)
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { addTime(b, one.Next) })
	})
}

func addNonce(b *cryptobyte.Builder, nonce []byte) {
	b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
		b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(cryptobyte_asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes([]byte(nonceOID)) })
				b.AddASN1(cryptobyte_asn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(nonce) })
			})
		})
	})
}

func addTime(b *cryptobyte.Builder, t time.Time) {
	b.AddASN1GeneralizedTime(t.UTC().Truncate(time.Second))
}

var (
	basicResponse   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	ecdsaWithSHA256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
)

// encode wraps what was signed, its signature and the responder's certificate.
func (r *Responder) encode(tbs, signature []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)+len(r.Certificate.Raw)+256))
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(0) // successful
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
			b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(basicResponse)
				b.AddASN1(cryptobyte_asn1.OCTET_STRING, func(b *cryptobyte.Builder) { r.addBasic(b, tbs, signature) })
			})
		})
	})
	return b.Bytes()
}

func (r *Responder) addBasic(b *cryptobyte.Builder, tbs, signature []byte) {
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(ecdsaWithSHA256) })
		b.AddASN1BitString(signature)
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
			b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(r.Certificate.Raw) })
		})
	})
}
