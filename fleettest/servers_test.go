package fleettest

import (
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/postgrestest"
)

// awaitAgents waits until a server shows its agents as the condition has them.
func (p *Plane) awaitAgents(what string, condition func([]*api.AgentInfo) bool) {
	p.t.Helper()
	wake, stop := p.Watch()
	defer stop()
	deadline := time.After(Patience)
	for {
		list, err := p.ListAgents(p.t.Context(), Operator, &api.ListAgentsRequest{})
		p.must(err)
		if condition(list.Agents) {
			return
		}
		select {
		case <-wake:
		case <-time.After(time.Second): // what is connected elsewhere is no change here
		case <-deadline:
			p.t.Fatalf("not within %s: %s: %v", Patience, what, list.Agents)
		}
	}
}

func connected(n int) func([]*api.AgentInfo) bool {
	return func(agents []*api.AgentInfo) bool {
		there := 0
		for _, agent := range agents {
			if agent.Connected {
				there++
			}
		}
		return there == n
	}
}

// Servers that share a database are one control plane: what is declared or asked
// at one reaches the agents of another, each shows where all agents are, and when
// one stops its agents go on at the other.
func TestServersShareAStore(t *testing.T) {
	t.Parallel()
	one := NewPlaneAt(t, postgrestest.Run(t).Database(t))
	two := one.Another()
	near := one.NewHost(map[string]string{"role": "files", "host": "near"})
	far := two.NewHost(map[string]string{"role": "files", "host": "far"})
	near.Config.Servers = append(near.Config.Servers, far.Config.Servers...)
	declare(two, near, far)
	near.Start()
	far.Start()
	one.Await("both hold a certificate", Steady(2, 1))
	one.awaitAgents("both are connected", connected(2))
	two.awaitAgents("both are connected", connected(2))

	for i, plane := range []*Plane{one, two} {
		one.Await("the rotation before is over", Steady(2, uint64(i+1)))
		_, err := plane.Rotate(t.Context(), Operator, &api.RotateRequest{Intent: "files", Reason: "drill"})
		one.must(err)
	}
	two.Await("rotated by both", Steady(2, 3))

	servers, err := two.ListServers(t.Context(), Operator, &api.ListServersRequest{})
	one.must(err)
	if len(servers.Servers) != 2 || !servers.Shared || servers.Servers[0].Agents != 1 || servers.Servers[1].Agents != 1 {
		t.Errorf("the servers are %v", servers)
	}
	one.Stop()
	two.await("the first's agent has come", func() bool {
		servers, err := two.ListServers(t.Context(), Operator, &api.ListServersRequest{})
		two.must(err)
		return len(servers.Servers) == 1 && servers.Servers[0].Agents == 2
	})
	two.awaitAgents("both are connected yet", connected(2))
	_, err = two.Rotate(t.Context(), Operator, &api.RotateRequest{Intent: "files", Reason: "drill"})
	two.must(err)
	two.Await("rotated by the one that is left", Steady(2, 4))
}

// A change at one server is seen by who watches at another, without the one
// looking by itself.
func TestChangeWakesWatchersElsewhere(t *testing.T) {
	one := NewPlaneAt(t, postgrestest.Run(t).Database(t))
	two := one.Another()
	wake, stop := two.Watch()
	defer stop()
	one.Apply(`{apiVersion: rotunda/v1, kind: Service, metadata: {name: s}, spec: {owner: {team: t, contact: t@fleet.example, runbook: "https://fleet.example/s"}}}`)
	for deadline := time.After(Patience); ; {
		select {
		case <-wake:
		case <-deadline:
			t.Fatal("not woken")
		}
		found, err := two.ListDocuments(t.Context(), Operator, &api.ListDocumentsRequest{Kind: "Service"})
		one.must(err)
		if len(found.Documents) == 1 {
			return
		}
	}
}
