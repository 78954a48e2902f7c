package control

import (
	"context"
	"crypto/x509"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// canaryTerms: a canary is a login in the eyes of a database, so it is short,
// a client only, and names nobody but itself.
var canaryTerms = ca.Terms{
	Lifetime: 10 * time.Minute, Backdate: time.Minute,
	Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
}

// revokedCanaryTerms: one that is revoked as it is issued opens nothing for as
// long as it lives, which is as long as the list that says so. So each agent
// needs one only, and lists do not chase canaries.
var revokedCanaryTerms = ca.Terms{
	Lifetime: fleet.CRLLife, Backdate: time.Minute, Usages: canaryTerms.Usages,
}

// IssueCanaries signs client certificates by which an agent tries what a target
// of its own trusts: one for each authority that can sign now. Each is
// recorded before it leaves, and opens nothing here: see identify.
func (c *Control) IssueCanaries(ctx context.Context, caller Caller, req *api.IssueCanariesRequest) (*api.IssueCanariesResponse, error) {
	if err := authorize(caller, "canary.issue"); err != nil {
		return nil, err
	}
	csr, err := pki.ParseCSR(req.Csr)
	if err != nil {
		return nil, err
	}
	response, err := c.issueCanaries(ctx, caller, req, csr)
	if code := fault.CodeOf(err); err != nil && (code == fault.Forbidden || code == fault.Conflict) {
		return nil, c.refused(ctx, caller, "canary.issue", "Placement/"+printable(req.PlacementId), err)
	}
	return response, err
}

func (c *Control) issueCanaries(ctx context.Context, caller Caller, req *api.IssueCanariesRequest, csr *x509.CertificateRequest) (*api.IssueCanariesResponse, error) {
	placementID := req.PlacementId
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		_, err := c.canaryPlacement(ctx, tx, caller, placementID)
		return err
	})
	if err != nil {
		return nil, err
	}
	// Once for each call, not for each run of what follows.
	if err := c.canaries.spend(placementID, c.now()); err != nil {
		return nil, err
	}
	response := &api.IssueCanariesResponse{}
	err = c.change(ctx, func(tx *store.Tx) error {
		tx.Quiet()
		proto.Reset(response)
		placement, err := c.canaryPlacement(ctx, tx, caller, placementID)
		if err != nil {
			return err
		}
		signers, err := c.signers(ctx, tx)
		if err != nil {
			return err
		}
		for _, by := range signers {
			if lapsed, err := foreignAndLapsed(ctx, tx, by, req.Revoked); err != nil {
				return err
			} else if lapsed {
				continue // the others' canaries must not end with it
			}
			canary, err := c.signCanary(ctx, tx, caller, placement, csr, by, req.Revoked)
			if err != nil {
				return err
			}
			response.Canaries = append(response.Canaries, canary)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return response, nil
}

// canaryPlacement is the placement that canaries are for: the caller's, wanted,
// with a certificate of its own, at a process that asks its clients for one.
func (c *Control) canaryPlacement(ctx context.Context, tx *store.Tx, caller Caller, id string) (store.Placement, error) {
	agent, err := activeAgent(ctx, tx, caller)
	if err != nil {
		return store.Placement{}, err
	}
	placement, err := tx.Placement(ctx, id)
	switch {
	case err != nil && fault.CodeOf(err) == fault.NotFound:
		return placement, fault.New(fault.NotFound, "placement %s does not exist", printable(id))
	case err != nil:
		return placement, err
	case placement.AgentID != caller.ID:
		return placement, fault.New(fault.Forbidden, "placement %s is not of agent %s", placement.ID, caller.ID)
	case placement.Orphan:
		return placement, fault.New(fault.Forbidden, "placement %s: no intent wants it any more", placement.ID)
	}
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return placement, err
	}
	expanded, err := c.expand(w, agent, keyOf(placement), "")
	if err != nil {
		return placement, err
	}
	asks := expanded.Target.ClientAuth == "required" || expanded.Target.ClientAuth == "optional"
	if expanded.Names == nil || !asks {
		return placement, fault.New(fault.Forbidden, "placement %s: canaries are for processes that have a certificate and ask their clients for one", placement.ID).
			WithRemedy("say so in intent %s: target.clientAuth: required, or optional", placement.Intent)
	}
	return placement, nil
}

func (c *Control) signCanary(ctx context.Context, tx *store.Tx, caller Caller, placement store.Placement, csr *x509.CertificateRequest, by *signer, revoked bool) (*api.Canary, error) {
	authority, err := tx.Authority(ctx, by.ID)
	if err != nil {
		return nil, err
	}
	id := newID()
	names, err := c.roleNames(pki.RoleCanary, id, nil, nil)
	if err != nil {
		return nil, err
	}
	terms := canaryTerms
	if revoked {
		terms = revokedCanaryTerms
	}
	issued, err := signBy(by.Authority, tx, ca.Request{PublicKey: csr.PublicKey, Names: names, Terms: terms})
	if err != nil {
		return nil, err
	}
	record := certificateRecord(store.KindCanary, issued, names, tx.Now)
	record.AgentID, record.Intent = caller.ID, placement.Intent
	if err := tx.InsertCertificates(ctx, record); err != nil {
		return nil, err
	}
	if revoked {
		if err := tx.RevokeCertificate(ctx, issued.Serial, superseded); err != nil {
			return nil, err
		}
	}
	_, err = done(ctx, tx, caller, "canary.issue", "Placement/"+placement.ID, map[string]any{
		"intent": placement.Intent, "canary": id, "serial": issued.Serial.String(), "authority": by.ID, "revoked": revoked,
		"notAfter": issued.NotAfter.UTC().Format(time.RFC3339),
	})
	return &api.Canary{
		Chain: issued.Chain, Anchor: pki.FingerprintOf(by.root.Raw).String(), Authority: authority.Name,
	}, err
}

// canaryBudget bounds the signatures and rows that one placement can ask for:
// a proof takes one call.
type canaryBudget struct {
	mu      sync.Mutex
	buckets map[string]bucket // by placement
}

const (
	canaryBurst     = 30
	canariesAMinute = 6
)

func (b *canaryBudget) spend(placementID string, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.buckets == nil {
		b.buckets = map[string]bucket{}
	}
	kept, known := b.buckets[placementID]
	if !known {
		kept = bucket{canaryBurst, now}
	}
	if passed := now.Sub(kept.at).Minutes(); passed > 0 {
		kept = bucket{min(canaryBurst, kept.left+passed*canariesAMinute), now}
	}
	if kept.left < 1 {
		return fault.New(fault.Unavailable, "placement %s asked for more than %d canaries in a minute", placementID, canariesAMinute).
			WithRemedy("ask again in %s", time.Minute/canariesAMinute)
	}
	kept.left--
	b.buckets[placementID] = kept
	return nil
}
