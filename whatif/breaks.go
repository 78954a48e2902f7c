package whatif

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/graph"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/trust"
)

// Break is an edge on which a handshake would fail that does not now, and why.
type Break struct {
	graph.Edge
	Reasons []graph.Reason
}

// breaks lists the edges that break: of a withdrawal now, of a rotation when it
// is done without those that can't follow.
func (s Supposed) breaks(now *graph.Graph) []Break {
	switch {
	case s.Kind == RotateIssuing:
		return nil // every chain still leads to the anchor that everybody has
	case s.Kind == WithdrawNow && s.Old.Parent != "":
		return s.unvouched(now)
	case s.Kind == WithdrawNow:
		return newBreaks(now, graph.New(s.withdrawn(), now.At))
	}
	return newBreaks(now, graph.New(s.rotated(now), now.At))
}

// newBreaks are the reasons for which edges break after and did not before.
func newBreaks(before, after *graph.Graph) (all []Break) {
	known := map[string]bool{}
	for _, edge := range before.Edges {
		for _, reason := range edge.Reasons() {
			known[sameReason(edge, reason)] = true
		}
	}
	for _, edge := range after.Edges {
		one := Break{Edge: edge}
		for _, reason := range edge.Reasons() {
			if reason.Verdict == graph.Breaks && !known[sameReason(edge, reason)] {
				known[sameReason(edge, reason)] = true // of who calls himself both halves give it
				reason.Text = strings.Replace(strings.Replace(reason.Text, " does not trust ", " would not trust ", 1), " shows ", " would show ", 1)
				one.Reasons = append(one.Reasons, reason)
			}
		}
		if len(one.Reasons) > 0 {
			all = append(all, one)
		}
	}
	return all
}

func sameReason(e graph.Edge, r graph.Reason) string {
	return fmt.Sprintf("%s>%s %s %s %d", e.Client, e.Server, r.Verdict, r.Text, len(r.Places))
}

// unvouched are the edges on which a certificate of an issuing authority is
// shown. Its path still validates; but nobody could revoke it any more.
func (s Supposed) unvouched(now *graph.Graph) (all []Break) {
	for _, edge := range now.Edges {
		one := Break{Edge: edge}
		for _, half := range []struct {
			way  graph.Way
			from fleet.Name
		}{{edge.Serves, edge.Server}, {edge.Presents, edge.Client}} {
			for _, chain := range half.way.Chains {
				if chain.Authority == s.Old.ID {
					one.Reasons = append(one.Reasons, graph.Reason{Verdict: graph.Breaks, Places: chain.Places, Ask: half.from, Text: fmt.Sprintf(
						"%s shows %s under %s: nobody could revoke it, and who reads CRLs refuses it when the last one of %s ends",
						half.from, graph.Count(len(chain.Places), "certificate"), s.Old.Name, s.Old.Name)})
				}
			}
		}
		if len(one.Reasons) > 0 {
			all = append(all, one)
		}
	}
	return all
}

// nobody stands in a bundle that would be empty: it verifies nothing, and is
// known.
var nobody = graph.Anchor{Fingerprint: pki.Fingerprint{0xff}, Name: "nobody"}

// without is the anchors of a bundle but for one.
func without(anchors []graph.Anchor, gone graph.Anchor) []graph.Anchor {
	rest := slices.DeleteFunc(slices.Clone(anchors), func(a graph.Anchor) bool { return a.Fingerprint == gone.Fingerprint })
	if len(rest) == 0 {
		return []graph.Anchor{nobody}
	}
	return rest
}

// withdrawn is the facts as they would be were the old anchor taken out of each
// bundle now.
func (s Supposed) withdrawn() graph.Facts {
	facts := s.Facts
	facts.Bundles = map[string][]graph.Anchor{}
	for digest, anchors := range s.Facts.Bundles {
		facts.Bundles[digest] = without(anchors, s.Old.Anchor)
	}
	return facts
}

// rotated is the facts as they would be at the end of a rotation that went on
// without those that can't follow: they trust and show what they do now.
func (s Supposed) rotated(now *graph.Graph) graph.Facts {
	next := graph.Anchor{Fingerprint: pki.Fingerprint{0xfe}, Name: s.Trust.New}
	// A bridge leads to the old root at those alone who follow chains that deep.
	bridge := graph.Anchor{Fingerprint: pki.Fingerprint{0xfd}, Name: s.Old.Anchor.Name}
	facts := s.Facts
	facts.Bundles = maps.Clone(s.Facts.Bundles)
	facts.Places = slices.Clone(s.Facts.Places)
	means := map[string]Means{}
	follows, renews := map[string]bool{}, map[string]bool{}
	for _, party := range s.Trust.Parties {
		one := s.Means[party.Name]
		why, _ := s.cantFollow(party, trust.Prove, now.At)
		means[one.Place], follows[one.Place] = one, why == ""
	}
	for _, holder := range s.Trust.Managed(now.At) {
		why, _ := s.cantRenew(holder, now.At)
		renews[holder.ID] = why == ""
	}
	for i := range facts.Places {
		p := &facts.Places[i]
		anchors := s.Facts.Bundles[p.Bundle]
		if graph.Contains(anchors, s.Old.Anchor.Fingerprint) {
			if follows[p.ID] {
				p.Bundle += " after"
				facts.Bundles[p.Bundle] = append(slices.Clone(without(anchors, s.Old.Anchor)), next)
			} else if depth := means[p.ID].Depth; s.BridgeLess == "" && (depth == 0 || depth >= bridgeDepth) {
				p.Bundle += " bridged"
				facts.Bundles[p.Bundle] = append(slices.Clone(anchors), bridge)
			}
		}
		if renews[p.ID] && p.Root.Fingerprint == s.Old.Anchor.Fingerprint {
			p.Authority, p.Root, p.Bridged = "next", next, nil
			if s.BridgeLess == "" {
				p.Bridged = []graph.Anchor{bridge}
			}
		}
	}
	return facts
}
