package fleet

import (
	"fmt"
	"slices"
	"strings"
)

// Severity says whether a finding forbids to apply the documents.
type Severity string

// The severities.
const (
	Warning Severity = "warning"
	Error   Severity = "error"
)

// Position is a place in a file. A document that did not come from a file has
// the zero Position.
type Position struct {
	File string
	Line int // from 1; 0: not known
}

// String is "file:line".
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Finding is one thing wrong, or worth knowing, about the documents.
type Finding struct {
	Severity Severity
	Position Position
	Document string // "Kind/name", where it is known
	Rule     string // a short fixed name of the rule: "unknown-field", "dangling"
	Message  string // the thing, and what is wrong with it
	Remedy   string // what to do about it
}

// String is one line for people.
func (f Finding) String() string {
	var text strings.Builder
	if place := f.Position.String(); place != "" {
		text.WriteString(place + ": ")
	}
	text.WriteString(string(f.Severity) + " [" + f.Rule + "] ")
	if f.Document != "" {
		text.WriteString(f.Document + ": ")
	}
	text.WriteString(f.Message)
	if f.Remedy != "" {
		text.WriteString(" (" + f.Remedy + ")")
	}
	return text.String()
}

// HasErrors says whether any finding is an Error.
func HasErrors(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity == Error })
}

// SortFindings puts findings in the order of files, lines and rules.
func SortFindings(findings []Finding) {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		if c := strings.Compare(a.Position.File, b.Position.File); c != 0 {
			return c
		}
		if c := a.Position.Line - b.Position.Line; c != 0 {
			return c
		}
		return strings.Compare(a.Document, b.Document)
	})
}

// quote is text in quotes, shortened so that a message stays readable
// whatever it cites.
func quote(text string) string {
	const most = 80
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return fmt.Sprintf("%q", text)
}
