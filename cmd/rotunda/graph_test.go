package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rotunda-pki/rotunda/api"
)

// What a document says can't end a string of the picture: after the escapes are
// read as Graphviz reads them, the text is what it was.
func TestDOTStringsHoldAnyText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.SampledFrom([]rune("a\"\\n\n<>{};é● \x1b"))).Draw(t, "text")
		quoted := dotQuote(text)
		inner, ok := strings.CutPrefix(quoted, `"`)
		if !ok || strings.Contains(quoted, "\n") {
			t.Fatalf("%q is quoted as %s", text, quoted)
		}
		if read, rest := readDOT(inner); rest != "" || read != printable(text) {
			t.Fatalf("%q is quoted as %s, which reads %q and leaves %q", text, quoted, read, rest)
		}
	})
}

// readDOT reads a quoted string after its first quote: \" in the language, and
// \n and \\ in its labels.
func readDOT(text string) (read, rest string) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '"':
			return b.String(), text[i+1:]
		case text[i] == '\\' && i+1 < len(text):
			i++
			b.WriteString(map[byte]string{'n': "\n", '"': `"`, '\\': `\`}[text[i]])
		default:
			b.WriteByte(text[i])
		}
	}
	return b.String(), "no end"
}

// A cell of a fleet's roots stays a cell: the biggest services are named.
func TestSharesOfManyServices(t *testing.T) {
	var all []*api.ServiceShare
	for i, name := range []string{"a", "b", "c", "d", "e"} {
		all = append(all, &api.ServiceShare{Service: name, Count: uint32(1 + i), Levels: &api.LevelCounts{Proven: uint32(1 + i)}})
	}
	if got, want := shares(all), "e ●5, d ●4, c ●3, and 2 more services"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := shares(all[:4]), "a ●1, b ●2, c ●3, d ●4"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Graphviz itself takes it, where it is installed.
func TestDOTIsRead(t *testing.T) {
	dot, err := exec.LookPath("dot")
	if err != nil {
		t.Skip("no Graphviz here")
	}
	hostile := `a\"; b [label="x"] -> {` + "\n<b>"
	graph := &api.GraphResponse{
		Services: []*api.GraphService{{Name: "a"}, {Name: hostile, Outside: true, Owner: &api.ServiceOwner{Contact: `\`}}},
		Edges: []*api.GraphEdge{
			{Client: "a", Server: hostile, Fit: api.Fit_FIT_BREAKS, Serves: &api.GraphWay{Reasons: []*api.GraphReason{{Text: hostile}}}},
			{Client: "a", Server: "a"},
		},
	}
	var text, errs bytes.Buffer
	if err := writeDOT(&text, graph); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), dot, "-Tplain")
	command.Stdin, command.Stderr = &text, &errs
	out, err := command.Output()
	if err != nil || errs.Len() > 0 {
		t.Fatalf("%v: %s", err, errs.String())
	}
	if nodes := strings.Count(string(out), "\nnode "); nodes != 2 || strings.Count(string(out), "\nedge ") != 2 {
		t.Errorf("it is read as\n%s", out)
	}
}
