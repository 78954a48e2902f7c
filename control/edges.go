package control

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/store"
)

// For each declared edge and each address of its server, one agent of the
// client's looks whether it can shake hands there.
const (
	maxEdgeLooks  = 32 // an agent
	edgePlanHolds = 15 * time.Second
	edgeKind      = "edge "
)

// edgePlan is what is to be looked at, by the client's service.
type edgePlan struct {
	state uint64 // of the documents
	at    time.Time
	looks map[fleet.Name][]plannedLook
	seats map[fleet.Name][]edgeSeat // of services that are clients
}

// plannedLook is an address of a server. Only who is on the same host can look
// at a loopback address.
type plannedLook struct {
	look *api.EdgeLook
	host string // agent; empty: anybody
}

type edgeSeat struct{ agent, placement string }

// edgePlans keeps the newest plan for a while: who listens where changes rarely,
// and to find it out each placement is read.
type edgePlans struct {
	mu     sync.Mutex
	newest *edgePlan
}

func (c *Control) edgePlan(ctx context.Context, tx *store.Tx, w *world) (*edgePlan, error) {
	c.edges.mu.Lock()
	defer c.edges.mu.Unlock()
	if p := c.edges.newest; p != nil && p.state == w.state && tx.Now.Sub(p.at).Abs() < edgePlanHolds {
		return p, nil
	}
	plan, err := c.planEdges(ctx, tx, w)
	if err == nil && tx.Committed() {
		c.edges.newest = plan
	}
	return plan, err
}

func (c *Control) planEdges(ctx context.Context, tx *store.Tx, w *world) (*edgePlan, error) {
	plan := &edgePlan{state: w.state, at: tx.Now, looks: map[fleet.Name][]plannedLook{}, seats: map[fleet.Name][]edgeSeat{}}
	servers := map[fleet.Name]*fleet.Service{}
	for _, document := range w.set.OfKind(fleet.KindService) {
		if service, _ := w.set.Service(document.Name); len(service.Clients) > 0 {
			servers[document.Name] = service
			for _, client := range service.Clients {
				plan.seats[client] = nil
			}
		}
	}
	if len(servers) == 0 {
		return plan, nil
	}
	err := c.eachPlacement(ctx, tx, func(agent store.Agent, placement store.Placement) error {
		expanded, err := c.expand(w, agent, keyOf(placement), "")
		if err != nil || placement.Orphan || agent.State == fleet.AgentRetired {
			return nil
		}
		if seats, ok := plan.seats[expanded.Service]; ok {
			plan.seats[expanded.Service] = append(seats, edgeSeat{agent.ID, placement.ID})
		}
		if server := servers[expanded.Service]; server != nil {
			plan.add(server, agent.ID, placement, expanded)
		}
		return nil
	})
	return plan, err
}

// add plans the looks at one placement of a server.
func (p *edgePlan) add(server *fleet.Service, agent string, placement store.Placement, expanded fleet.Expanded) {
	t := expanded.Target
	address, name := t.Address, t.ServerName
	if server.Address != "" {
		address, name = server.Address, ""
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil || expanded.Profile == nil || !slices.Contains(expanded.Profile.Usages, fleet.ServerAuth) {
		return
	}
	look := plannedLook{look: &api.EdgeLook{
		Server: string(expanded.Service), Address: address, ServerName: name, Kind: string(t.Kind), Preamble: string(t.Preamble),
	}}
	if name == "" {
		look.look.ServerName = host
	}
	if name == "" && server.Address == "" && expanded.Names != nil && len(expanded.Names.DNS) > 0 {
		look.look.ServerName = expanded.Names.DNS[0]
	}
	if report, err := storedReport(placement); err == nil {
		look.look.Shows = report.Serial + " " + report.BridgeDigest
	}
	switch ip, err := netip.ParseAddr(host); {
	case err == nil && ip.IsUnspecified():
		return // where it listens, and no address to go to
	case err == nil && ip.IsLoopback(), host == "localhost":
		look.host = agent
	}
	for _, client := range server.Clients {
		known := slices.IndexFunc(p.looks[client], func(l plannedLook) bool {
			return l.look.Server == look.look.Server && l.look.Address == address && l.host == look.host
		})
		if known < 0 {
			p.looks[client] = append(p.looks[client], look)
		}
	}
}

// edgesOf are the looks for which a placement is chosen: of the connected ones
// of the client, one for each address, by a stable hash.
func (c *Control) edgesOf(plan *edgePlan, client fleet.Name, placement store.Placement) []*api.EdgeLook {
	var mine []*api.EdgeLook
	for _, planned := range plan.looks[client] {
		var best edgeSeat
		var most string
		for _, seat := range plan.seats[client] {
			away := !c.connected(seat.agent) && seat.agent != placement.AgentID // who asks is there
			if away || (planned.host != "" && planned.host != seat.agent) {
				continue
			}
			sum := sha256.Sum256([]byte(seat.placement + " " + planned.look.Server + " " + planned.look.Address))
			if rank := string(sum[:]); rank > most {
				best, most = seat, rank
			}
		}
		if best.placement == placement.ID {
			mine = append(mine, planned.look)
		}
	}
	return mine
}

// desireEdges adds the looks for which the agent's placements are chosen.
func (c *Control) desireEdges(ctx context.Context, tx *store.Tx, w *world, placements []store.Placement, desired *api.DesiredState) error {
	plan, err := c.edgePlan(ctx, tx, w)
	if err != nil || len(plan.looks) == 0 {
		return err
	}
	left := maxEdgeLooks
	for i, placement := range placements {
		looks := c.edgesOf(plan, fleet.Name(desired.Placements[i].Service), placement)
		looks = looks[:min(len(looks), left)]
		left -= len(looks)
		desired.Placements[i].Edges = looks
	}
	return nil
}

// believeEdges is what the agent's evidence says of the edges that it looked at.
// Of what it can't show, nothing is kept.
func believeEdges(ctx context.Context, tx *store.Tx, caller Caller, placement string, claimed []*api.EdgeReport) ([]*api.EdgeReport, error) {
	var believed []*api.EdgeReport
	for _, one := range claimed[:min(len(claimed), maxEdgeLooks)] {
		if one.GetEvidence() == nil {
			continue
		}
		seen, err := readEvidence(ctx, tx, caller, one.Evidence)
		if fault.CodeOf(err) == fault.Invalid || err == nil && seen.Address != one.Address {
			continue
		}
		if err != nil {
			return nil, err
		}
		verdict, words := probe.JudgeEdge(seen)
		at := seen.Time.UTC().Truncate(time.Microsecond)
		if at.After(tx.Now) {
			at = tx.Now
		}
		digest := evidenceDigest(one.Evidence)
		believed = append(believed, &api.EdgeReport{
			Server: short(one.Server), Address: short(one.Address), Verdict: string(verdict), Words: short(words),
			At: timestamppb.New(at), BundleDigest: short(seen.Bundle), EvidenceDigest: digest,
		})
		err = tx.PutEvidence(ctx, store.Evidence{
			Digest: digest, PlacementID: placement, Observer: caller.ID, Kind: short(edgeKind + one.Server + " " + one.Address),
			Verdict: string(verdict), Statement: one.Evidence.Statement, Signature: one.Evidence.Signature, At: at,
		})
		if err != nil {
			return nil, err
		}
	}
	return believed, nil
}

// brokenEdge is what a client's placement could not verify with the bundle that
// it has adopted, in words; empty: nothing. A blocked path is none of that.
func brokenEdge(report *api.PlacementReport, service, agent string) string {
	for _, edge := range report.GetEdges() {
		if edge.Verdict == string(probe.EdgeBroken) && edge.BundleDigest == report.BundleDigest {
			return fmt.Sprintf("%s on agent %s has no handshake with %s: %s", service, agent, edge.Server, strings.TrimSpace(edge.Words))
		}
	}
	return ""
}
