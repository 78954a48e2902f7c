package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// callers are documents with a client that has a bundle only, and an outside one.
var callers = documents[strings.Index(documents, "---"):] + `
---
apiVersion: rotunda/v1
kind: Service
metadata: {name: orders}
spec: {owner: {team: shop, contact: shop@test.example, runbook: "https://test.example/orders"}, clients: [web, bank]}
---
apiVersion: rotunda/v1
kind: Service
metadata: {name: web}
spec: {owner: {team: front, contact: front@test.example, runbook: "https://test.example/web"}}
---
apiVersion: rotunda/v1
kind: Service
metadata: {name: bank}
spec: {owner: {team: bank, contact: desk@bank.example}, outside: true}
---
apiVersion: rotunda/v1
kind: Intent
metadata: {name: web-trust}
spec:
  service: web
  selector: {role: web}
  files: {directory: /srv/web/tls}
`

// foreignRoot is a root of somebody else's, as documents hold it.
func foreignRoot(t *testing.T, d *domain) string {
	t.Helper()
	root, _, err := ca.CreateRoot(d.clock.now(), ca.RootOrder{
		TrustDomain: spiffeid.RequireTrustDomainFromString("other.example"), Name: "Other Root", Algorithm: pki.ECDSAP256, Lifetime: 24 * time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(strings.TrimSpace(string(pki.EncodeCertificatesPEM(root.Raw))), "\n", "\n        ")
	return "\n---\napiVersion: rotunda/v1\nkind: Bundle\nmetadata: {name: other}\nspec:\n  anchors:\n    - pem: |\n        " + text + "\n"
}

func (d *domain) graphed(service string) *api.GraphResponse {
	d.t.Helper()
	graph, err := d.Graph(d.t.Context(), operator, &api.GraphRequest{Service: service})
	if err != nil {
		d.t.Fatal(err)
	}
	return graph
}

// edges are a graph's edges with the reasons that the server's half has.
func edges(graph *api.GraphResponse) (all []string) {
	for _, edge := range graph.Edges {
		line := fmt.Sprintf("%s>%s %s", edge.Client, edge.Server, edge.Fit)
		for _, reason := range edge.Serves.Reasons {
			line += "; " + reason.Text
		}
		all = append(all, line)
	}
	return all
}

func TestGraphFollowsTheFacts(t *testing.T) {
	d := found(t)
	d.apply(callers)
	orders, web := d.enrolHost(map[string]string{"role": "orders", "host": "a"}), d.enrolHost(map[string]string{"role": "web"})
	want := func(step string, lines ...string) {
		t.Helper()
		if got := edges(d.graphed("")); !slices.Equal(got, lines) {
			t.Errorf("%s:\n%s\nwant\n%s", step, strings.Join(got, "\n"), strings.Join(lines, "\n"))
		}
	}
	takes := func(h *host, report *api.PlacementReport) {
		t.Helper()
		report.State, report.BundleDigest = api.State_STATE_STEADY, h.desired().BundleDigest
		if err := h.report(report); err != nil {
			t.Fatal(err)
		}
	}
	nothing := "no placement of orders holds a certificate for it"
	want("nothing reported", "bank>orders FIT_UNKNOWN; "+nothing+"; bank is an outside party: ask whether it trusts what it is shown",
		"web>orders FIT_UNKNOWN; "+nothing+"; web has not reported which bundle it uses")

	leaf := orders.holds(1)
	takes(orders, &api.PlacementReport{Generation: 1, Revision: 1, Level: api.Level_LEVEL_PROVEN, Evidence: orders.observed(leaf)})
	takes(web, &api.PlacementReport{Revision: 1, Level: api.Level_LEVEL_DELIVERED})
	bank := "bank>orders FIT_UNKNOWN; bank is an outside party: ask whether it trusts root"
	want("both have the root", bank, "web>orders FIT_OK")

	graph := d.graphed("web")
	if got := edges(graph); !slices.Equal(got, []string{"web>orders FIT_OK"}) || len(graph.Services) != 2 {
		t.Errorf("of web alone: %v, and %d services", got, len(graph.Services))
	}
	served := graph.Services[0].Places[0]
	if served.Serial != pki.Serial(leaf.SerialNumber.FillBytes(make([]byte, 16))).String() || served.Root.Name != "root" || served.Shown != api.Level_LEVEL_PROVEN ||
		served.Adopted != api.Level_LEVEL_LOADED || served.Observer != orders.id || !served.NotAfter.AsTime().Equal(leaf.NotAfter) ||
		len(served.Anchors) != 1 || served.Anchors[0].Name != "root" || !slices.Equal(served.Usages, []string{"serverAuth"}) || served.State != api.State_STATE_STEADY {
		t.Errorf("the server's placement: %v", served)
	}
	if chains := graph.Edges[0].Serves.Chains; len(chains) != 1 || chains[0].Root.Fingerprint != served.Root.Fingerprint || chains[0].Levels.Proven != 1 {
		t.Errorf("chains %v", chains)
	}
	if trust := graph.Edges[0].Serves.Trust; len(trust) != 1 || trust[0].Levels.Delivered != 1 {
		t.Errorf("trust %v", trust)
	}

	// The client goes over to a bundle without our root.
	d.apply(strings.Replace(callers, "selector: {role: web}", "selector: {role: web}\n  bundle: other", 1) + foreignRoot(t, d))
	want("desired, not taken", bank, "web>orders FIT_OK")
	takes(web, &api.PlacementReport{Revision: 2, Level: api.Level_LEVEL_DELIVERED})
	breaks := "web>orders FIT_BREAKS; web does not trust root, under which orders shows 1 certificate"
	want("taken", bank, breaks)
	reason := d.graphed("web").Edges[0].Serves.Reasons[0]
	if reason.Ask != "web" || len(reason.Places) != 1 || reason.Places[0].Agent != web.id || reason.Places[0].Intent != "web-trust" {
		t.Errorf("reason %v", reason)
	}
	var uses []string
	for _, use := range d.graphed("").Anchors {
		uses = append(uses, fmt.Sprintf("%s %d %d %d", use.Anchor.Name, len(use.Under), len(use.Trusts), len(use.Lacks)))
	}
	if !slices.Equal(uses, []string{"Other Root 0 1 1", "root 1 1 1"}) {
		t.Errorf("anchors %v", uses)
	}

	// A restart forgets nothing, and time ends what it ends.
	d.restart()
	want("after a restart", bank, breaks)
	d.clock.turn(25 * time.Hour)
	want("a day later", "bank>orders FIT_BREAKS; what orders shows has expired; bank is an outside party: ask whether it trusts what it is shown",
		"web>orders FIT_BREAKS; what orders shows has expired")
}

// A certificate outlives its intent and its host's agent, and needs its anchor as
// before; a host that is retired trusts nobody.
func TestGraphKeepsOrphans(t *testing.T) {
	d := found(t)
	d.apply(callers)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	leaf := h.holds(1)
	report := &api.PlacementReport{State: api.State_STATE_STEADY, Generation: 1, Revision: 1, Level: api.Level_LEVEL_PROVEN, BundleDigest: h.desired().BundleDigest, Evidence: h.observed(leaf)}
	if err := h.report(report); err != nil {
		t.Fatal(err)
	}
	if _, err := d.DeleteDocument(t.Context(), operator, &api.DeleteDocumentRequest{Kind: "Intent", Name: "orders-tls"}); err != nil {
		t.Fatal(err)
	}
	places := func() []*api.GraphPlace {
		t.Helper()
		impact, err := d.Impact(t.Context(), operator, &api.ImpactRequest{Kind: api.Subject_SUBJECT_AUTHORITY, Name: "root"})
		if err != nil {
			t.Fatal(err)
		}
		return impact.Holders
	}
	if all := places(); len(all) != 1 || all[0].State != api.State_STATE_ORPHAN || all[0].Service != "orders" {
		t.Errorf("without its intent: %v", all)
	}
	if _, err := d.RetireAgent(t.Context(), operator, &api.RetireAgentRequest{AgentId: h.id, Reason: "burnt"}); err != nil {
		t.Fatal(err)
	}
	if all := places(); len(all) != 1 || all[0].Service != "orders" {
		t.Errorf("of a retired host: %v", all)
	}
	for _, use := range d.graphed("").Anchors {
		if len(use.Trusts) != 0 {
			t.Errorf("a retired host trusts %s", use.Anchor.Name)
		}
	}
}

func TestImpactOverTheStore(t *testing.T) {
	d := found(t)
	d.apply(callers)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	leaf := h.holds(1)
	report := &api.PlacementReport{State: api.State_STATE_STEADY, Generation: 1, Revision: 1, Level: api.Level_LEVEL_PROVEN, BundleDigest: h.desired().BundleDigest, Evidence: h.observed(leaf)}
	if err := h.report(report); err != nil {
		t.Fatal(err)
	}
	h.holds(2) // issued, and not in use yet
	for _, c := range []struct {
		kind api.Subject
		name string
	}{
		{api.Subject_SUBJECT_SERVICE, "orders"}, {api.Subject_SUBJECT_AUTHORITY, "issuing"},
		{api.Subject_SUBJECT_AUTHORITY, "root"}, {api.Subject_SUBJECT_AGENT, h.id},
	} {
		impact, err := d.Impact(t.Context(), operator, &api.ImpactRequest{Kind: c.kind, Name: c.name})
		if err != nil {
			t.Fatal(err)
		}
		if len(impact.Holders) != 1 || impact.Holders[0].Agent != h.id || len(impact.Edges) != 2 || len(impact.Reached) != 2 || len(impact.Ask) != 3 ||
			len(impact.Direct) != 1 || impact.Direct[0].Here != 1 || impact.Direct[0].Full != 1 {
			t.Errorf("%s %s: %v", c.kind, c.name, impact)
		}
		kinds := map[string]uint32{}
		for _, one := range impact.Issued {
			kinds[one.Kind] = one.Count
		}
		if c.kind == api.Subject_SUBJECT_AUTHORITY && (kinds["leaf"] != 2 || kinds["agent"] != 1) || c.kind != api.Subject_SUBJECT_AUTHORITY && len(kinds) != 0 {
			t.Errorf("%s %s: live are %v", c.kind, c.name, kinds)
		}
		if trusts := len(impact.Trusts); trusts != 0 && c.name != "root" || trusts != 1 && c.name == "root" {
			t.Errorf("%s %s: %d trust it", c.kind, c.name, trusts)
		}
	}
	for kind, code := range map[api.Subject]fault.Code{
		api.Subject_SUBJECT_SERVICE: fault.NotFound, api.Subject_SUBJECT_AUTHORITY: fault.NotFound,
		api.Subject_SUBJECT_AGENT: fault.NotFound, api.Subject_SUBJECT_UNSPECIFIED: fault.Invalid, 7: fault.Invalid,
	} {
		_, err := d.Impact(t.Context(), operator, &api.ImpactRequest{Kind: kind, Name: "nothing"})
		wantCode(t, err, code)
	}
	_, err := d.Graph(t.Context(), operator, &api.GraphRequest{Service: "nothing"})
	wantCode(t, err, fault.NotFound)
	for _, caller := range []Caller{h.caller, {Kind: Anonymous}} {
		_, err := d.Graph(t.Context(), caller, &api.GraphRequest{})
		wantCode(t, err, fault.Forbidden)
		_, err = d.Impact(t.Context(), caller, &api.ImpactRequest{Kind: api.Subject_SUBJECT_SERVICE, Name: "orders"})
		wantCode(t, err, fault.Forbidden)
	}
}
