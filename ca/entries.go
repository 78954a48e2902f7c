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

// Entries are those of a CRL, encoded: a list is signed anew without any being
// encoded again. The end of each certificate stands beside its entry, 4 bytes of
// minutes since 1970, so that an entry costs about 50 bytes.
type Entries struct {
	shard int
	der   []byte
	ends  []byte
}

// NewEntries begins the entries of a shard, or of the WholeList.
func NewEntries(shard int) *Entries { return &Entries{shard: shard} }

const endSize = 4

// Len is how many there are.
func (e *Entries) Len() int { return len(e.ends) / endSize }

// Ends are the ends of the certificates, to keep beside the CRL; never nil. Like
// DER they are not copied: what is added later stands behind them.
func (e *Entries) Ends() []byte {
	if e.ends == nil {
		return []byte{}
	}
	return e.ends
}

// DER are the entries one after the other.
func (e *Entries) DER() []byte { return e.der }

// ReadEntries takes entries that were encoded here, and the ends that were kept
// beside them. It keeps both.
func ReadEntries(shard int, der, ends []byte) (*Entries, error) {
	counted := 0
	for rest := der; len(rest) > 0; counted++ {
		entry, ok := firstEntry(rest)
		if !ok {
			return nil, fault.New(fault.Internal, "entry %d of a stored CRL does not parse", counted)
		}
		rest = rest[len(entry):]
	}
	if counted*endSize != len(ends) {
		return nil, fault.New(fault.Internal, "a stored CRL has %d entries, and %d bytes of ends beside them", counted, len(ends))
	}
	return &Entries{shard: shard, der: der, ends: ends}, nil
}

// firstEntry is the SEQUENCE at the beginning. Those that Add encodes are shorter
// than 128 bytes, and there may be a million.
func firstEntry(der []byte) (entry []byte, ok bool) {
	if len(der) < 2 || der[0] != byte(cryptobyte_asn1.SEQUENCE) || der[1] >= 0x80 || len(der) < 2+int(der[1]) {
		return nil, false
	}
	return der[:2+int(der[1])], true
}

// Add puts a revocation at the end. Its serial must not be there already: see
// Remove.
func (e *Entries) Add(r Revocation) error {
	if e.shard != WholeList && int(r.Serial.Shard()) != e.shard {
		return fault.New(fault.Internal, "serial %s belongs to CRL shard %d, not %d", r.Serial, r.Serial.Shard(), e.shard)
	}
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

// Serials are those that are listed.
func (e *Entries) Serials() map[pki.Serial]bool {
	all := make(map[pki.Serial]bool, e.Len())
	e.each(func(entry []byte, _ time.Time) {
		var serial pki.Serial
		if number := bytes.TrimLeft(serialIn(entry), "\x00"); len(number) <= len(serial) {
			copy(serial[len(serial)-len(number):], number)
			all[serial] = true
		}
	})
	return all
}

// Remove takes the entries of serials away; it looks at each entry once.
func (e *Entries) Remove(serials ...pki.Serial) {
	gone := map[string]bool{}
	for _, serial := range serials {
		gone[string(bytes.TrimLeft(serial[:], "\x00"))] = true
	}
	isGone := func(entry []byte) bool { return gone[string(bytes.TrimLeft(serialIn(entry), "\x00"))] }
	found := false
	e.each(func(entry []byte, _ time.Time) { found = found || isGone(entry) })
	if found { // the usual case costs no copy
		e.keep(func(entry []byte, _ time.Time) bool { return !isGone(entry) })
	}
}

// DropEnded takes away what ended before then: the time of a list on which it
// stood, so that each stands on one list beyond its end (RFC 5280, section 3.3).
func (e *Entries) DropEnded(then time.Time) {
	first := firstMinute(then)
	for i := 0; i < len(e.ends); i += endSize {
		if int64(binary.BigEndian.Uint32(e.ends[i:])) < first {
			e.keep(func(_ []byte, ends time.Time) bool { return !ends.Before(then) })
			return
		}
	}
}

// firstMinute is the first one since 1970 that does not begin before then: ends
// are compared as they are stored, since there may be a million.
func firstMinute(then time.Time) int64 {
	minute := then.Unix() / 60
	for time.Unix(minute*60, 0).Before(then) {
		minute++
	}
	return minute
}

func (e *Entries) keep(stays func(entry []byte, ends time.Time) bool) {
	kept := Entries{shard: e.shard}
	e.each(func(entry []byte, ends time.Time) {
		if stays(entry, ends) {
			kept.der = append(kept.der, entry...)
			kept.ends = binary.BigEndian.AppendUint32(kept.ends, uint32(ends.Unix()/60))
		}
	})
	*e = kept
}

func (e *Entries) each(visit func(entry []byte, ends time.Time)) {
	rest := e.der
	for i := 0; len(rest) > 0; i++ {
		entry, ok := firstEntry(rest)
		if !ok {
			return // no: Add encoded it
		}
		rest = rest[len(entry):]
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
