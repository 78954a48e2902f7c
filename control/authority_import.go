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
	if err := c.change(ctx, body); err != nil {
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
