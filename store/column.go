package store

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// How Go values stand in columns. A func makes the value for a statement, the
// type of like meaning is where a row is scanned into.

// micros is a time in a column; the zero time is NULL.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

type moment struct{ into *time.Time }

func (m moment) Scan(column any) error {
	switch v := column.(type) {
	case nil:
		*m.into = time.Time{}
	case int64:
		*m.into = time.UnixMicro(v).UTC()
	default:
		return fmt.Errorf("a time is stored as %T", column)
	}
	return nil
}

// optional is a text in a column; the empty one is NULL.
func optional(text string) any {
	if text == "" {
		return nil
	}
	return text
}

type optionalText struct{ into *string }

func (o optionalText) Scan(column any) error {
	switch v := column.(type) {
	case nil:
		*o.into = ""
	case string:
		*o.into = v
	case []byte:
		*o.into = string(v)
	default:
		return fmt.Errorf("a text is stored as %T", column)
	}
	return nil
}

// optionalNumber is a number in a column; 0 is NULL.
func optionalNumber(n uint64) any {
	if n == 0 {
		return nil
	}
	return n
}

type optionalUint struct{ into *uint64 }

func (o optionalUint) Scan(column any) error {
	switch v := column.(type) {
	case nil:
		*o.into = 0
	case int64:
		*o.into = uint64(v)
	default:
		return fmt.Errorf("a number is stored as %T", column)
	}
	return nil
}

// fixed is bytes of a known length: a serial, a hash. All of them zero is NULL
// where the column may be.
type fixed []byte

func (f fixed) Scan(column any) error {
	switch v := column.(type) {
	case nil:
		clear(f)
	case []byte:
		if len(v) != len(f) {
			return fmt.Errorf("%d bytes are stored where %d belong", len(v), len(f))
		}
		copy(f, v)
	default:
		return fmt.Errorf("bytes are stored as %T", column)
	}
	return nil
}

func optionalBytes(b []byte) any {
	for _, c := range b {
		if c != 0 {
			return b
		}
	}
	return nil
}

// labels are a map in a column, as JSON.
func labels(m map[string]string) string {
	if len(m) == 0 {
		return "{}"
	}
	text, err := json.Marshal(m)
	if err != nil { // a map of strings always has JSON
		return "{}"
	}
	return string(text)
}

type labelMap struct{ into *map[string]string }

func (l labelMap) Scan(column any) error {
	text, ok := column.(string)
	if !ok {
		return fmt.Errorf("a map is stored as %T", column)
	}
	if *l.into, ok = plainMap(text); ok {
		return nil
	}
	*l.into = map[string]string{}
	return json.Unmarshal([]byte(text), l.into)
}

// plainMap reads a map as labels writes most of them: nothing in it is escaped, so
// a quotation mark is a bound of a text. Whatever else it may be is not ok. What is
// in the map are parts of the text, and keep it.
func plainMap(text string) (m map[string]string, ok bool) {
	if text == "{}" {
		return map[string]string{}, true
	}
	text, opened := strings.CutPrefix(text, `{"`)
	text, closed := strings.CutSuffix(text, `"}`)
	special := func(r rune) bool { return r < ' ' || r == '\\' || r == utf8.RuneError }
	if !opened || !closed || strings.ContainsFunc(text, special) {
		return nil, false
	}
	m = map[string]string{}
	pairs := 0
	for pair := range strings.SplitSeq(text, `","`) {
		key, value, found := strings.Cut(pair, `":"`)
		if !found {
			return nil, false
		}
		m[key] = value
		pairs++
	}
	bounds := 4*pairs - 2 // but the first and the last
	return m, strings.Count(text, `"`) == bounds
}
