package fleet

import (
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// template is text with fields: "{{ instance }}.example.com".
type template []part

// part is literal text, or the name of a field.
type part struct {
	text  string
	field bool
}

const labelPrefix = "labels."

// templateFields are the fields besides labels.
func templateFields() []string {
	return []string{"instance", "agent", "region", "zone", "trustDomain"}
}

// hasTemplate says whether text holds a field.
func hasTemplate(text string) bool { return strings.Contains(text, "{{") }

// parseTemplate reads text with fields between double braces.
func parseTemplate(text string) (template, error) {
	var t template
	for rest := text; rest != ""; {
		literal, after, found := strings.Cut(rest, "{{")
		if strings.Contains(literal, "}}") {
			return nil, fault.New(fault.Invalid, "template %s: }} without {{ before it", quote(text))
		}
		if literal != "" {
			t = append(t, part{text: literal})
		}
		if !found {
			break
		}
		field, next, closed := strings.Cut(after, "}}")
		if !closed {
			return nil, fault.New(fault.Invalid, "template %s: {{ without }} after it", quote(text))
		}
		field = strings.TrimSpace(field)
		if err := checkField(field); err != nil {
			return nil, err
		}
		t = append(t, part{field, true})
		rest = next
	}
	return t, nil
}

func checkField(field string) error {
	if key, ok := strings.CutPrefix(field, labelPrefix); ok {
		if !labelKeyForm.MatchString(key) {
			return fault.New(fault.Invalid, "template field {{ %s }}: %s cannot be the key of a label", field, quote(key))
		}
		return nil
	}
	if !contains(templateFields(), field) {
		return fault.New(fault.Invalid, "template field {{ %s }} is not known", field).
			WithRemedy("%s", suggestion(field, append(templateFields(), "labels.KEY")))
	}
	return nil
}

// names says whether the template holds the field.
func (t template) names(field string) bool {
	for _, p := range t {
		if p.field && p.text == field {
			return true
		}
	}
	return false
}

// fill puts the values in the fields' places. Values are not read as
// templates again.
func (t template) fill(value func(field string) (string, error)) (string, error) {
	var out strings.Builder
	for _, p := range t {
		text := p.text
		if p.field {
			var err error
			if text, err = value(p.text); err != nil {
				return "", err
			}
		}
		out.WriteString(text)
	}
	return out.String(), nil
}
