package control

import (
	"context"
	"strings"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/graph"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// Graph shows who calls whom, what each side shows and trusts, and whether that
// fits, as one snapshot of the store says it.
func (c *Control) Graph(ctx context.Context, caller Caller, req *api.GraphRequest) (*api.GraphResponse, error) {
	whole, err := c.graph(ctx, caller)
	if err != nil {
		return nil, err
	}
	only := fleet.Name(req.Service)
	if only != "" && whole.Party(only) == nil {
		return nil, fault.New(fault.NotFound, "service %s is not declared, so it has no edges", printable(req.Service)).
			WithRemedy("rotunda get services lists those that are")
	}
	response := &api.GraphResponse{At: stamp(whole.At)}
	shown := map[fleet.Name]bool{"": only == "", only: true}
	for _, edge := range whole.Edges {
		if only == "" || edge.Client == only || edge.Server == only {
			response.Edges = append(response.Edges, wireEdge(edge))
			shown[edge.Client], shown[edge.Server] = true, true
		}
	}
	for _, party := range append(whole.Services, graph.Party{}) { // the last is of no service
		places := whole.Places(party.Name)
		if only != "" && !shown[party.Name] || party.Name == "" && len(places) == 0 {
			continue
		}
		service := &api.GraphService{Name: string(party.Name), Owner: wireOwner(party.Owner), Outside: party.Outside}
		service.Places = wirePlaces(whole, places)
		response.Services = append(response.Services, service)
	}
	for _, use := range whole.Anchors {
		response.Anchors = append(response.Anchors, &api.AnchorUse{
			Anchor: wireAnchor(use.Anchor), Under: wireShares(use.Under), Trusts: wireShares(use.Trusts),
			Lacks: wireShares(use.Lacks), Unknown: wireShares(use.Unknown),
		})
	}
	return response, nil
}

// Impact says how far the loss or change of a service, an authority or an
// agent's host reaches.
func (c *Control) Impact(ctx context.Context, caller Caller, req *api.ImpactRequest) (*api.ImpactResponse, error) {
	whole, err := c.graph(ctx, caller)
	if err != nil {
		return nil, err
	}
	kind := graph.SubjectKind(strings.ToLower(strings.TrimPrefix(req.Kind.String(), "SUBJECT_")))
	impact, err := whole.Impact(graph.Subject{Kind: kind, Name: req.Name})
	if err != nil {
		return nil, err
	}
	response := &api.ImpactResponse{
		At: stamp(whole.At), Kind: req.Kind, Name: req.Name,
		Holders: wirePlaces(whole, impact.Holders), Trusts: wirePlaces(whole, impact.Trusts),
	}
	for _, stake := range impact.Direct {
		response.Direct = append(response.Direct, &api.ServiceStake{Service: string(stake.Service), Here: uint32(stake.Here), Full: uint32(stake.Full)})
	}
	for _, edge := range impact.Edges {
		response.Edges = append(response.Edges, wireEdge(edge))
	}
	for _, one := range impact.Reached {
		response.Reached = append(response.Reached, &api.ReachedService{Service: string(one.Service), Via: string(one.Via), Steps: uint32(one.Steps)})
	}
	for _, one := range impact.Issued {
		response.Issued = append(response.Issued, &api.IssuedCount{Kind: one.Kind, Count: uint32(one.Count), Last: stamp(one.Last)})
	}
	for _, contact := range impact.Ask {
		response.Ask = append(response.Ask, wireContact(contact))
	}
	return response, nil
}

// graph is built from one snapshot; the store is let go before it is.
func (c *Control) graph(ctx context.Context, caller Caller) (*graph.Graph, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	var facts graph.Facts
	now := c.now()
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		var err error
		now = tx.Now
		facts, err = c.graphFacts(ctx, tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return graph.New(facts, now), nil
}
