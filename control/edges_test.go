package control

import (
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/probe"
)

// What an agent saw at a server's address stands on the edge; what it did not
// sign does not.
func TestEdgesAreSeen(t *testing.T) {
	d := found(t)
	const address = "orders.test.example:5432"
	d.apply(strings.Replace(callers, "clients: [web, bank]", "clients: [web, bank], address: \""+address+"\"", 1))
	orders, web := d.enrolHost(map[string]string{"role": "orders", "host": "a"}), d.enrolHost(map[string]string{"role": "web"})
	leaf := orders.holds(1)
	err := orders.report(&api.PlacementReport{
		State: api.State_STATE_STEADY, Generation: 1, Revision: 1, BundleDigest: orders.desired().BundleDigest,
		Level: api.Level_LEVEL_PROVEN, Evidence: orders.observed(leaf),
	})
	if err != nil {
		t.Fatal(err)
	}
	looks := web.desired().Edges
	if len(looks) != 1 || looks[0].Address != address || looks[0].ServerName != "orders.test.example" || looks[0].Server != "orders" {
		t.Fatalf("looks: %v", looks)
	}
	if edges := orders.desired().Edges; len(edges) != 0 {
		t.Errorf("the server's host looks at %v", edges)
	}
	bundle := web.desired().BundleDigest
	for _, c := range []struct {
		name, fit, text string
		seen            probe.Observation
		forged          bool
	}{
		{"verified", "FIT_OK", "seen: web on agent " + web.id, probe.Observation{Outcome: probe.Served, Trust: probe.Trusted}, false},
		{"unknown authority", "FIT_BREAKS", "can't verify " + address + ": unknown authority", probe.Observation{Outcome: probe.Served, Trust: "unknown authority"}, false},
		{"alert", "FIT_BREAKS", "the handshake with " + address, probe.Observation{Outcome: probe.TLSFailed}, false},
		{"refused", "FIT_UNKNOWN", "the path is blocked: ", probe.Observation{Outcome: probe.Refused}, false},
		{"no answer", "FIT_UNKNOWN", "the path is blocked: ", probe.Observation{Outcome: probe.Timeout}, false},
		{"no route", "FIT_UNKNOWN", "the path is blocked: ", probe.Observation{Outcome: probe.Unreachable}, false},
		{"forged", "FIT_OK", "", probe.Observation{Outcome: probe.Served, Trust: "unknown authority"}, true},
	} {
		c.seen.Time, c.seen.Observer, c.seen.Address, c.seen.Bundle = d.clock.now(), web.id, address, bundle
		statement, err := c.seen.Statement()
		if err != nil {
			t.Fatal(err)
		}
		evidence := web.sign(statement)
		if c.forged {
			evidence = orders.sign(statement)
		}
		err = web.report(&api.PlacementReport{
			State: api.State_STATE_STEADY, Revision: 1, BundleDigest: bundle, Level: api.Level_LEVEL_DELIVERED,
			Edges: []*api.EdgeReport{{Server: "orders", Address: address, Evidence: evidence, Verdict: "ok", Words: "believe me"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		edge := d.graphed("web").Edges[0]
		var texts []string
		for _, reason := range edge.Serves.Reasons {
			texts = append(texts, reason.Text)
		}
		if edge.Fit.String() != c.fit || !strings.Contains(strings.Join(texts, "; "), c.text) || (c.forged && len(texts) > 0) {
			t.Errorf("%s: %s: %q, want %s: %s", c.name, edge.Fit, texts, c.fit, c.text)
		}
	}
}

// Only a failure of TLS with the bundle that is in use holds a change of trust.
func TestBrokenEdge(t *testing.T) {
	for verdict, broken := range map[string]bool{"ok": false, "path": false, "unclear": false, "tls": true} {
		for _, bundle := range []string{"new", "old"} {
			report := &api.PlacementReport{BundleDigest: "new", Edges: []*api.EdgeReport{
				{Server: "orders", Verdict: verdict, Words: "can't verify 10.0.0.7:5432: unknown authority", BundleDigest: bundle},
			}}
			want := ""
			if broken && bundle == "new" {
				want = "web on agent h2 has no handshake with orders: can't verify 10.0.0.7:5432: unknown authority"
			}
			if got := brokenEdge(report, "web", "h2"); got != want {
				t.Errorf("%s with the %s bundle: %q", verdict, bundle, got)
			}
		}
	}
}

// One agent of the client's looks, always the same; another one when it is away.
// A loopback address is looked at from its own host alone.
func TestOneAgentLooksAtAnEdge(t *testing.T) {
	d := found(t)
	with := func(address string) string {
		return strings.Replace(callers, "clients: [web, bank]", "clients: [web, bank], address: \""+address+"\"", 1)
	}
	d.apply(with("orders.test.example:5432"))
	d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	open := map[*host]*Connection{}
	for range 3 {
		h := d.enrolHost(map[string]string{"role": "web"})
		connection, err := d.Connect(t.Context(), h.caller, &api.Hello{Boot: 1})
		if err != nil {
			t.Fatal(err)
		}
		open[h] = connection
	}
	d.clock.turn(time.Minute) // the plan of before they came is over
	looking := func() (all []*host) {
		for h := range open {
			if len(h.desired().Edges) > 0 {
				all = append(all, h)
			}
		}
		return all
	}
	for len(open) > 0 {
		first, again := looking(), looking()
		if len(first) != 1 || len(again) != 1 || first[0] != again[0] {
			t.Fatalf("%d look, then %d, of %d", len(first), len(again), len(open))
		}
		open[first[0]].Leave()
		delete(open, first[0])
	}
	web := d.enrolHost(map[string]string{"role": "web"})
	d.apply(with("127.0.0.1:5432"))
	if edges := web.desired().Edges; len(edges) != 0 {
		t.Errorf("another host looks at %v", edges)
	}
}

// A client that fails at TLS with the bundle that it has adopted holds the change;
// one whose path is blocked does not.
func TestBrokenEdgeHoldsTheChange(t *testing.T) {
	d := found(t)
	p := d.parties(1)[0]
	d.begin("root", "drain")
	for d.act() {
	}
	p.adopt()
	tell := func(seen probe.Observation) {
		seen.Time, seen.Observer, seen.Address, seen.Bundle = d.clock.now(), p.id, "10.0.0.7:5432", p.bundle.Digest().String()
		statement, err := seen.Statement()
		p.must(err)
		p.must(d.Report(t.Context(), p.caller, &api.AgentReport{
			AnchorsDigest: p.bundle.Digest().String(),
			Placements: []*api.PlacementReport{{
				PlacementId: p.placement, State: api.State_STATE_STEADY, Generation: p.generation, LastGeneration: p.generation,
				Revision: 1, BundleDigest: p.bundle.Digest().String(), Level: api.Level_LEVEL_DELIVERED,
				Edges: []*api.EdgeReport{{Server: "db", Address: "10.0.0.7:5432", Evidence: p.sign(statement)}},
			}},
		}))
	}
	held := func() bool {
		for _, wait := range d.change().Waits {
			if strings.Contains(wait.Reason, "can't verify 10.0.0.7:5432") {
				return true
			}
		}
		return false
	}
	tell(probe.Observation{Outcome: probe.Served, Trust: "unknown authority"})
	if !held() {
		t.Errorf("nothing holds it: %v", d.change().Waits)
	}
	blocked := func() (all []string) {
		for _, party := range d.change().Parties {
			all = append(all, party.Blocked...)
		}
		return all
	}
	if said := blocked(); len(said) > 0 {
		t.Errorf("a failure at TLS is said to be a blocked path: %v", said)
	}
	for _, outcome := range []probe.Outcome{probe.Refused, probe.Timeout} {
		if tell(probe.Observation{Outcome: outcome}); held() || len(d.change().Waits) > 0 {
			t.Errorf("%s holds it: %v", outcome, d.change().Waits)
		}
		if said := blocked(); len(said) != 1 || !strings.Contains(said[0], "can't look at db: 10.0.0.7:5432 is not reached") {
			t.Errorf("%s is said as %v", outcome, said)
		}
	}
}
