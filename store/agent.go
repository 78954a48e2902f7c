package store

import (
	"context"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
)

// Agent is Rotunda's process on a host. Its keys stand with its certificates:
// see AgentIdentities.
type Agent struct {
	ID         string
	State      fleet.AgentState
	Labels     map[string]string // attested
	Facts      map[string]string // what it says of itself
	Region     string
	Zone       string
	Epoch      uint64 // of the store, when it last connected
	Boot       uint64 // of its newest stream
	TokenID    string
	EnrolledAt time.Time
	SeenAt     time.Time // zero: never; written now and then only
}

const agentColumns = `id, state, labels, facts, region, zone, epoch, boot, token_id, enrolled_at, seen_at`

func (a *Agent) columns() []any {
	return []any{
		&a.ID, &a.State, labelMap{&a.Labels}, labelMap{&a.Facts}, &a.Region, &a.Zone,
		&a.Epoch, &a.Boot, &a.TokenID, moment{&a.EnrolledAt}, moment{&a.SeenAt},
	}
}

// InsertAgent records an agent.
func (tx *Tx) InsertAgent(ctx context.Context, a Agent) error {
	return tx.insert(ctx, thing{"agent", a.ID}, `
		INSERT INTO agent (`+agentColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		a.ID, string(a.State), labels(a.Labels), labels(a.Facts), a.Region, a.Zone,
		a.Epoch, a.Boot, a.TokenID, micros(a.EnrolledAt), micros(a.SeenAt))
}

// Agent returns the agent of the id.
func (tx *Tx) Agent(ctx context.Context, id string) (Agent, error) {
	return one[Agent](ctx, tx, thing{"agent", id}, `SELECT `+agentColumns+` FROM agent WHERE id = $1`, id)
}

// Agents returns all agents, retired ones too, by id.
func (tx *Tx) Agents(ctx context.Context) ([]Agent, error) {
	return list[Agent](ctx, tx, "agents", `SELECT `+agentColumns+` FROM agent ORDER BY id`)
}

// AgentsAfter returns the agents whose ids come after that one, at most limit of
// them. Empty: from the first.
func (tx *Tx) AgentsAfter(ctx context.Context, id string, limit int) ([]Agent, error) {
	return list[Agent](ctx, tx, "agents", `SELECT `+agentColumns+` FROM agent WHERE id > $1 ORDER BY id LIMIT $2`, id, limit)
}

// ActiveAgentsAfter is AgentsAfter without those that are retired.
func (tx *Tx) ActiveAgentsAfter(ctx context.Context, id string, limit int) ([]Agent, error) {
	return list[Agent](ctx, tx, "agents", `
		SELECT `+agentColumns+` FROM agent WHERE id > $1 AND state = 'active' ORDER BY id LIMIT $2`, id, limit)
}

// SetAgentState moves an agent from one state to the next. The caller asks the
// state itself whether that is legal.
func (tx *Tx) SetAgentState(ctx context.Context, id string, from, next fleet.AgentState) error {
	return tx.swap(ctx, thing{"agent", id}, `
		UPDATE agent SET state = $3 WHERE id = $1 AND state = $2`, id, string(from), string(next))
}

// SetAgentBoot records that the agent connected with a boot counter higher
// than the one it had; of two that try at once, one gets a Conflict.
func (tx *Tx) SetAgentBoot(ctx context.Context, id string, from, boot uint64, facts map[string]string) error {
	return tx.swap(ctx, thing{"agent", id}, `
		UPDATE agent SET boot = $3, facts = $4, seen_at = $5, epoch = (SELECT epoch FROM store_meta)
		WHERE id = $1 AND boot = $2 AND boot < $3`, id, from, boot, labels(facts), micros(tx.Now))
}

// SetAgentLabels replaces an agent's labels.
func (tx *Tx) SetAgentLabels(ctx context.Context, id string, l map[string]string) error {
	return tx.set(ctx, thing{"agent", id}, `UPDATE agent SET labels = $2 WHERE id = $1`, id, labels(l))
}

// SetAgentsSeen records that agents, some at least, are there now, those that are
// active.
func (tx *Tx) SetAgentsSeen(ctx context.Context, ids []string) error {
	in, args := among(anys(ids), micros(tx.Now))
	_, err := tx.exec(ctx, `UPDATE agent SET seen_at = $1 WHERE state = 'active' AND id IN `+in, args...)
	return thing{noun: "agents"}.wrap(err)
}

// SetAgentSeen records that the agent is there now.
func (tx *Tx) SetAgentSeen(ctx context.Context, id string) error {
	return tx.set(ctx, thing{"agent", id}, `UPDATE agent SET seen_at = $2 WHERE id = $1`, id, micros(tx.Now))
}
