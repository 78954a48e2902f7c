package control

import (
	"bytes"
	"context"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/witness"
)

// Witnesses outside cosign the newest checkpoint, and what they cosigned is kept
// here with it. One that has seen more of the log than there is, or something
// else, is believed only as far as it shows what the log's own key signed; what
// it merely says is an alarm.
const (
	witnessLease   = "witnesses"
	outsideWitness = "witness/" // before a name, where an agent's id may stand
	mostLines      = 16         // cosignatures below a checkpoint: as many as may be asked
)

// Witnesses are those that this server's rotunda.yaml names.
func (c *Control) Witnesses() witness.Config { return c.witnesses }

// LogVerifier verifies what the audit log's key signed.
func (c *Control) LogVerifier() note.Verifier { return c.logVerifier }

// DeclareWitnesses says who is asked. One whose name or key is new has seen
// nothing yet.
func (c *Control) DeclareWitnesses(ctx context.Context) error {
	known := map[string]store.LogWitness{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		all, err := tx.LogWitnesses(ctx)
		for _, one := range all {
			known[one.Name] = one
		}
		return err
	})
	news := false
	for _, peer := range c.witnesses.Ask {
		news = news || known[peer.Name].Key != peer.Key || known[peer.Name].URL != peer.URL
	}
	if err != nil || !news {
		return err
	}
	return c.change(ctx, func(tx *store.Tx) error {
		for _, peer := range c.witnesses.Ask {
			if err := tx.DeclareLogWitness(ctx, peer.Name, peer.Key, peer.URL); err != nil {
				return err
			}
		}
		return nil
	})
}

// LeaseWitnesses makes this server the one that asks witnesses, for a while.
// While another is, it is a Conflict.
func (c *Control) LeaseWitnesses(ctx context.Context, holder string, life time.Duration) (lease store.Lease, err error) {
	err = c.change(ctx, func(tx *store.Tx) error {
		tx.Quiet()
		lease, err = tx.TakeLease(ctx, witnessLease, holder, life)
		return err
	})
	return lease, err
}

// ReleaseWitnesses lets another server ask at once.
func (c *Control) ReleaseWitnesses(ctx context.Context, lease store.Lease) error {
	return unlessMoved(c.change(ctx, func(tx *store.Tx) error { return tx.ReleaseLease(ctx, lease) }))
}

// NewestSize is the size of the newest checkpoint, 0 before there is one.
func (c *Control) NewestSize(ctx context.Context) (size uint64, err error) {
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		size, _, err = c.newestCheckpoint(ctx, tx)
		return err
	})
	return size, err
}

// KnownWitness is what is known of a witness.
func (c *Control) KnownWitness(ctx context.Context, name string) (known store.LogWitness, err error) {
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		known, err = tx.LogWitness(ctx, name)
		return err
	})
	return known, err
}

// WitnessRequest is what a witness that has the log of the old size is asked: to
// cosign the checkpoint of a size, or the newest one where it has more than
// that. That it has more than the log is a Conflict.
func (c *Control) WitnessRequest(ctx context.Context, old, size uint64) (request audit.AddCheckpoint, to uint64, err error) {
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		signed, err := tx.CheckpointAt(ctx, size)
		if err != nil {
			return err
		}
		if to = size; old > size || signed == nil {
			if signed, err = tx.NewestCheckpoint(ctx); err != nil {
				return err
			}
			newest, err := audit.OpenCheckpoint(signed, c.Origin(), c.logVerifier)
			if err != nil {
				return err
			}
			to = newest.Size
		}
		if old > to {
			return fault.New(fault.Conflict, "it has cosigned %d entries of the log, which has %d here", old, to)
		}
		request = audit.AddCheckpoint{Old: old, Signed: signed}
		request.Proof, err = audit.ProveConsistency(old, to, tx.AuditTiles(ctx))
		return err
	})
	return request, to, err
}

// WitnessCosigned keeps what a witness cosigned. A checkpoint that has as many
// lines as are required is published with it.
func (c *Control) WitnessCosigned(ctx context.Context, lease store.Lease, peer witness.Peer, size uint64, line audit.Cosignature) error {
	return c.change(ctx, func(tx *store.Tx) error {
		tx.Quiet() // agents have ten minutes to see it, and look more often
		if err := tx.CheckLease(ctx, lease); err != nil {
			return err
		}
		err := tx.PutCosignature(ctx, peer.Name, store.Cosignature{Size: size, Key: peer.Key, Line: string(line.Line), At: line.At})
		if err != nil {
			return err
		}
		lines, err := tx.Cosignatures(ctx, size, size)
		if err != nil || !c.enough(lines) {
			return err
		}
		return tx.Publish(ctx, size)
	})
}

// enough says whether a checkpoint's lines are of as many of the witnesses that
// are named now as are required.
func (c *Control) enough(lines []store.Cosignature) bool {
	n := 0
	for _, peer := range c.witnesses.Ask {
		for _, line := range lines {
			if line.Key == peer.Key {
				n++
			}
		}
	}
	return n >= c.witnesses.Required
}

// WitnessFailed records why a witness cosigned nothing.
func (c *Control) WitnessFailed(ctx context.Context, lease store.Lease, name, why string) error {
	return c.change(ctx, func(tx *store.Tx) error {
		if err := tx.CheckLease(ctx, lease); err != nil {
			return err
		}
		return tx.FailLogWitness(ctx, name, short(why))
	})
}

// Contradiction is that a witness has something else of the log than there is,
// or says so.
type Contradiction struct {
	Says  string
	Shown []byte // the checkpoint that it cosigned last, where it shows one; signed by the log and by it
	At    time.Time
}

// WitnessContradicts records a contradiction: as an alarm that stays, with an
// entry in the log. Where the witness shows what the log's key signed and the log
// does not go on from, and no restore set that aside, the store is rolled back.
func (c *Control) WitnessContradicts(ctx context.Context, lease store.Lease, name string, said Contradiction) error {
	detail := map[string]any{"says": short(said.Says)}
	if len(said.Shown) > 0 {
		seen, err := audit.OpenCheckpoint(said.Shown, c.Origin(), c.logVerifier)
		if err != nil {
			return err
		}
		detail["shown"] = seen.Fact()
		state := store.RolledBack{Witness: outsideWitness + name, Seen: bytes.Clone(said.Shown), SeenSize: seen.Size}
		_, err = c.compare(ctx, state, seen, func(restored *store.RolledBack) bool {
			return seen.Size <= restored.SeenSize && !said.At.After(restored.EndedAt)
		})
		if err != nil {
			return err
		}
	}
	news := false
	err := c.change(ctx, func(tx *store.Tx) error {
		if err := tx.CheckLease(ctx, lease); err != nil {
			return err
		}
		if err := tx.FailLogWitness(ctx, name, short(said.Says)); err != nil {
			return err
		}
		var err error
		if news, err = tx.AlarmLogWitness(ctx, name, short(said.Says)); err != nil || !news {
			return err
		}
		_, err = done(ctx, tx, Caller{Kind: Server}, "audit.witness.alarm", "AuditWitness/"+name, detail)
		return err
	})
	if err == nil && news {
		c.log.Error("ALARM: a witness contradicts the audit log", "witness", name, "says", said.Says, "shown", string(said.Shown))
	}
	return err
}

// newestCheckpoint is the newest checkpoint with its cosignatures.
func (c *Control) newestCheckpoint(ctx context.Context, tx *store.Tx) (size uint64, signed []byte, err error) {
	if signed, err = tx.NewestCheckpoint(ctx); err != nil || signed == nil {
		return 0, nil, err
	}
	newest, err := audit.OpenCheckpoint(signed, c.Origin(), c.logVerifier)
	if err != nil {
		return 0, nil, err
	}
	lines, err := tx.Cosignatures(ctx, newest.Size, newest.Size)
	return newest.Size, withLines(signed, lines), err
}

func withLines(signed []byte, lines []store.Cosignature) []byte {
	signed = bytes.Clone(signed)
	for _, line := range lines[:min(len(lines), mostLines)] {
		signed = append(signed, line.Line...)
	}
	return signed
}

// Published is the checkpoint for everybody, with its cosignatures: the newest
// that has as many as are required, nil before there is one.
func (c *Control) Published(ctx context.Context) (signed []byte, err error) {
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		_, signed, err = c.published(ctx, tx)
		return err
	})
	return signed, err
}

func (c *Control) published(ctx context.Context, tx *store.Tx) (size uint64, signed []byte, err error) {
	if c.witnesses.Required == 0 {
		return c.newestCheckpoint(ctx, tx)
	}
	return c.cosigned(ctx, tx)
}

// cosigned is the newest checkpoint that has as many cosignatures as are
// required, and one at least; nil before there is one.
func (c *Control) cosigned(ctx context.Context, tx *store.Tx) (size uint64, signed []byte, err error) {
	if len(c.witnesses.Ask) == 0 {
		return 0, nil, nil
	}
	if size, err = tx.PublishedSize(ctx); err != nil {
		return 0, nil, err
	}
	lines, err := tx.Cosignatures(ctx, size, size)
	if err != nil || size == 0 || !c.enough(lines) { // more are required now than were then
		return 0, nil, err
	}
	signed, err = tx.CheckpointAt(ctx, size)
	return size, withLines(signed, lines), err
}
