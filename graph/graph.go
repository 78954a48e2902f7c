// Package graph says who can verify whom as things are, and why not, and what
// a loss or a change reaches.
//
// It is pure: facts and a time in, a graph out.
package graph

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/pki"
)

// Facts are what the trust graph is built from.
type Facts struct {
	Services    []Party
	Places      []Place
	Authorities []Authority
	Agents      []string            // ids, also of those without a placement
	Bundles     map[string][]Anchor // by digest; of each that a place has in use
	Issued      []Issued
}

// Party is a service on the graph.
type Party struct {
	Name    fleet.Name
	Owner   fleet.Owner
	Outside bool         // nobody here sees what it holds and trusts
	Clients []fleet.Name // declared
}

// Anchor is a root that relying parties trust.
type Anchor struct {
	Fingerprint pki.Fingerprint
	Name        string // of the authority, or the subject's of a foreign one
}

// Authority is a CA. Anchor is the root above it, its own for a root.
type Authority struct {
	ID, Name, Parent string // Parent: id of the one above; empty for a root
	State            fleet.AuthorityState
	Anchor           Anchor
}

// Issued is what an authority signed of a kind and is live: in use or not, of
// placements or of Rotunda itself.
type Issued struct {
	Authority string // id
	Kind      string // leaf, agent, server, operator, ...
	Count     int
	Last      time.Time // when the last of them ends
}

// Place is a placement on the graph: what it holds, what it trusts, and who
// saw that.
type Place struct {
	ID, Intent, Agent, Instance string
	Service                     fleet.Name // empty: no document says which
	Region, Cluster, Target     string
	Kind                        fleet.TargetKind
	ClientAuth                  fleet.ClientAuthMode
	State                       string // steady, rotating, ... as its agent reports it; empty: it has not
	Orphan                      bool   // no intent wants it; nothing is brought there any more
	Gone                        bool   // its agent is retired: it trusts nobody, but its certificate lives till its end

	// The certificate in use.
	Generation uint64 // 0: none
	Serial     string
	Authority  string   // id of the one that issued it; empty: it is not recorded here
	Root       Anchor   // that its chain leads to
	Bridged    []Anchor // that a bridge in its chain leads to as well
	NotAfter   time.Time
	Revoked    bool
	Serves     bool        // it is for servers
	Presents   bool        // it is for clients
	Shown      fleet.Level // highest level shown for it; empty: none

	// The bundle in use.
	Bundle    string      // digest; empty: it has not reported one
	Adopted   fleet.Level // how far the process has taken it; empty: not known
	AdoptedAt time.Time
	Observer  string // agent whose evidence shows that; empty: its agent's word alone

	Looks []Look // at servers, as a client of theirs
}

// Look is what a client's handshake with a server's real address came to.
type Look struct {
	Server   fleet.Name
	Address  string
	Observer string // agent
	At       time.Time
	Verdict  Fit
	Blocked  bool // the server was not reached: that says nothing of trust
	Words    string
}

// ended says whether the certificate is of no use any more.
func (p *Place) ended(now time.Time) bool {
	return p.Revoked || !now.Before(p.NotAfter)
}

// live says whether the place holds a certificate that is good.
func (p *Place) live(now time.Time) bool { return p.Generation > 0 && !p.ended(now) }

// Graph says who shakes hands with whom, what each side shows and trusts, and
// whether that fits. It is immutable.
type Graph struct {
	At          time.Time
	Services    []Party     // by name
	Edges       []Edge      // by server and client
	Anchors     []AnchorUse // by name
	Authorities []Authority
	agents      []string
	issued      []Issued
	bundles     map[string][]Anchor
	places      map[fleet.Name][]*Place     // by service, each in the order of byPlace
	trust       map[fleet.Name][]TrustStore // the same, by the bundle in use
}

// Edge is a client that calls a server. Members of one service that call each
// other are an edge from the service to itself.
type Edge struct {
	Client, Server fleet.Name
	Declared       bool // the server's document names the client
	Members        bool // leaves of the service are for servers and clients: its members call each other
	Serves         Way  // the server's chain before the client
	Presents       Way  // the client's chain before the server
	Verdict        Fit
}

// Reasons are those of both its ways.
func (e Edge) Reasons() []Reason {
	return append(slices.Clone(e.Serves.Reasons), e.Presents.Reasons...)
}

// New builds the graph as it is now.
func New(facts Facts, now time.Time) *Graph {
	g := &Graph{
		At: now, Services: slices.Clone(facts.Services), Authorities: slices.Clone(facts.Authorities),
		agents: facts.Agents, issued: facts.Issued, bundles: facts.Bundles, places: map[fleet.Name][]*Place{}, trust: map[fleet.Name][]TrustStore{},
	}
	slices.SortFunc(g.Services, func(a, b Party) int { return cmp.Compare(a.Name, b.Name) })
	for _, p := range facts.Places {
		g.places[p.Service] = append(g.places[p.Service], &p)
	}
	for service, places := range g.places {
		slices.SortFunc(places, byPlace)
		g.trust[service] = g.trusts(places)
	}
	for i := range g.Services {
		g.edgesOf(&g.Services[i])
	}
	g.Anchors = g.anchorUses()
	return g
}

func byPlace(a, b *Place) int {
	return cmp.Or(strings.Compare(a.Intent, b.Intent), strings.Compare(a.Agent, b.Agent),
		strings.Compare(a.Instance, b.Instance), strings.Compare(a.ID, b.ID))
}

// edgesOf adds the edges on which a service is the server. A client that no
// document declares has none: Validate refuses it.
func (g *Graph) edgesOf(server *Party) {
	clients := map[fleet.Name]Edge{}
	for _, name := range server.Clients {
		if g.Party(name) != nil {
			clients[name] = Edge{Client: name, Server: server.Name, Declared: true}
		}
	}
	if slices.ContainsFunc(g.places[server.Name], func(p *Place) bool { return p.Serves && p.Presents && !(p.Orphan && p.ended(g.At)) }) {
		own := clients[server.Name]
		own.Client, own.Server, own.Members = server.Name, server.Name, true
		clients[server.Name] = own
	}
	for _, name := range slices.Sorted(maps.Keys(clients)) {
		edge := clients[name]
		g.judge(&edge, g.Party(name), server)
		g.Edges = append(g.Edges, edge)
	}
}

// Party is the service of the name, or nil.
func (g *Graph) Party(name fleet.Name) *Party {
	i, found := slices.BinarySearchFunc(g.Services, name, func(p Party, name fleet.Name) int { return cmp.Compare(p.Name, name) })
	if !found {
		return nil
	}
	return &g.Services[i]
}

// Places are the placements of a service, by intent, agent and instance. Those
// of no known service are the empty name's.
func (g *Graph) Places(service fleet.Name) []*Place { return g.places[service] }

// AnchorsIn are the anchors of a bundle that some place has in use.
func (g *Graph) AnchorsIn(digest string) []Anchor { return g.bundles[digest] }

// AnchorUse says who needs an anchor, and who does and does not trust it.
type AnchorUse struct {
	Anchor
	Under   []Share // live certificates whose chain leads to it
	Trusts  []Share // places whose bundle in use has it
	Lacks   []Share // places whose bundle in use has not
	Unknown []Share // places that have not said
}

// Share is a part of a service's places.
type Share struct {
	Service fleet.Name
	Count   int
	Levels  Tally
}

func (g *Graph) anchorUses() []AnchorUse {
	uses := map[pki.Fingerprint]*AnchorUse{}
	meet := func(a Anchor) {
		if uses[a.Fingerprint] == nil {
			uses[a.Fingerprint] = &AnchorUse{Anchor: a}
		}
	}
	for _, authority := range g.Authorities {
		meet(authority.Anchor)
	}
	for _, digest := range slices.Sorted(maps.Keys(g.bundles)) {
		for _, anchor := range g.bundles[digest] {
			meet(anchor)
		}
	}
	delete(uses, pki.Fingerprint{}) // of an authority whose root is not recorded
	for _, service := range slices.Sorted(maps.Keys(g.places)) {
		for _, use := range uses {
			g.countUse(use, service)
		}
	}
	var all []AnchorUse
	for _, use := range uses {
		all = append(all, *use)
	}
	slices.SortFunc(all, func(a, b AnchorUse) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Fingerprint.String(), b.Fingerprint.String()))
	})
	return all
}

func (g *Graph) countUse(use *AnchorUse, service fleet.Name) {
	under, trusts, lacks, unknown := Share{Service: service}, Share{Service: service}, Share{Service: service}, Share{Service: service}
	for _, p := range g.places[service] {
		if p.live(g.At) && p.Root.Fingerprint == use.Fingerprint {
			under.add(p.Shown)
		}
		anchors, known := g.bundles[p.Bundle]
		switch {
		case p.Gone:
		case !known:
			unknown.add("")
		case Contains(anchors, use.Fingerprint):
			trusts.add(p.Adopted)
		default:
			lacks.add(p.Adopted)
		}
	}
	for _, one := range []struct {
		share Share
		list  *[]Share
	}{{under, &use.Under}, {trusts, &use.Trusts}, {lacks, &use.Lacks}, {unknown, &use.Unknown}} {
		if one.share.Count > 0 {
			*one.list = append(*one.list, one.share)
		}
	}
}

func (s *Share) add(level fleet.Level) {
	s.Count++
	s.Levels.Add(level)
}

// Contains says whether an anchor is among others.
func Contains(anchors []Anchor, fingerprint pki.Fingerprint) bool {
	return slices.ContainsFunc(anchors, func(a Anchor) bool { return a.Fingerprint == fingerprint })
}

// Tally counts places by the level that they have reached.
type Tally struct{ None, Delivered, Loaded, Proven int }

// Add counts one more.
func (t *Tally) Add(level fleet.Level) {
	switch level {
	case fleet.Proven:
		t.Proven++
	case fleet.Loaded:
		t.Loaded++
	case fleet.Delivered:
		t.Delivered++
	default:
		t.None++
	}
}
