package table

import (
	"fmt"
	"os"
	"strings"

	"github.com/rotunda-pki/rotunda/target"
)

// The parts of docs/targets.md that are written, not edited.
const (
	CapabilityPart = "capabilities"
	MeasuredPart   = "measured"
)

// Part is what stands between the markers of a part.
func Part(document, part string) (string, error) {
	begin, end, err := find(document, part)
	if err != nil {
		return "", err
	}
	return document[begin:end], nil
}

// Replace puts text between the markers of a part of a file.
func Replace(path, part, text string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	document := string(content)
	begin, end, err := find(document, part)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(document[:begin]+text+document[end:]), 0o644)
}

func find(document, part string) (begin, end int, err error) {
	opening, closing := "<!-- "+part+": written by make docs-targets -->\n", "<!-- end of "+part+" -->"
	begin = strings.Index(document, opening)
	if begin >= 0 {
		begin += len(opening)
		end = begin + strings.Index(document[begin:], closing)
	}
	if begin < 0 || end < begin {
		return 0, 0, fmt.Errorf("the markers of part %q are missing: %q and %q", part, opening, closing)
	}
	return begin, end, nil
}

// Capabilities is what the adapters' table says, for docs.
func Capabilities() string {
	var b strings.Builder
	b.WriteString("\n| kind | leaf | key type | CA added | CA removed | CRL | staple | open connections | a broken pair | measured on |\n|" + strings.Repeat(" --- |", 10) + "\n")
	for _, a := range target.Adapters() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n",
			a.Title, a.Leaf, a.KeyType, a.AnchorAdd, a.AnchorRemove, a.CRL, a.Staple, stay(a.ClosesConnections), escape(a.BrokenPair), orDash(a.Measured))
	}
	for _, a := range target.Adapters() {
		fmt.Fprintf(&b, "\n### %s\n\n", a.Title)
		for _, fact := range [][2]string{
			{"reload", a.Reload}, {"control path (agent.yaml)", a.Control}, {"its own word", a.Word}, {"owner and mode", a.Owner},
			{"well when", a.Capabilities.Health}, {"closing sessions", a.CloseSessionsBy}, {"needs a restart for", strings.Join(a.NeedsRestart(), ", ")}, {"note", a.Note},
		} {
			if fact[1] != "" {
				fmt.Fprintf(&b, "- %s: %s\n", fact[0], escape(fact[1]))
			}
		}
	}
	b.WriteString("\n")
	return b.String()
}

func stay(closes target.Answer) string {
	switch closes {
	case target.Yes:
		return "may end"
	case target.No:
		return "stay"
	}
	return string(closes)
}

// escape keeps a table's cell a cell, and an asterisk or a name in angles what
// it is.
func escape(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(text)
}

func orDash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}
