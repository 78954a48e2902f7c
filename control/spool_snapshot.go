package control

import (
	"context"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// snapshot is what the store showed last, as far as it takes to renew. Immutable.
type snapshot struct {
	at     time.Time // by the store's clock
	seq    time.Time // newest commit that it has
	epoch  uint64
	region string // of this server; empty: it serves all

	world   *world
	agents  map[string]store.Agent
	stood   map[string]store.Stood // by placement
	newest  map[string]lastIssue   // by placement
	callers map[pki.Serial]identified
	signers map[string]*signer
	homes   map[string]string // by region: its own authority, where another signs

	made time.Time // when, and how long that took
	took time.Duration
}

// lastIssue is what the newest certificate of a placement was decided on.
type lastIssue struct {
	names   string
	input   [sha256.Size]byte
	revoked bool
}

// standingsAtOnce is how many placements one statement asks for.
const standingsAtOnce = 1024

// readSnapshot reads a snapshot; the last one, where nothing has changed since.
func (c *Control) readSnapshot(ctx context.Context, last *snapshot) (next *snapshot, err error) {
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		seq, err := tx.LastCommit(ctx)
		if err != nil || last != nil && last.seq.Equal(seq) {
			next = last
			return err
		}
		next = &snapshot{at: tx.Now, seq: seq, agents: map[string]store.Agent{}, stood: map[string]store.Stood{}, newest: map[string]lastIssue{}, callers: map[pki.Serial]identified{}, signers: map[string]*signer{}, homes: map[string]string{}}
		return c.fillSnapshot(ctx, tx, next)
	})
	return next, err
}

func (c *Control) fillSnapshot(ctx context.Context, tx *store.Tx, s *snapshot) (err error) {
	rolledBack, err := tx.RolledBack(ctx)
	if err != nil {
		return err
	}
	if rolledBack != nil {
		return rolledBackError(rolledBack)
	}
	if s.epoch, err = tx.Epoch(ctx); err != nil {
		return err
	}
	if s.world, err = c.worldAt(ctx, tx); err != nil {
		return err
	}
	for _, one := range serversOf(s.world.set) {
		if one.Address == c.agentAddress {
			s.region = one.Region
		}
	}
	agents, err := tx.Agents(ctx)
	if err != nil {
		return err
	}
	for _, agent := range agents {
		if agent.State == fleet.AgentActive && (s.region == "" || agent.Region == s.region) {
			s.agents[agent.ID] = agent
		}
	}
	for _, fill := range []func(context.Context, *store.Tx, *snapshot) error{c.fillCallers, c.fillPlacements, c.fillSigners} {
		if err := fill(ctx, tx, s); err != nil {
			return err
		}
	}
	return nil
}

func (c *Control) fillCallers(ctx context.Context, tx *store.Tx, s *snapshot) error {
	identities, err := tx.LiveIdentities(ctx)
	for _, one := range identities {
		if _, ours := s.agents[one.AgentID]; ours {
			s.callers[one.Serial] = identified{kind: Agent, id: one.AgentID, fingerprint: one.Fingerprint, notAfter: one.NotAfter}
		}
	}
	return err
}

func (c *Control) fillPlacements(ctx context.Context, tx *store.Tx, s *snapshot) error {
	leaves, err := tx.NewestLeaves(ctx)
	if err != nil {
		return err
	}
	ids := make([]string, 0, len(leaves))
	for _, leaf := range leaves {
		ids = append(ids, leaf.PlacementID)
		s.newest[leaf.PlacementID] = lastIssue{names: leaf.Names, input: sha256.Sum256(leaf.PolicyInput), revoked: !leaf.RevokedAt.IsZero()}
	}
	out, err := c.unable(ctx, tx)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(ids, standingsAtOnce) {
		stood, err := tx.Standings(ctx, some, out.ids...)
		if err != nil {
			return err
		}
		for id, one := range stood {
			if _, ours := s.agents[one.AgentID]; ours && !one.Orphan {
				s.stood[id] = one
			}
		}
	}
	return nil
}

func (c *Control) fillSigners(ctx context.Context, tx *store.Tx, s *snapshot) error {
	active, err := activeIssuing(ctx, tx)
	if err != nil {
		return err
	}
	for _, one := range s.stood {
		if s.signers[one.Issuer] != nil {
			continue
		}
		by, err := c.signer(ctx, tx, one.Issuer)
		if err != nil {
			return fault.Wrap(fault.CodeOf(err), err, "who signs for region %q", one.Region)
		}
		s.signers[one.Issuer] = by
	}
	for _, one := range s.stood {
		if home := homeOf(active, one.Region, one.Issuer); home != "" {
			s.homes[one.Region] = home
		}
	}
	return nil
}
