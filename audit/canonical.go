package audit

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/gowebpki/jcs"

	"github.com/rotunda-pki/rotunda/internal/rfc3339"
)

// An entry is written for each certificate issued, so its canonical form is
// made in one pass: a marshaller followed by jcs.Transform costs twenty times
// as much. The tests hold the two to the same bytes.

// maxInteger is the greatest integer that a JSON number holds exactly
// (RFC 8785 section 3.2.2.3, by way of RFC 7493).
const maxInteger = 1<<53 - 1

// appendEntry writes the fields in the order of their names.
func appendEntry(b []byte, e Entry) ([]byte, error) {
	b = append(b, `{"actor":`...)
	b = appendActor(b, e.Actor)
	if len(e.Detail) > 0 {
		b = append(b, `,"detail":`...)
		var err error
		if b, err = appendValue(b, e.Detail); err != nil {
			return nil, fmt.Errorf("detail: %w", err)
		}
	}
	b = appendField(b, `,"id":`, e.ID)
	b = appendField(b, `,"object":`, e.Object)
	b = appendField(b, `,"outcome":`, e.Outcome)
	b = appendField(b, `,"reason":`, e.Reason)
	b = append(rfc3339.AppendMicro(append(b, `,"time":"`...), e.Time), '"')
	b = appendField(b, `,"verb":`, e.Verb)
	return append(b, '}'), nil
}

func appendActor(b []byte, a Actor) []byte {
	start := len(b)
	b = appendField(b, `,"address":`, a.Address)
	b = appendField(b, `,"id":`, a.ID)
	b = appendField(b, `,"kind":`, a.Kind)
	b = appendField(b, `,"serial":`, a.Serial)
	if a.UID != nil {
		b = append(b, `,"uid":`...)
		b = strconv.AppendInt(b, int64(*a.UID), 10)
	}
	b[start] = '{' // in place of the first comma; kind is never empty
	return append(b, '}')
}

// appendField writes a field unless it is empty.
func appendField(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendText(append(b, name...), value)
}

func appendValue(b []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return append(b, "null"...), nil
	case string:
		return appendText(b, v), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case int:
		return appendInteger(b, int64(v))
	case int32:
		return appendInteger(b, int64(v))
	case int64:
		return appendInteger(b, v)
	case uint32:
		return appendInteger(b, int64(v))
	case uint64:
		if v > math.MaxInt64 {
			return nil, inexact(strconv.FormatUint(v, 10))
		}
		return appendInteger(b, int64(v))
	case float64:
		number, err := jcs.NumberToJSON(v)
		return append(b, number...), err
	case json.Number:
		return appendNumber(b, v)
	case []any:
		return appendArray(b, v)
	case []string:
		return appendArray(b, v)
	case map[string]any:
		return appendObject(b, v)
	case map[string]string:
		return appendObject(b, v)
	case time.Time:
		return append(rfc3339.AppendMicro(append(b, '"'), v), '"'), nil
	}
	return appendAny(b, value)
}

// appendAny takes the way through encoding/json for all other types.
func appendAny(b []byte, value any) ([]byte, error) {
	plain, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(plain))
	decoder.UseNumber()
	var generic any
	if err := decoder.Decode(&generic); err != nil {
		return nil, err
	}
	return appendValue(b, generic)
}

func appendInteger(b []byte, n int64) ([]byte, error) {
	if n > maxInteger || n < -maxInteger {
		return nil, inexact(strconv.FormatInt(n, 10))
	}
	return strconv.AppendInt(b, n, 10), nil
}

// inexact: the log must never say another number than was meant.
func inexact(number string) error {
	return fmt.Errorf("number %s is beyond what JSON holds exactly; write it as text", number)
}

func appendNumber(b []byte, number json.Number) ([]byte, error) {
	if n, err := number.Int64(); err == nil {
		return appendInteger(b, n)
	}
	f, err := number.Float64()
	if err != nil || f == math.Trunc(f) && math.Abs(f) > maxInteger && !bytes.ContainsAny([]byte(number), ".eE") {
		return nil, inexact(number.String())
	}
	return appendValue(b, f)
}

func appendArray[T any](b []byte, values []T) ([]byte, error) {
	b = append(b, '[')
	for i, value := range values {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendValue(b, value); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

func appendObject[T any](b []byte, fields map[string]T) ([]byte, error) {
	var few [8]string // what entries say fits on the stack
	names := few[:0]
	for name := range fields {
		names = append(names, name)
	}
	slices.SortFunc(names, compareUTF16)
	b = append(b, '{')
	for i, name := range names {
		if !utf8.ValidString(name) {
			return nil, fmt.Errorf("field name %q must be UTF-8", name)
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendText(b, name), ':')
		var err error
		if b, err = appendValue(b, fields[name]); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

// compareUTF16 orders names by their UTF-16 code units (RFC 8785
// section 3.2.3). That differs from the order of bytes only where one side has
// a character beyond U+FFFF.
func compareUTF16(x, y string) int {
	for i := 0; i < len(x) && i < len(y); i++ {
		if x[i] >= utf8.RuneSelf || y[i] >= utf8.RuneSelf {
			return slices.Compare(utf16.Encode([]rune(x)), utf16.Encode([]rune(y)))
		}
		if x[i] != y[i] {
			return cmp.Compare(x[i], y[i])
		}
	}
	return cmp.Compare(len(x), len(y))
}

// appendText writes a string with the escapes of RFC 8785 section 3.2.2.2 and
// no others. What is not UTF-8 becomes U+FFFD.
func appendText(b []byte, text string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	if plain := append(b, text...); isPlain(plain[len(b):]) { // nearly all that is written
		return append(plain, '"')
	}
	for _, r := range text { // yields U+FFFD for a broken byte
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r >= ' ':
			b = utf8.AppendRune(b, r)
		case r == '\b':
			b = append(b, '\\', 'b')
		case r == '\t':
			b = append(b, '\\', 't')
		case r == '\n':
			b = append(b, '\\', 'n')
		case r == '\f':
			b = append(b, '\\', 'f')
		case r == '\r':
			b = append(b, '\\', 'r')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		}
	}
	return append(b, '"')
}

// isPlain says whether a text is ASCII and needs no escapes. It looks at eight bytes
// at once: where one is below what is taken from all of them, its highest bit gets
// set, which no ASCII has.
func isPlain(text []byte) bool {
	const each, highest = 0x0101010101010101, 0x80 * 0x0101010101010101
	for ; len(text) >= 8; text = text[8:] {
		eight := binary.LittleEndian.Uint64(text)
		quotes, slashes := eight^'"'*each, eight^'\\'*each // 0 where there is one
		if (eight|(eight-' '*each)|(quotes-each)|(slashes-each))&highest != 0 {
			return false
		}
	}
	for _, c := range text {
		if c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
