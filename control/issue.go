package control

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/policy"
	"github.com/rotunda-pki/rotunda/store"
)

// maxIssueSlice bounds what one call asks for.
const maxIssueSlice = 256

// order is one request on its way through Issue: each step fills a part, and
// the first one that refuses it sets err, after which the others leave it
// alone.
type order struct {
	request   *api.PlacementRequest
	csr       *x509.CertificateRequest
	spki      pki.SPKIHash
	placement store.Placement
	expanded  fleet.Expanded
	input     policy.Input
	rule      string
	issued    ca.Issued
	known     []byte // DER of the certificate that this (placement, generation, key) has already
	err       error
}

func (o *order) open() bool { return o.err == nil && o.known == nil }

// Issue signs a slice of requests for placements of the calling agent. Each
// stands for itself. docs/issuance.md walks through it step by step and says
// what a crash at each leaves.
func (c *Control) Issue(ctx context.Context, caller Caller, req *api.IssueRequest) (*api.IssueResponse, error) {
	if err := authorize(caller, "issue"); err != nil {
		return nil, err
	}
	if len(req.Requests) > maxIssueSlice {
		return nil, fault.New(fault.Invalid, "%d requests in one call, at most %d may be", len(req.Requests), maxIssueSlice)
	}
	orders := make([]*order, len(req.Requests))
	for i, request := range req.Requests {
		orders[i] = &order{request: request}
		orders[i].readCSR()
	}
	if err := c.decide(ctx, caller, orders); err != nil {
		return nil, err
	}
	for _, o := range orders {
		if o.open() {
			c.signOrder(o)
		}
	}
	if err := c.recordOrders(ctx, caller, orders); err != nil {
		return nil, err
	}
	response := &api.IssueResponse{}
	for _, o := range orders {
		if fault.CodeOf(o.err) == fault.Forbidden || fault.CodeOf(o.err) == fault.Conflict {
			o.err = c.refused(ctx, caller, "issue", "Placement/"+printable(o.request.PlacementId), o.err)
		}
		response.Results = append(response.Results, c.result(o))
	}
	c.watchers.wakeAgents(caller.ID)
	return response, nil
}

func (o *order) readCSR() {
	if o.csr, o.err = pki.ParseCSR(o.request.Csr); o.err != nil {
		return
	}
	if o.spki, o.err = pki.SPKIHashOf(o.csr.PublicKey); o.err != nil {
		return
	}
	if o.request.Generation == 0 {
		o.err = fault.New(fault.Invalid, "generation 0: generations are numbered from 1")
	}
}

// decide settles for each order whether it may be issued, on one snapshot of
// the store.
func (c *Control) decide(ctx context.Context, caller Caller, orders []*order) error {
	return c.db.Read(ctx, func(tx *store.Tx) error {
		agent, err := activeAgent(ctx, tx, caller.ID)
		if err != nil {
			return err
		}
		w, err := c.worldAt(ctx, tx)
		if err != nil {
			return err
		}
		for _, o := range orders {
			if o.open() {
				o.err = c.decideOne(ctx, tx, w, agent, o)
			}
		}
		return nil
	})
}

func (c *Control) decideOne(ctx context.Context, tx *store.Tx, w *world, agent store.Agent, o *order) error {
	var err error
	if o.placement, err = tx.Placement(ctx, o.request.PlacementId); err != nil {
		return err
	}
	if o.placement.AgentID != agent.ID {
		return fault.New(fault.Forbidden, "placement %s is not of agent %s", o.placement.ID, agent.ID)
	}
	if err := o.findKnown(ctx, tx); err != nil || o.known != nil {
		return err
	}
	if o.placement.Orphan {
		return fault.New(fault.Forbidden, "placement %s: no intent wants it any more", o.placement.ID)
	}
	if o.expanded, err = c.expand(w, agent, keyOf(o.placement)); err != nil {
		return err
	}
	if o.expanded.Names == nil {
		return fault.New(fault.Forbidden, "intent %s delivers a bundle only", o.placement.Intent)
	}
	algorithm, err := pki.AlgorithmOf(o.csr.PublicKey)
	if err != nil {
		return err
	}
	if algorithm != o.expanded.Profile.Algorithm.Key() {
		return fault.New(fault.Invalid, "the key is %s, profile %s wants %s", algorithm, o.expanded.ProfileName, o.expanded.Profile.Algorithm)
	}
	o.input = policy.InputOf(o.expanded, fleetAgent(agent))
	decision := w.engine.Decide(o.input)
	if !decision.Allowed {
		return refusedByPolicy(decision, o.input)
	}
	o.rule = decision.Rule
	return nil
}

// findKnown looks whether this generation was issued before: the same key gets
// the same certificate, another key is a conflict.
func (o *order) findKnown(ctx context.Context, tx *store.Tx) error {
	record, err := tx.PlacementCertificate(ctx, o.placement.ID, o.request.Generation)
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		return nil
	case err != nil:
		return err
	case record.SPKI != o.spki:
		return fault.New(fault.Conflict, "generation %d of placement %s was issued to another key", o.request.Generation, o.placement.ID).
			WithRemedy("take the next generation; if no second agent was ever started here, look for one")
	case !record.RevokedAt.IsZero():
		return fault.New(fault.Conflict, "generation %d of placement %s was revoked", o.request.Generation, o.placement.ID)
	}
	o.known = record.DER
	return nil
}

func refusedByPolicy(decision policy.Decision, input policy.Input) error {
	return fault.New(fault.Forbidden, "policy refuses intent %s the names %s: %s (%s)",
		input.Intent, strings.Join(namesOf(input), ", "), decision.Rule, decision.Reason).
		WithRemedy("change the intent's names or the policy; try it with: rotunda plan")
}

func namesOf(input policy.Input) []string {
	names := append([]string{}, input.DNSNames...)
	names = append(names, input.IPAddresses...)
	if input.URI != "" {
		names = append(names, input.URI)
	}
	if input.CommonName != "" {
		names = append(names, "CN="+input.CommonName)
	}
	return names
}

func (c *Control) signOrder(o *order) {
	o.issued, o.err = c.sign(c.now(), ca.Request{
		PublicKey: o.csr.PublicKey, Names: *o.expanded.Names, Terms: termsOf(o.expanded.Profile),
	})
}

func termsOf(profile *fleet.Profile) ca.Terms {
	terms := ca.Terms{Lifetime: profile.Lifetime.Std(), Backdate: profile.Backdate.Std()}
	for _, usage := range profile.Usages {
		switch usage {
		case fleet.ServerAuth:
			terms.Usages = append(terms.Usages, x509.ExtKeyUsageServerAuth)
		case fleet.ClientAuth:
			terms.Usages = append(terms.Usages, x509.ExtKeyUsageClientAuth)
		}
	}
	return terms
}

// sign makes a certificate that nobody may see until its record is durable.
func (c *Control) sign(now time.Time, request ca.Request) (ca.Issued, error) {
	prepared, err := c.issuer.Prepare(now, request)
	if err != nil {
		return ca.Issued{}, err
	}
	return c.issuer.Issue(prepared)
}

// recordOrders makes the records and audit entries of all that was signed
// durable, in one transaction. Only after it returns may a certificate leave
// the server. It looks again at what may have changed since the decision.
func (c *Control) recordOrders(ctx context.Context, caller Caller, orders []*order) error {
	var signed []*order
	for _, o := range orders {
		if o.open() {
			signed = append(signed, o)
		}
	}
	if len(signed) == 0 {
		return nil
	}
	return c.db.Write(ctx, func(tx *store.Tx) error {
		if _, err := activeAgent(ctx, tx, caller.ID); err != nil {
			return err
		}
		for _, o := range signed {
			o.known, o.err = nil, nil
			if o.err = o.findKnown(ctx, tx); !o.open() {
				continue
			}
			if err := c.recordOrder(ctx, tx, caller, o); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *Control) recordOrder(ctx context.Context, tx *store.Tx, caller Caller, o *order) error {
	input, err := json.Marshal(o.input)
	if err != nil {
		return err
	}
	record := c.certificateRecord(store.KindLeaf, o.issued, *o.expanded.Names, tx.Now)
	record.PlacementID, record.Generation, record.AgentID = o.placement.ID, o.request.Generation, caller.ID
	record.Intent, record.Rule, record.PolicyInput = o.placement.Intent, o.rule, input
	if err := tx.InsertCertificate(ctx, record); err != nil {
		return err
	}
	_, err = done(ctx, tx, caller, "issue", "Placement/"+o.placement.ID, map[string]any{
		"intent": o.placement.Intent, "generation": o.request.Generation, "serial": o.issued.Serial.String(),
		"fingerprint": o.issued.Fingerprint.String(), "names": o.expanded.Names.Strings(), "rule": o.rule,
		"notAfter": o.issued.NotAfter.UTC().Format(time.RFC3339), "authority": c.issuer.ID,
	})
	return err
}

func (c *Control) certificateRecord(kind store.CertificateKind, issued ca.Issued, names pki.Names, now time.Time) store.Certificate {
	return store.Certificate{
		Serial: issued.Serial, Kind: kind, AuthorityID: c.issuer.ID, Names: strings.Join(names.Strings(), " "),
		SPKI: issued.SPKI, Fingerprint: issued.Fingerprint, CRLShard: issued.Shard,
		NotBefore: issued.NotBefore, NotAfter: issued.NotAfter, IssuedAt: now, DER: issued.DER,
	}
}

func (c *Control) result(o *order) *api.IssueResult {
	if o.err != nil {
		if fault.CodeOf(o.err) == fault.Internal {
			c.log.Error("issue failed", "placement", o.request.PlacementId, "error", o.err)
			return &api.IssueResult{ErrorCode: string(fault.Internal), Error: "internal error; the server's log has it"}
		}
		c.figures.refused.Add(1)
		return &api.IssueResult{ErrorCode: string(fault.CodeOf(o.err)), Error: o.err.Error()}
	}
	leaf := o.known
	if leaf == nil {
		leaf = o.issued.DER
		c.figures.issued.Add(1)
	}
	return &api.IssueResult{Chain: append([][]byte{leaf}, c.issuer.ChainDER()...)}
}
