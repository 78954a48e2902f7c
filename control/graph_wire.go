package control

import (
	"strings"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/graph"
)

var fits = map[graph.Fit]api.Fit{
	graph.Fits: api.Fit_FIT_OK, graph.Breaks: api.Fit_FIT_BREAKS, graph.Unclear: api.Fit_FIT_UNKNOWN,
}

func wireEdge(e graph.Edge) *api.GraphEdge {
	return &api.GraphEdge{
		Client: string(e.Client), Server: string(e.Server), Declared: e.Declared, Members: e.Members,
		Fit: fits[e.Verdict], Serves: wireWay(e.Serves), Presents: wireWay(e.Presents),
	}
}

func wireWay(w graph.Way) *api.GraphWay {
	way := &api.GraphWay{Needed: w.Needed, Fit: fits[w.Verdict]}
	for _, chain := range w.Chains {
		way.Chains = append(way.Chains, &api.GraphChain{
			Authority: chain.Authority, Root: wireAnchor(chain.Root), Bridged: wireAnchors(chain.Bridged), Levels: wireTally(chain.Levels),
		})
	}
	for _, trust := range w.Trust {
		way.Trust = append(way.Trust, &api.GraphTrust{
			BundleDigest: trust.Bundle, Anchors: wireAnchors(trust.Anchors), Levels: wireTally(trust.Levels),
		})
	}
	way.Reasons = wireReasons(w.Reasons)
	return way
}

func wireReasons(reasons []graph.Reason) []*api.GraphReason {
	var all []*api.GraphReason
	for _, reason := range reasons {
		one := &api.GraphReason{Fit: fits[reason.Verdict], Text: reason.Text, Ask: string(reason.Ask)}
		for _, place := range reason.Places {
			one.Places = append(one.Places, namedPlace(place))
		}
		all = append(all, one)
	}
	return all
}

func wireAnchor(a graph.Anchor) *api.GraphAnchor {
	if a.Fingerprint.IsZero() {
		return &api.GraphAnchor{Name: a.Name}
	}
	return &api.GraphAnchor{Fingerprint: a.Fingerprint.String(), Name: a.Name}
}

func wireAnchors(anchors []graph.Anchor) []*api.GraphAnchor {
	var all []*api.GraphAnchor
	for _, anchor := range anchors {
		all = append(all, wireAnchor(anchor))
	}
	return all
}

func wireTally(t graph.Tally) *api.LevelCounts {
	return &api.LevelCounts{None: uint32(t.None), Delivered: uint32(t.Delivered), Loaded: uint32(t.Loaded), Proven: uint32(t.Proven)}
}

func wireShares(shares []graph.Share) []*api.ServiceShare {
	var all []*api.ServiceShare
	for _, share := range shares {
		all = append(all, &api.ServiceShare{Service: string(share.Service), Count: uint32(share.Count), Levels: wireTally(share.Levels)})
	}
	return all
}

func wireOwner(o fleet.Owner) *api.ServiceOwner {
	return &api.ServiceOwner{Team: o.Team, Contact: o.Contact, Runbook: o.Runbook}
}

func wireNames(names []fleet.Name) []string {
	var all []string
	for _, name := range names {
		all = append(all, string(name))
	}
	return all
}

func namedPlace(p *graph.Place) *api.GraphPlace {
	return &api.GraphPlace{Id: p.ID, Intent: p.Intent, Agent: p.Agent, Instance: p.Instance, Service: string(p.Service)}
}

func wirePlaces(g *graph.Graph, places []*graph.Place) []*api.GraphPlace {
	var all []*api.GraphPlace
	for _, p := range places {
		one := namedPlace(p)
		one.Region, one.Cluster, one.Target, one.State = p.Region, p.Cluster, string(p.Kind)+"/"+p.Target, api.State(api.State_value[statePrefix+strings.ToUpper(p.State)])
		one.Generation, one.Shown = p.Generation, levels[p.Shown]
		if p.Generation > 0 {
			one.Serial, one.Authority, one.Root = p.Serial, p.Authority, wireAnchor(p.Root)
			one.NotAfter, one.Revoked = stamp(p.NotAfter), p.Revoked
		}
		if p.Serves {
			one.Usages = append(one.Usages, string(fleet.ServerAuth))
		}
		if p.Presents {
			one.Usages = append(one.Usages, string(fleet.ClientAuth))
		}
		one.BundleDigest, one.Anchors = p.Bundle, wireAnchors(g.AnchorsIn(p.Bundle))
		one.Adopted, one.AdoptedAt, one.Observer = levels[p.Adopted], stamp(p.AdoptedAt), p.Observer
		all = append(all, one)
	}
	return all
}

const statePrefix = "STATE_"

// stateName is "steady" for STATE_STEADY; empty where nothing is reported.
func stateName(state api.State) string {
	if state == api.State_STATE_UNSPECIFIED {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(state.String(), statePrefix))
}
