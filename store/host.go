package store

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// Host is an agent with its placements, in the order of their intents and
// instances.
type Host struct {
	Agent
	Placements []Held
}

// Held is a placement and what was issued to it.
type Held struct {
	Placement
	Newest  Issued   // of the highest generation; its zero value: there is none
	Revoked []uint64 // generations that were revoked and have not expired, in their order
}

// Issued is when a certificate was issued and how long it is good.
type Issued struct {
	Serial     pki.Serial
	Generation uint64
	IssuedAt   time.Time
	NotAfter   time.Time
	RevokedAt  time.Time // zero: it was not
}

// Issued is the certificate without what it says.
func (c Certificate) Issued() Issued {
	return Issued{Serial: c.Serial, Generation: c.Generation, IssuedAt: c.IssuedAt, NotAfter: c.NotAfter, RevokedAt: c.RevokedAt}
}

// Hosts returns the agents of the ids with their placements, by id; those that do
// not exist are left out. However many they are, it takes four statements.
func (tx *Tx) Hosts(ctx context.Context, ids []string) (map[string]Host, error) {
	hosts := make(map[string]Host, len(ids))
	err := tx.scanAll(ctx, func(rows *sql.Rows) error {
		var one Host
		err := rows.Scan(one.Agent.columns()...)
		hosts[one.Agent.ID] = one
		return err
	}, `SELECT `+agentColumns+` FROM agent WHERE id IN `, anys(ids))
	if err != nil {
		return nil, thing{noun: "agents"}.wrap(err)
	}
	held, err := tx.heldBy(ctx, ids)
	if err != nil {
		return nil, thing{noun: "placements of agents"}.wrap(err)
	}
	for _, one := range held {
		host := hosts[one.AgentID]
		host.Placements = append(host.Placements, *one)
		hosts[one.AgentID] = host
	}
	return hosts, nil
}

// heldBy is what agents hold, in the order of intents and instances.
func (tx *Tx) heldBy(ctx context.Context, agents []string) ([]*Held, error) {
	var all []*Held
	err := tx.scanAll(ctx, func(rows *sql.Rows) error {
		one := &Held{}
		all = append(all, one)
		return rows.Scan(one.columns()...)
	}, `SELECT `+placementColumns+` FROM placement WHERE agent_id IN `, anys(agents))
	if err != nil {
		return nil, err
	}
	if err := tx.addIssued(ctx, all); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b *Held) int {
		return cmp.Or(strings.Compare(a.Intent, b.Intent), strings.Compare(a.Instance, b.Instance))
	})
	return all, nil
}

// addIssued adds to placements what was issued to them.
func (tx *Tx) addIssued(ctx context.Context, all []*Held) error {
	ids, byID := make([]any, len(all)), make(map[string]*Held, len(all))
	for i, one := range all {
		ids[i], byID[one.ID] = one.ID, one
	}
	err := tx.scanAll(ctx, func(rows *sql.Rows) error {
		var id string
		var newest Issued
		err := rows.Scan(&id, fixed(newest.Serial[:]), &newest.Generation, moment{&newest.IssuedAt}, moment{&newest.NotAfter}, moment{&newest.RevokedAt})
		byID[id].Newest = newest
		return err
	}, `
		SELECT p.id, c.serial, c.generation, c.issued_at, c.not_after, c.revoked_at
		FROM placement p JOIN certificate c ON c.placement_id = p.id
			AND c.generation = (SELECT MAX(generation) FROM certificate WHERE placement_id = p.id)
		WHERE p.id IN `, ids)
	if err != nil {
		return err
	}
	err = tx.scanAll(ctx, func(rows *sql.Rows) error {
		var id string
		var generation uint64
		err := rows.Scan(&id, &generation)
		byID[id].Revoked = append(byID[id].Revoked, generation)
		return err
	}, `
		SELECT placement_id, generation FROM certificate
		WHERE revoked_at IS NOT NULL AND not_after >= $1 AND placement_id IN `, ids, micros(tx.Now))
	for _, one := range all {
		slices.Sort(one.Revoked)
	}
	return err
}
