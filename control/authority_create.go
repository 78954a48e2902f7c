package control

import (
	"context"
	"crypto/x509"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// A region's issuing authority is under the root that everybody trusts already, and
// its certificate travels with each leaf: so it signs from the moment at which it is
// recorded. After that it is replaced by a change of trust like any other.

// regionKind is what is asked of PrepareTrust for one.
const regionKind = "region"

// CreateAuthority takes what was signed for a region's authority, checks it, and
// records it as active.
func (c *Control) CreateAuthority(ctx context.Context, caller Caller, req *api.CreateAuthorityRequest) (*api.CreateAuthorityResponse, error) {
	if err := authorize(caller, "authority.create"); err != nil {
		return nil, err
	}
	signed, err := ca.ParseCeremonyResponse(req.Response)
	if err != nil {
		return nil, err
	}
	response := &api.CreateAuthorityResponse{}
	err = c.changeSigners(ctx, req.DryRun, &response.AuditId, func(tx *store.Tx) error {
		proto.Reset(response)
		return c.createAuthority(ctx, tx, caller, req, signed, response)
	})
	if err != nil {
		return nil, err
	}
	return response, nil
}

// changeSigners carries out a verb after which others may sign, or tries it: then
// there is no entry of it.
func (c *Control) changeSigners(ctx context.Context, dry bool, auditID *string, body func(*store.Tx) error) error {
	if err := c.verb(ctx, dry, body); err != nil {
		return err
	}
	if dry {
		*auditID = ""
		return nil
	}
	c.signersChanged()
	return nil
}

// verb carries out the body of a verb, or tries it.
func (c *Control) verb(ctx context.Context, dry bool, body func(*store.Tx) error) error {
	if dry {
		return c.dryRun(ctx, body)
	}
	return c.change(ctx, body)
}

// signersChanged has everybody look anew who signs for them.
func (c *Control) signersChanged() {
	c.unables.Store(nil)
	c.watchers.wakeTrust()
}

func (c *Control) createAuthority(ctx context.Context, tx *store.Tx, caller Caller, req *api.CreateAuthorityRequest, signed ca.CeremonyResponse, response *api.CreateAuthorityResponse) error {
	kept, found, err := c.checkBegin(ctx, tx, signed)
	if err != nil {
		return err
	}
	if !kept.Creates {
		return fault.New(fault.Conflict, "the request that waits for a response is for a change of trust, not for a region's authority").
			WithRemedy("begin it: rotunda trust begin --response FILE")
	}
	if err := noneOf(ctx, tx, kept.Region); err != nil {
		return err
	}
	if err := c.recordIssuing(ctx, tx, kept, found, found.rootID, fleet.AuthorityActive); err != nil {
		return err
	}
	if err := tx.DeleteSecret(ctx, ceremonyName); err != nil {
		return err
	}
	record, err := tx.Authority(ctx, kept.IssuingID)
	if err != nil {
		return err
	}
	if response.Authority, err = authorityInfo(record); err != nil {
		return err
	}
	if response.Notes, err = c.regionNotes(ctx, tx, kept.Region); err != nil {
		return err
	}
	response.AuditId, err = done(ctx, tx, caller, "authority.create", "Authority/"+record.Name, map[string]any{
		"region": kept.Region, "reason": req.Reason, "issuing": pki.FingerprintOf(found.issuing.Raw).String(), "parent": found.rootID,
	})
	return err
}

// noneOf refuses a region that has an authority of its own.
func noneOf(ctx context.Context, tx *store.Tx, region string) error {
	active, err := activeIssuing(ctx, tx)
	for _, one := range active {
		if one.Region == region {
			return fault.New(fault.Conflict, "region %s has an issuing authority: %s", region, one.Name).
				WithRemedy("replace it: rotunda trust rotate issuing --of-region %s", region)
		}
	}
	return err
}

// regionNotes says when a region's name may be a slip: no document and no agent has it.
func (c *Control) regionNotes(ctx context.Context, tx *store.Tx, region string) ([]string, error) {
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return nil, err
	}
	for _, document := range w.set.OfKind(fleet.KindRegion) {
		if string(document.Name) == region {
			return nil, nil
		}
	}
	agents, err := tx.Agents(ctx)
	if err != nil {
		return nil, err
	}
	for _, agent := range agents {
		if agent.Region == region {
			return nil, nil
		}
	}
	return []string{fmt.Sprintf("no Region document is called %s, and no agent is of it: it signs when one is", region)}, nil
}

// replaced is the authority that a request is about: of issuing the one that goes,
// of a region's first the one that it is made like, of a root the one that signs.
// Its key is not needed, and may be what is lost.
func (c *Control) replaced(ctx context.Context, tx *store.Tx, req *api.PrepareTrustRequest) (store.Authority, error) {
	active, err := activeIssuing(ctx, tx)
	if err != nil {
		return store.Authority{}, err
	}
	if req.Kind == regionKind {
		if _, err := fleet.ParseName(req.Region); err != nil {
			return store.Authority{}, err
		}
		if err := noneOf(ctx, tx, req.Region); err != nil {
			return store.Authority{}, err
		}
	} else if req.Kind != string(store.IssuingChange) && req.Region != "" {
		return store.Authority{}, fault.New(fault.Invalid, "a change of %s is for all regions", printable(req.Kind)).WithRemedy("leave the region out")
	}
	var regions []string
	for _, one := range active {
		if one.Region == req.Region && req.Kind == string(store.IssuingChange) {
			return one, nil
		}
		regions = append(regions, one.Region)
	}
	if req.Kind == string(store.IssuingChange) {
		return store.Authority{}, fault.New(fault.NotFound, "%s has no issuing authority of its own: there are those of %q", regionWords(req.Region), regions).
			WithRemedy("name one of these, or make one: rotunda authority create --region REGION")
	}
	by, err := c.issuer(ctx, tx)
	if err != nil {
		return store.Authority{}, err
	}
	return tx.Authority(ctx, by.ID)
}

// DecideAuthority puts an issuing authority out of use, or in use again. What it has
// signed stays good either way, and its lists go on.
func (c *Control) DecideAuthority(ctx context.Context, caller Caller, req *api.DecideAuthorityRequest) (*api.DecideAuthorityResponse, error) {
	if err := authorize(caller, "authority.decide"); err != nil {
		return nil, err
	}
	if req.Stop && strings.TrimSpace(req.Reason) == "" {
		return nil, fault.New(fault.Invalid, "an authority is stopped for a reason, which status shows").WithRemedy("say it: --reason")
	}
	response := &api.DecideAuthorityResponse{}
	err := c.changeSigners(ctx, req.DryRun, &response.AuditId, func(tx *store.Tx) error {
		proto.Reset(response)
		return c.decideAuthority(ctx, tx, caller, req, response)
	})
	if err != nil {
		return nil, err
	}
	return response, nil
}

func (c *Control) decideAuthority(ctx context.Context, tx *store.Tx, caller Caller, req *api.DecideAuthorityRequest, response *api.DecideAuthorityResponse) error {
	record, err := tx.AuthorityByName(ctx, req.Name)
	if err != nil {
		return err
	}
	verb := "authority.start"
	if req.Stop {
		verb = "authority.stop"
		err = c.stopAuthority(ctx, tx, caller, record, req.Reason)
	} else {
		err = startAuthority(ctx, tx, record)
	}
	if err != nil {
		return err
	}
	if record, err = tx.Authority(ctx, record.ID); err != nil {
		return err
	}
	if response.Authority, err = authorityInfo(record); err != nil {
		return err
	}
	active, err := activeIssuing(ctx, tx)
	if err != nil {
		return err
	}
	if response.Signer, err = c.signerName(ctx, tx, active, record.Region); err != nil {
		return err
	}
	response.AuditId, err = done(ctx, tx, caller, verb, "Authority/"+record.Name, map[string]any{
		"region": record.Region, "reason": req.Reason, "signs": response.Signer,
	})
	return err
}

func (c *Control) stopAuthority(ctx context.Context, tx *store.Tx, caller Caller, record store.Authority, why string) error {
	switch {
	case record.Kind != store.IssuingAuthority || record.State != fleet.AuthorityActive:
		return fault.New(fault.Conflict, "authority %s is %s %s: it signs nothing that could be stopped", record.Name, record.State, record.Kind).
			WithRemedy("rotunda get authorities shows who signs")
	case !record.Stopped.At.IsZero():
		return fault.New(fault.Conflict, "authority %s is %s", record.Name, stopWords(record.Stopped))
	}
	out, err := c.unable(ctx, tx)
	if err != nil {
		return err
	}
	other, err := tx.SigningAuthority(ctx, record.Region, append([]string{record.ID}, out.ids...))
	if err != nil {
		return err
	}
	if other == "" {
		return fault.New(fault.Conflict, "nothing else can sign in the place of authority %s: nobody would get a certificate", record.Name).
			WithRemedy("replace it: rotunda trust rotate issuing; or make another first: rotunda authority create --region REGION")
	}
	return tx.StopAuthority(ctx, record.ID, caller.String(), why)
}

func startAuthority(ctx context.Context, tx *store.Tx, record store.Authority) error {
	if record.Stopped.At.IsZero() {
		return fault.New(fault.Conflict, "authority %s was not stopped", record.Name)
	}
	return tx.StartAuthority(ctx, record.ID)
}

// authorityInfo is an authority as operators see it.
func authorityInfo(record store.Authority) (*api.AuthorityInfo, error) {
	certificate, err := x509.ParseCertificate(record.Certificate)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "certificate of authority %s", record.ID)
	}
	algorithm, err := pki.AlgorithmOf(certificate.PublicKey)
	if err != nil {
		return nil, err
	}
	return &api.AuthorityInfo{
		Id: record.ID, Name: record.Name, Kind: string(record.Kind), State: string(record.State),
		Subject: certificate.Subject.String(), Key: string(record.Origin), Algorithm: string(algorithm),
		NotAfter: stamp(certificate.NotAfter), Der: record.Certificate, Region: record.Region, Stopped: stopWords(record.Stopped),
		Fingerprint: pki.FingerprintOf(record.Certificate).String(),
	}, nil
}
