package ca

import (
	"bytes"
	"encoding/binary"
	"math"
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
	Reason string    // a name of RFC 5280, section 5.3.1; any other text stands for unspecified
	Ends   time.Time // notAfter of the certificate
}

// Reasons are the CRLReasons of RFC 5280 that may stand in a full CRL, by name.
var Reasons = map[string]int{
	"unspecified": 0, "keyCompromise": 1, "cACompromise": 2, "affiliationChanged": 3, "superseded": 4,
	"cessationOfOperation": 5, "certificateHold": 6, "privilegeWithdrawn": 9, "aACompromise": 10,
}

// Entries are those of a CRL, encoded: a list is signed anew without any being
// encoded again. The end of each certificate stands beside its entry, 4 bytes of
// minutes since 1970, so that an entry costs about 50 bytes.
type Entries struct {
	der  []byte
	ends []byte
}

const endSize = 4

// Len is how many there are.
func (e *Entries) Len() int { return len(e.ends) / endSize }

// Ends are the ends of the certificates, to keep beside the CRL; never nil.
func (e *Entries) Ends() []byte { return append([]byte{}, e.ends...) }

// ReadEntries takes the entries of a CRL that was signed here, and the ends that
// were kept beside it.
func ReadEntries(crl, ends []byte) (*Entries, error) {
	der, ok := revokedCertificates(crl)
	entries := &Entries{der: bytes.Clone(der), ends: bytes.Clone(ends)}
	if !ok || len(ends)%endSize != 0 {
		return nil, fault.New(fault.Internal, "the stored CRL does not parse")
	}
	counted := 0
	for rest := cryptobyte.String(der); !rest.Empty(); counted++ {
		if !rest.SkipASN1(cryptobyte_asn1.SEQUENCE) {
			return nil, fault.New(fault.Internal, "entry %d of the stored CRL does not parse", counted)
		}
	}
	if counted != entries.Len() {
		return nil, fault.New(fault.Internal, "the stored CRL has %d entries, and the ends of %d certificates beside it", counted, entries.Len())
	}
	return entries, nil
}

// revokedCertificates finds the field of that name in a CertificateList (RFC
// 5280, section 5.1); empty where the list has none.
func revokedCertificates(crl []byte) ([]byte, bool) {
	input := cryptobyte.String(crl)
	var list, tbs, revoked cryptobyte.String
	ok := input.ReadASN1(&list, cryptobyte_asn1.SEQUENCE) && list.ReadASN1(&tbs, cryptobyte_asn1.SEQUENCE) &&
		tbs.SkipASN1(cryptobyte_asn1.INTEGER) && tbs.SkipASN1(cryptobyte_asn1.SEQUENCE) && tbs.SkipASN1(cryptobyte_asn1.SEQUENCE)
	for range 2 { // thisUpdate, nextUpdate
		ok = ok && (tbs.SkipOptionalASN1(cryptobyte_asn1.UTCTime) && tbs.SkipOptionalASN1(cryptobyte_asn1.GeneralizedTime))
	}
	var there bool
	ok = ok && tbs.ReadOptionalASN1(&revoked, &there, cryptobyte_asn1.SEQUENCE)
	return revoked, ok
}

// Add puts a revocation at the end. One of the serial that is there already is
// replaced.
func (e *Entries) Add(r Revocation) error {
	e.Remove(r.Serial)
	var b cryptobyte.Builder
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(r.Serial.Big())
		addTime(b, r.At)
		if code := Reasons[r.Reason]; code != 0 {
			b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) { addReason(b, code) })
		}
	})
	der, err := b.Bytes()
	if err != nil {
		return fault.Wrap(fault.Internal, err, "encode the CRL entry of %s", r.Serial)
	}
	minutes := min(max(0, (r.Ends.Unix()+59)/60), math.MaxUint32)
	e.der = append(e.der, der...)
	e.ends = binary.BigEndian.AppendUint32(e.ends, uint32(minutes))
	return nil
}

// addReason is an extension of an entry, with the reason's code.
func addReason(b *cryptobyte.Builder, code int) {
	b.AddASN1(cryptobyte_asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier([]int{2, 5, 29, 21})
		b.AddASN1(cryptobyte_asn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(code)) })
	})
}

// Append puts another list's entries at the end.
func (e *Entries) Append(other *Entries) {
	e.der, e.ends = append(e.der, other.der...), append(e.ends, other.ends...)
}

// Has says whether the serial is listed.
func (e *Entries) Has(serial pki.Serial) bool {
	found := false
	e.each(func(entry []byte, _ time.Time) {
		found = found || isEntryOf(entry, serial)
	})
	return found
}

// Remove takes the entry of a serial away.
func (e *Entries) Remove(serial pki.Serial) {
	e.keep(func(entry []byte, _ time.Time) bool { return !isEntryOf(entry, serial) })
}

// DropEnded takes away what ended before then: the time of a list on which it
// stood, so that each stands on one list beyond its end (RFC 5280, section 3.3).
func (e *Entries) DropEnded(then time.Time) {
	e.keep(func(_ []byte, ends time.Time) bool { return !ends.Before(then) })
}

func (e *Entries) keep(stays func(entry []byte, ends time.Time) bool) {
	gone := false
	e.each(func(entry []byte, ends time.Time) { gone = gone || !stays(entry, ends) })
	if !gone {
		return // the usual case costs no copy
	}
	var kept Entries
	e.each(func(entry []byte, ends time.Time) {
		if stays(entry, ends) {
			kept.der = append(kept.der, entry...)
			kept.ends = binary.BigEndian.AppendUint32(kept.ends, uint32(ends.Unix()/60))
		}
	})
	*e = kept
}

func (e *Entries) each(visit func(entry []byte, ends time.Time)) {
	rest := cryptobyte.String(e.der)
	for i := 0; !rest.Empty(); i++ {
		var entry cryptobyte.String
		if !rest.ReadASN1Element(&entry, cryptobyte_asn1.SEQUENCE) {
			return // what is here was encoded here, or parsed by crypto/x509
		}
		minutes := binary.BigEndian.Uint32(e.ends[i*endSize:])
		visit(entry, time.Unix(int64(minutes)*60, 0))
	}
}

// isEntryOf compares the serial, which stands first in an entry.
func isEntryOf(entry []byte, serial pki.Serial) bool {
	return bytes.Equal(bytes.TrimLeft(serialIn(entry), "\x00"), bytes.TrimLeft(serial[:], "\x00"))
}

func serialIn(entry []byte) []byte {
	text := cryptobyte.String(entry)
	var body, number cryptobyte.String
	if !text.ReadASN1(&body, cryptobyte_asn1.SEQUENCE) || !body.ReadASN1(&number, cryptobyte_asn1.INTEGER) {
		return nil
	}
	return number
}

// checkShard wants nothing on the list that belongs on another.
func (e *Entries) checkShard(shard int) error {
	if shard == WholeList {
		return nil
	}
	var err error
	e.each(func(entry []byte, _ time.Time) {
		if number := serialIn(entry); err == nil && (len(number) == 0 || int(number[len(number)-1]%Shards) != shard) {
			err = fault.New(fault.Internal, "serial %x belongs to CRL shard %d, not %d", number, number[len(number)-1]%Shards, shard)
		}
	})
	return err
}
