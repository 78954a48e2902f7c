package graph

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/pki"
)

var noon = time.Date(2030, 1, 2, 14, 2, 0, 0, time.UTC)

// Two roots, an issuing authority under each, and bundles of one and of both.
var (
	rootA = Anchor{pki.Fingerprint{1}, "root-a"}
	rootB = Anchor{pki.Fingerprint{2}, "root-b"}

	twoRoots = []Authority{
		{ID: "a", Name: "root-a", Anchor: rootA}, {ID: "ia", Name: "issuing-a", Parent: "a", Anchor: rootA},
		{ID: "b", Name: "root-b", Anchor: rootB}, {ID: "ib", Name: "issuing-b", Parent: "b", Anchor: rootB},
	}
	threeBundles = map[string][]Anchor{"A": {rootA}, "B": {rootB}, "AB": {rootA, rootB}}
)

func party(name string, clients ...fleet.Name) Party {
	return Party{Name: fleet.Name(name), Owner: fleet.Owner{Team: name + "-team", Contact: name + "@example.com"}, Clients: clients}
}

func outsider(name string, clients ...fleet.Name) Party {
	p := party(name, clients...)
	p.Outside = true
	return p
}

// place is one that serves under issuing, and trusts a bundle.
func spot(service, agent, issuing, bundle string, change ...func(*Place)) Place {
	p := Place{
		ID: service + "/" + agent, Intent: service, Agent: agent, Instance: "main", Service: fleet.Name(service), State: "steady",
		Bundle: bundle, Adopted: fleet.Proven, Observer: agent, Shown: fleet.Proven,
	}
	if issuing != "" {
		p.Generation, p.Authority, p.Serves, p.NotAfter = 1, issuing, true, noon.Add(time.Hour)
		p.Root = map[string]Anchor{"ia": rootA, "ib": rootB}[issuing]
	}
	for _, c := range change {
		c(&p)
	}
	return p
}

func presents(p *Place)     { p.Presents = true }
func clientOnly(p *Place)   { p.Serves, p.Presents = false, true }
func orphaned(p *Place)     { p.Orphan, p.State = true, "orphan" }
func lostPlace(p *Place)    { p.Orphan, p.Gone = true, true }
func expired(p *Place)      { p.NotAfter = noon }
func revoked(p *Place)      { p.Revoked = true }
func bridged(p *Place)      { p.Bridged = []Anchor{rootA} }
func unrecorded(p *Place)   { p.Authority = "" }
func asksNoClient(p *Place) { p.ClientAuth = "none" }
func asksClient(p *Place)   { p.ClientAuth = "required" }

func graphOf(parties []Party, places ...Place) *Graph {
	var agents []string
	for _, p := range places {
		agents = append(agents, p.Agent)
	}
	return New(Facts{Services: parties, Places: places, Authorities: twoRoots, Agents: agents, Bundles: threeBundles}, noon)
}

func TestVerdicts(t *testing.T) {
	web := []Party{party("orders", "web"), party("web")}
	cluster := []Party{party("db")}
	for _, c := range []struct {
		name    string
		parties []Party
		places  []Place
		want    []string // "client>server verdict: reasons"
	}{
		{"one root", web, []Place{spot("orders", "1", "ia", "A"), spot("web", "2", "", "A")}, []string{"web>orders ok"}},
		{"both roots on the way", web, []Place{spot("orders", "1", "ia", "A"), spot("orders", "2", "ib", "A"), spot("web", "3", "", "AB")}, []string{"web>orders ok"}},
		{"a leaf before its trust", web, []Place{spot("orders", "1", "ib", "AB"), spot("web", "2", "", "A"), spot("web", "3", "", "AB")},
			[]string{"web>orders breaks: web does not trust root-b, under which orders shows 1 certificate [web/2]"}},
		{"distrust before the leaf", web, []Place{spot("orders", "1", "ia", "AB"), spot("orders", "2", "ib", "AB"), spot("web", "3", "", "B")},
			[]string{"web>orders breaks: web does not trust root-a, under which orders shows 1 certificate [web/3]"}},
		{"the bridge helps a late one", web, []Place{spot("orders", "1", "ib", "AB", bridged), spot("web", "2", "", "A")},
			[]string{"web>orders ok: web does not trust root-b, and verifies orders by the bridge alone [web/2]"}},
		{"expired", web, []Place{spot("orders", "1", "ia", "A", expired), spot("web", "2", "", "A")},
			[]string{"web>orders breaks: what orders shows has expired [orders/1]"}},
		{"revoked", web, []Place{spot("orders", "1", "ia", "A", revoked), spot("web", "2", "", "A")},
			[]string{"web>orders breaks: what orders shows is revoked [orders/1]"}},
		{"not recorded", web, []Place{spot("orders", "1", "ia", "A", unrecorded), spot("web", "2", "", "A")},
			[]string{"web>orders unknown: what orders shows is not recorded here [orders/1]"}},
		{"a root that is not recorded", web, []Place{spot("orders", "1", "if", "A"), spot("web", "2", "", "A")},
			[]string{"web>orders unknown: orders shows 1 certificate whose root is not recorded here [orders/1]"}},
		{"nothing served yet", web, []Place{spot("orders", "1", "", "A"), spot("web", "2", "", "A")},
			[]string{"web>orders unknown: no placement of orders holds a certificate for it"}},
		{"nobody placed", web, []Place{spot("orders", "1", "ia", "A")},
			[]string{"web>orders unknown: web has no placement: nobody here sees whom it trusts"}},
		{"nothing reported", web, []Place{spot("orders", "1", "ia", "A"), spot("web", "2", "", "")},
			[]string{"web>orders unknown: web has not reported which bundle it uses [web/2]"}},
		{"a bundle from elsewhere", web, []Place{spot("orders", "1", "ia", "A"), spot("web", "2", "", "0123456789abcdef")},
			[]string{"web>orders unknown: web uses the bundle 0123456789ab, which is not recorded here [web/2]"}},
		{"an orphan that trusts the old one", web, []Place{spot("orders", "1", "ib", "B"), spot("web", "2", "", "A", orphaned), spot("web", "3", "", "B")},
			[]string{"web>orders unknown: nothing brings root-b to orphans of web: are their processes still there? [web/2]"}},
		{"an orphan still serves", web, []Place{spot("orders", "1", "ia", "A", orphaned), spot("web", "2", "", "B")},
			[]string{"web>orders breaks: web does not trust root-a, under which orders shows 1 certificate [web/2]"}},
		{"an orphan's certificate is over", web, []Place{spot("orders", "1", "ia", "A", orphaned, expired), spot("orders", "2", "ib", "B"), spot("web", "3", "", "B")},
			[]string{"web>orders ok"}},
		{"a retired host trusts nobody", web, []Place{spot("orders", "1", "ib", "B"), spot("web", "2", "", "A", lostPlace), spot("web", "3", "", "B")}, []string{"web>orders ok"}},

		{"a client certificate the server can't verify", web, []Place{spot("orders", "1", "ia", "A", asksClient), spot("web", "2", "ib", "AB", clientOnly)},
			[]string{"web>orders breaks: orders does not trust root-b, under which web shows 1 certificate [orders/1]"}},
		{"a client certificate nobody looks at", web, []Place{spot("orders", "1", "ia", "A", asksNoClient), spot("web", "2", "ib", "AB", clientOnly)}, []string{"web>orders ok"}},
		{"a client certificate wanted, and none", web, []Place{spot("orders", "1", "ia", "A", asksClient), spot("web", "2", "", "A")},
			[]string{"web>orders unknown: no placement of web holds a certificate for it"}},

		{"an outside client", []Party{party("orders", "bank"), outsider("bank")}, []Place{spot("orders", "1", "ia", "A"), spot("orders", "2", "ib", "A")},
			[]string{"bank>orders unknown: bank is an outside party: ask whether it trusts root-a and root-b"}},
		{"an outside server", []Party{outsider("bank", "orders"), party("orders")}, []Place{spot("orders", "1", "ia", "A")},
			[]string{"orders>bank unknown: bank is an outside party: nobody here sees what it shows"}},
		{"an outside client that must show", []Party{party("orders", "bank"), outsider("bank")}, []Place{spot("orders", "1", "ia", "A", asksClient)},
			[]string{"bank>orders unknown: bank is an outside party: ask whether it trusts root-a; bank is an outside party: nobody here sees what it shows"}},

		{"members among themselves", cluster, []Place{spot("db", "1", "ib", "B", presents), spot("db", "2", "ia", "AB", presents)},
			[]string{"db>db breaks: db does not trust root-a, under which db shows 1 certificate [db/1]; db does not trust root-a, under which db shows 1 certificate [db/1]"}},
		{"members that only serve", cluster, []Place{spot("db", "1", "ib", "B"), spot("db", "2", "ia", "A")}, nil},
		{"a circle", []Party{party("a", "b"), party("b", "a")}, []Place{spot("a", "1", "ia", "A"), spot("b", "2", "ia", "A")}, []string{"b>a ok", "a>b ok"}},
		{"a client that nobody declared", []Party{party("a", "b")}, []Place{spot("a", "1", "ia", "A")}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := verdicts(graphOf(c.parties, c.places...)); !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// verdicts are a graph's edges in words.
func verdicts(g *Graph) []string {
	var all []string
	for _, e := range g.Edges {
		line := fmt.Sprintf("%s>%s %s", e.Client, e.Server, e.Verdict)
		var reasons []string
		for _, r := range append(slices.Clone(e.Serves.Reasons), e.Presents.Reasons...) {
			text := r.Text
			var who []string
			for _, p := range r.Places {
				who = append(who, p.ID)
			}
			if len(who) > 0 {
				text += fmt.Sprint(" ", who)
			}
			reasons = append(reasons, text)
		}
		if len(reasons) > 0 {
			line += ": " + strings.Join(reasons, "; ")
		}
		all = append(all, line)
	}
	return all
}

// Who still uses the old one, and who does not trust the new one.
func TestAnchorUse(t *testing.T) {
	g := graphOf([]Party{party("orders", "web"), party("web")},
		spot("orders", "1", "ia", "AB"), spot("orders", "2", "ib", "AB", func(p *Place) { p.Adopted = fleet.Delivered }), spot("orders", "3", "ia", "A", expired),
		spot("web", "4", "", "A"), spot("web", "5", "", "A", lostPlace), spot("web", "6", "", ""))
	var got []string
	for _, use := range g.Anchors {
		got = append(got, fmt.Sprint(use.Name, " under ", use.Under, " trusts ", use.Trusts, " lacks ", use.Lacks, " unknown ", use.Unknown))
	}
	want := []string{
		"root-a under [{orders 1 {0 0 0 1}}] trusts [{orders 3 {0 1 0 2}} {web 1 {0 0 0 1}}] lacks [] unknown [{web 1 {1 0 0 0}}]",
		"root-b under [{orders 1 {0 0 0 1}}] trusts [{orders 2 {0 1 0 1}}] lacks [{orders 1 {0 0 0 1}} {web 1 {0 0 0 1}}] unknown [{web 1 {1 0 0 0}}]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// drawn is any graph of few parties and places, whose edges go where they like.
func drawn(t *rapid.T) Facts {
	names := []fleet.Name{"p", "q", "r", "s", "u"}
	facts := Facts{Authorities: twoRoots, Bundles: threeBundles, Agents: []string{"1", "2", "3"}}
	for _, name := range names {
		p := party(string(name), rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 3, rapid.ID).Draw(t, "clients")...)
		p.Outside = rapid.IntRange(0, 5).Draw(t, "outside") == 0
		facts.Services = append(facts.Services, p)
	}
	for i := range rapid.IntRange(0, 10).Draw(t, "places") {
		facts.Places = append(facts.Places, drawnPlace(t, facts, fmt.Sprint(i)))
	}
	return facts
}

func drawnPlace(t *rapid.T, facts Facts, id string) Place {
	var inside []string
	for _, p := range facts.Services {
		if !p.Outside {
			inside = append(inside, string(p.Name))
		}
	}
	p := spot(rapid.SampledFrom(append(inside, "")).Draw(t, "service"), rapid.SampledFrom(facts.Agents).Draw(t, "agent"),
		rapid.SampledFrom([]string{"", "ia", "ib"}).Draw(t, "issuing"), rapid.SampledFrom([]string{"", "A", "B", "AB", "lost"}).Draw(t, "bundle"))
	p.ID = id
	for _, change := range []func(*Place){presents, clientOnly, orphaned, lostPlace, expired, revoked, unrecorded, asksClient, asksNoClient} {
		if rapid.IntRange(0, 6).Draw(t, "change") == 0 {
			change(&p)
		}
	}
	return p
}

// The order in which facts arrive changes nothing, and a verdict has reasons
// unless it is ok. An edge that is ok fits in each pair of places.
func TestVerdictLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		facts := drawn(t)
		g := New(facts, noon)
		shuffled := facts
		shuffled.Places = rapid.Permutation(facts.Places).Draw(t, "places")
		shuffled.Services = rapid.Permutation(facts.Services).Draw(t, "services")
		if a, b := verdicts(g), verdicts(New(shuffled, noon)); !slices.Equal(a, b) {
			t.Fatalf("in one order\n%s\nin another\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
		}
		for _, e := range g.Edges {
			if len(e.Serves.Reasons)+len(e.Presents.Reasons) == 0 && e.Verdict != Fits {
				t.Fatalf("%s>%s is %s for no reason", e.Client, e.Server, e.Verdict)
			}
			if e.Verdict == Fits && (g.Party(e.Client).Outside || g.Party(e.Server).Outside) {
				t.Fatalf("%s>%s is ok, and nobody sees one side", e.Client, e.Server)
			}
			checkPairs(t, g, e)
		}
	})
}

// checkPairs compares a verdict with the plain reading of it: each certificate
// against each bundle.
func checkPairs(t *rapid.T, g *Graph, e Edge) {
	misfits := func(shows, relies fleet.Name, of func(*Place) bool) (n int) {
		for _, s := range g.Places(shows) {
			if !of(s) || !s.live(noon) || s.Authority == "" {
				continue
			}
			for _, r := range g.Places(relies) {
				anchors, known := g.bundles[r.Bundle]
				if known && !r.Gone && !r.Orphan && !Contains(anchors, s.Root.Fingerprint) {
					n++
				}
			}
		}
		return n
	}
	bad := misfits(e.Server, e.Client, func(p *Place) bool { return p.Serves && (e.Declared || p.Presents) })
	if e.Presents.Needed {
		bad += misfits(e.Client, e.Server, func(p *Place) bool { return p.Presents && (e.Declared || p.Serves) })
	}
	if bad > 0 && e.Verdict != Breaks {
		t.Fatalf("%s>%s is %s, and %d pairs do not fit", e.Client, e.Server, e.Verdict, bad)
	}
	breaks := func(r Reason) bool { return r.Verdict == Breaks && strings.Contains(r.Text, "does not trust") }
	if bad == 0 && (slices.ContainsFunc(e.Serves.Reasons, breaks) || slices.ContainsFunc(e.Presents.Reasons, breaks)) {
		t.Fatalf("%s>%s is said not to fit, and each pair does", e.Client, e.Server)
	}
}

// BenchmarkGraph builds a graph of ten thousand placements of two hundred
// services, in the middle of a trust change, and asks for an impact.
func BenchmarkGraph(b *testing.B) {
	facts := Facts{Authorities: twoRoots, Bundles: threeBundles, Agents: []string{"0"}}
	for s := range 200 {
		p := party(fmt.Sprint("s", s))
		for c := range 5 {
			p.Clients = append(p.Clients, fleet.Name(fmt.Sprint("s", (s*7+c*13+1)%200)))
		}
		facts.Services = append(facts.Services, p)
		for i := range 50 {
			facts.Places = append(facts.Places, spot(string(p.Name), fmt.Sprint(i), []string{"ia", "ib"}[i%2], []string{"A", "AB"}[i%2], presents))
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		g := New(facts, noon)
		if impact, err := g.Impact(Subject{OfAuthority, "root-a"}); err != nil || len(impact.Holders) != 5000 {
			b.Fatal(len(impact.Holders), err)
		}
	}
}
