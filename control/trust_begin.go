package control

import (
	"context"
	"crypto"
	"crypto/x509"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/trust"
)

// BeginTrust takes what was signed, checks it as who will have to rely on it,
// records the new authorities as prepared, and begins the change.
func (c *Control) BeginTrust(ctx context.Context, caller Caller, req *api.BeginTrustRequest) (*api.BeginTrustResponse, error) {
	if err := authorize(caller, "trust.begin"); err != nil {
		return nil, err
	}
	if over := req.Over.AsDuration(); over < 0 || over > longestOver {
		return nil, fault.New(fault.Invalid, "a reissue over %s: it takes between nothing and %s", over, fleet.Duration(longestOver))
	}
	if notice := fleet.Duration(req.Notice.AsDuration()); notice < 0 || notice > rollout.LongestNotice {
		return nil, fault.New(fault.Invalid, "a notice of %s: it is between nothing and %s", notice, rollout.LongestNotice)
	}
	through, err := throughOf(req)
	switch {
	case err != nil:
		return nil, err
	case (req.Failover || req.From != "") && (req.Notice.AsDuration() > 0 || req.Told):
		return nil, fault.New(fault.Invalid, "a change to an authority that is ready waits for no owner to know of it").
			WithRemedy("leave out --notice and --told: they are told when it begins")
	case req.From != "" && (req.Reissue != nil || req.Over != nil):
		return nil, fault.New(fault.Invalid, "a change from a root that was imported renews nothing: how renewals are to go has no meaning").
			WithRemedy("leave out --over, --steps, --window and the other flags of waves")
	case req.Failover:
		return c.failOver(ctx, caller, req)
	case req.From != "":
		return c.beginFrom(ctx, caller, req)
	}
	signed, err := ca.ParseCeremonyResponse(req.Response)
	if err != nil {
		return nil, err
	}
	response := &api.BeginTrustResponse{}
	body := func(tx *store.Tx) error {
		proto.Reset(response)
		return c.beginTrust(ctx, tx, caller, req, signed, through, response)
	}
	if req.DryRun {
		err := c.dryRun(ctx, body)
		response.AuditId = ""
		return response, err
	}
	if err := c.change(ctx, body); err != nil {
		return nil, err
	}
	c.watchers.wakeTrust()
	return response, nil
}

// throughOf is the last phase that a change may enter by itself.
func throughOf(req *api.BeginTrustRequest) (trust.Phase, error) {
	if req.Through == "" {
		return trust.Drain, nil
	}
	return parsePhase(req.Through)
}

// checked is a response that was found good, parsed.
type checked struct {
	root, issuing, bridge *x509.Certificate // bridge may be nil
	rootCRL               []byte            // of a new root; nil: none
	rootID                string            // of root
	bridgeWanted          bool
	old                   store.Authority // the issuing authority that signs now
}

func (c *Control) checkBegin(ctx context.Context, tx *store.Tx, signed ca.CeremonyResponse) (ceremony, checked, error) {
	if err := noneOpen(ctx, tx); err != nil {
		return ceremony{}, checked{}, err
	}
	kept, err := c.keptCeremony(ctx, tx)
	if err != nil {
		return kept, checked{}, err
	}
	if kept.Canaries {
		return kept, checked{}, fault.New(fault.Conflict, "the request that waits for a response is for canaries under a root that is not ours, not for a change of trust").
			WithRemedy("record it: rotunda authority import --response FILE")
	}
	old, err := c.replacedBy(ctx, tx, kept)
	if err != nil {
		return kept, checked{}, err
	}
	request, err := kept.answeredBy(tx.Now, signed)
	if err != nil {
		return kept, checked{}, err
	}
	found := checked{root: signed.Root, issuing: signed.Issuing, bridge: signed.Bridge, rootCRL: signed.RootCRL, rootID: request.Issuing.ParentID, bridgeWanted: request.Bridge != nil}
	found.old = old
	return kept, found, err
}

// answeredBy is the request that was kept, if what was signed answers it.
func (kept ceremony) answeredBy(now time.Time, signed ca.CeremonyResponse) (ca.CeremonyRequest, error) {
	key, err := x509.ParsePKCS8PrivateKey(kept.Key)
	if err != nil {
		return ca.CeremonyRequest{}, fault.Wrap(fault.Internal, err, "key of the request that was prepared")
	}
	request, err := ca.ParseCeremonyRequest(kept.Request)
	if err != nil {
		return request, fault.Wrap(fault.Internal, err, "the request that was prepared")
	}
	return request, ca.CheckResponse(now, request, signed, key.(crypto.Signer))
}

// replacedBy is the authority that a request was made to replace, or one like which
// it was to be.
func (c *Control) replacedBy(ctx context.Context, tx *store.Tx, kept ceremony) (store.Authority, error) {
	if kept.OldID == "" { // a server before there were regions' authorities kept it
		by, err := c.issuer(ctx, tx)
		if err != nil {
			return store.Authority{}, err
		}
		kept.OldID = by.ID
	}
	old, err := tx.Authority(ctx, kept.OldID)
	if err == nil && old.State != fleet.AuthorityActive {
		err = fault.New(fault.Conflict, "authority %s, which signed when the request was made, is %s", old.Name, old.State).WithRemedy("prepare another request")
	}
	return old, err
}

func (f checked) notes() (notes []string) {
	if f.bridgeWanted && f.bridge == nil {
		notes = append(notes, "there is no bridge from the old root to the new one: every party needs the new root itself before anything is signed under it")
	}
	return notes
}

func (c *Control) beginTrust(ctx context.Context, tx *store.Tx, caller Caller, req *api.BeginTrustRequest, signed ca.CeremonyResponse, through trust.Phase, response *api.BeginTrustResponse) error {
	kept, found, err := c.checkBegin(ctx, tx, signed)
	if err != nil {
		return err
	}
	if kept.Creates {
		return fault.New(fault.Conflict, "the request that waits for a response is for the authority of region %s, not for a change of trust", kept.Region).
			WithRemedy("record it: rotunda authority create --response FILE")
	}
	if kept.Standby && req.Through != "" {
		return fault.New(fault.Invalid, "a root that stands by goes no further than that everybody trusts it").WithRemedy("leave out --through")
	}
	change := store.TrustChange{
		ID: kept.ChangeID, Kind: kept.Kind, Standby: kept.Standby, OldRoot: found.old.ParentID, NewRoot: found.rootID,
		OldIssuing: found.old.ID, NewIssuing: kept.IssuingID, Close: req.CloseSessions, Pace: req.Over.AsDuration(), Notice: req.Notice.AsDuration(), Told: req.Told,
		Reason: req.Reason, BegunBy: caller.String(),
	}
	if err := c.takeReissue(ctx, tx, req, &change); err != nil {
		return err
	}
	if kept.Renews {
		err = c.replaceStandbyIssuing(ctx, tx, caller, kept, found)
	} else if err = c.recordAuthorities(ctx, tx, req, kept, found, &change); err == nil {
		err = tx.InsertTrustChange(ctx, change)
	}
	if err != nil {
		return err
	}
	if err := tx.DeleteSecret(ctx, ceremonyName); err != nil {
		return err
	}
	if through != trust.Drain {
		decision := store.TrustDecision{ID: newID(), ChangeID: change.ID, Kind: store.TrustAdvance, Phase: string(through), By: caller.String()}
		if err := tx.InsertTrustDecision(ctx, decision); err != nil {
			return err
		}
	}
	if change, err = tx.TrustChange(ctx, change.ID); err != nil {
		return err
	}
	v, err := c.announced(ctx, tx, change)
	if err != nil {
		return err
	}
	response.Change, response.Notes = v.show(), found.notes()
	response.AuditId, err = done(ctx, tx, caller, "trust.begin", "TrustChange/"+change.ID, map[string]any{
		"kind": string(change.Kind), "standby": change.Standby, "reason": req.Reason, "through": string(through),
		"root": pki.FingerprintOf(found.root.Raw).String(), "issuing": pki.FingerprintOf(found.issuing.Raw).String(), "bridge": found.bridge != nil,
	})
	return err
}

// recordAuthorities records the new end of the change, prepared: nothing is
// signed by it yet but canaries.
func (c *Control) recordAuthorities(ctx context.Context, tx *store.Tx, req *api.BeginTrustRequest, kept ceremony, found checked, change *store.TrustChange) error {
	all, err := tx.Authorities(ctx)
	if err != nil {
		return err
	}
	if kept.Kind == store.RootChange {
		name := nextName(all, rootName)
		err := tx.InsertAuthority(ctx, store.Authority{
			ID: change.NewRoot, Name: name, Kind: store.RootAuthority, State: fleet.AuthorityPrepared,
			Origin: store.KeyOffline, Certificate: found.root.Raw,
		})
		if err != nil {
			return err
		}
		if len(found.rootCRL) > 0 {
			if err := recordRootList(ctx, tx, change.NewRoot, found.root, found.rootCRL); err != nil {
				return err
			}
		}
		if found.bridge != nil {
			change.Bridge, change.Carry = newID(), req.CarryBridge
			err := tx.InsertAuthority(ctx, store.Authority{
				ID: change.Bridge, Name: nextName(all, "bridge"), Kind: store.RootAuthority, State: fleet.AuthorityPrepared, Origin: store.KeyOffline,
				ParentID: change.OldRoot, CrossOf: change.NewRoot, Certificate: found.bridge.Raw,
			})
			if err != nil {
				return err
			}
		}
	}
	return c.recordIssuing(ctx, tx, kept, found, change.NewRoot, fleet.AuthorityPrepared)
}

// recordIssuing records the issuing authority that was signed, and its key.
func (c *Control) recordIssuing(ctx context.Context, tx *store.Tx, kept ceremony, found checked, rootID string, state fleet.AuthorityState) error {
	all, err := tx.Authorities(ctx)
	if err != nil {
		return err
	}
	err = tx.InsertAuthority(ctx, store.Authority{
		ID: kept.IssuingID, Name: nextName(all, issuingOf(kept.Region)), Kind: store.IssuingAuthority, State: state,
		Origin: store.KeyHere, Region: kept.Region, ParentID: rootID, Certificate: found.issuing.Raw,
	})
	if err != nil {
		return err
	}
	sealed, err := c.kek.Wrap(kept.Key, []byte(kept.IssuingID))
	if err != nil {
		return err
	}
	return tx.PutAuthorityKey(ctx, store.AuthorityKey{AuthorityID: kept.IssuingID, KEKID: c.kek.ID(), Sealed: sealed})
}

// issuingOf is what a region's issuing authorities are called: issuing-eu, issuing-eu-2 …
func issuingOf(region string) string {
	if region == "" {
		return issuingName
	}
	return issuingName + "-" + region
}
