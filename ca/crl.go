package ca

import (
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strconv"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// WholeList is the shard number of the list that has all that an authority
// revoked: for who reads one file only, and the one list of a root.
const WholeList = -1

// CRLTerms number and date a list. Number must grow from one list of a shard to
// the next, and Next is when the following one will be out at the latest.
type CRLTerms struct {
	Number     int64
	This, Next time.Time
}

// SignedCRL is a list in pieces, one behind the other: what was encoded before
// and may be megabytes is hashed where it stands, and copied nowhere.
type SignedCRL struct {
	Head, Entries, Tail []byte
}

// DER is the list as it was signed.
func (s SignedCRL) DER() []byte { return slices.Concat(s.Head, s.Entries, s.Tail) }

// Fingerprint is the hash of the DER.
func (s SignedCRL) Fingerprint() (f pki.Fingerprint) {
	h := sha256.New()
	for _, piece := range [][]byte{s.Head, s.Entries, s.Tail} {
		h.Write(piece)
	}
	h.Sum(f[:0])
	return f
}

// SignCRL signs the list of a shard, or the WholeList, around entries that were
// encoded before. A shard's list says by a critical extension which address it
// is for, so that no shard can be passed off as another (RFC 5280, section
// 5.2.5); a whole one has no such extension, and stands for any.
func (a *Authority) SignCRL(shard int, t CRLTerms, entries *Entries) (SignedCRL, error) {
	if err := a.checkCRL(shard, t, entries); err != nil {
		return SignedCRL{}, err
	}
	algorithm, err := signatureAlgorithm(a.signer.Public())
	if err != nil {
		return SignedCRL{}, err
	}
	tbs, err := a.tbsCRL(shard, t, entries, algorithm)
	if err != nil {
		return SignedCRL{}, fault.Wrap(fault.Internal, err, "encode CRL %s of authority %s", shardName(shard), a.ID)
	}
	der, err := signTBS(tbs, algorithm, a.signer)
	if err != nil {
		return SignedCRL{}, fault.Wrap(fault.Internal, err, "sign CRL %s of authority %s", shardName(shard), a.ID)
	}
	return SignedCRL{Head: der.head, Entries: der.middle, Tail: der.tail}, nil
}

// tbsCRL is the TBSCertList (RFC 5280, section 5.1).
func (a *Authority) tbsCRL(shard int, t CRLTerms, entries *Entries, algorithm algorithm) (pieces, error) {
	extensions, err := a.crlExtensions(shard, t.Number)
	if err != nil {
		return pieces{}, err
	}
	var head, tail cryptobyte.Builder
	head.AddASN1Int64(1) // v2
	head.AddBytes(algorithm.der)
	head.AddBytes(a.Certificate.RawSubject)
	addTime(&head, t.This)
	addTime(&head, t.Next)
	if entries.Len() > 0 {
		head.AddBytes(sequenceHeader(len(entries.der)))
	}
	tail.AddASN1(cryptobyte_asn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
		b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) { addExtensions(b, extensions) })
	})
	before, err := head.Bytes()
	if err != nil {
		return pieces{}, err
	}
	behind, err := tail.Bytes()
	return pieces{before, entries.der, behind}.sequence(), err
}

func (a *Authority) checkCRL(shard int, t CRLTerms, entries *Entries) error {
	switch {
	case shard < WholeList || shard >= Shards:
		return fault.New(fault.Invalid, "CRL shard %d of authority %s: shards are 0 to %d", shard, a.ID, Shards-1)
	case t.Number <= 0:
		return fault.New(fault.Invalid, "CRL number %d of authority %s must be positive", t.Number, a.ID)
	case !t.Next.Truncate(time.Second).After(t.This.Truncate(time.Second)):
		return fault.New(fault.Invalid, "CRL of authority %s: the next one, %s, must be after this one, %s", a.ID, stamp(t.Next), stamp(t.This))
	}
	if shard != WholeList && entries.Len() > 0 && entries.shard != shard {
		return fault.New(fault.Internal, "entries of CRL shard %d can't stand on shard %d", entries.shard, shard)
	}
	return nil
}

func shardName(shard int) string {
	if shard == WholeList {
		return "of everything"
	}
	return "shard " + strconv.Itoa(shard)
}

var (
	oidAuthorityKeyID           = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidCRLNumber                = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidIssuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
)

func (a *Authority) crlExtensions(shard int, number int64) ([]pkix.Extension, error) {
	keyID, err := asn1.Marshal(struct {
		ID []byte `asn1:"tag:0"`
	}{a.Certificate.SubjectKeyId})
	if err != nil {
		return nil, err
	}
	counted, err := asn1.Marshal(number)
	if err != nil {
		return nil, err
	}
	extensions := []pkix.Extension{{Id: oidAuthorityKeyID, Value: keyID}, {Id: oidCRLNumber, Value: counted}}
	if shard == WholeList {
		return extensions, nil
	}
	point, err := issuingDistributionPoint(a.CRLURL(byte(shard)))
	return append(extensions, point), err
}

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
