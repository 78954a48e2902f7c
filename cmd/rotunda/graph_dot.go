package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/rotunda-pki/rotunda/api"
)

// writeDOT draws the graph in Graphviz's language. What a colour says a word or
// a style says as well.
func writeDOT(out io.Writer, graph *api.GraphResponse) error {
	var b strings.Builder
	b.WriteString("digraph rotunda {\n")
	b.WriteString("  rankdir=LR;\n")
	b.WriteString("  node [shape=box, fontname=\"sans-serif\", fontsize=11];\n")
	b.WriteString("  edge [fontname=\"sans-serif\", fontsize=9];\n")
	for _, service := range graph.Services {
		if service.Name != "" {
			fmt.Fprintf(&b, "  %s [%s];\n", dotQuote(service.Name), dotNode(service))
		}
	}
	for _, e := range graph.Edges {
		fmt.Fprintf(&b, "  %s -> %s [%s];\n", dotQuote(e.Client), dotQuote(e.Server), dotEdge(e))
	}
	b.WriteString("}\n")
	_, err := io.WriteString(out, b.String())
	return err
}

func dotNode(s *api.GraphService) string {
	if s.Outside {
		return fmt.Sprintf("label=%s, style=dashed", dotQuote(s.Name+"\noutside: "+s.Owner.GetContact()))
	}
	return "label=" + dotQuote(s.Name+"\n"+s.Owner.GetTeam()+", "+plural(len(s.Places), "placement"))
}

func dotEdge(e *api.GraphEdge) string {
	looks := map[api.Fit]string{
		api.Fit_FIT_OK: `color="#2e7d32", style=solid`, api.Fit_FIT_BREAKS: `color="#c62828", style=bold`, api.Fit_FIT_UNKNOWN: `color="#b26a00", style=dashed`,
	}
	lines := []string{word(e.Fit), "server: " + wayWords(e.Serves)}
	if e.Presents.GetNeeded() {
		lines = append(lines, "client: "+wayWords(e.Presents))
	}
	var reasons []string
	for _, reason := range append(append([]*api.GraphReason{}, e.Serves.GetReasons()...), e.Presents.GetReasons()...) {
		reasons = append(reasons, reason.Text)
	}
	attributes := "label=" + dotQuote(strings.Join(lines, "\n"))
	if look := looks[e.Fit]; look != "" {
		attributes += ", " + look
	}
	if len(reasons) > 0 {
		attributes += ", tooltip=" + dotQuote(strings.Join(reasons, "\n"))
	}
	return attributes
}

// wayWords is what is shown, and by how many it can be verified.
func wayWords(w *api.GraphWay) string {
	return shownCell(w).text + ", verified " + verifiedCell(w).text
}

// dotQuote is a quoted string of the DOT language: a quote is escaped, a line
// ends with \n, and a backslash, which begins an escape there, is doubled.
func dotQuote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", " ").Replace(printable(text)) + `"`
}
