package ca

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// Revocation is one entry of a CRL.
type Revocation struct {
	Serial pki.Serial
	At     time.Time
	Reason string // a name of RFC 5280, section 5.3.1; any other text stands for unspecified
}

// reasons are the codes of RFC 5280 that may stand in a full CRL.
var reasons = map[string]int{
	"keyCompromise": 1, "cACompromise": 2, "affiliationChanged": 3, "superseded": 4,
	"cessationOfOperation": 5, "certificateHold": 6, "privilegeWithdrawn": 9, "aACompromise": 10,
}

// CRL signs the list of one shard. Number must grow from one list of the shard
// to the next, and next is when the following one will be out at the latest.
// The list says by a critical extension which address it is for, so that no
// shard can be passed off as another (RFC 5280, section 5.2.5).
func (a *Authority) CRL(now time.Time, shard int, number int64, revoked []Revocation, next time.Time) ([]byte, error) {
	switch {
	case shard < 0 || shard >= Shards:
		return nil, fault.New(fault.Invalid, "CRL shard %d of authority %s: shards are 0 to %d", shard, a.ID, Shards-1)
	case number <= 0:
		return nil, fault.New(fault.Invalid, "CRL number %d of authority %s must be positive", number, a.ID)
	case !next.Truncate(time.Second).After(now.Truncate(time.Second)):
		return nil, fault.New(fault.Invalid, "CRL of authority %s: the next one, %s, must be after this one, %s", a.ID, stamp(next), stamp(now))
	}
	entries, err := a.crlEntries(shard, revoked)
	if err != nil {
		return nil, err
	}
	point, err := issuingDistributionPoint(a.CRLURL(byte(shard)))
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(number), ThisUpdate: now.UTC().Truncate(time.Second), NextUpdate: next.UTC().Truncate(time.Second),
		RevokedCertificateEntries: entries, ExtraExtensions: []pkix.Extension{point},
	}, a.Certificate, a.signer)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "sign CRL shard %d of authority %s", shard, a.ID)
	}
	return der, nil
}

func (a *Authority) crlEntries(shard int, revoked []Revocation) ([]x509.RevocationListEntry, error) {
	entries := make([]x509.RevocationListEntry, 0, len(revoked))
	for _, r := range revoked {
		if int(r.Serial.Shard()) != shard {
			return nil, fault.New(fault.Internal, "serial %s belongs to CRL shard %d, not %d", r.Serial, r.Serial.Shard(), shard)
		}
		entries = append(entries, x509.RevocationListEntry{
			SerialNumber: r.Serial.Big(), RevocationTime: r.At.UTC().Truncate(time.Second), ReasonCode: reasons[r.Reason],
		})
	}
	return entries, nil
}

var oidIssuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}

// issuingDistributionPoint encodes
//
//	SEQUENCE { distributionPoint [0] { fullName [0] { uniformResourceIdentifier [6] url } } }
func issuingDistributionPoint(url string) (pkix.Extension, error) {
	constructed := func(n uint8) cryptobyte_asn1.Tag { return cryptobyte_asn1.Tag(n).ContextSpecific().Constructed() }
	var b cryptobyte.Builder
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(constructed(0), func(b *cryptobyte.Builder) {
			b.AddASN1(constructed(0), func(b *cryptobyte.Builder) {
				b.AddASN1(cryptobyte_asn1.Tag(6).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(url)) })
			})
		})
	})
	der, err := b.Bytes()
	if err != nil {
		return pkix.Extension{}, fault.Wrap(fault.Internal, err, "encode issuing distribution point")
	}
	return pkix.Extension{Id: oidIssuingDistributionPoint, Critical: true, Value: der}, nil
}
