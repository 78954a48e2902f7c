// Package fleet holds the nouns that operators declare: services, profiles,
// policies, intents, bundles, windows, exceptions and regions.
//
// Operators write them as documents, in YAML or JSON:
//
//	apiVersion: rotunda/v1
//	kind: Service
//	metadata:
//	  name: orders
//	spec:
//	  owner: {team: shop, contact: shop@example.com, runbook: https://wiki.example.com/orders}
//
// [ParseFiles] reads files of them strictly and reports all that is wrong in
// one pass, with line and remedy. [Validate] looks at the documents of a whole
// trust domain together. [Expand] says what one intent means for one agent.
// The comments of the spec types are the manual of the documents, and the
// descriptions in their JSON Schema ([Schema]).
//
// The package also holds the status types of what the control plane records,
// each with its one table of legal transitions. It does no I/O and reads no
// clock.
package fleet

import (
	"regexp"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// APIVersion is what every document says of itself.
const APIVersion = "rotunda/v1"

// Kind is a kind of document.
type Kind string

// The kinds.
const (
	KindService   Kind = "Service"
	KindProfile   Kind = "Profile"
	KindPolicy    Kind = "Policy"
	KindIntent    Kind = "Intent"
	KindBundle    Kind = "Bundle"
	KindWindow    Kind = "Window"
	KindException Kind = "Exception"
	KindRegion    Kind = "Region"
)

// Kinds lists all kinds, those that others refer to first.
func Kinds() []Kind {
	return []Kind{
		KindRegion, KindWindow, KindService, KindBundle,
		KindProfile, KindPolicy, KindException, KindIntent,
	}
}

// Spec is what a document of one kind says. Its types are *Service, *Profile,
// *Policy, *Intent, *Bundle, *Window, *Exception and *Region.
type Spec interface {
	kind() Kind
}

// newSpec returns a spec that holds the defaults which need no other field.
func newSpec(k Kind) (Spec, bool) {
	switch k {
	case KindService:
		return &Service{}, true
	case KindProfile:
		return defaultProfile(), true
	case KindPolicy:
		return &Policy{}, true
	case KindIntent:
		return defaultIntent(), true
	case KindBundle:
		return &Bundle{}, true
	case KindWindow:
		return &Window{Timezone: "UTC"}, true
	case KindException:
		return &Exception{}, true
	case KindRegion:
		return &Region{}, true
	}
	return nil, false
}

// completer is a spec with defaults that depend on its other fields. given
// says whether the document itself named the field at a path such as
// "spec.rideOut".
type completer interface {
	complete(given func(path string) bool)
}

// Name is the name of a document: lower-case letters, digits, dots and
// hyphens, beginning and ending with a letter or digit, at most 63 bytes.
type Name string

const namePattern = `^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$`

var nameForm = regexp.MustCompile(namePattern)

// ParseName checks the form of a name.
func ParseName(text string) (Name, error) {
	if !nameForm.MatchString(text) {
		return "", fault.New(fault.Invalid, "%s is not a name: it must be 1 to 63 of a-z, 0-9, '.' and '-', with a letter or digit at both ends", quote(text))
	}
	return Name(text), nil
}

// UnmarshalText implements encoding.TextUnmarshaler with ParseName's rule.
func (n *Name) UnmarshalText(text []byte) error {
	parsed, err := ParseName(string(text))
	if err != nil {
		return err
	}
	*n = parsed
	return nil
}

// Key names a document within a trust domain.
type Key struct {
	Kind Kind
	Name Name
}

// String is "Kind/name".
func (k Key) String() string { return string(k.Kind) + "/" + string(k.Name) }
