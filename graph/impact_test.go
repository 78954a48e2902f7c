package graph

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// words are an impact's parts, each on a line.
func reachWords(i Impact) []string {
	ids := func(places []*Place) (all []string) {
		for _, p := range places {
			all = append(all, p.ID)
		}
		return all
	}
	var edges, teams []string
	for _, e := range i.Edges {
		edges = append(edges, string(e.Client+">"+e.Server))
	}
	for _, c := range i.Ask {
		teams = append(teams, fmt.Sprint(c.Team, c.Services))
	}
	return []string{
		fmt.Sprint("holds ", ids(i.Holders)), fmt.Sprint("trusts ", ids(i.Trusts)), fmt.Sprint("direct ", i.Direct),
		fmt.Sprint("edges ", edges), fmt.Sprint("reached ", i.Reached), fmt.Sprint("ask ", teams),
	}
}

func TestImpact(t *testing.T) {
	// shop calls web, web calls orders, orders calls db and db's members each
	// other; orders calls web back: a circle. A bank outside calls orders.
	db := party("db", "orders")
	db.Owner = fleet.Owner{Team: "data", Contact: "data@example.com"}
	g := graphOf([]Party{db, party("orders", "web", "bank"), party("web", "shop", "orders"), party("shop"), outsider("bank"), party("idle")},
		spot("db", "1", "ia", "AB", presents), spot("db", "2", "ib", "AB", presents),
		spot("orders", "3", "ib", "AB"), spot("web", "3", "ia", "A"), spot("shop", "4", "", "A"), spot("web", "5", "ia", "A", expired))
	for _, c := range []struct {
		subject Subject
		want    []string
	}{
		{Subject{OfService, "db"}, []string{
			"holds [db/1 db/2]", "trusts []", "direct [{db 2 2}]", "edges [db>db orders>db]",
			"reached [{orders db 1} {bank orders 2} {web orders 2} {shop web 3}]",
			"ask [bank-team[bank] data[db] orders-team[orders] shop-team[shop] web-team[web]]",
		}},
		{Subject{OfService, "shop"}, []string{"holds []", "trusts []", "direct [{shop 1 1}]", "edges [shop>web]", "reached []", "ask [shop-team[shop] web-team[web]]"}},
		{Subject{OfService, "bank"}, []string{"holds []", "trusts []", "direct [{bank 0 0}]", "edges [bank>orders]", "reached []", "ask [bank-team[bank] orders-team[orders]]"}},
		{Subject{OfService, "idle"}, []string{"holds []", "trusts []", "direct [{idle 0 0}]", "edges []", "reached []", "ask [idle-team[idle]]"}},
		{Subject{OfAuthority, "root-b"}, []string{
			"holds [db/2 orders/3]", "trusts [db/1 db/2 orders/3]", "direct [{db 1 2} {orders 1 1}]", "edges [db>db orders>db bank>orders web>orders]",
			"reached [{bank orders 1} {web orders 1} {shop web 2}]", "ask [bank-team[bank] data[db] orders-team[orders] shop-team[shop] web-team[web]]",
		}},
		{Subject{OfAuthority, "ia"}, []string{
			"holds [db/1 web/3]", "trusts []", "direct [{db 1 2} {web 1 2}]", "edges [db>db orders>db orders>web shop>web]",
			"reached [{orders db 1} {shop web 1} {bank orders 2}]", "ask [bank-team[bank] data[db] orders-team[orders] shop-team[shop] web-team[web]]",
		}},
		{Subject{OfAgent, "3"}, []string{
			"holds [orders/3 web/3]", "trusts []", "direct [{orders 1 1} {web 1 2}]", "edges [orders>db bank>orders web>orders orders>web shop>web]",
			"reached [{bank orders 1} {shop web 1}]", "ask [bank-team[bank] data[db] orders-team[orders] shop-team[shop] web-team[web]]",
		}},
	} {
		t.Run(string(c.subject.Kind)+"/"+c.subject.Name, func(t *testing.T) {
			impact, err := g.Impact(c.subject)
			if err != nil {
				t.Fatal(err)
			}
			if got := reachWords(impact); !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// Old certificates that are live yet, and Rotunda's own, need the root as well.
func TestImpactCountsAllThatIsLive(t *testing.T) {
	g := New(Facts{Authorities: twoRoots, Issued: []Issued{
		{"ia", "leaf", 3, noon.Add(time.Hour)}, {"a", "leaf", 1, noon.Add(2 * time.Hour)}, {"ia", "agent", 2, noon.Add(time.Hour)}, {"ib", "server", 1, noon},
	}}, noon)
	for name, want := range map[string][]Issued{
		"root-a":    {{"", "agent", 2, noon.Add(time.Hour)}, {"", "leaf", 4, noon.Add(2 * time.Hour)}},
		"issuing-a": {{"", "agent", 2, noon.Add(time.Hour)}, {"", "leaf", 3, noon.Add(time.Hour)}},
		"root-b":    {{"", "server", 1, noon}},
	} {
		if impact, err := g.Impact(Subject{OfAuthority, name}); err != nil || !slices.Equal(impact.Issued, want) {
			t.Errorf("%s: %v, %v, want %v", name, impact.Issued, err, want)
		}
	}
}

func TestImpactOfNothing(t *testing.T) {
	g := graphOf([]Party{party("a")}, spot("a", "1", "ia", "A"))
	for _, subject := range []Subject{{OfService, "b"}, {OfAuthority, "ic"}, {OfAgent, "2"}} {
		if _, err := g.Impact(subject); fault.CodeOf(err) != fault.NotFound || !strings.Contains(err.Error(), subject.Name) || !strings.Contains(err.Error(), "rotunda get ") {
			t.Errorf("%v: %v, want not found, with the name and a remedy", subject, err)
		}
	}
	if _, err := g.Impact(Subject{"planet", "a"}); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("of a planet: %v", err)
	}
}

// What an impact names grows with the facts and never shrinks: another edge or
// placement makes nothing safer. A walk in circles ends, and meets nobody twice.
func TestImpactIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		facts := drawn(t)
		more := facts
		more.Services = slices.Clone(facts.Services)
		for range rapid.IntRange(0, 3).Draw(t, "edges") {
			i := rapid.IntRange(0, len(more.Services)-1).Draw(t, "server")
			client := rapid.SampledFrom(more.Services).Draw(t, "client").Name
			more.Services[i].Clients = append(slices.Clone(more.Services[i].Clients), client)
		}
		more.Places = slices.Clone(facts.Places)
		for i := range rapid.IntRange(0, 3).Draw(t, "more places") {
			added := drawnPlace(t, more, fmt.Sprint("new", i))
			added.ClientAuth = "required" // one that asks for less would take an edge's half away
			more.Places = append(more.Places, added)
		}
		subject := rapid.SampledFrom([]Subject{
			{OfService, "p"}, {OfService, "q"}, {OfAuthority, "root-a"}, {OfAuthority, "issuing-b"}, {OfAgent, "1"},
		}).Draw(t, "subject")
		before, after := named(t, New(facts, noon), subject), named(t, New(more, noon), subject)
		for name := range before {
			if !after[name] {
				t.Fatalf("%v: %s is lostPlace after more was added", subject, name)
			}
		}
	})
}

// named is all that an impact names.
func named(t *rapid.T, g *Graph, subject Subject) map[string]bool {
	impact, err := g.Impact(subject)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, p := range impact.Holders {
		all["holder "+p.ID] = true
	}
	for _, p := range impact.Trusts {
		all["trusts "+p.ID] = true
	}
	for _, e := range impact.Edges {
		all["edge "+string(e.Client+">"+e.Server)] = true
	}
	met := map[fleet.Name]bool{}
	meet := func(service fleet.Name) {
		if met[service] {
			t.Fatalf("%v: %s is met twice", subject, service)
		}
		met[service] = true
		all["service "+string(service)] = true
	}
	for _, part := range impact.Direct {
		meet(part.Service)
	}
	for _, one := range impact.Reached {
		meet(one.Service)
	}
	for _, contact := range impact.Ask {
		for _, service := range contact.Services {
			all["ask of "+string(service)] = true
		}
	}
	return all
}
