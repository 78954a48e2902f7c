package control

import (
	"context"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/whatif"
)

// WhatIf says what a change of trust would meet with if it were begun now, or a
// profile if it were applied. It
// reads one snapshot of the store and changes nothing; the keys of the root
// that it supposes are made in memory and forgotten.
func (c *Control) WhatIf(ctx context.Context, caller Caller, req *api.WhatIfRequest) (*api.WhatIfResponse, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	proposal, err := whatif.Parse(req.Change)
	if err != nil {
		return nil, err
	}
	if proposal.Kind == whatif.Reprofile {
		return c.whatIfProfile(ctx, proposal, req.Profile)
	}
	over := req.Over.AsDuration()
	if over < 0 || over > longestOver {
		return nil, fault.New(fault.Invalid, "a reissue over %s: it takes between nothing and %s", over, fleet.Duration(longestOver))
	}
	var supposed whatif.Supposed
	now := c.now()
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		var err error
		now = tx.Now
		supposed, err = c.suppose(ctx, tx, proposal)
		return err
	})
	if err != nil {
		return nil, err
	}
	supposed.Pace = over
	return wireForetold(supposed, supposed.Foretell(now), now), nil
}
