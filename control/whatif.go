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
		if supposed, err = c.suppose(ctx, tx, proposal); err != nil {
			return err
		}
		supposed.Pace = over
		if caller.Kind == Operator {
			supposed.You = caller.ID
		}
		return c.supposeRenewals(ctx, tx, req, &supposed)
	})
	if err != nil {
		return nil, err
	}
	return wireForetold(supposed, supposed.Foretell(now), now), nil
}

// supposeRenewals reads how the renewals of a change would go: as they are asked for,
// by the windows and freezes that are declared.
func (c *Control) supposeRenewals(ctx context.Context, tx *store.Tx, req *api.WhatIfRequest, s *whatif.Supposed) error {
	change := store.TrustChange{Pace: req.Over.AsDuration()}
	if err := keepReissue(req.Over, req.Reissue, &change); err != nil {
		return err
	}
	n := 0
	for _, holder := range s.Trust.Managed(tx.Now) {
		if s.Means[holder.Name].Kind == "placement" {
			n++
		}
	}
	var err error
	if s.Reissue, err = c.reissueSpec(change, "reissue", n); err != nil {
		return err
	}
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return err
	}
	s.Windows = map[fleet.Name]*fleet.Window{}
	for _, document := range w.set.OfKind(fleet.KindWindow) {
		s.Windows[document.Name] = document.Spec.(*fleet.Window)
	}
	f, err := c.openFacts(ctx, tx)
	if err != nil {
		return err
	}
	if never := f.model.Never(s.Reissue, tx.Now); never != "" && f.model.CheckNamed(s.Reissue) == nil {
		s.Stops = append(s.Stops, "its renewals would never begin: "+never)
		return nil
	}
	return f.model.CheckNamed(s.Reissue)
}
