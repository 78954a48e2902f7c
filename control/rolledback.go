package control

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// A store that was put back from a copy has forgotten what came after: what was
// issued then has no record, what was revoked then is not. Agents remember, as
// witnesses of the audit log, and so do witnesses outside. From the first whose
// checkpoint goes beyond the log here, or contradicts it, the store is *rolled
// back*: nothing changes but what hosts report, until a restore.

// change is a Write that a store which is rolled back refuses. All verbs go
// through it, but those that only note what hosts show.
func (c *Control) change(ctx context.Context, fn func(*store.Tx) error) error {
	return c.db.Write(ctx, func(tx *store.Tx) error {
		state, err := tx.RolledBack(ctx)
		if err != nil {
			return err
		}
		if state != nil {
			return rolledBackError(state)
		}
		return fn(tx)
	})
}

func rolledBackError(state *store.RolledBack) error {
	return fault.New(fault.Unavailable, "%s: nothing is issued, revoked or changed", rolledBackWords(state)).
		WithRemedy("on the server's host: rotunda restore")
}

func rolledBackWords(state *store.RolledBack) string {
	who := "agent " + state.Witness
	if name, outside := strings.CutPrefix(state.Witness, outsideWitness); outside {
		who = "witness " + name
	}
	return fmt.Sprintf("the store is rolled back: %s has seen %d entries of the audit log, which had %d here at %s",
		who, state.SeenSize, state.OwnSize, state.FoundAt.Format(time.RFC3339))
}

// RolledBack says in words that the store is rolled back; empty: it is not.
func (c *Control) RolledBack(ctx context.Context) (string, error) {
	words := ""
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		var err error
		words, err = rolledBackIn(ctx, tx)
		return err
	})
	return words, err
}

func rolledBackIn(ctx context.Context, tx *store.Tx) (string, error) {
	state, err := tx.RolledBack(ctx)
	if state == nil {
		return "", err
	}
	return rolledBackWords(state), err
}

// standsStill says whether loops have nothing to do, since the store is rolled
// back. What they do asks again, in its own transaction.
func (c *Control) standsStill(ctx context.Context) (bool, error) {
	words, err := c.RolledBack(ctx)
	return words != "", err
}

// Heed holds the log here to what the report's agent has seen of it.
func (c *Control) Heed(ctx context.Context, caller Caller, report *api.AgentReport) error {
	if err := authorize(caller, "agent.connect"); err != nil {
		return err
	}
	return c.heed(ctx, caller, report.Checkpoint, report.Epoch)
}

// heed holds the log here to a checkpoint that an agent has seen, in the epoch in
// which it took it. Only what the log's own key signed counts; whatever else is
// an alarm and changes nothing. A witness that has not heard yet of a restore
// shows what that restore has set aside, and rightly so.
func (c *Control) heed(ctx context.Context, caller Caller, signed []byte, epoch uint64) error {
	if len(signed) == 0 || c.heeded.same(signed) {
		return nil
	}
	seen, err := audit.OpenCheckpoint(signed, c.Origin(), c.logVerifier)
	if err != nil {
		c.log.Error("ALARM: an agent shows a checkpoint that the audit log's key did not sign", "agent", caller.ID, "error", err)
		return nil
	}
	goes, err := c.compare(ctx, store.RolledBack{Witness: caller.ID, Seen: bytes.Clone(signed), SeenSize: seen.Size}, seen,
		func(restored *store.RolledBack) bool { return epoch < restored.Epoch })
	if goes {
		c.heeded.keep(signed)
	}
	return err
}

// compare says whether the log here goes on from what was seen of it. If not,
// and the newest restore did not set that aside, the store is rolled back.
func (c *Control) compare(ctx context.Context, state store.RolledBack, seen audit.Checkpoint, setAside func(*store.RolledBack) bool) (goes bool, err error) {
	behind := false
	look := func(tx *store.Tx) (goes bool, err error) {
		if goes, err = continues(ctx, tx, seen); err != nil || goes {
			behind = false
			return goes, err
		}
		restored, err := tx.LastRestore(ctx)
		behind = restored == nil || !setAside(restored)
		return false, err
	}
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		goes, err = look(tx)
		return err
	})
	if err != nil || !behind {
		return goes, err
	}
	// Another server may have grown the log since: the same look again, where
	// nobody else writes.
	state.ID = newID()
	news := false
	err = c.db.Write(ctx, func(tx *store.Tx) error {
		news = false
		if _, err := look(tx); err != nil || !behind {
			return err
		}
		var err error
		if state.OwnSize, err = tx.TreeSize(ctx); err != nil {
			return err
		}
		before, err := tx.RolledBack(ctx)
		if err != nil {
			return err
		}
		news = before == nil
		return tx.RollBack(ctx, state)
	})
	if err == nil && news {
		c.log.Error("STORE ROLLED BACK", "witness", state.Witness, "seen", seen.Size, "here", state.OwnSize, "remedy", "rotunda restore")
		c.watchers.wakeEverybody()
		c.watchers.wakeAgents()
	}
	return goes, err
}

// continues says whether the log here begins with what was seen.
func continues(ctx context.Context, tx *store.Tx, seen audit.Checkpoint) (bool, error) {
	size, err := tx.TreeSize(ctx)
	if err != nil || seen.Size > size {
		return false, err
	}
	root, err := audit.Root(seen.Size, tx.AuditTiles(ctx))
	return root == seen.Root, err
}

// heeded is the newest checkpoint that was looked at and found to go with the
// log: nearly all agents show the same.
type heeded struct{ newest atomic.Pointer[[]byte] }

func (h *heeded) same(signed []byte) bool {
	kept := h.newest.Load()
	return kept != nil && bytes.Equal(*kept, signed)
}

func (h *heeded) keep(signed []byte) {
	copied := bytes.Clone(signed)
	h.newest.Store(&copied)
}

// standStill makes a desired state one that changes nothing on the host: what a
// store that has forgotten wants may be long past.
func standStill(desired *api.DesiredState, why string) {
	desired.Anchors, desired.RenewIdentityAt, desired.Checkpoint, desired.Cosigned = nil, nil, nil, nil
	for _, one := range desired.Placements {
		one.Hold, one.RenewThrough, one.RenewFrom, one.Slot, one.Orders, one.Edges = why, 0, nil, nil, nil, nil
	}
}
