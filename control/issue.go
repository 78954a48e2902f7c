package control

import (
	"context"
	"crypto/x509"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

const (
	// maxIssueSlice bounds what one call asks for.
	maxIssueSlice = 256

	// issueRounds bounds how often a decision is made again because what it
	// rested on had changed when it was to be recorded.
	issueRounds = 4
)

// order is one request on its way through Issue: each step fills a part, and
// the first one that refuses it sets err, after which the others leave it
// alone.
type order struct {
	caller  Caller
	request *api.PlacementRequest
	csr     *x509.CertificateRequest
	grant   *grant
	issued  ca.Issued
	known   [][]byte // chain of the certificate that this (placement, generation, key) has already
	moved   bool     // what the grant rests on has changed: decide again
	err     error
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
	defer c.recorder.begin()()
	orders := make([]*order, len(req.Requests))
	for i, request := range req.Requests {
		orders[i] = &order{caller: caller, request: request}
		orders[i].readCSR()
	}
	if err := c.carryOutOrders(ctx, caller, orders); err != nil {
		return nil, err
	}
	c.recordRefusals(ctx, caller, orders)
	response := &api.IssueResponse{Results: make([]*api.IssueResult, len(orders))}
	issued := false
	for i, o := range orders {
		response.Results[i] = c.result(o)
		issued = issued || o.open()
	}
	if issued {
		c.watchers.wakeAgents(caller.ID)
	}
	return response, nil
}

func (o *order) readCSR() {
	if o.csr, o.err = pki.ParseCSR(o.request.Csr); o.err != nil {
		return
	}
	if o.request.Generation == 0 {
		o.err = fault.New(fault.Invalid, "generation 0: generations are numbered from 1")
	}
}

// carryOutOrders decides, signs and records, and begins again with those that
// were decided on what is no longer so.
func (c *Control) carryOutOrders(ctx context.Context, caller Caller, orders []*order) error {
	for range issueRounds {
		if err := c.decide(ctx, caller, orders); err != nil {
			return err
		}
		var signed []*order
		for _, o := range orders {
			if o.open() {
				c.signOrder(o)
			}
			if o.open() {
				signed = append(signed, o)
			}
		}
		c.attempt(signed)
		if err := c.recordOrders(ctx, signed); err != nil {
			return err
		}
		if orders = c.moved(signed); len(orders) == 0 {
			return nil
		}
	}
	for _, o := range orders {
		o.err = fault.New(fault.Unavailable, "placement %s: what the decision rests on changes all the time", printable(o.request.PlacementId)).
			WithRemedy("ask again")
	}
	return nil
}

func (c *Control) moved(orders []*order) []*order {
	var again []*order
	for _, o := range orders {
		if o.moved {
			c.grants.CompareAndDelete(o.request.PlacementId, o.grant)
			again = append(again, o)
		}
	}
	return again
}

func (c *Control) signOrder(o *order) {
	algorithm, err := pki.AlgorithmOf(o.csr.PublicKey)
	if err != nil {
		o.err = err
		return
	}
	if profile := o.grant.expanded.Profile; algorithm != profile.Algorithm.Key() {
		o.err = fault.New(fault.Invalid, "the key is %s, profile %s wants %s", algorithm, o.grant.expanded.ProfileName, profile.Algorithm)
		return
	}
	// What is recorded is refused then too, but the clock may be right again by then.
	if o.err = c.db.InTime(); o.err != nil {
		return
	}
	prepared, err := o.grant.issuer.Prepare(c.now(), ca.Request{
		PublicKey: o.csr.PublicKey, Names: *o.grant.expanded.Names, Terms: o.grant.terms,
	})
	if err != nil {
		o.err = err
		return
	}
	o.issued, o.err = o.grant.issuer.Issue(prepared)
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

// recordRefusals enters what was refused for a reason of safety.
func (c *Control) recordRefusals(ctx context.Context, caller Caller, orders []*order) {
	var refusals []refusal
	for _, o := range orders {
		if code := fault.CodeOf(o.err); o.err != nil && (code == fault.Forbidden || code == fault.Conflict) {
			refusals = append(refusals, refusal{"issue", "Placement/" + printable(o.request.PlacementId), o.err})
		}
	}
	c.recordRefused(ctx, caller, refusals...)
}

func (c *Control) result(o *order) *api.IssueResult {
	if o.err != nil {
		if fault.CodeOf(o.err) == fault.Internal {
			c.log.Error("issue failed", "placement", o.request.PlacementId, "error", o.err)
		} else {
			c.figures.refused.Add(1)
		}
		return &api.IssueResult{ErrorCode: string(fault.CodeOf(o.err)), Error: fault.Public(o.err)}
	}
	chain := o.known
	if chain == nil {
		chain = o.issued.Chain
		c.figures.issued.Add(1)
	}
	return &api.IssueResult{Chain: chain}
}
