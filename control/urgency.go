package control

import (
	"context"

	"github.com/rotunda-pki/rotunda/admission"
	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// Asks says what each request of an agent is to replace, for a server that can't
// carry out all at once. It decides nothing else: a placement that is not the
// agent's has nothing in use.
func (c *Control) Asks(ctx context.Context, caller Caller, requests []*api.PlacementRequest) ([]admission.Ask, error) {
	if err := authorize(caller, "issue"); err != nil {
		return nil, err
	}
	if len(requests) > maxIssueSlice {
		return nil, fault.New(fault.Invalid, "%d requests in one call, at most %d may be", len(requests), maxIssueSlice)
	}
	asks := make([]admission.Ask, len(requests))
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		for i, request := range requests {
			term, err := tx.TermInUse(ctx, request.PlacementId, caller.ID)
			if err != nil && fault.CodeOf(err) != fault.NotFound {
				return err
			}
			asks[i] = admission.Ask(term)
		}
		return nil
	})
	return asks, err
}
