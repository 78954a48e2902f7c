package store

import (
	"context"
	"time"
)

// Term is from when to when a certificate is good.
type Term struct{ IssuedAt, NotAfter time.Time }

func (t *Term) columns() []any { return []any{moment{&t.IssuedAt}, moment{&t.NotAfter}} }

// TermInUse is that of the certificate that a placement of the agent uses, as
// the agent reported last. It is not found where there is none.
func (tx *Tx) TermInUse(ctx context.Context, placementID, agentID string) (Term, error) {
	return one[Term](ctx, tx, thing{"certificate in use at placement", placementID}, `
		SELECT c.issued_at, c.not_after FROM placement p
		JOIN certificate c ON c.placement_id = p.id AND c.generation = p.generation
		WHERE p.id = $1 AND p.agent_id = $2`, placementID, agentID)
}
