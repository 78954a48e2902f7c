package control

import (
	"context"
	"time"

	"github.com/rotunda-pki/rotunda/forward"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// How much of the log a sink is sent at a time.
const mostForwardedBytes = 1 << 20

// DeclareSink says that this server forwards the audit log to a sink. One whose
// name is new has taken nothing yet.
func (c *Control) DeclareSink(ctx context.Context, sink forward.Config) error {
	c.sinks.Store(sink.Name, true)
	var known store.AuditSink
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		var err error
		known, err = tx.AuditSink(ctx, sink.Name)
		return err
	})
	if fault.CodeOf(err) == fault.NotFound {
		err = nil
	}
	if err != nil || known.Kind == sink.Kind && known.Address == sink.Address {
		return err
	}
	return c.change(ctx, func(tx *store.Tx) error {
		return tx.DeclareAuditSink(ctx, sink.Name, sink.Kind, sink.Address)
	})
}

// SinkPosition is how far a sink has come, and how many entries there are.
func (c *Control) SinkPosition(ctx context.Context, name string) (sink store.AuditSink, size uint64, err error) {
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		if sink, err = tx.AuditSink(ctx, name); err != nil {
			return err
		}
		size, err = tx.TreeSize(ctx)
		return err
	})
	return sink, size, err
}

// LeaseSink makes the holder the one server that forwards to a sink, for a
// while. While another is, it is a Conflict.
func (c *Control) LeaseSink(ctx context.Context, name, holder string, life time.Duration) (lease store.Lease, err error) {
	err = c.change(ctx, func(tx *store.Tx) error {
		tx.Quiet()
		lease, err = tx.TakeLease(ctx, "forward/"+name, holder, life)
		return err
	})
	return lease, err
}

// ReleaseSink lets another server forward at once.
func (c *Control) ReleaseSink(ctx context.Context, lease store.Lease) error {
	return unlessMoved(c.change(ctx, func(tx *store.Tx) error { return tx.ReleaseLease(ctx, lease) }))
}

// SinkBack is the index of the entry that so many bytes of entries before the
// given one begin with.
func (c *Control) SinkBack(ctx context.Context, before uint64, size int) (index uint64, err error) {
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		index, err = tx.AuditEntriesBack(ctx, before, size)
		return err
	})
	return index, err
}

// SinkEntries are the entries from an index on that are sent next: at most
// limit, and at most a MiB beyond the first.
func (c *Control) SinkEntries(ctx context.Context, from uint64, limit int) (entries []forward.Entry, err error) {
	var listed []store.AuditEntry
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		listed, err = tx.AuditEntries(ctx, from, limit)
		return err
	})
	size := 0
	for _, one := range listed {
		if size += len(one.Content); size > mostForwardedBytes && len(entries) > 0 {
			break
		}
		entries = append(entries, forward.Entry{Index: one.Index, ID: one.ID, Leaf: one.LeafHash, Content: one.Content})
	}
	return entries, err
}

// SinkTook records that a sink that had taken from entries has taken to now.
// The holder of another lease may not say so.
func (c *Control) SinkTook(ctx context.Context, lease store.Lease, name string, from, to uint64) error {
	return c.change(ctx, func(tx *store.Tx) error {
		tx.Quiet()
		if err := tx.CheckLease(ctx, lease); err != nil {
			return err
		}
		return tx.AdvanceAuditSink(ctx, name, from, to)
	})
}

// SinkFailed records why a sink took nothing.
func (c *Control) SinkFailed(ctx context.Context, lease store.Lease, name, why string) error {
	return c.change(ctx, func(tx *store.Tx) error {
		if err := tx.CheckLease(ctx, lease); err != nil {
			return err
		}
		return tx.FailAuditSink(ctx, name, short(why))
	})
}
