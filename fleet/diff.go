package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Diff lists what changes from the old to the new document, by dotted paths:
// "spec.lifetime: 24h → 12h". A document that is zero has no fields. Equal
// documents have no difference.
func Diff(old, new Document) []string {
	before, after := flat(old), flat(new)
	paths := make(map[string]bool)
	for path := range before {
		paths[path] = true
	}
	for path := range after {
		paths[path] = true
	}
	var changes []string
	for _, path := range slices.SortedFunc(maps.Keys(paths), naturally) {
		was, had := before[path]
		is, has := after[path]
		switch {
		case had && !has:
			changes = append(changes, fmt.Sprintf("%s: %s → none", path, short(was)))
		case has && !had:
			changes = append(changes, fmt.Sprintf("%s: none → %s", path, short(is)))
		case was != is:
			changes = append(changes, changed(path, was, is))
		}
	}
	return changes
}

// changed shows both values, and says so where what differs is beyond what is
// shown.
func changed(path, was, is string) string {
	from, to := short(was), short(is)
	if from == to {
		to += " (changed further on)"
	}
	return fmt.Sprintf("%s: %s → %s", path, from, to)
}

// flat maps the paths of a document's values to them.
func flat(d Document) map[string]string {
	values := make(map[string]string)
	if d.Spec == nil {
		return values
	}
	content, err := json.Marshal(d.Spec)
	if err != nil {
		return values // spec types always encode; a test holds that
	}
	var tree any
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	if decoder.Decode(&tree) == nil {
		flatten("spec", tree, values)
	}
	return values
}

func flatten(path string, value any, into map[string]string) {
	switch value := value.(type) {
	case map[string]any:
		for key, item := range value {
			flatten(join(path, key), item, into)
		}
	case []any:
		for i, item := range value {
			flatten(fmt.Sprintf("%s[%d]", path, i), item, into)
		}
	default:
		into[path] = fmt.Sprint(value)
	}
}

// short is a value as a change shows it: one line, not long.
func short(text string) string {
	const most = 60
	line, _, more := bytes.Cut([]byte(text), []byte("\n"))
	if runes := []rune(string(line)); len(runes) > most {
		return string(runes[:most]) + "…"
	} else if more {
		return string(line) + "…"
	}
	return text
}

// naturally orders paths so that [2] comes before [10].
func naturally(a, b string) int {
	for a != "" && b != "" {
		na, restA := leadingNumber(a)
		nb, restB := leadingNumber(b)
		if na >= 0 && nb >= 0 {
			if na != nb {
				return na - nb
			}
			a, b = restA, restB
			continue
		}
		if a[0] != b[0] {
			return int(a[0]) - int(b[0])
		}
		a, b = a[1:], b[1:]
	}
	return len(a) - len(b)
}

func leadingNumber(text string) (int, string) {
	n, i := -1, 0
	for i < len(text) && i < 9 && text[i] >= '0' && text[i] <= '9' {
		n = max(n, 0)*10 + int(text[i]-'0')
		i++
	}
	return n, text[i:]
}
