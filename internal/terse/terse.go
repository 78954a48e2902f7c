// Package terse keeps short records in few bytes: what is like a dictionary that
// both sides know is said by reference to it (S2, as in klauspost/compress), and
// ids, hashes and times that a text spells out stand as the bytes that they are.
// A record is packed alone, so it is read alone, and packing costs a few µs.
//
// What is packed lies in stores for years: neither the form nor a dictionary is
// ever changed once it has landed; another one gets a byte of its own in front.
package terse

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"sync"

	"github.com/klauspost/compress/s2"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// The first byte says how the rest is to be read.
const (
	plain  = 0 // as it is
	packed = 1 // the CRC-32C of the record, then the S2 block of what squeeze makes of it
	forms  = 8 // that there may ever be: no byte from this on says so
)

// headLength is that of the mark and of the checksum.
const headLength = 1 + 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Dictionary is what records of a kind have in common. It may be used by several
// goroutines at once.
type Dictionary struct {
	s2     *s2.Dict
	once   sync.Once
	finder *finder // of who packs
}

// NewDictionary is of records as Squeeze makes them, and of parts of records, those
// that are most alike at the end; together they have from 16 bytes to 64 KiB.
func NewDictionary(squeezed []byte, parts ...[]byte) (*Dictionary, error) {
	content := append([]byte{0}, squeezed...) // 0 is where s2 looks first
	for _, part := range parts {
		content = squeeze(content, part, &alone)
	}
	d := s2.NewDict(content)
	if d == nil {
		return nil, fault.New(fault.Internal, "a dictionary of %d bytes: it has 16 to 65536", len(content)-1)
	}
	return &Dictionary{s2: d}, nil
}

// Squeeze is the record as dictionaries have it: ids, hashes and times, and what
// stands beside it, are as short as in what is packed.
func Squeeze(record []byte, beside ...[]byte) []byte {
	besides := newKnown(beside)
	return squeeze(nil, record, &besides)
}

var alone = newKnown(nil)

// Pack is the record in few bytes: never more than its own and one, of which the first
// is below 8.
//
// beside is what stands beside the record in plain, and is known when it is
// unpacked too: where it is in the record, it is not stored again.
func (d *Dictionary) Pack(record []byte, beside ...[]byte) []byte {
	work := works.Get().(*work)
	defer works.Put(work)
	besides := newKnown(beside)
	work.squeezed = squeeze(work.squeezed[:0], record, &besides)
	all := append(work.all[:0], packed)
	all = binary.BigEndian.AppendUint32(all, crc32.Checksum(record, castagnoli))
	work.all = d.block(all, work.squeezed)
	if len(work.all) > len(record) {
		return append([]byte{plain}, record...)
	}
	// It may be the only copy for years: what does not come out again goes in as it is.
	if again, err := d.unpack(&work.again, work.all, beside); err != nil || !bytes.Equal(again, record) {
		return append([]byte{plain}, record...)
	}
	return bytes.Clone(work.all)
}

// work is the room in which one record is packed: used again, it leaves nothing to
// be collected.
type work struct {
	squeezed, all []byte
	again         room
}

// room is that in which one record is unpacked.
type room struct{ squeezed, record []byte }

var works = sync.Pool{New: func() any { return &work{} }}

// IsPacked says whether bytes may be what Pack made. JSON and DER, which were not
// packed, never are.
func IsPacked(stored []byte) bool { return len(stored) > 0 && stored[0] < forms }

// Unpack is the record of which Pack, with the same dictionary and the same
// beside it, made what is stored. Others, or bytes that were changed, are an error.
func (d *Dictionary) Unpack(stored []byte, beside ...[]byte) ([]byte, error) {
	switch {
	case len(stored) > 0 && stored[0] == plain:
		return stored[1:], nil
	case len(stored) > 0 && stored[0] != packed:
		return nil, fault.New(fault.Internal, "form %d of a packed record is not known to this version", stored[0])
	case len(stored) < headLength:
		return nil, errDamaged
	}
	return d.unpack(&room{}, stored, beside)
}

// unpack unpacks what has a head in room, where the record is good until the next
// one.
func (d *Dictionary) unpack(in *room, stored []byte, beside [][]byte) ([]byte, error) {
	if n, err := s2.DecodedLen(stored[headLength:]); err != nil || n > mostUnpacked {
		return nil, errDamaged
	}
	squeezed, err := d.s2.Decode(in.squeezed, stored[headLength:])
	if err != nil {
		return nil, errDamaged
	}
	if cap(in.record) < 2*len(squeezed) {
		in.record = make([]byte, 0, 2*len(squeezed))
	}
	record, ok := expand(in.record[:0], squeezed, beside)
	if !ok || crc32.Checksum(record, castagnoli) != binary.BigEndian.Uint32(stored[1:]) {
		return nil, errDamaged
	}
	in.squeezed, in.record = squeezed[:cap(squeezed)], record
	return record, nil
}

// mostUnpacked bounds what is made room for on the word of bytes that may be
// damaged.
const mostUnpacked = 1 << 24

var errDamaged = fault.New(fault.Internal, "a packed record is damaged, or was packed with another dictionary")
