package control

import (
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/store"
)

const twoRegions = `---
apiVersion: rotunda/v1
kind: Region
metadata: {name: eu}
spec: {description: Frankfurt, servers: ["a.example:1", "b.example:1"]}
---
apiVersion: rotunda/v1
kind: Region
metadata: {name: us}
spec: {servers: ["c.example:1"]}
`

// regions are by name, as an operator sees them.
func (d *domain) regions() map[string]*api.RegionStatus {
	d.t.Helper()
	list, err := d.ListRegions(d.t.Context(), operator, &api.ListRegionsRequest{})
	if err != nil {
		d.t.Fatal(err)
	}
	all := map[string]*api.RegionStatus{}
	for _, one := range list.Regions {
		all[one.Name] = one
	}
	return all
}

// hostIn enrols a host of a region.
func (d *domain) hostIn(region string) *host {
	d.t.Helper()
	created, err := d.CreateToken(d.t.Context(), operator, &api.CreateTokenRequest{Labels: map[string]string{"role": "orders", "host": region}, Region: region})
	if err != nil {
		d.t.Fatal(err)
	}
	fields := strings.SplitN(created.Token, ".", 6)
	key, request := csr(d.t)
	enrolled, err := d.enrolWith(fields[1], fields[2], request)
	if err != nil {
		d.t.Fatal(err)
	}
	return &host{d, enrolled.AgentId, key, Caller{Kind: Agent, ID: enrolled.AgentId}}
}

func TestRegionsShowWhatIsWrong(t *testing.T) {
	d := found(t)
	d.apply(documents + twoRegions)
	h := d.hostIn("eu")
	leaf := h.holds(1)
	err := h.report(&api.PlacementReport{State: api.State_STATE_STEADY, Generation: 1, Revision: 1, Level: api.Level_LEVEL_PROVEN, Evidence: h.observed(leaf)})
	if err != nil {
		t.Fatal(err)
	}
	eu := d.regions()["eu"]
	if eu.Agents != 1 || eu.Heard != 1 || eu.Placements != 1 || eu.Proven != 1 || len(eu.Authorities) != 1 || eu.Authorities[0].Certificates != 1 || eu.Description != "Frankfurt" {
		t.Errorf("eu is %v", eu)
	}
	for _, want := range []string{"none of its 2 servers is heard of", "1 of its 1 agents do not have the present bundle yet"} {
		if !strings.Contains(strings.Join(eu.Troubles, "\n"), want) {
			t.Errorf("eu's troubles %q lack %q", eu.Troubles, want)
		}
	}

	// This server is one of eu's, and the agent connects.
	d.agentAddress = "a.example:1"
	if d.Shared() { // of a file that is its own it need not say so
		if err := d.SayHere(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	bundle, err := d.DomainBundle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	connection, err := d.Connect(t.Context(), h.caller, &api.Hello{Boot: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Report(t.Context(), h.caller, &api.AgentReport{AnchorsDigest: bundle.Digest().String()}); err != nil {
		t.Fatal(err)
	}
	eu, us := d.regions()["eu"], d.regions()["us"]
	if first := eu.Servers[0]; !first.Alive || first.Agents != 1 || first.Id == "" || eu.Servers[1].Alive || eu.Heard != 1 || eu.Believing != 1 || d.clock.now().Sub(eu.NewestContact.AsTime()) > time.Second {
		t.Errorf("with a server eu is %v", eu)
	}
	if len(eu.Troubles) != 1 || eu.Troubles[0] != "server b.example:1 is not heard of" {
		t.Errorf("eu's troubles are %q", eu.Troubles)
	}
	if len(us.Troubles) != 1 || us.Agents != 0 {
		t.Errorf("us is %v", us)
	}

	// An agent counts as heard of for a while.
	connection.Leave()
	if eu = d.regions()["eu"]; eu.Heard != 1 {
		t.Errorf("when its agent has just left eu is %v", eu)
	}
	d.clock.turn(heardWithin + time.Second)
	if eu = d.regions()["eu"]; eu.Heard != 0 || !strings.Contains(strings.Join(eu.Troubles, "\n"), "1 of its 1 agents are not heard of") {
		t.Errorf("after %s eu is %v", heardWithin, eu)
	}
}

// Of two processes with one address the one that was heard of last counts, a
// silent one is a trouble, and one that no region declares is shown for itself.
func TestServersOfRegions(t *testing.T) {
	now := time.Now()
	v := &regionView{regions: map[string]*region{}}
	eu := v.region("eu")
	eu.Declared = true
	for _, address := range []string{"a:1", "b:1"} {
		eu.Servers = append(eu.Servers, &api.RegionServerStatus{Address: address})
	}
	v.place([]*api.ServerInfo{
		{Instance: "new", Address: "a:1", SeenAt: stamp(now), Alive: true}, {Instance: "old", Address: "a:1", SeenAt: stamp(now.Add(-time.Hour))},
		{Instance: "silent", Address: "b:1", SeenAt: stamp(now.Add(-time.Hour))}, {Instance: "other", Address: "c:1", SeenAt: stamp(now), Alive: true},
	})
	if eu.Servers[0].Id != "new" || !eu.Servers[0].Alive || eu.Servers[1].Alive || v.region("").Servers[0].Id != "other" {
		t.Errorf("servers are %v and %v", eu.Servers, v.region("").Servers)
	}
	if got := eu.troubles(); len(got) != 1 || !strings.HasPrefix(got[0], "server b:1 is not heard of since ") {
		t.Errorf("troubles are %q", got)
	}
	eu.Servers[0].Alive = false
	if got := eu.troubles(); len(got) != 1 || got[0] != "none of its 2 servers is heard of: other regions serve its agents" {
		t.Errorf("troubles are %q", got)
	}
}

// Another region's authority in place of its own, and clients that can't verify
// the servers of another, are troubles; what can't be told is none.
func TestTroublesOfRegions(t *testing.T) {
	v := &regionView{regions: map[string]*region{}, authorities: map[string]store.Authority{"1": {Name: "issuing-us", Region: "us"}, "2": {Name: "issuing"}}}
	eu := v.region("eu")
	eu.authorities["1"], eu.authorities["2"] = 3, 5
	v.servers = map[fleet.Name]map[string]bool{"orders": {"us": true}, "everywhere": {"us": true, "eu": true}}
	for server, verdict := range map[string]string{"orders": "tls", "everywhere": "path"} {
		eu.saw(v.regionOfService(fleet.Name(server)), &api.EdgeReport{Server: server, Verdict: verdict, Words: "unknown authority"})
	}
	got := v.wire()[0]
	if len(got.Trust) != 2 || got.Trust[0].Region != "" || got.Trust[0].Unclear != 1 || got.Trust[1].Region != "us" || got.Trust[1].Breaks != 1 {
		t.Errorf("trust is %v", got.Trust)
	}
	want := []string{
		"clients here can't verify servers of region us: 1 of 1 looks, such as orders: unknown authority",
		"authority issuing-us of region us signed 3 of its certificates",
	}
	if strings.Join(got.Troubles, "\n") != strings.Join(want, "\n") || got.Authorities[0].Name != "issuing" {
		t.Errorf("troubles are %q, signed by %v", got.Troubles, got.Authorities)
	}
}
