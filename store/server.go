package store

import (
	"context"
	"time"
)

// Server is one of those that share this store.
type Server struct {
	Instance  string // of its process
	Name      string // of its host
	Address   string // where agents reach it
	Version   string
	Schema    uint64 // the newest that it knows
	StartedAt time.Time
	SeenAt    time.Time // when it last said that it is there
}

const serverColumns = `instance, name, address, version, schema, started_at, seen_at`

func (s *Server) columns() []any {
	return []any{&s.Instance, &s.Name, &s.Address, &s.Version, &s.Schema, moment{&s.StartedAt}, moment{&s.SeenAt}}
}

// PutServer records that a server is there now.
func (tx *Tx) PutServer(ctx context.Context, s Server) error {
	_, err := tx.exec(ctx, `
		INSERT INTO server (`+serverColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (instance) DO UPDATE SET seen_at = excluded.seen_at`,
		s.Instance, s.Name, s.Address, s.Version, s.Schema, micros(s.StartedAt), micros(tx.Now))
	return thing{"server", s.Instance}.wrap(err)
}

// RemoveServer forgets a server that stopped. Agents that were connected to it
// are connected to none.
func (tx *Tx) RemoveServer(ctx context.Context, instance string) error {
	_, err := tx.exec(ctx, `DELETE FROM server WHERE instance = $1`, instance)
	return thing{"server", instance}.wrap(err)
}

// PruneServers forgets servers that were not seen since then.
func (tx *Tx) PruneServers(ctx context.Context, before time.Time) error {
	_, err := tx.exec(ctx, `DELETE FROM server WHERE seen_at < $1`, micros(before))
	return thing{noun: "servers"}.wrap(err)
}

// Servers returns the servers, by name and instance.
func (tx *Tx) Servers(ctx context.Context) ([]Server, error) {
	return list[Server](ctx, tx, "servers", `SELECT `+serverColumns+` FROM server ORDER BY name, instance`)
}

// ConnectAgent records at which server an agent's newest stream is.
func (tx *Tx) ConnectAgent(ctx context.Context, id, instance string) error {
	return tx.set(ctx, thing{"agent", id}, `UPDATE agent SET connected_to = $2 WHERE id = $1`, id, instance)
}

// DisconnectAgent records that a stream ended, unless a newer one is elsewhere.
func (tx *Tx) DisconnectAgent(ctx context.Context, id, instance string, boot uint64) error {
	_, err := tx.exec(ctx, `UPDATE agent SET connected_to = NULL WHERE id = $1 AND connected_to = $2 AND boot = $3`, id, instance, boot)
	return thing{"agent", id}.wrap(err)
}

// Connection says at which server an agent is.
type Connection struct {
	AgentID  string
	Instance string
}

func (c *Connection) columns() []any { return []any{&c.AgentID, &c.Instance} }

// ConnectedElsewhere returns the agents that are connected to other servers
// than one, which have been seen since then.
func (tx *Tx) ConnectedElsewhere(ctx context.Context, instance string, since time.Time) ([]Connection, error) {
	return list[Connection](ctx, tx, "connected agents", `
		SELECT agent.id, agent.connected_to FROM server JOIN agent ON agent.connected_to = server.instance
		WHERE server.instance <> $1 AND server.seen_at >= $2`, instance, micros(since))
}
