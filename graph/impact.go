package graph

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// SubjectKind is a kind of thing whose loss or change has an impact.
type SubjectKind string

// The kinds of subject.
const (
	OfService   SubjectKind = "service"
	OfAuthority SubjectKind = "authority"
	OfAgent     SubjectKind = "agent"
)

// Subject is what may be lost or changed: a service, an authority (with all
// below it), or an agent's host.
type Subject struct {
	Kind SubjectKind
	Name string // of a service; name or id of an authority; id of an agent
}

// Impact is how far the loss or change of a subject reaches.
type Impact struct {
	Subject
	Holders []*Place  // live certificates under it
	Trusts  []*Place  // of a root: places whose bundle in use has it
	Issued  []Issued  // of an authority: all that is live under it, by kind, Rotunda's own too
	Direct  []Stake   // services that hold those certificates or run there
	Edges   []Edge    // that depend on it
	Reached []Reached // services that call the direct ones, and those that call these
	Ask     []Contact
}

// Stake is how much of a service a subject is.
type Stake struct {
	Service    fleet.Name // empty: no document says which
	Here, Full int        // placements under the subject, and in all
}

// Reached is a service that stands or falls with a direct one: it calls Via.
type Reached struct {
	Service, Via fleet.Name
	Steps        int // from a direct one
}

// Contact is a team to ask, and what it answers for.
type Contact struct {
	fleet.Owner
	Outside  bool
	Services []fleet.Name
}

// Impact says how far a subject reaches.
func (g *Graph) Impact(subject Subject) (Impact, error) {
	impact := Impact{Subject: subject}
	match, err := g.under(subject)
	if err != nil {
		return impact, err
	}
	direct := map[fleet.Name]bool{}
	for _, service := range slices.Sorted(maps.Keys(g.places)) {
		here := 0
		for _, p := range g.places[service] {
			if match.holds(p) && p.live(g.At) {
				impact.Holders = append(impact.Holders, p)
			}
			if match.trusts(p) {
				impact.Trusts = append(impact.Trusts, p)
			}
			if match.part(p) {
				here++
			}
		}
		if here > 0 {
			direct[service] = true
			impact.Direct = append(impact.Direct, Stake{service, here, len(g.places[service])})
		}
	}
	if name := fleet.Name(subject.Name); subject.Kind == OfService && !direct[name] {
		direct[name] = true
		impact.Direct = append(impact.Direct, Stake{Service: name})
	}
	for _, edge := range g.Edges {
		if match.edge(edge) {
			impact.Edges = append(impact.Edges, edge)
		}
	}
	impact.Issued = g.issuedBelow(match.below)
	impact.Reached = g.reached(direct)
	impact.Ask = g.Contacts(impact)
	return impact, nil
}

// matcher says what of the graph is a subject's.
type matcher struct {
	holds, trusts, part func(*Place) bool
	edge                func(Edge) bool
	below               map[string]bool // of an authority: its id, and those of all below
}

func never(*Place) bool { return false }

func (g *Graph) under(subject Subject) (matcher, error) {
	switch subject.Kind {
	case OfService:
		return g.underService(fleet.Name(subject.Name))
	case OfAuthority:
		return g.underAuthority(subject.Name)
	case OfAgent:
		return g.underAgent(subject.Name)
	}
	return matcher{}, fault.New(fault.Invalid, "%q is no kind of subject", subject.Kind).WithRemedy("say service, authority or agent")
}

func (g *Graph) underService(name fleet.Name) (matcher, error) {
	if g.Party(name) == nil {
		return matcher{}, fault.New(fault.NotFound, "service %.80q is not declared, so it has no edges", name).WithRemedy("rotunda get services lists those that are")
	}
	own := func(p *Place) bool { return p.Service == name }
	touches := func(e Edge) bool { return e.Client == name || e.Server == name }
	return matcher{holds: own, trusts: never, part: own, edge: touches}, nil
}

func (g *Graph) underAgent(id string) (matcher, error) {
	if !slices.Contains(g.agents, id) {
		return matcher{}, fault.New(fault.NotFound, "no agent has the id %.80q", id).WithRemedy("rotunda get agents lists those that did; name one by its id, or by its host's name where that is no other's")
	}
	here := func(p *Place) bool { return p.Agent == id }
	services := map[fleet.Name]bool{}
	for service, places := range g.places {
		services[service] = slices.ContainsFunc(places, here)
	}
	touches := func(e Edge) bool { return services[e.Client] || services[e.Server] }
	return matcher{holds: here, trusts: never, part: here, edge: touches}, nil
}

func (g *Graph) underAuthority(name string) (matcher, error) {
	i := slices.IndexFunc(g.Authorities, func(a Authority) bool { return a.Name == name || a.ID == name })
	if i < 0 {
		return matcher{}, fault.New(fault.NotFound, "authority %.80q is not recorded here", name).WithRemedy("rotunda get authorities lists those that are")
	}
	below := g.below(g.Authorities[i].ID)
	holds := func(p *Place) bool { return p.live(g.At) && below[p.Authority] }
	trusts := never
	if g.Authorities[i].Parent == "" {
		root := g.Authorities[i].Anchor.Fingerprint
		trusts = func(p *Place) bool { return !p.Gone && Contains(g.bundles[p.Bundle], root) }
	}
	shows := func(w Way) bool {
		return slices.ContainsFunc(w.Chains, func(c Chain) bool { return below[c.Authority] })
	}
	needs := func(e Edge) bool { return shows(e.Serves) || shows(e.Presents) }
	return matcher{holds: holds, trusts: trusts, part: holds, edge: needs, below: below}, nil
}

// below is an authority, and all that it or one below it signed.
func (g *Graph) below(id string) map[string]bool {
	all := map[string]bool{id: true}
	for grew := true; grew; {
		grew = false
		for _, a := range g.Authorities {
			if a.Parent != "" && all[a.Parent] && !all[a.ID] {
				all[a.ID], grew = true, true
			}
		}
	}
	return all
}

// issuedBelow sums up what some authorities signed, by kind.
func (g *Graph) issuedBelow(authorities map[string]bool) []Issued {
	kinds := map[string]Issued{}
	for _, one := range g.issued {
		if authorities[one.Authority] {
			sum := kinds[one.Kind]
			sum.Kind, sum.Count = one.Kind, sum.Count+one.Count
			if one.Last.After(sum.Last) {
				sum.Last = one.Last
			}
			kinds[one.Kind] = sum
		}
	}
	var all []Issued
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		all = append(all, kinds[kind])
	}
	return all
}

// reached walks from the services up to those that call them, nearest first.
// Each is met once, so that a circle ends.
func (g *Graph) reached(from map[fleet.Name]bool) []Reached {
	callers := map[fleet.Name][]fleet.Name{}
	for _, edge := range g.Edges {
		callers[edge.Server] = append(callers[edge.Server], edge.Client)
	}
	met := maps.Clone(from)
	var all []Reached
	front := slices.Sorted(maps.Keys(from))
	for steps := 1; len(front) > 0; steps++ {
		var next []fleet.Name
		for _, server := range front {
			for _, client := range callers[server] {
				if !met[client] {
					met[client] = true
					next = append(next, client)
					all = append(all, Reached{client, server, steps})
				}
			}
		}
		front = next
	}
	return all
}

// Contacts are the owners of all services that an impact names, each once.
func (g *Graph) Contacts(impact Impact) []Contact {
	named := map[fleet.Name]bool{}
	for _, part := range impact.Direct {
		named[part.Service] = true
	}
	for _, edge := range impact.Edges {
		named[edge.Client], named[edge.Server] = true, true
	}
	for _, one := range impact.Reached {
		named[one.Service] = true
	}
	type team struct {
		name, contact string
		outside       bool
	}
	byTeam := map[team]*Contact{}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		party := g.Party(name)
		if party == nil {
			continue
		}
		key := team{party.Owner.Team, party.Owner.Contact, party.Outside}
		if byTeam[key] == nil {
			byTeam[key] = &Contact{Owner: party.Owner, Outside: party.Outside}
		}
		byTeam[key].Services = append(byTeam[key].Services, name)
	}
	var all []Contact
	for _, contact := range byTeam {
		all = append(all, *contact)
	}
	slices.SortFunc(all, func(a, b Contact) int {
		return cmp.Or(strings.Compare(a.Team, b.Team), strings.Compare(a.Contact, b.Contact), cmp.Compare(a.Services[0], b.Services[0]))
	})
	return all
}
