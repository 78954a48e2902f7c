package store

import "context"

// Target is a running server process on a host, member of a cluster.
type Target struct {
	AgentID string
	Name    string // unique on the agent
	Kind    string // of its adapter
	Cluster string // may be empty
}

const targetColumns = `agent_id, name, kind, cluster`

func (t *Target) columns() []any { return []any{&t.AgentID, &t.Name, &t.Kind, &t.Cluster} }

// PutTarget records a target, in place of what was said of it before.
func (tx *Tx) PutTarget(ctx context.Context, t Target) error {
	_, err := tx.exec(ctx, `
		INSERT INTO target (`+targetColumns+`) VALUES ($1, $2, $3, $4)
		ON CONFLICT (agent_id, name) DO UPDATE SET kind = excluded.kind, cluster = excluded.cluster`,
		t.AgentID, t.Name, t.Kind, t.Cluster)
	return thing{"target", t.Name}.wrap(err)
}

// AgentTargets returns the targets on an agent's host, by name.
func (tx *Tx) AgentTargets(ctx context.Context, agentID string) ([]Target, error) {
	return list[Target](ctx, tx, "targets of an agent", `
		SELECT `+targetColumns+` FROM target WHERE agent_id = $1 ORDER BY name`, agentID)
}

// ClusterTargets returns the members of a cluster, by agent and name.
func (tx *Tx) ClusterTargets(ctx context.Context, cluster string) ([]Target, error) {
	return list[Target](ctx, tx, "targets of a cluster", `
		SELECT `+targetColumns+` FROM target WHERE cluster = $1 ORDER BY agent_id, name`, cluster)
}

// DeleteTarget forgets a target that nothing is placed at any more.
func (tx *Tx) DeleteTarget(ctx context.Context, agentID, name string) error {
	return tx.set(ctx, thing{"target", name}, `DELETE FROM target WHERE agent_id = $1 AND name = $2`, agentID, name)
}
