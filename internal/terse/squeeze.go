package terse

import (
	"bytes"
	"encoding/hex"
	"time"

	"github.com/rotunda-pki/rotunda/internal/rfc3339"
)

// What a text spells out, as bytes: one that no JSON has, and DER seldom, says what
// follows. Where one of these is in the record itself another stands in front of it.
const (
	isUUID   = 0x0b // 16 bytes
	isHex    = 0x12 // their number, and bytes
	isMoment = 0x15 // 8 bytes, µs since 1970: RFC 3339, UTC, six digits of a second
	isSecond = 0x19 // 5 bytes, s since 1970: RFC 3339, UTC, no fraction
	isItself = 0x1a // one byte
	isKnown  = 0x1b // one byte: which of what is known beside the record
	isEnd    = 0x1c // of them

	mostKnown   = 256
	leastKnown  = 5  // bytes
	leastHex    = 16 // digits: of fewer little is saved
	leastDigits = 4  // as a year has
	mostHex     = 2 * 255
	uuidChars   = 36

	momentChars = len(rfc3339.Micro)
	secondChars = len("2006-01-02T15:04:05Z")
)

// What a byte may begin.
const (
	digit = 1 << iota // of a hexadecimal number
	sign              // it says what follows
	value             // of what is known
)

var begins = func() (may [256]byte) {
	for _, b := range []byte("0123456789abcdef") {
		may[b] = digit
	}
	for _, b := range []byte{isUUID, isHex, isMoment, isSecond, isItself, isKnown} {
		may[b] = sign
	}
	return may
}()

// known is what stands beside a record.
type known struct {
	values [][]byte
	may    [256]byte
}

func newKnown(values [][]byte) known {
	k := known{values[:min(len(values), mostKnown)], begins}
	for _, one := range k.values {
		if len(one) >= leastKnown {
			k.may[one[0]] |= value
		}
	}
	return k
}

// at is the first of what is known that rest begins with.
func (k *known) at(rest []byte) (which int, ok bool) {
	for i, one := range k.values {
		if len(one) >= leastKnown && one[0] == rest[0] && bytes.HasPrefix(rest, one) {
			return i, true
		}
	}
	return 0, false
}

// squeeze appends the record to into, with what it spells out as bytes.
func squeeze(into, record []byte, beside *known) []byte {
	done := 0 // what is before it is in into
	for i := 0; i < len(record); {
		may := beside.may[record[i]]
		if may == 0 {
			i++
			continue
		}
		if may&value != 0 {
			if which, ok := beside.at(record[i:]); ok {
				into = append(append(into, record[done:i]...), isKnown, byte(which))
				i += len(beside.values[which])
				done = i
				continue
			}
		}
		if may&digit == 0 {
			if may&sign != 0 {
				into = append(append(into, record[done:i]...), isItself)
				done = i
			}
			i++
			continue
		}
		digits := 1
		for i+digits < len(record) && begins[record[i+digits]] == digit {
			digits++
		}
		if digits >= leastDigits {
			into = append(into, record[done:i]...)
			var took int
			into, took = squeezeRun(into, record[i:], digits)
			i += took
			done = i
			continue
		}
		i += digits
	}
	return append(into, record[done:]...)
}

// squeezeRun appends what begins with so many hexadecimal digits, and says how
// much of it.
func squeezeRun(into, rest []byte, digits int) ([]byte, int) {
	switch {
	case digits >= leastHex:
		digits = min(digits&^1, mostHex)
		into = append(into, isHex, byte(digits/2))
		return appendHex(into, rest[:digits]), digits
	case digits == 8 && isUUIDText(rest):
		into = append(into, isUUID)
		for _, group := range uuidGroups {
			into = appendHex(into, rest[group[0]:group[1]])
		}
		return into, uuidChars
	case digits == 4 && len(rest) > 4 && rest[4] == '-':
		if squeezed, took := squeezeTime(into, rest); took > 0 {
			return squeezed, took
		}
	}
	return append(into, rest[:digits]...), digits
}

// squeezeTime appends the time that rest begins with; it takes nothing where
// there is none.
func squeezeTime(into, rest []byte) ([]byte, int) {
	if n := momentChars; len(rest) >= n && rest[n-1] == 'Z' {
		if at, ok := readTime(rest[:n], rfc3339.AppendMicro); ok {
			return appendNumber(append(into, isMoment), at.UnixMicro(), 8), n
		}
	}
	if n := secondChars; len(rest) >= n && rest[n-1] == 'Z' {
		if at, ok := readTime(rest[:n], appendSecond); ok && at.Unix() >= 0 {
			return appendNumber(append(into, isSecond), at.Unix(), 5), n
		}
	}
	return into, 0
}

// readTime takes a text for a time only where the time would be written so.
func readTime(text []byte, written func([]byte, time.Time) []byte) (at time.Time, ok bool) {
	var again [momentChars]byte
	err := at.UnmarshalText(text)
	return at, err == nil && bytes.Equal(written(again[:0], at), text)
}

func appendSecond(into []byte, at time.Time) []byte { return at.UTC().AppendFormat(into, time.RFC3339) }

// expand appends the record that squeeze made squeezed of.
func expand(into, squeezed []byte, beside [][]byte) (record []byte, ok bool) {
	for {
		plain := 0
		for plain < len(squeezed) && begins[squeezed[plain]] != sign {
			plain++
		}
		into = append(into, squeezed[:plain]...)
		if plain == len(squeezed) {
			return into, true
		}
		kind := squeezed[plain]
		squeezed = squeezed[plain+1:]
		length := lengths[kind]
		if kind == isHex {
			if len(squeezed) == 0 {
				return nil, false
			}
			length, squeezed = int(squeezed[0]), squeezed[1:]
		}
		if len(squeezed) < length {
			return nil, false
		}
		if kind == isKnown {
			if int(squeezed[0]) >= len(beside) {
				return nil, false
			}
			into = append(into, beside[squeezed[0]]...)
		} else {
			into = expandOne(into, kind, squeezed[:length])
		}
		squeezed = squeezed[length:]
	}
}

var lengths = [isEnd]int{isUUID: 16, isMoment: 8, isSecond: 5, isItself: 1, isKnown: 1}

func expandOne(into []byte, kind byte, value []byte) []byte {
	switch kind {
	case isHex:
		return hex.AppendEncode(into, value)
	case isMoment:
		return rfc3339.AppendMicro(into, time.UnixMicro(number(value)))
	case isSecond:
		return appendSecond(into, time.Unix(number(value), 0))
	case isUUID:
		for i, group := range [][]byte{value[:4], value[4:6], value[6:8], value[8:10], value[10:]} {
			if i > 0 {
				into = append(into, '-')
			}
			into = hex.AppendEncode(into, group)
		}
		return into
	}
	return append(into, value...)
}

// uuidGroups are where the digits of a UUID stand in its text.
var uuidGroups = [...][2]int{{0, 8}, {9, 13}, {14, 18}, {19, 23}, {24, uuidChars}}

// isUUIDText is asked of what begins with eight digits.
func isUUIDText(text []byte) bool {
	if len(text) < uuidChars {
		return false
	}
	for i := 8; i < uuidChars; i++ {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash && text[i] != '-' || !dash && begins[text[i]] != digit {
			return false
		}
	}
	return true
}

func appendHex(into, digits []byte) []byte {
	for i := 0; i < len(digits); i += 2 {
		into = append(into, nibble[digits[i]]<<4|nibble[digits[i+1]])
	}
	return into
}

func appendNumber(into []byte, n int64, length int) []byte {
	for i := length - 1; i >= 0; i-- {
		into = append(into, byte(n>>(8*i)))
	}
	return into
}

func number(value []byte) (n int64) {
	for _, b := range value {
		n = n<<8 | int64(b)
	}
	return n
}

// nibble is what a hexadecimal digit stands for.
var nibble = func() (is [256]byte) {
	for i, b := range []byte("0123456789abcdef") {
		is[b] = byte(i)
	}
	return is
}()
