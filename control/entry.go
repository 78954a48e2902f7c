package control

import (
	"context"
	"errors"
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
	return appendEntry(ctx, tx, audit.Entry{
		ID: newID(), Time: tx.Now, Actor: caller.actor(), Verb: verb, Object: object, Outcome: "done", Detail: detail,
	})
}

func appendEntry(ctx context.Context, tx *store.Tx, entry audit.Entry) (string, error) {
	content, err := entry.Encode()
	if err != nil {
		return "", fault.Wrap(fault.Internal, err, "encode audit entry of %s", entry.Verb)
	}
	return entry.ID, tx.AppendAuditEntry(ctx, entry.ID, content, audit.LeafHash(content))
}

// refused records that a verb was refused and returns the refusal, with the
// failure to record it where that failed too.
func (c *Control) refused(ctx context.Context, caller Caller, verb, object string, refusal error) error {
	if caller.Kind == Anonymous && !c.refusals.admit(c.now()) {
		c.log.Warn("refused", "verb", verb, "object", object, "address", caller.Address, "reason", refusal.Error())
		return refusal
	}
	err := c.db.Write(ctx, func(tx *store.Tx) error {
		_, err := appendEntry(ctx, tx, audit.Entry{
			ID: newID(), Time: tx.Now, Actor: caller.actor(), Verb: verb, Object: object,
			Outcome: "refused", Reason: refusal.Error(),
		})
		return err
	})
	return errors.Join(refusal, err)
}

// refusals bounds what strangers can make the audit log grow by: one entry a
// second on average, in bursts of sixty. What is over goes to the server's
// own log.
type refusals struct {
	mu     sync.Mutex
	tokens float64
	at     time.Time
}

const refusalBurst = 60

func (r *refusals) admit(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at.IsZero() {
		r.tokens = refusalBurst
	} else if passed := now.Sub(r.at).Seconds(); passed > 0 {
		r.tokens = min(refusalBurst, r.tokens+passed)
	}
	r.at = now
	if r.tokens < 1 {
		return false
	}
	r.tokens--
	return true
}
