package control

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// handInAtOnce is how many certificates share a transaction.
const handInAtOnce = 64

// handIn records what was spooled, each once: one that has its record already, as
// after a crash between the commit and the end of the spool, is left alone.
func (c *Control) handIn(ctx context.Context, held [][]byte) error {
	var all []spooled
	for i, content := range held {
		var one spooled
		if err := json.Unmarshal(content, &one); err != nil {
			return fault.Wrap(fault.Internal, err, "record %d of the spool", i+1)
		}
		all = append(all, one)
	}
	for some := range slices.Chunk(all, handInAtOnce) {
		err := c.change(ctx, func(tx *store.Tx) error {
			for _, one := range some {
				if err := c.handInOne(ctx, tx, one); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(all) > 0 {
		c.identities.forget()
		c.watchers.wakeAgents()
	}
	return nil
}

func (c *Control) handInOne(ctx context.Context, tx *store.Tx, one spooled) error {
	record := one.Record
	if before, err := tx.Certificate(ctx, record.Serial); fault.CodeOf(err) != fault.NotFound {
		if err == nil && before.Fingerprint != record.Fingerprint {
			err = fault.New(fault.Conflict, "another certificate of serial %s is recorded", record.Serial)
		}
		return err
	}
	reason, why, err := c.fallen(ctx, tx, one)
	if err != nil {
		return err
	}
	taken, err := tx.PlacementCertificate(ctx, record.PlacementID, record.Generation)
	if err == nil {
		reason, why = "superseded", "generation has certificate "+taken.Serial.String()
		record.PlacementID, record.Generation = "", 0 // it gets its record all the same
	} else if fault.CodeOf(err) != fault.NotFound {
		return err
	}
	if err := tx.InsertCertificates(ctx, record); err != nil {
		return err
	}
	detail := map[string]any{
		"intent": record.Intent, "generation": one.Record.Generation, "serial": record.Serial.String(), "fingerprint": record.Fingerprint.String(),
		"names": record.Names, "rule": record.Rule, "notAfter": record.NotAfter.UTC().Format(time.RFC3339), "authority": record.AuthorityID,
		"spooledAt": record.IssuedAt.UTC().Format(time.RFC3339), "snapshot": one.Seen.UTC().Format(time.RFC3339),
	}
	if one.Away != "" {
		detail["inPlaceOf"] = one.Away
	}
	if reason != "" {
		detail["revoked"], detail["because"] = reason, why
		if err := tx.RevokeCertificate(ctx, record.Serial, reason); err != nil {
			return err
		}
	}
	caller := Caller{Kind: Agent, ID: record.AgentID, Serial: one.Shown, Address: one.From}
	_, err = done(ctx, tx, caller, "issue", "Placement/"+one.Record.PlacementID, detail)
	return err
}

// fallen says for which reason a spooled certificate is revoked, and in words why:
// what its decision rested on is so no more. Empty: it stands.
func (c *Control) fallen(ctx context.Context, tx *store.Tx, one spooled) (reason, why string, err error) {
	epoch, err := tx.Epoch(ctx)
	if err != nil {
		return "", "", err
	}
	if epoch != one.Epoch {
		return "superseded", "the store was restored meanwhile", nil
	}
	authority, err := tx.Authority(ctx, one.Record.AuthorityID)
	if err != nil {
		return "", "", err
	}
	if authority.State != fleet.AuthorityActive {
		return "superseded", fmt.Sprintf("authority %s is %s", authority.Name, authority.State), nil
	}
	caller := Caller{Kind: Agent, ID: one.Record.AgentID, Serial: one.Shown}
	out, err := c.unable(ctx, tx)
	if err != nil {
		return "", "", err
	}
	found, err := tx.Standings(ctx, []string{one.Record.PlacementID}, out.ids...)
	if err != nil {
		return "", "", err
	}
	good, err := tx.Unrevoked(ctx, []pki.Serial{*caller.shown()})
	if err != nil {
		return "", "", err
	}
	stood, exists := found[one.Record.PlacementID]
	switch {
	case !exists || stood.Orphan:
		return "cessationOfOperation", "no intent wants the placement any more", nil
	case stood.AgentID != one.Record.AgentID:
		return "superseded", "the placement is of another agent", nil
	case stood.AgentState != fleet.AgentActive:
		return "cessationOfOperation", fmt.Sprintf("agent %s is %s", stood.AgentID, stood.AgentState), nil
	case !good[*caller.shown()]:
		return revokedFor(ctx, tx, caller)
	}
	if reason, err = tx.RevokedSince(ctx, one.Record.PlacementID, one.Seen); err != nil || reason != "" {
		return reason, "certificates of the placement were revoked meanwhile", err
	}
	now := stood.Standing
	now.Issuer = one.Basis.Issuer // another may sign by now; what this one did stands while it is active
	if now == one.Basis {
		return "", "", nil
	}
	return c.decidedAnew(ctx, tx, one, stood.Standing)
}

// revokedFor is the reason for which the certificate was revoked that the agent
// showed.
func revokedFor(ctx context.Context, tx *store.Tx, caller Caller) (reason, why string, err error) {
	reason = "unspecified"
	if shown, err := tx.Certificate(ctx, *caller.shown()); err == nil && shown.Reason != "" {
		reason = shown.Reason
	} else if ignoreMissing(err) != nil {
		return "", "", err
	}
	return reason, "the certificate that the agent showed was revoked", nil
}

// decidedAnew decides by what is declared now: the certificate stands where the
// same is granted.
func (c *Control) decidedAnew(ctx context.Context, tx *store.Tx, one spooled, standing store.Standing) (reason, why string, err error) {
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return "", "", err
	}
	agent, err := tx.Agent(ctx, standing.AgentID)
	if err != nil {
		return "", "", err
	}
	g, err := c.decideGrant(w, agent, standing)
	switch {
	case err != nil && fault.CodeOf(err) == fault.Internal:
		return "", "", err
	case err != nil:
		return "privilegeWithdrawn", "it would be refused now: " + fault.Public(err), nil
	case sha256.Sum256(g.input) != sha256.Sum256(one.Record.PolicyInput):
		return "privilegeWithdrawn", "its names, profile or labels are others now", nil
	}
	return "", "", nil
}
