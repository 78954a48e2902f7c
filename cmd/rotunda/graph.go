package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
)

const graphHelp = `Shows who calls whom, and whether the two can verify each other with what they
have now: one edge a line, the worst first.

  SHOWS     roots above the certificates in use, and how many are shown how far
  VERIFIED  of the other side's placements, how many can verify that, by how far
            their process has taken the bundle that lets them

  ●  proven      by a handshake with the running process
  ◐  loaded      the process said that it took it
  ○  delivered   the bytes are on the host
  ·  nothing of it is shown; or nothing is to be verified this way
  ✗  can't verify what is shown to it: the edge breaks
  ?  nobody here sees it: an outside party, or a host that has not reported

Below the edges stands what is wrong and whom to ask, and for each root who
still has certificates under it, who trusts it and who does not.`

func newGraphCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "graph",
		Short: "Show who calls whom, and whether each side can verify the other",
		Long:  graphHelp,
		Example: `  rotunda graph
  rotunda graph --service orders
  rotunda graph -o dot | dot -Tsvg > graph.svg
  rotunda graph -o json | jq '.edges[] | select(.fit == "breaks")'`,
		Args: cobra.NoArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), graphFormatFlag(cmd)
	request := &api.GraphRequest{}
	cmd.Flags().StringVar(&request.Service, "service", "", "only what touches this `service`")
	completeFlag(cmd, conn, "service", documentNames("Service"))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			graph, err := invoke(ctx, s.Graph, request)
			if err != nil {
				return err
			}
			if *output == formatDOT {
				return writeDOT(u.out, graph)
			}
			if *output == formatText {
				u.hosts = knownHosts(ctx, s)
				showGraph(u, request.Service, graph)
				return nil
			}
			return u.show(format(*output), graph, nil)
		})
	}
	return cmd
}

// graphFormat is a format that knows pictures as well.
type graphFormat string

const (
	formatText graphFormat = "text"
	formatDOT  graphFormat = "dot"
)

var graphFormats = []string{string(formatText), string(formatDOT), string(formatJSON), string(formatYAML)}

func (f *graphFormat) String() string { return string(*f) }
func (f *graphFormat) Type() string   { return strings.Join(graphFormats, "|") }

func (f *graphFormat) Set(text string) error {
	if text == string(formatTable) { // as other commands call it
		text = string(formatText)
	}
	if !slices.Contains(graphFormats, text) {
		return fmt.Errorf("no such output: it is one of %s", strings.Join(graphFormats, ", "))
	}
	*f = graphFormat(text)
	return nil
}

func graphFormatFlag(cmd *cobra.Command) *graphFormat {
	f := formatText
	cmd.Flags().VarP(&f, "output", "o", "how to show the result")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(graphFormats, cobra.ShellCompDirectiveNoFileComp))
	return &f
}

func showGraph(u *ui, service string, graph *api.GraphResponse) {
	if len(graph.Edges) == 0 && service != "" {
		u.note("Service %s is on no edge: it declares no clients, and no service declares it as one.", service)
	} else {
		edgeTable(graph.Edges).write(u, "There are no edges: no service declares its clients yet (spec.clients of a Service).")
	}
	if len(graph.Edges) > 0 {
		showReasons(u, graph.Edges, ownersOf(graph.Services))
	}
	if len(graph.Anchors) > 0 {
		u.say("")
		anchorTable(graph.Anchors).write(u, "")
	}
	if len(graph.Edges) > 0 {
		u.say("\n%s", edgeSummary(graph.Edges))
		u.say("●  proven   ◐  loaded   ○  delivered   ✗  can't verify it   ?  nobody here sees it")
	}
}

// edgeTable has one edge a line, the worst first. The client's half has columns
// where some client shows a certificate.
func edgeTable(edges []*api.GraphEdge) *table {
	headings := []string{"CLIENT", "SERVER", "FIT", "SERVER SHOWS", "VERIFIED"}
	mutual := slices.ContainsFunc(edges, func(e *api.GraphEdge) bool { return e.Presents.GetNeeded() })
	if mutual {
		headings = append(headings, "CLIENT SHOWS", "VERIFIED")
	}
	t := newTable(headings...)
	for _, e := range worstFirst(edges) {
		cells := []any{e.Client, e.Server, fitCell(e.Fit), shownCell(e.Serves), verifiedCell(e.Serves)}
		if mutual {
			cells = append(cells, shownCell(e.Presents), verifiedCell(e.Presents))
		}
		t.row(cells...)
	}
	return t
}

// fitRank puts the worst first.
var fitRank = map[api.Fit]int{api.Fit_FIT_BREAKS: 0, api.Fit_FIT_UNKNOWN: 1, api.Fit_FIT_OK: 2}

func worstFirst(edges []*api.GraphEdge) []*api.GraphEdge {
	sorted := slices.Clone(edges)
	slices.SortStableFunc(sorted, func(a, b *api.GraphEdge) int { return fitRank[a.Fit] - fitRank[b.Fit] })
	return sorted
}

var fitStyles = map[api.Fit]cell{
	api.Fit_FIT_OK: {"● ", good}, api.Fit_FIT_BREAKS: {"✗ ", bad}, api.Fit_FIT_UNKNOWN: {"? ", warn},
}

func fitCell(fit api.Fit) cell {
	c := fitStyles[fit]
	return cell{c.text + word(fit), c.style}
}

// shownCell is the roots on one side of a way: "root-a ●3, root-b ◐1 ●2".
// Issuers under one root count together.
func shownCell(w *api.GraphWay) cell {
	if !w.GetNeeded() {
		return cell{"·", faint}
	}
	if len(w.Chains) == 0 {
		return cell{"?", warn}
	}
	var roots []string
	levels := map[string]*api.LevelCounts{}
	for _, chain := range w.Chains {
		name := chain.Root.GetName()
		if levels[name] == nil {
			levels[name] = &api.LevelCounts{}
			roots = append(roots, name)
		}
		addLevels(levels[name], chain.Levels)
	}
	for i, name := range roots {
		roots[i] += " " + levelMarks(levels[name])
	}
	return cell{strings.Join(roots, ", "), plain}
}

// verifiedCell counts those who can verify all that is shown, by level, after
// those who can't and those of whom nothing is known.
func verifiedCell(w *api.GraphWay) cell {
	if !w.GetNeeded() {
		return cell{"·", faint}
	}
	var can api.LevelCounts
	var cannot, unseen uint32
	for _, trust := range w.Trust {
		switch {
		case len(trust.Anchors) == 0 || len(w.Chains) == 0:
			unseen += levelSum(trust.Levels)
		case !verifiesAll(trust.Anchors, w.Chains):
			cannot += levelSum(trust.Levels)
		default:
			addLevels(&can, trust.Levels)
		}
	}
	var parts []string
	s := plain
	if levelSum(&can) > 0 {
		parts = append(parts, levelMarks(&can))
	}
	if unseen > 0 || len(w.Trust) == 0 {
		parts, s = append([]string{"?" + unless0(unseen)}, parts...), warn
	}
	if cannot > 0 {
		parts, s = append([]string{"✗" + unless0(cannot)}, parts...), bad
	}
	return cell{strings.Join(parts, " "), s}
}

func unless0(n uint32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func verifiesAll(anchors []*api.GraphAnchor, chains []*api.GraphChain) bool {
	trusted := map[string]bool{}
	for _, anchor := range anchors {
		trusted[anchor.Fingerprint] = true
	}
	return !slices.ContainsFunc(chains, func(c *api.GraphChain) bool {
		return !trusted[c.Root.GetFingerprint()] && !slices.ContainsFunc(c.Bridged, func(a *api.GraphAnchor) bool { return trusted[a.Fingerprint] })
	})
}

// levelMarks is counts as pictures, the lowest level first: "◐1 ●2".
func levelMarks(l *api.LevelCounts) string {
	var marks []string
	for _, one := range []struct {
		mark  string
		count uint32
	}{{"·", l.GetNone()}, {"○", l.GetDelivered()}, {"◐", l.GetLoaded()}, {"●", l.GetProven()}} {
		if one.count > 0 {
			marks = append(marks, one.mark+fmt.Sprint(one.count))
		}
	}
	return strings.Join(marks, " ")
}

func addLevels(to, l *api.LevelCounts) {
	to.None += l.GetNone()
	to.Delivered += l.GetDelivered()
	to.Loaded += l.GetLoaded()
	to.Proven += l.GetProven()
}

func levelSum(l *api.LevelCounts) uint32 {
	return l.GetNone() + l.GetDelivered() + l.GetLoaded() + l.GetProven()
}

func edgeSummary(edges []*api.GraphEdge) string {
	counts := map[api.Fit]int{}
	for _, e := range edges {
		counts[e.Fit]++
	}
	text := plural(len(edges), "edge")
	for _, one := range []struct {
		fit  api.Fit
		word string
	}{{api.Fit_FIT_BREAKS, "break"}, {api.Fit_FIT_UNKNOWN, "unknown"}, {api.Fit_FIT_OK, "ok"}} {
		switch n := counts[one.fit]; {
		case n == 1 && one.fit == api.Fit_FIT_BREAKS:
			text += ", 1 breaks"
		case n > 0:
			text += fmt.Sprintf(", %d %s", n, one.word)
		}
	}
	return text
}
