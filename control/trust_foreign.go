package control

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// beginFrom begins a change from a root that was imported to the one that signs
// already: nothing has to be signed for it.
func (c *Control) beginFrom(ctx context.Context, caller Caller, req *api.BeginTrustRequest) (*api.BeginTrustResponse, error) {
	response := &api.BeginTrustResponse{}
	body := func(tx *store.Tx) error {
		proto.Reset(response)
		change, err := c.changeFrom(ctx, tx, caller, req)
		if err != nil {
			return err
		}
		if !req.DryRun {
			if err := c.recordFrom(ctx, tx, caller, req, change); err != nil {
				return err
			}
		}
		view := c.announced
		if req.DryRun {
			view = c.viewTrust
		}
		v, err := view(ctx, tx, change)
		if err != nil {
			return err
		}
		response.Change = v.show()
		response.Notes = []string{v.foreignNote()}
		if req.DryRun {
			return nil
		}
		response.AuditId, err = done(ctx, tx, caller, "trust.begin", "TrustChange/"+change.ID, map[string]any{
			"kind": string(change.Kind), "from": req.From, "reason": req.Reason, "through": string(v.facts.Through),
			"root": pki.FingerprintOf(v.next.root.Certificate).String(),
		})
		return err
	}
	if req.DryRun {
		return response, c.db.Read(ctx, body)
	}
	if err := c.change(ctx, body); err != nil {
		return nil, err
	}
	c.watchers.wakeTrust()
	return response, nil
}

func (c *Control) changeFrom(ctx context.Context, tx *store.Tx, caller Caller, req *api.BeginTrustRequest) (store.TrustChange, error) {
	change := store.TrustChange{
		ID: newID(), Kind: store.RootChange, Close: req.CloseSessions, Pace: req.Over.AsDuration(),
		Reason: req.Reason, BegunBy: caller.String(), BegunAt: tx.Now,
	}
	if err := noneOpen(ctx, tx); err != nil {
		return change, err
	}
	from, err := tx.AuthorityByName(ctx, req.From)
	if fault.CodeOf(err) == fault.NotFound {
		return change, fault.New(fault.NotFound, "authority %s is not recorded here", printable(req.From)).
			WithRemedy("rotunda get authorities lists those that are; rotunda authority import records one")
	}
	if err != nil {
		return change, err
	}
	switch {
	case from.Kind != store.RootAuthority || from.Origin != store.KeyForeign:
		return change, fault.New(fault.Invalid, "%s is no root that was imported", from.Name).
			WithRemedy("a root of ours is replaced by a new one: rotunda trust rotate root")
	case from.State == fleet.AuthorityWithdrawn:
		return change, fault.New(fault.Conflict, "%s is withdrawn already", from.Name)
	}
	if change, err = c.fromNow(ctx, tx, change); err != nil {
		return change, err
	}
	change.NewRoot, change.NewIssuing = change.OldRoot, change.OldIssuing
	change.OldRoot, change.OldIssuing = from.ID, from.ID
	return change, inSomeBundle(ctx, tx, from)
}

// foreignNote says what will be known of who lets go of a foreign root.
func (v *trustView) foreignNote() string {
	if v.facts.Provable {
		return "canaries under " + v.facts.Old + " can be signed: who asks his clients for certificates will be seen to refuse one"
	}
	return "the key of " + v.facts.Old + " is not here: that nobody takes what is under it any more will be unprovable"
}

// inSomeBundle refuses a root that nobody is told to trust.
func inSomeBundle(ctx context.Context, tx *store.Tx, root store.Authority) error {
	bundles, err := tx.Bundles(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(bundles, func(b store.Bundle) bool { return hasAnchor(b, root) }) {
		return fault.New(fault.Invalid, "%s is in no bundle, so there is nothing to change", root.Name).
			WithRemedy("rotunda graph shows which roots are trusted, and by whom")
	}
	return nil
}

func (c *Control) recordFrom(ctx context.Context, tx *store.Tx, caller Caller, req *api.BeginTrustRequest, change store.TrustChange) error {
	through, err := throughOf(req)
	if err != nil {
		return err
	}
	if err := tx.InsertTrustChange(ctx, change); err != nil {
		return err
	}
	return tx.InsertTrustDecision(ctx, store.TrustDecision{
		ID: newID(), ChangeID: change.ID, Kind: store.TrustAdvance, Phase: string(through), By: caller.String(), Reason: req.Reason,
	})
}
