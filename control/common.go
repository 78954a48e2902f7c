package control

import (
	"context"
	"sync"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// common is what the desires of all agents have in common, as one commit of the
// store left it. A commit wakes every agent's stream at once; each would read
// the same.
type common struct {
	commit     time.Time
	epoch      uint64
	checkpoint []byte
	declared
	cosigned   []byte // the newest one with the cosignatures that are required, for agents that demand some
	bundles    map[fleet.Name]store.Bundle
	change     *openChange
	issuer     string // whose identities agents should hold; empty: whoever's they do
	expels     bool   // some certificates wait to be revoked
	lists      *listings
	closings   []closing
	rolledBack *store.RolledBack // nil: it is not
	restored   *api.Restored     // the newest restore, in the checkpoint; nil: there was none
	testify    string            // what agents are to say once what they hold for; empty: for nothing
	breakers   breakers
}

// commons keeps the newest one.
type commons struct {
	mu       sync.Mutex
	newest   *common
	closings keptClosings
}

// commonAt is what agents have in common in the snapshot that tx reads. Within a
// Write it is read anew: what that shows may be rolled back.
func (c *Control) commonAt(ctx context.Context, tx *store.Tx) (*common, error) {
	last, err := tx.LastCommit(ctx)
	if err != nil {
		return nil, err
	}
	if !tx.Committed() {
		return c.readCommon(ctx, tx, last, nil)
	}
	c.commons.mu.Lock() // the others wait for the one that reads
	defer c.commons.mu.Unlock()
	if newest := c.commons.newest; newest != nil && newest.commit.Equal(last) {
		return newest, nil
	}
	if c.commons.closings == nil {
		c.commons.closings = keptClosings{}
	}
	read, err := c.readCommon(ctx, tx, last, c.commons.closings)
	if err == nil && (c.commons.newest == nil || read.commit.After(c.commons.newest.commit)) {
		c.commons.newest = read
	}
	return read, err
}

func (c *Control) readCommon(ctx context.Context, tx *store.Tx, last time.Time, kept keptClosings) (*common, error) {
	read := &common{commit: last, bundles: map[fleet.Name]store.Bundle{}}
	var err error
	if read.epoch, err = tx.Epoch(ctx); err != nil {
		return nil, err
	}
	if read.declared, err = c.declaredAt(ctx, tx); err != nil {
		return nil, err
	}
	if read.checkpoint, err = tx.NewestCheckpoint(ctx); err != nil {
		return nil, err
	}
	if _, read.cosigned, err = c.cosigned(ctx, tx); err != nil {
		return nil, err
	}
	bundles, err := tx.Bundles(ctx)
	if err != nil {
		return nil, err
	}
	for _, bundle := range bundles {
		read.bundles[fleet.Name(bundle.Name)] = bundle
	}
	if read.change, err = c.openChange(ctx, tx); err != nil {
		return nil, err
	}
	revocations, err := tx.OpenRevocations(ctx)
	if err != nil {
		return nil, err
	}
	read.expels = len(revocations) > 0
	if read.closings, err = c.closingsAt(ctx, tx, kept); err != nil {
		return nil, err
	}
	if read.lists, err = c.listingsAt(ctx, tx); err != nil {
		return nil, err
	}
	if err := c.readRestore(ctx, tx, read); err != nil {
		return nil, err
	}
	open, err := tx.OpenTrustChanges(ctx)
	if err != nil || len(open) == 0 {
		return read, err
	}
	by, err := c.issuer(ctx, tx)
	if err == nil {
		read.issuer = by.ID
	}
	return read, err
}

func (c *common) bundle(name fleet.Name) (store.Bundle, error) {
	bundle, ok := c.bundles[name]
	if !ok {
		return bundle, fault.New(fault.NotFound, "bundle %s does not exist", name)
	}
	return bundle, nil
}

func (c *common) digest(name fleet.Name) (pki.BundleDigest, error) {
	bundle, err := c.bundle(name)
	return bundle.Digest, err
}

// renewIdentityAt is from when on the agent should hold an identity of the
// authority that signs now, or another than one that is to be revoked; zero: it
// does.
func (c *common) renewIdentityAt(ctx context.Context, tx *store.Tx, agent store.Agent) (time.Time, error) {
	if c.issuer == "" && !c.expels {
		return time.Time{}, nil
	}
	identities, err := tx.AgentIdentities(ctx, agent.ID)
	if err != nil || len(identities) == 0 {
		return time.Time{}, err
	}
	expelled := false
	if c.expels {
		if expelled, err = tx.WaitsToBeRevoked(ctx, identities[0].Serial); err != nil {
			return time.Time{}, err
		}
	}
	if foreign := c.issuer != "" && identities[0].AuthorityID != c.issuer; !foreign && !expelled {
		return time.Time{}, nil
	}
	return tx.Now, nil
}

// readRestore reads how the store stands to what agents have seen of its log.
func (c *Control) readRestore(ctx context.Context, tx *store.Tx, read *common) error {
	var err error
	if read.rolledBack, err = tx.RolledBack(ctx); err != nil {
		return err
	}
	if read.rolledBack != nil {
		read.testify = read.rolledBack.ID
	}
	last, err := tx.LastRestore(ctx)
	if err != nil || last == nil {
		return err
	}
	if read.testify == "" {
		read.testify = last.ID // who was away then has something to say yet
	}
	entry, err := tx.AuditEntryByID(ctx, last.EntryID)
	if err != nil || entry.Pending {
		return err
	}
	size, err := tx.TreeSize(ctx)
	if err != nil {
		return err
	}
	proof, err := audit.ProveInclusion(entry.Index, size, tx.AuditTiles(ctx))
	read.restored = &api.Restored{Entry: entry.Content, Index: entry.Index}
	for _, hash := range proof {
		read.restored.Proof = append(read.restored.Proof, hash[:])
	}
	return err
}
