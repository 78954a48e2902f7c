package control

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// newID returns a UUIDv7: sortable by the time it was made.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// done appends the audit entry of a verb that is carried out in tx.
func done(ctx context.Context, tx *store.Tx, caller Caller, verb, object string, detail map[string]any) (string, error) {
	entry := doneEntry(tx.Now, caller, verb, object, detail)
	return entry.ID, appendEntries(ctx, tx, []audit.Entry{entry})
}

func doneEntry(now time.Time, caller Caller, verb, object string, detail map[string]any) audit.Entry {
	return audit.Entry{
		ID: newID(), Time: now, Actor: caller.actor(), Verb: verb, Object: object, Outcome: audit.Done, Detail: detail,
	}
}

func appendEntries(ctx context.Context, tx *store.Tx, entries []audit.Entry) error {
	records := make([]store.PendingEntry, len(entries))
	for i, entry := range entries {
		content, err := entry.Encode()
		if err != nil {
			return fault.Wrap(fault.Internal, err, "encode audit entry of %s", entry.Verb)
		}
		records[i] = store.PendingEntry{ID: entry.ID, Content: content, LeafHash: audit.LeafHash(content)}
	}
	return tx.AppendAuditEntries(ctx, records...)
}

// refusal is what was refused, and why.
type refusal struct {
	verb, object string
	reason       error
}

// refused records that a verb was refused and returns the refusal.
func (c *Control) refused(ctx context.Context, caller Caller, verb, object string, reason error) error {
	c.recordRefused(ctx, caller, refusal{verb, object, reason})
	return reason
}

// recordRefused enters refusals into the audit log. They stand whether or not
// that succeeds, so a failure goes to the server's own log, and so do those
// that are over the bound.
func (c *Control) recordRefused(ctx context.Context, caller Caller, refusals ...refusal) {
	admitted := refusals[:0:0]
	for _, one := range refusals {
		if c.refusals.admit(caller, c.now()) {
			admitted = append(admitted, one)
		} else {
			c.log.Warn("refused", "verb", one.verb, "object", one.object, "caller", caller.String(), "address", caller.Address, "reason", one.reason)
		}
	}
	if len(admitted) == 0 {
		return
	}
	ctx = context.WithoutCancel(ctx) // hanging up does not hide it
	err := c.db.Write(ctx, func(tx *store.Tx) error {
		tx.Quiet()
		entries := make([]audit.Entry, len(admitted))
		for i, one := range admitted {
			entries[i] = audit.Entry{
				ID: newID(), Time: tx.Now, Actor: caller.actor(), Verb: one.verb, Object: one.object,
				Outcome: audit.Refused, Reason: short(one.reason.Error()),
			}
		}
		return appendEntries(ctx, tx, entries)
	})
	if err != nil {
		c.log.Error("a refusal could not be recorded", "verb", admitted[0].verb, "caller", caller.String(), "reason", admitted[0].reason, "error", err)
	}
}

// short cuts a text that came from outside down to what may stand in an entry.
func short(text string) string {
	const most = 1000
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// refusals bounds what a caller can make the audit log grow by with what he may
// not do: an entry a second on average, in bursts of sixty. Each agent has a
// bound of its own; strangers share one.
type refusals struct {
	mu      sync.Mutex
	buckets map[string]bucket // by caller
}

type bucket struct {
	left float64
	at   time.Time
}

const refusalBurst = 60

func (r *refusals) admit(caller Caller, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.buckets == nil {
		r.buckets = map[string]bucket{}
	}
	name := caller.String()
	b, known := r.buckets[name]
	if !known {
		b = bucket{refusalBurst, now}
	}
	if passed := now.Sub(b.at).Seconds(); passed > 0 {
		b = bucket{min(refusalBurst, b.left+passed), now}
	}
	admitted := b.left >= 1
	if admitted {
		b.left--
	}
	r.buckets[name] = b
	return admitted
}
