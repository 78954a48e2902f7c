package fleettest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
)

// documents declare one files placement on every agent with the label
// role=files, under the tree that the label names.
const documents = `
apiVersion: rotunda/v1
kind: Service
metadata: {name: files}
spec: {owner: {team: t, contact: t@fleet.example, runbook: "https://fleet.example/files"}}
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: files}
spec: {lifetime: 24h, usages: [serverAuth], keyAge: 0s, grace: 1s}
---
apiVersion: rotunda/v1
kind: Policy
metadata: {name: files}
spec: {rules: [{name: own, effect: allow, when: 'service == "files"'}]}
---
apiVersion: rotunda/v1
kind: Intent
metadata: {name: files}
spec:
  service: files
  selector: {role: files}
  profile: files
  identity: {dnsNames: ["{{ labels.host }}.fleet.example"]}
  files: {directory: "TREE/{{ labels.host }}"}
`

// declare applies the documents with every host's tree under one root.
func declare(p *Plane, hosts ...*Host) {
	root := p.t.TempDir()
	for _, host := range hosts {
		host.Config.Allow.Directories = []string{root}
	}
	p.Apply(strings.ReplaceAll(documents, "TREE", root))
}

func fleetOf(p *Plane, n int) []*Host {
	var hosts []*Host
	for i := range n {
		hosts = append(hosts, p.NewHost(map[string]string{"role": "files", "host": fmt.Sprintf("h%d", i)}))
	}
	declare(p, hosts...)
	for _, host := range hosts {
		host.Start()
	}
	return hosts
}

func TestThreeHostsAreServedAndRotate(t *testing.T) {
	p := NewPlane(t)
	hosts := fleetOf(p, 3)
	p.Await("first issuance on three hosts", Steady(3, 1))

	if _, err := p.Rotate(t.Context(), Operator, &api.RotateRequest{All: true, NewKey: true}); err != nil {
		t.Fatal(err)
	}
	p.Await("a rotation on three hosts", Steady(3, 2))

	for i, host := range hosts {
		current := filepath.Join(host.Config.Allow.Directories[0], fmt.Sprintf("h%d", i), "current", "cert.pem")
		if _, err := os.Stat(current); err != nil {
			t.Error(err)
		}
	}
}

// What was asked for while an agent or the server was away happens when both
// are back, once.
func TestRotationReachesAgentsThatWereAway(t *testing.T) {
	p := NewPlane(t)
	hosts := fleetOf(p, 2)
	p.Await("first issuance", Steady(2, 1))
	hosts[0].Stop()
	if _, err := p.Rotate(t.Context(), Operator, &api.RotateRequest{All: true}); err != nil {
		t.Fatal(err)
	}
	p.Await("the one that is there has rotated", func(placements []*api.PlacementStatus) bool {
		return placements[0].Generation+placements[1].Generation == 3
	})
	p.Stop()
	hosts[0].Start() // it works from what it remembers
	p.Start()
	for _, placement := range p.Await("both have rotated", Steady(2, 2)) {
		if placement.Generation != 2 {
			t.Errorf("placement of agent %s is at generation %d, want 2", placement.Agent, placement.Generation)
		}
	}
}

// An outage of the control plane leaves what is in place alone.
func TestOutageTouchesNothing(t *testing.T) {
	p := NewPlane(t)
	hosts := fleetOf(p, 1)
	p.Await("first issuance", Steady(1, 1))
	dir := filepath.Join(hosts[0].Config.Allow.Directories[0], "h0", "current")
	before := read(t, dir)
	p.Stop()
	hosts[0].Stop()
	hosts[0].Start()
	if after := read(t, dir); after != before {
		t.Error("a restart during an outage changed what is in place")
	}
	p.Start()
	p.Await("the agent is back", func(placements []*api.PlacementStatus) bool {
		return !strings.Contains(placements[0].Reason, "not connected")
	})
	if after := read(t, dir); after != before {
		t.Error("the end of an outage changed what is in place")
	}
}

func read(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	for _, name := range []string{"cert.pem", "key.pem", "chain.pem", "bundle.pem"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(content)
	}
	return all.String()
}

// A retired agent's stream ends, it gets nothing more, and says why.
func TestRetiredAgentIsCutOff(t *testing.T) {
	p := NewPlane(t)
	fleetOf(p, 1)
	id := p.Await("first issuance", Steady(1, 1))[0].Agent
	if _, err := p.RetireAgent(t.Context(), Operator, &api.RetireAgentRequest{AgentId: id}); err != nil {
		t.Fatal(err)
	}
	p.Await("it is not connected, its placement an orphan", func(placements []*api.PlacementStatus) bool {
		agents, err := p.ListAgents(t.Context(), Operator, &api.ListAgentsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return !agents.Agents[0].Connected && agents.Agents[0].State == "retired" && placements[0].State == api.State_STATE_ORPHAN
	})
}

// An agent whose clock is an hour off begins nothing and raises an alarm.
func TestWrongClockHoldsAndAlarms(t *testing.T) {
	p := NewPlane(t)
	host := p.NewHost(map[string]string{"role": "files", "host": "h0"})
	declare(p, host)
	host.Now = func() time.Time { return time.Now().Add(time.Hour) }
	host.Start()
	p.Await("an alarm about the clock", func(placements []*api.PlacementStatus) bool {
		agents, err := p.ListAgents(t.Context(), Operator, &api.ListAgentsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(agents.Agents[0].Alarm, "clock")
	})
	if got := p.Placements()[0]; got.Generation != 0 {
		t.Errorf("generation %d was put in place under a wrong clock", got.Generation)
	}
}
