package fleet

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Document is one declared thing: its kind, its name and what it says.
// Defaults are filled in when it is parsed, so that what is stored says all
// that it means, whatever a later version's defaults are.
type Document struct {
	Kind   Kind
	Name   Name
	Spec   Spec
	Source Position // where the document begins; zero when it came from the store

	lines  map[string]int  // where its fields stand
	broken map[string]bool // fields that could not be read, and were reported
}

// Key is the document's kind and name.
func (d Document) Key() Key { return Key{d.Kind, d.Name} }

// String is "Kind/name".
func (d Document) String() string { return d.Key().String() }

// Line is where the field at a dotted path, such as
// "spec.identity.dnsNames[0]", stands in the source file: the line of the
// field itself, or of the nearest field around it that the file names. It is
// 0 when the document did not come from a file.
func (d Document) Line(path string) int {
	for path != "" {
		if line, ok := d.lines[path]; ok {
			return line
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return d.Source.Line
}

// isBroken says whether the field at a path, or one in it, or one around it,
// could not be read.
func (d Document) isBroken(path string) bool {
	for broken := range d.broken {
		if within(broken, path) || within(path, broken) {
			return true
		}
	}
	return false
}

// within says whether a path is another or leads to a field in it.
func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// Finding is a finding about the document's field at a dotted path.
func (d Document) Finding(severity Severity, path, rule, message, remedy string) Finding {
	return Finding{
		Severity: severity,
		Position: Position{d.Source.File, d.Line(path)},
		Document: d.String(),
		Rule:     rule,
		Message:  message,
		Remedy:   remedy,
	}
}

// wire is the shape of a document in JSON.
type wire struct {
	APIVersion string   `json:"apiVersion"`
	Kind       Kind     `json:"kind"`
	Metadata   metadata `json:"metadata"`
	Spec       any      `json:"spec"`
}

type metadata struct {
	Name Name `json:"name"`
}

// JSON is the whole document in its canonical form: equal documents have
// equal bytes, and ParseJSON reads them back to the same document.
func (d Document) JSON() ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(wire{APIVersion, d.Kind, metadata{d.Name}, d.Spec}); err != nil {
		return nil, fmt.Errorf("encode %s: %w", d, err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// ParseJSON reads one document, as strictly as ParseFiles does.
func ParseJSON(content []byte) (Document, error) {
	documents, findings := parseFile(File{Content: content}, parseJSONNodes)
	for _, f := range findings {
		if f.Severity == Error {
			return Document{}, fault.New(fault.Invalid, "document: %s", f)
		}
	}
	if len(documents) != 1 {
		return Document{}, fault.New(fault.Invalid, "expected one document, found %d", len(documents))
	}
	return documents[0], nil
}

// Set is the documents of a trust domain, by kind and name.
type Set map[Key]Document

// NewSet returns the set of the documents; of two with one key the later wins.
func NewSet(documents ...Document) Set {
	set := make(Set, len(documents))
	for _, d := range documents {
		set.Put(d)
	}
	return set
}

// Put adds a document, or replaces the one with its key.
func (s Set) Put(d Document) { s[d.Key()] = d }

// Documents lists all documents by kind, those that others refer to first,
// and then by name.
func (s Set) Documents() []Document {
	var all []Document
	for _, k := range Kinds() {
		all = append(all, s.OfKind(k)...)
	}
	return all
}

// OfKind lists the documents of one kind by name.
func (s Set) OfKind(k Kind) []Document {
	var some []Document
	for key, d := range s {
		if key.Kind == k {
			some = append(some, d)
		}
	}
	slices.SortFunc(some, func(a, b Document) int { return cmp.Compare(a.Name, b.Name) })
	return some
}

// Service is the spec of the service with the name.
func (s Set) Service(name Name) (*Service, bool) { return lookup[*Service](s, KindService, name) }

// Profile is the spec of the profile with the name.
func (s Set) Profile(name Name) (*Profile, bool) { return lookup[*Profile](s, KindProfile, name) }

// Intent is the spec of the intent with the name.
func (s Set) Intent(name Name) (*Intent, bool) { return lookup[*Intent](s, KindIntent, name) }

// Bundle is the spec of the bundle with the name.
func (s Set) Bundle(name Name) (*Bundle, bool) { return lookup[*Bundle](s, KindBundle, name) }

func lookup[S Spec](s Set, kind Kind, name Name) (S, bool) {
	spec, ok := s[Key{kind, name}].Spec.(S)
	return spec, ok
}
