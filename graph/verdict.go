package graph

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/fleet"
)

// Fit says whether a handshake can succeed, as far as is known. Of two that
// hold, the worse one counts: breaks before unknown before ok.
type Fit string

// The verdicts on an edge.
const (
	Fits    Fit = "ok"      // each side has adopted what it takes to verify the other
	Breaks  Fit = "breaks"  // some handshake fails, or will at the next connection
	Unclear Fit = "unknown" // nobody here sees it
)

func worse(a, b Fit) Fit {
	for _, v := range []Fit{Breaks, Unclear} {
		if a == v || b == v {
			return v
		}
	}
	return Fits
}

// Way is one half of an edge's handshake: a chain that is shown, and those who
// must verify it.
type Way struct {
	Needed  bool // false: no chain is shown in this direction
	Chains  []Chain
	Trust   []TrustStore
	Verdict Fit
	Reasons []Reason
}

// Chain is what some places show: live certificates of one authority.
type Chain struct {
	Authority string // id
	Root      Anchor
	Bridged   []Anchor
	Levels    Tally // how far the certificates are shown
	Places    []*Place
}

// TrustStore is a bundle that some places have in use.
type TrustStore struct {
	Bundle  string // digest; empty: not reported
	Anchors []Anchor
	Levels  Tally // how far the processes have taken it
	places  []*Place
}

// Reason is one cause of a verdict that is not simply ok, and whom it is of.
type Reason struct {
	Verdict Fit
	Text    string
	Places  []*Place   // that have to change; none: the service as a whole
	Ask     fleet.Name // whose owner knows, or can help
}

// judge fills both ways of an edge, and its verdict.
func (g *Graph) judge(edge *Edge, client, server *Party) {
	serving := g.holders(server.Name, func(p *Place) bool { return p.Serves && (edge.Declared || p.Presents) })
	presenting := g.holders(client.Name, func(p *Place) bool { return p.Presents && (edge.Declared || p.Serves) })
	edge.Serves = g.way(server, client, serving)
	edge.Serves.Needed = true
	edge.Serves.looks(g.places[client.Name], client.Name, server.Name)
	edge.Presents = Way{Verdict: Fits}
	auth := g.clientAuth(server.Name)
	switch {
	case auth == "none":
	case len(presenting) > 0:
		edge.Presents = g.way(client, server, presenting)
		edge.Presents.Needed = true
	case auth == "required", auth == "optional" && client.Outside:
		edge.Presents = g.way(client, server, nil)
		edge.Presents.Needed = true
	}
	edge.Verdict = worse(edge.Serves.Verdict, edge.Presents.Verdict)
}

// clientAuth is how strictly a service asks for client certificates: the most
// that any of its servers does. Empty: nobody says.
func (g *Graph) clientAuth(service fleet.Name) fleet.ClientAuthMode {
	strict := map[fleet.ClientAuthMode]int{"none": 1, "": 2, "optional": 3, "required": 4}
	var most fleet.ClientAuthMode
	rank := 0
	for _, p := range g.places[service] {
		if p.Serves && !p.Orphan && strict[p.ClientAuth] > rank {
			most, rank = p.ClientAuth, strict[p.ClientAuth]
		}
	}
	return most
}

// holders are the places of a service with a certificate of a kind. One that
// ended where nothing is wanted any more is over.
func (g *Graph) holders(service fleet.Name, of func(*Place) bool) []*Place {
	var all []*Place
	for _, p := range g.places[service] {
		if p.Generation > 0 && of(p) && !(p.Orphan && p.ended(g.At)) {
			all = append(all, p)
		}
	}
	return all
}

// way judges whether those who rely on a party can verify what it shows.
func (g *Graph) way(shows, relies *Party, holders []*Place) Way {
	w := Way{Verdict: Fits, Trust: g.trust[relies.Name]}
	w.chains(g, shows, holders)
	switch {
	case shows.Outside:
		w.note(Reason{Verdict: Unclear, Ask: shows.Name, Text: fmt.Sprintf("%s is an outside party: nobody here sees what it shows", shows.Name)})
	case len(holders) == 0:
		w.note(Reason{Verdict: Unclear, Ask: shows.Name, Text: fmt.Sprintf("no placement of %s holds a certificate for it", shows.Name)})
	}
	switch {
	case relies.Outside:
		w.note(Reason{Verdict: Unclear, Ask: relies.Name, Text: fmt.Sprintf("%s is an outside party: ask whether it trusts %s", relies.Name, rootsOf(w.Chains))})
	case len(w.Trust) == 0:
		w.note(Reason{Verdict: Unclear, Ask: relies.Name, Text: fmt.Sprintf("%s has no placement: nobody here sees whom it trusts", relies.Name)})
	}
	for _, trust := range w.Trust {
		w.compare(shows, relies, trust)
	}
	return w
}

// looks adds what handshakes at the server's real address came to. One that was
// verified is shown and makes nothing better than it is elsewhere; a path that is
// blocked leaves it unknown.
func (w *Way) looks(places []*Place, client, server fleet.Name) {
	for _, p := range places {
		for _, look := range p.Looks {
			if look.Server != server || p.Gone || p.Orphan {
				continue
			}
			r := Reason{Verdict: look.Verdict, Places: []*Place{p}, Ask: server}
			seen := fmt.Sprintf("%s on agent %s at %s: %s", client, look.Observer, look.At.UTC().Format("2006-01-02 15:04"), look.Words)
			switch {
			case look.Blocked:
				r.Text = "the path is blocked: " + seen
			case look.Verdict == Fits:
				r.Text, r.Ask = "seen: "+seen, ""
			default:
				r.Text = seen
			}
			w.note(r)
		}
	}
}

func (w *Way) note(r Reason) {
	w.Reasons = append(w.Reasons, r)
	w.Verdict = worse(w.Verdict, r.Verdict)
}

// chains groups what is shown by its issuer, and finds what is over.
func (w *Way) chains(g *Graph, shows *Party, holders []*Place) {
	var expired, revoked, unrecorded []*Place
	groups := map[string]int{}
	for _, p := range holders {
		switch {
		case p.Authority == "":
			unrecorded = append(unrecorded, p)
			continue
		case p.Revoked:
			revoked = append(revoked, p)
			continue
		case p.ended(g.At):
			expired = append(expired, p)
			continue
		}
		i, met := groups[p.Authority]
		if !met {
			i = len(w.Chains)
			groups[p.Authority] = i
			w.Chains = append(w.Chains, Chain{Authority: p.Authority, Root: p.Root, Bridged: p.Bridged})
		}
		w.Chains[i].Levels.Add(p.Shown)
		w.Chains[i].Places = append(w.Chains[i].Places, p)
	}
	slices.SortFunc(w.Chains, func(a, b Chain) int {
		return cmp.Or(strings.Compare(a.Root.Name, b.Root.Name), strings.Compare(a.Authority, b.Authority))
	})
	for _, one := range []struct {
		places  []*Place
		verdict Fit
		text    string
	}{
		{expired, Breaks, "what %s shows has expired"},
		{revoked, Breaks, "what %s shows is revoked"},
		{unrecorded, Unclear, "what %s shows is not recorded here"},
	} {
		if len(one.places) > 0 {
			w.note(Reason{Verdict: one.verdict, Ask: shows.Name, Places: one.places, Text: fmt.Sprintf(one.text, shows.Name)})
		}
	}
}

// trusts are the bundles that places have in use.
func (g *Graph) trusts(places []*Place) []TrustStore {
	var all []TrustStore
	groups := map[string]int{}
	for _, p := range places {
		if p.Gone {
			continue
		}
		i, met := groups[p.Bundle]
		if !met {
			i = len(all)
			groups[p.Bundle] = i
			all = append(all, TrustStore{Bundle: p.Bundle, Anchors: g.bundles[p.Bundle]})
		}
		all[i].Levels.Add(p.Adopted)
		all[i].places = append(all[i].places, p)
	}
	slices.SortFunc(all, func(a, b TrustStore) int { return strings.Compare(a.Bundle, b.Bundle) })
	return all
}

// compare says which of the chains shown a bundle does not verify.
func (w *Way) compare(shows, relies *Party, trust TrustStore) {
	wanted, orphans := parted(trust.places)
	if len(trust.Anchors) == 0 {
		text := fmt.Sprintf("%s uses the bundle %s, which is not recorded here", relies.Name, ShortDigest(trust.Bundle))
		if trust.Bundle == "" {
			text = fmt.Sprintf("%s has not reported which bundle it uses", relies.Name)
		}
		w.note(Reason{Verdict: Unclear, Ask: relies.Name, Places: trust.places, Text: text})
		return
	}
	for _, chain := range w.Chains {
		by := verifies(trust.Anchors, chain)
		switch {
		case by == byRoot:
		case chain.Root.Fingerprint.IsZero():
			w.note(Reason{Verdict: Unclear, Ask: shows.Name, Places: chain.Places,
				Text: fmt.Sprintf("%s shows %s whose root is not recorded here", shows.Name, Count(len(chain.Places), "certificate"))})
		case by == byBridge:
			w.note(Reason{Verdict: Fits, Ask: relies.Name, Places: trust.places,
				Text: fmt.Sprintf("%s does not trust %s, and verifies %s by the bridge alone", relies.Name, chain.Root.Name, shows.Name)})
		default:
			if len(wanted) > 0 {
				w.note(Reason{Verdict: Breaks, Ask: relies.Name, Places: wanted,
					Text: fmt.Sprintf("%s does not trust %s, under which %s shows %s", relies.Name, chain.Root.Name, shows.Name, Count(len(chain.Places), "certificate"))})
			}
			if len(orphans) > 0 {
				w.note(Reason{Verdict: Unclear, Ask: relies.Name, Places: orphans,
					Text: fmt.Sprintf("nothing brings %s to orphans of %s: are their processes still there?", chain.Root.Name, relies.Name)})
			}
		}
	}
}

type means int

const (
	byNothing means = iota
	byBridge
	byRoot
)

// verifies says by what a bundle verifies a chain.
func verifies(anchors []Anchor, chain Chain) means {
	if Contains(anchors, chain.Root.Fingerprint) {
		return byRoot
	}
	for _, bridged := range chain.Bridged {
		if Contains(anchors, bridged.Fingerprint) {
			return byBridge
		}
	}
	return byNothing
}

func parted(places []*Place) (wanted, orphans []*Place) {
	for _, p := range places {
		if p.Orphan {
			orphans = append(orphans, p)
		} else {
			wanted = append(wanted, p)
		}
	}
	return wanted, orphans
}

// rootsOf names the roots of chains, for a question to a person.
func rootsOf(chains []Chain) string {
	var names []string
	for _, chain := range chains {
		if !slices.Contains(names, chain.Root.Name) {
			names = append(names, chain.Root.Name)
		}
	}
	if len(names) == 0 {
		return "what it is shown"
	}
	return strings.Join(names, " and ")
}

// ShortDigest is the beginning of a digest, as messages cite it.
func ShortDigest(digest string) string { return digest[:min(len(digest), 12)] }

// Count is a number of things in words.
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
