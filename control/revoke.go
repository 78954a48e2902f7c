package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/schedule"
	"github.com/rotunda-pki/rotunda/store"
)

// A revocation is asked for as a whole and carried out certificate by
// certificate. What nothing uses any more is revoked in the transaction that
// records the wish; what is in use is asked to rotate first, and is revoked by
// AdvanceRevocations once its successor was proven. The wish is desired state:
// it stands in the store until each of its certificates is revoked or expired,
// so neither a crash nor a host that is away makes anybody forget it.

// longestWithin bounds how long a revocation may wait before it is forced.
const longestWithin = 90 * 24 * time.Hour

// Revoke revokes certificates, or with Lift takes one off hold.
func (c *Control) Revoke(ctx context.Context, caller Caller, req *api.RevokeRequest) (*api.RevokeResponse, error) {
	if err := authorize(caller, "revoke"); err != nil {
		return nil, err
	}
	if err := checkRevoke(req); err != nil {
		return nil, err
	}
	response := &api.RevokeResponse{}
	body := func(tx *store.Tx) error {
		proto.Reset(response)
		if req.Lift {
			return c.lift(ctx, tx, caller, req, response)
		}
		return c.revoke(ctx, tx, caller, req, response)
	}
	if req.DryRun {
		return response, c.db.Read(ctx, body)
	}
	if err := c.change(ctx, body); err != nil {
		return nil, err
	}
	c.revoked()
	return response, nil
}

// revoked lets everybody look again after something was revoked.
func (c *Control) revoked() {
	c.identities.forget()
	c.watchers.wakeTrust()
	c.watchers.wakeEverybody()
}

func checkRevoke(req *api.RevokeRequest) error {
	chosen := count(req.Serial != "", req.Fingerprint != "", req.Placement != "", req.Agent != "", req.Service != "", req.Key != "", req.Authority != "", req.Operator != "")
	switch within := req.Within.AsDuration(); {
	case chosen != 1:
		return fault.New(fault.Invalid, "revoke wants a serial, a fingerprint, a placement, an agent, a service, a key, an authority or an operator, and exactly one of them")
	case req.Reason != "" && !ca.IsReason(req.Reason):
		return fault.New(fault.Invalid, "reason %s is none of RFC 5280", printable(req.Reason)).
			WithRemedy("write one of: %s", strings.Join(ca.ReasonNames(), ", "))
	case len(req.Labels) > 0 && req.Service == "":
		return fault.New(fault.Invalid, "labels narrow a service, and nothing else")
	case req.Lift && (req.Serial == "" && req.Fingerprint == ""):
		return fault.New(fault.Invalid, "one certificate is taken off hold at a time").WithRemedy("say its serial or its fingerprint")
	case req.Lift && (req.Reason != "" || req.Now || req.Within != nil):
		return fault.New(fault.Invalid, "to take off hold wants no reason of RFC 5280 and no time")
	case req.Within != nil && (within <= 0 || within > longestWithin):
		return fault.New(fault.Invalid, "within %s: a revocation is forced after more than nothing and at most %s", within, fleet.Duration(longestWithin))
	case req.Within != nil && req.Now:
		return fault.New(fault.Invalid, "a revocation is either now or within a time")
	}
	return nil
}

// lift takes one certificate off hold.
func (c *Control) lift(ctx context.Context, tx *store.Tx, caller Caller, req *api.RevokeRequest, response *api.RevokeResponse) error {
	chosen, err := c.chooseRevoked(ctx, tx, req)
	if err != nil {
		return err
	}
	record := chosen.records[0]
	if record.RevokedAt.IsZero() || record.Reason != store.OnHold {
		return fault.New(fault.Conflict, "certificate %s is not on hold: what is revoked for another reason stays revoked", record.Serial)
	}
	response.Revocation = &api.Revocation{Object: chosen.object, Note: req.Note, By: caller.String(), BegunAt: stamp(tx.Now)}
	part, err := c.revocationPart(ctx, tx, record)
	if err != nil {
		return err
	}
	response.Revocation.Parts = append(response.Revocation.Parts, part)
	if req.DryRun {
		return nil
	}
	if err := tx.LiftCertificate(ctx, record.Serial); err != nil {
		return err
	}
	part.RevokedAt, part.Reason = nil, ""
	response.AuditId, err = done(ctx, tx, caller, "revoke.lift", chosen.object, map[string]any{"serial": record.Serial.String(), "note": req.Note})
	return err
}

func (c *Control) revoke(ctx context.Context, tx *store.Tx, caller Caller, req *api.RevokeRequest, response *api.RevokeResponse) error {
	chosen, err := c.chooseRevoked(ctx, tx, req)
	if err != nil {
		return err
	}
	revocation := store.Revocation{
		ID: newID(), Object: chosen.object, Reason: req.Reason, Note: req.Note, By: caller.String(), BegunAt: tx.Now,
	}
	if revocation.Reason == "" {
		revocation.Reason = "unspecified"
	}
	if req.Within != nil {
		revocation.ForceAt = tx.Now.Add(req.Within.AsDuration())
	}
	r := revoking{Control: c, tx: tx, caller: caller, req: req, reason: revocation.Reason}
	for _, record := range chosen.records {
		if err := r.look(ctx, record); err != nil {
			return err
		}
	}
	if !r.waits {
		revocation.EndedAt = tx.Now
	}
	response.Warnings = r.warnings
	if !req.DryRun {
		if err := r.carryOut(ctx, revocation, chosen.records); err != nil {
			return err
		}
		response.AuditId, err = done(ctx, tx, caller, "revoke", chosen.object, map[string]any{
			"revocation": revocation.ID, "reason": revocation.Reason, "note": req.Note, "certificates": len(chosen.records), "now": req.Now,
		})
		if err != nil {
			return err
		}
	}
	response.Revocation, err = c.wireRevocation(ctx, tx, revocation, chosen.records)
	return err
}

// revoking is one revocation while it is decided on and recorded.
type revoking struct {
	*Control
	tx     *store.Tx
	caller Caller
	req    *api.RevokeRequest
	reason string
	// Of a compromise: successors are asked for by a rollout, and identities of
	// agents are revoked at once.
	inWaves, cutOff bool

	atOnce   []store.Certificate
	rotate   []store.Placement // that use what is revoked
	waits    bool
	warnings []string
}

// warn says a thing, once.
func (r *revoking) warn(format string, args ...any) {
	if words := fmt.Sprintf(format, args...); !slices.Contains(r.warnings, words) {
		r.warnings = append(r.warnings, words)
	}
}

// look decides what becomes of one certificate, and says what that breaks.
func (r *revoking) look(ctx context.Context, record store.Certificate) error {
	if record.Serial.String() == r.caller.Serial {
		return fault.New(fault.Conflict, "certificate %s is the one that this call was made with", record.Serial).
			WithRemedy("call with another one, or on the server's host over the admin socket")
	}
	use, err := r.useOf(ctx, r.tx, record)
	if err != nil {
		return err
	}
	cutOff := r.cutOff && record.Kind == store.KindAgent
	if use.in && use.replaceable && !r.req.Now && !cutOff {
		r.waits = true
	} else {
		r.atOnce = append(r.atOnce, record)
	}
	if use.in && use.placement.ID != "" {
		r.rotate = append(r.rotate, use.placement)
	}
	return r.warnOf(ctx, record, use)
}

// carryOut records the wish, revokes what waits for nothing, and asks for
// successors of what is in use.
func (r *revoking) carryOut(ctx context.Context, revocation store.Revocation, records []store.Certificate) error {
	var serials []pki.Serial
	for _, record := range records {
		serials = append(serials, record.Serial)
	}
	if err := r.recordAuthority(ctx, records); err != nil {
		return err
	}
	if err := r.tx.InsertRevocation(ctx, revocation, serials); err != nil {
		return err
	}
	if err := revokeAll(ctx, r.tx, r.caller, revocation, r.atOnce); err != nil {
		return err
	}
	if r.inWaves {
		return nil
	}
	over := schedule.DefaultOver(len(r.rotate))
	if r.req.Now {
		over = 0
	}
	newKey := r.req.Key != "" || r.reason == "keyCompromise"
	for _, turn := range turns(r.rotate, over) {
		if err := r.successor(ctx, turn, newKey); err != nil {
			return err
		}
	}
	return nil
}

// successor asks a placement for the generation after its newest.
func (r *revoking) successor(ctx context.Context, turn turn, newKey bool) error {
	through, err := newestGeneration(ctx, r.tx, turn.Placement)
	if err != nil {
		return err
	}
	from := time.Time{}
	if turn.after > 0 {
		from = r.tx.Now.Add(turn.after)
	}
	if err := r.tx.SetPlacementRotation(ctx, turn.ID, through, newKey, from); err != nil {
		return err
	}
	return r.tx.InsertDecision(ctx, store.Decision{
		ID: newID(), Kind: "rotate", Intent: turn.Intent, PlacementID: turn.ID, ThroughGeneration: through, NewKey: newKey,
		Reason: "revocation: " + r.reason, By: r.caller.String(), At: r.tx.Now,
	})
}

// recordAuthority makes a certificate record of an authority's own certificate:
// what is revoked is on a list by its record.
func (r *revoking) recordAuthority(ctx context.Context, records []store.Certificate) error {
	for _, record := range records {
		if record.Kind != store.KindAuthority {
			continue
		}
		_, err := r.tx.Certificate(ctx, record.Serial)
		if fault.CodeOf(err) == fault.NotFound {
			err = r.tx.InsertCertificates(ctx, record)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// serialsAnEntry bounds an audit entry.
const serialsAnEntry = 256

// revokeAll revokes certificates and enters their serials.
func revokeAll(ctx context.Context, tx *store.Tx, caller Caller, revocation store.Revocation, records []store.Certificate) error {
	for some := range slices.Chunk(records, serialsAnEntry) {
		var serials []string
		for _, record := range some {
			if err := tx.RevokeCertificate(ctx, record.Serial, revocation.Reason); err != nil {
				return err
			}
			serials = append(serials, record.Serial.String())
		}
		_, err := done(ctx, tx, caller, "certificate.revoke", revocation.Object, map[string]any{
			"revocation": revocation.ID, "reason": revocation.Reason, "serials": serials,
		})
		if err != nil {
			return err
		}
	}
	return nil
}
