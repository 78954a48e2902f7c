package terse

import (
	"encoding/binary"
	"math/bits"

	"github.com/klauspost/compress/s2"
)

// s2's own encoder clears 64 KiB for each block: for a record that is more work
// than all the rest. This one writes the same form with tables as small as records
// are; longer blocks are left to s2's.

const (
	mostAlone   = 1 << 13 // bytes of a block
	nearBits    = 10
	farBits     = 13
	leastLooked = 8 // bytes that are read at once
	leastMatch  = 5
	mostBack    = 1 << 15 // how far back in a dictionary: with a block, an offset is of 16 bits
)

// finder is a dictionary with where in it what begins.
type finder struct {
	content []byte
	far     [1 << farBits]uint16 // position and one, of what hashes so
}

func newFinder(content []byte) *finder {
	f := &finder{content: content}
	for i := max(0, len(content)-mostBack); i+leastLooked <= len(content); i++ {
		f.far[hash(load(content, i), farBits)] = uint16(i + 1)
	}
	return f
}

func load(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i:]) }

// hash is of five bytes.
func hash(v uint64, width int) uint64 { return (v << 24) * 0x9e3779b185ebca87 >> (64 - width) }

// encode appends the block of src, shorter than mostAlone: each time the longer
// match of what stands before in it and of what is in the dictionary.
func (f *finder) encode(into, src []byte) []byte {
	into = binary.AppendUvarint(into, uint64(len(src)))
	var near [1 << nearBits]uint16
	done := 0 // what is before it is in into
	for i := 0; i+leastLooked <= len(src); {
		v := load(src, i)
		at, length := f.match(src, i, v, int(near[hash(v, nearBits)])-1)
		near[hash(v, nearBits)] = uint16(i + 1)
		if length < leastMatch {
			i++
			continue
		}
		for i > done && at > -len(f.content) && at != 0 && f.before(src, at) == src[i-1] { // it began earlier
			i, at, length = i-1, at-1, length+1
		}
		into = appendCopy(appendLiteral(into, src[done:i]), i-at, length)
		for next := i + 1; next < i+length && next+leastLooked <= len(src); next += 3 {
			near[hash(load(src, next), nearBits)] = uint16(next + 1)
		}
		i += length
		done = i
	}
	return appendLiteral(into, src[done:])
}

// match is the longest that is found for what stands at i: where, the dictionary
// lying before 0, and how much of it.
func (f *finder) match(src []byte, i int, v uint64, near int) (at, length int) {
	if near >= 0 {
		at, length = near, common(src[near:], src[i:])
	}
	if far := int(f.far[hash(v, farBits)]) - 1; far >= 0 {
		if n := common(f.content[far:], src[i:]); n > length {
			at, length = far-len(f.content), n
		}
	}
	return at, length
}

// before is the byte that stands before a place, which is not the first of either.
func (f *finder) before(src []byte, at int) byte {
	if at < 0 {
		return f.content[len(f.content)+at-1]
	}
	return src[at-1]
}

// common is how many bytes two begin with alike.
func common(a, b []byte) (n int) {
	most := min(len(a), len(b))
	for n+leastLooked <= most {
		if differ := load(a, n) ^ load(b, n); differ != 0 {
			return n + bits.TrailingZeros64(differ)/8
		}
		n += leastLooked
	}
	for n < most && a[n] == b[n] {
		n++
	}
	return n
}

// The elements of a block, as Snappy has them, and S2's that repeats an offset.
const (
	tagLiteral = 0
	tagNear    = 1 // an offset below 2048 and 4 to 11 bytes; the offset 0 repeats the last
	tagFar     = 2 // an offset of 16 bits and 1 to 64 bytes
)

func appendLiteral(into, literal []byte) []byte {
	n := len(literal) - 1
	switch {
	case n < 0:
		return into
	case n < 60:
		into = append(into, byte(n)<<2|tagLiteral)
	case n < 1<<8:
		into = append(into, 60<<2|tagLiteral, byte(n))
	default:
		into = append(into, 61<<2|tagLiteral, byte(n), byte(n>>8))
	}
	return append(into, literal...)
}

func appendCopy(into []byte, offset, length int) []byte {
	if offset < 2048 && length >= 4 && length <= 11 {
		return append(into, byte(offset>>8)<<5|byte(length-4)<<2|tagNear, byte(offset))
	}
	first := min(length, 64)
	if length > 64 && length < 64+8 {
		first = 60 // a repetition is of four at least
	}
	into = append(into, byte(first-1)<<2|tagFar, byte(offset), byte(offset>>8))
	switch rest := length - first; {
	case rest == 0:
		return into
	case rest < 8:
		return append(into, byte(rest-4)<<2|tagNear, 0)
	case rest < 8+1<<8:
		return append(into, 5<<2|tagNear, 0, byte(rest-8))
	default:
		return append(into, 6<<2|tagNear, 0, byte(rest-4-1<<8), byte((rest-4-1<<8)>>8))
	}
}

// block appends the S2 block of squeezed.
func (d *Dictionary) block(into, squeezed []byte) []byte {
	if len(squeezed) < mostAlone {
		d.once.Do(func() { d.finder = newFinder(d.s2.Bytes()[1:]) })
		return d.finder.encode(into, squeezed)
	}
	return append(into, d.s2.Encode(make([]byte, s2.MaxEncodedLen(len(squeezed))), squeezed)...)
}
