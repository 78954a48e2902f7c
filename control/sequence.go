package control

import (
	"context"
	"fmt"
	"time"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// One server at a time gives audit entries their place: the one that holds the
// sequencer's lease. It hashes and signs on a snapshot, so that no writer waits
// for that, and commits all of it at once under a compare-and-swap on the size
// of the log and the lease's fencing number. The lease spares the others the
// work; that the log does not fork is the compare-and-swap's doing alone.
const (
	sequencerLease = "sequencer"
	sequencerLife  = 5 * time.Second // after which another may go on for a server that died
	sequenceSlice  = 4096
	shownAtOnce    = 3 // agents here that are shown a new checkpoint at once, and would know a store that is older
)

// growth is what one pass adds to the log.
type growth struct {
	store.LogGrowth
	root audit.Hash
}

// SequenceAudit gives pending entries their index, grows the tree and signs a
// checkpoint. It returns how many it took. Killed at any point it leaves either
// all of that or none. While another server is at it, it is a Conflict.
func (c *Control) SequenceAudit(ctx context.Context) (int, error) {
	if still, err := c.standsStill(ctx); err != nil || still {
		return 0, err
	}
	g, err := c.growth(ctx)
	if err != nil || len(g.Entries) == 0 {
		return 0, err
	}
	if err := c.commitGrowth(ctx, g); err != nil {
		return 0, err
	}
	return len(g.Entries), nil
}

// extent is how far the log goes, and how much of it is published.
type extent struct{ size, published uint64 }

// ShowLog shows a log that has grown, or of which more was cosigned, here or at
// another server, to a few of the agents that are connected here. They are its
// witnesses: what they saw, a store that is put back from a copy can't deny. The
// others see it at their next look.
func (c *Control) ShowLog(ctx context.Context) error {
	return c.db.Read(ctx, func(tx *store.Tx) error {
		size, err := tx.TreeSize(ctx)
		if err != nil {
			return err
		}
		published, err := tx.PublishedSize(ctx)
		if err != nil {
			return err
		}
		if now := (extent{size, published}); c.shown.Swap(now) != now {
			c.watchers.wakeSome(shownAtOnce)
		}
		return nil
	})
}

func (c *Control) commitGrowth(ctx context.Context, g growth) error {
	checkpoint, err := c.signGrowth(g)
	if err != nil {
		return err
	}
	return c.change(ctx, func(tx *store.Tx) error {
		tx.Quiet()
		return c.putGrowth(ctx, tx, g, checkpoint)
	})
}

func (c *Control) signGrowth(g growth) ([]byte, error) {
	return audit.Checkpoint{Origin: c.Origin(), Size: g.Size + uint64(len(g.Entries)), Root: g.root}.Sign(c.logSigner)
}

func (c *Control) putGrowth(ctx context.Context, tx *store.Tx, g growth, checkpoint []byte) error {
	lease, err := tx.TakeLease(ctx, sequencerLease, c.instance, sequencerLife)
	if err != nil {
		return err
	}
	g.Fencing = lease.Fencing
	if err := tx.GrowLog(ctx, g.LogGrowth); err != nil {
		return err
	}
	return tx.PutCheckpoint(ctx, g.Size+uint64(len(g.Entries)), checkpoint)
}

// sequenceAll gives all pending entries their place in the transaction that made
// them: of a restore, whose entry agents have to find in the log at once.
func (c *Control) sequenceAll(ctx context.Context, tx *store.Tx) error {
	for {
		g, err := c.growthIn(ctx, tx)
		if err != nil || len(g.Entries) == 0 {
			return err
		}
		checkpoint, err := c.signGrowth(g)
		if err != nil {
			return err
		}
		if err := c.putGrowth(ctx, tx, g, checkpoint); err != nil {
			return err
		}
	}
}

func (c *Control) growth(ctx context.Context) (g growth, err error) {
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		g, err = c.growthIn(ctx, tx)
		return err
	})
	return g, err
}

// growthIn is what is to be added now: nothing when no entry is pending.
func (c *Control) growthIn(ctx context.Context, tx *store.Tx) (growth, error) {
	var g growth
	var err error
	if g.Entries, err = tx.PendingEntries(ctx, sequenceSlice); err != nil || len(g.Entries) == 0 {
		return g, err
	}
	if err := c.mySequence(ctx, tx); err != nil {
		return g, err
	}
	if g.Size, err = c.soundTree(ctx, tx); err != nil {
		return g, err
	}
	leaves := make([]audit.Hash, len(g.Entries))
	for i, entry := range g.Entries {
		leaves[i] = entry.LeafHash
	}
	g.Tiles, g.root, err = audit.Append(g.Size, leaves, tx.AuditTiles(ctx))
	return g, err
}

// unplacedAfter is how long entries may wait for their place before status says so.
const unplacedAfter = time.Minute

// unplacedWords says since when entries have waited for their place in the log,
// where that is long: why, such as a tree that somebody altered, only the logs of
// servers say. In a store that is rolled back none gets one, which is said anyway.
func unplacedWords(ctx context.Context, tx *store.Tx) (string, error) {
	pending, err := tx.PendingEntries(ctx, 1)
	if err != nil || len(pending) == 0 {
		return "", err
	}
	if state, err := tx.RolledBack(ctx); err != nil || state != nil {
		return "", err
	}
	entry, err := audit.Decode(pending[0].Content)
	if err != nil || tx.Now.Sub(entry.Time) <= unplacedAfter {
		return "", err
	}
	return fmt.Sprintf("entries have waited for their place in the audit log since %s: see the servers' logs, and rotunda audit verify", entry.Time.Format(time.RFC3339)), nil
}

// mySequence says, before anything is hashed, whether another server holds the
// lease.
func (c *Control) mySequence(ctx context.Context, tx *store.Tx) error {
	lease, err := tx.Lease(ctx, sequencerLease)
	if fault.CodeOf(err) == fault.NotFound {
		return nil
	}
	if err == nil && lease.Holder != c.instance && tx.Now.Before(lease.EndsAt) {
		return fault.New(fault.Conflict, "server %s sequences the audit log until %s", lease.Holder, lease.EndsAt.Format(time.RFC3339)).
			WithRemedy("try again then; of a server that was killed it is its last lease")
	}
	return err
}

// soundTree is the size of a tree that gives the root of the newest checkpoint.
// Another one was altered behind our back, and what is signed over it would be
// a fork.
func (c *Control) soundTree(ctx context.Context, tx *store.Tx) (uint64, error) {
	size, err := tx.TreeSize(ctx)
	if err != nil {
		return 0, err
	}
	signed, err := tx.NewestCheckpoint(ctx)
	if err != nil || signed == nil && size == 0 {
		return size, err
	}
	newest, err := audit.OpenCheckpoint(signed, c.Origin(), c.logVerifier)
	if err != nil {
		return 0, fault.Wrap(fault.Internal, err, "newest checkpoint of the audit log")
	}
	root, err := audit.Root(size, tx.AuditTiles(ctx))
	if err == nil && newest.Size == size && newest.Root == root {
		return size, nil
	}
	if err != nil && fault.CodeOf(err) != fault.NotFound {
		return 0, err
	}
	return 0, fault.New(fault.Internal, "the audit log in the store is not the one that was signed at %d entries: nothing is added to it", newest.Size).
		WithRemedy("keep the store as it is, find what differs with rotunda audit verify, and put an untouched copy in its place")
}

// LeaveSequence gives the sequencer's lease back, so that another server goes
// on at once.
func (c *Control) LeaveSequence(ctx context.Context) error {
	return c.db.Write(ctx, func(tx *store.Tx) error {
		lease, err := tx.Lease(ctx, sequencerLease)
		if fault.CodeOf(err) == fault.NotFound || err == nil && (lease.Holder != c.instance || !tx.Now.Before(lease.EndsAt)) {
			return nil
		}
		if err != nil {
			return err
		}
		return tx.ReleaseLease(ctx, lease)
	})
}
