package control

import (
	"context"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/store/migrations"
)

// Servers that share a store know of each other by their rows there. One that
// was not seen for serverLife is taken for dead: its agents are connected to
// nobody, until they are elsewhere.
const (
	serverLife   = 30 * time.Second
	serverKnown  = 24 * time.Hour // after that its row goes
	toldAtOnce   = 100            // agents; of more everybody is woken
	noteTrust    = "trust"
	noteEvery    = "everybody"
	noteAgents   = "agents"
	leavesWithin = 5 * time.Second
)

// elsewhere is which agents are connected to other servers.
type elsewhere struct {
	agents atomic.Pointer[map[string]bool]
}

func (e *elsewhere) has(agent string) bool {
	agents := e.agents.Load()
	return agents != nil && (*agents)[agent]
}

// Shared says whether other servers may share this one's store.
func (c *Control) Shared() bool { return c.db.Shared() }

// SayHere records that this server is there, and forgets those that have not
// been for long.
func (c *Control) SayHere(ctx context.Context) error {
	return c.db.Write(ctx, func(tx *store.Tx) error {
		tx.Quiet()
		if err := tx.PutServer(ctx, c.self()); err != nil {
			return err
		}
		return tx.PruneServers(ctx, tx.Now.Add(-serverKnown))
	})
}

// self is this server as others know it.
func (c *Control) self() store.Server {
	host, err := os.Hostname()
	if err != nil {
		host = "" // it has no name then
	}
	return store.Server{Instance: c.instance, Name: host, Address: c.agentAddress, Version: c.version, Schema: migrations.Schema, StartedAt: c.started}
}

// SayGone records that this server stops.
func (c *Control) SayGone(ctx context.Context) error {
	return c.db.Write(ctx, func(tx *store.Tx) error { return tx.RemoveServer(ctx, c.instance) })
}

// LookElsewhere reads which agents are connected to other servers.
func (c *Control) LookElsewhere(ctx context.Context) error {
	var connections []store.Connection
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		var err error
		connections, err = tx.ConnectedElsewhere(ctx, c.instance, tx.Now.Add(-serverLife))
		return err
	})
	if err != nil {
		return err
	}
	agents := make(map[string]bool, len(connections))
	for _, one := range connections {
		agents[one.AgentID] = true
	}
	c.elsewhere.agents.Store(&agents)
	return nil
}

// noteConnected records in the transaction that admits a stream that it is here.
func (c *Control) noteConnected(ctx context.Context, tx *store.Tx, agent string) error {
	if !c.db.Shared() {
		return nil
	}
	return tx.ConnectAgent(ctx, agent, c.instance)
}

// noteLeft records that a stream ended. When that fails the agent counts as
// connected until it is again, or until this server is gone.
func (c *Control) noteLeft(agent string, boot uint64) {
	if !c.db.Shared() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leavesWithin)
	defer cancel()
	err := c.db.Write(ctx, func(tx *store.Tx) error {
		tx.Quiet()
		return tx.DisconnectAgent(ctx, agent, c.instance, boot)
	})
	if err != nil {
		c.log.Debug("record that an agent left", "agent", agent, "error", err)
	}
}

// heard wakes whom another server woke.
func (w *watchers) heard(note string) {
	kind, ids, _ := strings.Cut(note, " ")
	switch kind {
	case noteTrust, "":
		w.wake(w.everybody, true)
	case noteAgents:
		w.wake(w.named(strings.Fields(ids)...), false)
	default: // everybody; and what a newer server says
		w.wake(w.everybody, false)
	}
}

// ListServers lists the servers that share the store.
func (c *Control) ListServers(ctx context.Context, caller Caller, _ *api.ListServersRequest) (*api.ListServersResponse, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	response := &api.ListServersResponse{Shared: c.db.Shared(), Store: c.db.Place()}
	err := c.db.Read(ctx, func(tx *store.Tx) (err error) {
		response.Servers, err = c.serversIn(ctx, tx)
		return err
	})
	return response, err
}

// serversIn are the servers that share the store, this one among them.
func (c *Control) serversIn(ctx context.Context, tx *store.Tx) (all []*api.ServerInfo, err error) {
	servers, err := tx.Servers(ctx)
	if err != nil {
		return nil, err
	}
	connections, err := tx.ConnectedElsewhere(ctx, c.instance, tx.Now.Add(-serverLife))
	if err != nil {
		return nil, err
	}
	agents := map[string]uint32{c.instance: uint32(c.presence.count())}
	for _, one := range connections {
		agents[one.Instance]++
	}
	if !c.db.Shared() {
		servers = []store.Server{c.self()}
		servers[0].SeenAt = tx.Now
	}
	for _, one := range servers {
		all = append(all, &api.ServerInfo{
			Instance: one.Instance, Name: one.Name, Address: one.Address, Version: one.Version, Schema: one.Schema,
			StartedAt: stamp(one.StartedAt), SeenAt: stamp(one.SeenAt), Agents: agents[one.Instance],
			Here: one.Instance == c.instance, Alive: one.Instance == c.instance || tx.Now.Sub(one.SeenAt) < serverLife,
		})
	}
	return all, nil
}
