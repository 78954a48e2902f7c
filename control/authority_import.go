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
//
// With a response of a ceremony it records an authority under the root that signs
// canaries, too, or adds one to a root that was recorded without.
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
		return c.importAuthority(ctx, tx, caller, req, root, issuing, response)
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

func (c *Control) importAuthority(ctx context.Context, tx *store.Tx, caller Caller, req *api.ImportAuthorityRequest, root *x509.Certificate, issuing []*x509.Certificate, response *api.ImportAuthorityResponse) error {
	var err error
	if response.Warnings, err = ca.CheckForeign(tx.Now, root, issuing...); err != nil {
		return err
	}
	found, err := c.toImport(ctx, tx, req, root, issuing)
	if err != nil {
		return err
	}
	for _, record := range found.records {
		response.Names = append(response.Names, record.Name)
	}
	if found.canaries != "" {
		response.Canaries = found.canaries
		response.Warnings = slices.DeleteFunc(response.Warnings, func(words string) bool { return words == ca.Keyless })
	}
	if found.canaries != "" || req.Trusted {
		more, err := c.listWarnings(ctx, tx, req.Name)
		if err != nil {
			return err
		}
		response.Warnings = append(response.Warnings, more...)
	}
	if req.Trusted {
		if err := noneOpen(ctx, tx); err != nil {
			return err
		}
	}
	if req.DryRun {
		return nil
	}
	for _, record := range found.records {
		if err := tx.InsertAuthority(ctx, record); err != nil {
			return err
		}
	}
	if found.canaries != "" {
		if err := c.keepCanaryKey(ctx, tx, found.kept); err != nil {
			return err
		}
	}
	if req.Trusted {
		if err := c.trustAlso(ctx, tx, root); err != nil {
			return err
		}
	}
	response.AuditId, err = done(ctx, tx, caller, "authority.import", "Authority/"+req.Name, map[string]any{
		"fingerprint": pki.FingerprintOf(root.Raw).String(), "names": response.Names, "trusted": req.Trusted, "canaries": found.canaries, "reason": req.Reason,
	})
	return err
}

// toImport is what an import adds: the root first, where it is not here yet.
type toImport struct {
	records  []store.Authority
	canaries string   // name of the one that signs canaries; empty: none does
	kept     ceremony // that its key is from
}

func (c *Control) toImport(ctx context.Context, tx *store.Tx, req *api.ImportAuthorityRequest, root *x509.Certificate, issuing []*x509.Certificate) (found toImport, err error) {
	if len(req.Response) == 0 {
		found.records, err = foreignRecords(ctx, tx, req.Name, newID(), root, issuing)
		return found, err
	}
	kept, canaries, err := c.canariesFrom(ctx, tx, req.Name, root, req.Response)
	if err != nil {
		return found, err
	}
	found.kept, found.canaries = kept, canaries.Name
	known, here, err := recordedAs(ctx, tx, root)
	switch {
	case err != nil:
		return found, err
	case !here:
		found.records, err = foreignRecords(ctx, tx, req.Name, canaries.ParentID, root, issuing)
	case known.ID != canaries.ParentID:
		err = fault.New(fault.Conflict, "the root was recorded after the request was prepared, as %s", known.Name).WithRemedy("prepare another request")
	case known.Name != req.Name:
		err = fault.New(fault.Conflict, "the certificate is recorded already, as %s", known.Name).WithRemedy("to add its key say so: --name %s", known.Name)
	case req.Trusted || len(issuing) > 0:
		err = fault.New(fault.Conflict, "%s is recorded already: all that can be added is an authority for its canaries", known.Name).WithRemedy("leave out --trusted and --issuing")
	default:
		err = canStillBeTried(ctx, tx, known)
	}
	found.records = append(found.records, canaries)
	return found, err
}

// listWarnings say where what is under the root will be refused although its anchor
// is trusted: who looks at lists wants one of each authority of a chain.
func (c *Control) listWarnings(ctx context.Context, tx *store.Tx, name string) (words []string, err error) {
	w, err := c.worldAt(ctx, tx)
	if err == nil && w.wantsLists() {
		words = []string{"processes that get lists refuse what is under it, canaries too, until its owner's CRL is here: rotunda authority crl " + name + " --install FILE"}
	}
	return words, err
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
func foreignRecords(ctx context.Context, tx *store.Tx, name, id string, root *x509.Certificate, issuing []*x509.Certificate) ([]store.Authority, error) {
	all, err := tx.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	records := []store.Authority{{ID: id, Name: name, Kind: store.RootAuthority, Certificate: root.Raw}}
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
				return nil, fault.New(fault.Conflict, "the certificate is recorded already, as %s", known.Name).
					WithRemedy("rotunda get authorities; its key can be added to it: rotunda authority import --name %s --key FILE", known.Name)
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
