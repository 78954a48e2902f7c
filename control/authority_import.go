package control

import (
	"bytes"
	"context"
	"crypto/x509"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// ImportAuthority records a root whose key is somebody else's, with what is
// known to be under it: so that bundles can name it, and a change of trust can
// lead away from it. It signs nothing here, so it is recorded as retired.
func (c *Control) ImportAuthority(ctx context.Context, caller Caller, req *api.ImportAuthorityRequest) (*api.ImportAuthorityResponse, error) {
	if err := authorize(caller, "authority.import"); err != nil {
		return nil, err
	}
	if _, err := fleet.ParseName(req.Name); err != nil {
		return nil, err
	}
	root, issuing, err := parseForeign(req)
	if err != nil {
		return nil, err
	}
	response := &api.ImportAuthorityResponse{}
	body := func(tx *store.Tx) error {
		proto.Reset(response)
		warnings, err := ca.CheckForeign(tx.Now, root, issuing...)
		if err != nil {
			return err
		}
		records, err := foreignRecords(ctx, tx, req.Name, root, issuing)
		if err != nil {
			return err
		}
		for _, record := range records {
			response.Names = append(response.Names, record.Name)
		}
		response.Warnings = warnings
		if req.Trusted {
			if err := noneOpen(ctx, tx); err != nil {
				return err
			}
		}
		if req.DryRun {
			return nil
		}
		for _, record := range records {
			if err := tx.InsertAuthority(ctx, record); err != nil {
				return err
			}
		}
		if req.Trusted {
			if err := c.trustAlso(ctx, tx, root); err != nil {
				return err
			}
		}
		response.AuditId, err = done(ctx, tx, caller, "authority.import", "Authority/"+req.Name, map[string]any{
			"fingerprint": pki.FingerprintOf(root.Raw).String(), "names": response.Names, "trusted": req.Trusted, "reason": req.Reason,
		})
		return err
	}
	if req.DryRun {
		return response, c.db.Read(ctx, body)
	}
	if err := c.db.Write(ctx, body); err != nil {
		return nil, err
	}
	c.watchers.wakeTrust()
	return response, nil
}

func parseForeign(req *api.ImportAuthorityRequest) (root *x509.Certificate, issuing []*x509.Certificate, err error) {
	if root, err = x509.ParseCertificate(req.Root); err != nil {
		return nil, nil, fault.Wrap(fault.Invalid, err, "foreign root")
	}
	for _, der := range req.Issuing {
		one, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, fault.Wrap(fault.Invalid, err, "foreign issuing authority")
		}
		issuing = append(issuing, one)
	}
	return root, issuing, nil
}

// foreignRecords are what the import adds; none of it may be here already.
func foreignRecords(ctx context.Context, tx *store.Tx, name string, root *x509.Certificate, issuing []*x509.Certificate) ([]store.Authority, error) {
	all, err := tx.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	records := []store.Authority{{ID: newID(), Name: name, Kind: store.RootAuthority, Certificate: root.Raw}}
	for _, one := range issuing {
		records = append(records, store.Authority{
			ID: newID(), Name: nextName(append(slices.Clone(all), records...), name+"-issuing"), Kind: store.IssuingAuthority,
			ParentID: records[0].ID, Certificate: one.Raw,
		})
	}
	for i := range records {
		records[i].Origin, records[i].State = store.KeyForeign, fleet.AuthorityRetired
		for _, known := range append(slices.Clone(all), records[:i]...) {
			if known.Name == records[i].Name {
				return nil, fault.New(fault.Conflict, "an authority has the name %s already", known.Name).WithRemedy("choose another: --name")
			}
			if bytes.Equal(known.Certificate, records[i].Certificate) {
				return nil, fault.New(fault.Conflict, "the certificate is recorded already, as %s", known.Name).WithRemedy("rotunda get authorities")
			}
		}
	}
	return records, nil
}

// trustAlso puts one more anchor into the trust domain's bundle.
func (c *Control) trustAlso(ctx context.Context, tx *store.Tx, root *x509.Certificate) error {
	before, err := c.currentBundle(ctx, tx, fleet.DefaultBundle)
	if err != nil {
		return err
	}
	after, err := pki.NewBundle(append(before.Anchors(), root))
	if err != nil {
		return err
	}
	return putBundle(ctx, tx, fleet.DefaultBundle, after)
}

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
		response.Notes = []string{"the key of " + v.facts.Old + " is not here: that nobody takes what is under it any more will be unprovable"}
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
	if err := c.db.Write(ctx, body); err != nil {
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
