package control

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/trust"
)

// A standby is a change of roots that stands still before anything is signed:
// its anchor is in every bundle and adopted, its issuing authority is ready.
// Other changes go on beside it, so its old end is whoever signs at the time.

// standbyKind is what is asked of PrepareTrust for one.
const standbyKind = "standby"

// underWay is the change that a decision, or the desire of a placement, is
// about: the one that does something, before one that stands by.
func underWay(open []store.TrustChange) (change store.TrustChange, ok bool) {
	for _, one := range open {
		if !ok || change.Standby {
			change, ok = one, true
		}
	}
	return change, ok
}

// theStandby is the root that stands by and is not being turned back.
func theStandby(ctx context.Context, tx *store.Tx) (change store.TrustChange, ok bool, err error) {
	open, err := tx.OpenTrustChanges(ctx)
	for _, one := range open {
		idle, err := idle(ctx, tx, one)
		if err != nil {
			return change, false, err
		}
		if idle {
			return one, true, nil
		}
	}
	return change, false, err
}

// idle says whether a change stands by, and holds up no other.
func idle(ctx context.Context, tx *store.Tx, change store.TrustChange) (bool, error) {
	if !change.Standby {
		return false, nil
	}
	decisions, err := tx.TrustDecisions(ctx, change.ID)
	return !decided(decisions).Back, err
}

// rests says whether a change stands by and its anchor is in every bundle: then
// it does nothing, for years, and need not be looked at.
func (c *Control) rests(ctx context.Context, tx *store.Tx, change store.TrustChange) (bool, error) {
	idle, err := idle(ctx, tx, change)
	if err != nil || !idle {
		return false, err
	}
	if change, err = c.fromNow(ctx, tx, change); err != nil {
		return false, err
	}
	v := &trustView{}
	if v.old, err = readEnd(ctx, tx, change.OldRoot, change.OldIssuing); err != nil {
		return false, err
	}
	if v.next, err = readEnd(ctx, tx, change.NewRoot, change.NewIssuing); err != nil {
		return false, err
	}
	err = v.readBundles(ctx, tx)
	return v.facts.Published, err
}

// fromNow gives a standby the old end that it has today.
func (c *Control) fromNow(ctx context.Context, tx *store.Tx, change store.TrustChange) (store.TrustChange, error) {
	by, err := c.issuer(ctx, tx)
	if err != nil {
		return change, err
	}
	record, err := tx.Authority(ctx, by.ID)
	change.OldIssuing, change.OldRoot = record.ID, record.ParentID
	return change, err
}

// renewStandby makes the order one for another issuing authority under the root
// that stands by.
func renewStandby(ctx context.Context, tx *store.Tx, wanted ca.CeremonyOrder, standby store.TrustChange) (ca.CeremonyOrder, error) {
	record, err := tx.Authority(ctx, standby.NewRoot)
	if err != nil {
		return wanted, err
	}
	wanted.Issuing.ParentID = record.ID
	wanted.Root, err = certificateOf(record)
	return wanted, err
}

// replaceStandbyIssuing puts the new issuing authority of a standby in the place
// of the one before, which has signed canaries at most.
func (c *Control) replaceStandbyIssuing(ctx context.Context, tx *store.Tx, caller Caller, kept ceremony, found checked) error {
	standby, ok, err := theStandby(ctx, tx)
	if err != nil {
		return err
	}
	if !ok || standby.ID != kept.ChangeID {
		return fault.New(fault.Conflict, "the root that the request was for stands by no more").WithRemedy("rotunda trust status")
	}
	if err := c.recordIssuing(ctx, tx, kept, found, standby.NewRoot, fleet.AuthorityPrepared); err != nil {
		return err
	}
	if err := tx.SetStandbyIssuing(ctx, standby.ID, kept.IssuingID); err != nil {
		return err
	}
	before, err := tx.Authority(ctx, standby.NewIssuing)
	if err != nil {
		return err
	}
	if err := withdrawAuthority(ctx, tx, before); err != nil {
		return err
	}
	return destroyAuthorityKey(ctx, tx, caller, before, "TrustChange/"+standby.ID)
}

// failOver makes of the standby the change that it was kept for.
func (c *Control) failOver(ctx context.Context, caller Caller, req *api.BeginTrustRequest) (*api.BeginTrustResponse, error) {
	response := &api.BeginTrustResponse{}
	body := func(tx *store.Tx) error {
		proto.Reset(response)
		return c.failOverIn(ctx, tx, caller, req, response)
	}
	if req.DryRun {
		return response, c.dryRun(ctx, func(tx *store.Tx) error {
			err := body(tx)
			response.AuditId = ""
			return err
		})
	}
	if err := c.change(ctx, body); err != nil {
		return nil, err
	}
	c.watchers.wakeTrust()
	return response, nil
}

func (c *Control) failOverIn(ctx context.Context, tx *store.Tx, caller Caller, req *api.BeginTrustRequest, response *api.BeginTrustResponse) error {
	change, notes, err := c.checkFailover(ctx, tx, caller, req)
	if err != nil {
		return err
	}
	response.Notes = notes
	if err := c.recordFailover(ctx, tx, caller, req, change); err != nil {
		return err
	}
	v, err := c.announced(ctx, tx, change)
	if err != nil {
		return err
	}
	response.Change = v.show()
	response.AuditId, err = done(ctx, tx, caller, "trust.failover", "TrustChange/"+change.ID, map[string]any{
		"old": v.facts.Old, "new": v.facts.New, "reason": req.Reason, "bridge": change.Bridge != "",
	})
	return err
}

// checkFailover is the change that the standby would become.
func (c *Control) checkFailover(ctx context.Context, tx *store.Tx, caller Caller, req *api.BeginTrustRequest) (change store.TrustChange, notes []string, err error) {
	if err := noneOpen(ctx, tx); err != nil {
		return change, nil, err
	}
	standby, ok, err := theStandby(ctx, tx)
	if err != nil {
		return change, nil, err
	}
	if !ok {
		return change, nil, fault.New(fault.Conflict, "no root stands by").
			WithRemedy("prepare one: rotunda trust prepare --standby; or rotunda trust rotate root, which takes its time to be trusted")
	}
	if change, err = c.fromNow(ctx, tx, standby); err != nil {
		return change, nil, err
	}
	issuing, err := tx.Authority(ctx, change.NewIssuing)
	if err != nil {
		return change, nil, err
	}
	certificate, err := certificateOf(issuing)
	if err != nil {
		return change, nil, err
	}
	if !tx.Now.Before(certificate.NotAfter) {
		return change, nil, fault.New(fault.Conflict, "%s, which would sign, ended at %s", issuing.Name, certificate.NotAfter.UTC().Format("2006-01-02 15:04")).
			WithRemedy("make another under the same root: rotunda trust prepare --standby --root-key KEY-OF-THE-STANDBY")
	}
	notes = append(notes, fmt.Sprintf("%s, which signs from then on, ends %s", issuing.Name, certificate.NotAfter.UTC().Format("2006-01-02")))
	if change.Bridge, err = usableBridge(ctx, tx, change); err != nil {
		return change, nil, err
	}
	if change.Bridge == "" {
		notes = append(notes, "there is no bridge from the root of today to the one that stands by")
	}
	change.Standby, change.Carry, change.Close = false, req.CarryBridge && change.Bridge != "", req.CloseSessions
	change.Pace, change.Reason, change.BegunBy, change.BegunAt = req.Over.AsDuration(), req.Reason, caller.String(), tx.Now
	change.Notice, change.Told = 0, false
	return change, notes, c.takeReissue(ctx, tx, req, &change)
}

// usableBridge is the standby's bridge; it ended if the root that it starts at
// did.
func usableBridge(ctx context.Context, tx *store.Tx, change store.TrustChange) (string, error) {
	if change.Bridge == "" {
		return "", nil
	}
	bridge, err := tx.Authority(ctx, change.Bridge)
	if err != nil {
		return "", err
	}
	certificate, err := certificateOf(bridge)
	if err != nil {
		return "", err
	}
	if bridge.State == fleet.AuthorityWithdrawn || !tx.Now.Before(certificate.NotAfter) {
		return "", nil
	}
	return bridge.ID, nil
}

func (c *Control) recordFailover(ctx context.Context, tx *store.Tx, caller Caller, req *api.BeginTrustRequest, change store.TrustChange) error {
	through, err := throughOf(req)
	if err != nil {
		return err
	}
	if err := tx.FailOver(ctx, change); err != nil {
		return err
	}
	// What was decided on the standby was not decided on this.
	for _, decision := range []store.TrustDecision{{Kind: store.TrustResume}, {Kind: store.TrustAdvance, Phase: string(through)}} {
		decision.ID, decision.ChangeID, decision.By, decision.Reason = newID(), change.ID, caller.String(), req.Reason
		if err := tx.InsertTrustDecision(ctx, decision); err != nil {
			return err
		}
	}
	return nil
}

// standbyAges says that the authority which would sign has to be renewed soon.
func (v *trustView) standbyAges(now time.Time) error {
	certificate, err := certificateOf(v.next.issuing)
	if err != nil {
		return err
	}
	if left := certificate.NotAfter.Sub(now); left < certificate.NotAfter.Sub(certificate.NotBefore)/3 {
		v.step.Waits = append(v.step.Waits, trust.Wait{
			Who: v.next.issuing.Name, Reason: "would sign after a failover, and ends " + certificate.NotAfter.UTC().Format("2006-01-02 15:04"),
			Remedy: "make another under the same root: rotunda trust prepare --standby --root-key KEY-OF-THE-STANDBY",
		})
	}
	return nil
}
