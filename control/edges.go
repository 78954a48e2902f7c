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
	"sync/atomic"
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
	edgePlanRests = 50 // times as long as it took to make: it reads each placement
	edgeKind      = "edge "
)

// edgePlan is what is to be looked at, and who could, by the client's service.
type edgePlan struct {
	state  uint64 // of the documents
	until  time.Time
	looks  map[fleet.Name][]plannedLook // in the order of their hashes
	ring   map[fleet.Name][]edgeSeat    // the same; of services that are clients
	known  map[string]bool              // looks that are planned
	local  map[string][]*api.EdgeLook   // by client and agent: of loopback addresses
	onHost map[string]string            // client and agent → the placement that looks at those
}

// plannedLook is an address of a server at which anybody could look.
type plannedLook struct {
	look *api.EdgeLook
	hash string
}

// edgeSeat is a place on the ring from which lookers are chosen.
type edgeSeat struct{ agent, placement, hash string }

// edgePlans keeps the newest plan for a while: who listens where changes rarely,
// and to find it out each placement is read. Nobody waits for one that is being
// made where there is an older one.
type edgePlans struct {
	mu     sync.Mutex // held while one is made
	newest atomic.Pointer[edgePlan]
}

func (c *Control) edgePlan(ctx context.Context, tx *store.Tx, w *world) (*edgePlan, error) {
	fresh := func(p *edgePlan) bool { return p != nil && p.state == w.state && tx.Now.Before(p.until) }
	known := c.edges.newest.Load()
	if fresh(known) {
		return known, nil
	}
	if known == nil {
		c.edges.mu.Lock()
	} else if !c.edges.mu.TryLock() {
		return known, nil
	}
	defer c.edges.mu.Unlock()
	if known = c.edges.newest.Load(); fresh(known) {
		return known, nil
	}
	began := time.Now()
	plan, err := c.planEdges(ctx, tx, w)
	if err != nil {
		return nil, err
	}
	plan.sort()
	plan.until = tx.Now.Add(max(edgePlanHolds, edgePlanRests*time.Since(began)))
	if tx.Committed() {
		c.edges.newest.Store(plan)
	}
	return plan, nil
}

func (c *Control) planEdges(ctx context.Context, tx *store.Tx, w *world) (*edgePlan, error) {
	plan := &edgePlan{
		state: w.state, looks: map[fleet.Name][]plannedLook{}, ring: map[fleet.Name][]edgeSeat{}, known: map[string]bool{}, local: map[string][]*api.EdgeLook{}, onHost: map[string]string{},
	}
	servers := map[fleet.Name]*fleet.Service{}
	for _, document := range w.set.OfKind(fleet.KindService) {
		if service, _ := w.set.Service(document.Name); len(service.Clients) > 0 {
			servers[document.Name] = service
			for _, client := range service.Clients {
				plan.ring[client] = nil
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
		if seats, ok := plan.ring[expanded.Service]; ok {
			plan.ring[expanded.Service] = append(seats, edgeSeat{agent.ID, placement.ID, edgeHash(placement.ID)})
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
	look := &api.EdgeLook{
		Server: string(expanded.Service), Address: address, ServerName: name, Kind: string(t.Kind), Preamble: string(t.Preamble),
	}
	if name == "" {
		look.ServerName = host
	}
	if name == "" && server.Address == "" && expanded.Names != nil && len(expanded.Names.DNS) > 0 {
		look.ServerName = expanded.Names.DNS[0]
	}
	if report, err := storedReport(placement); err == nil {
		look.Shows = report.Serial + " " + report.BridgeDigest
	}
	ip, err := netip.ParseAddr(host)
	if err == nil && ip.IsUnspecified() {
		return // where it listens, and no address to go to
	}
	only := "" // anybody can look
	if err == nil && ip.IsLoopback() || host == "localhost" {
		only = agent
	}
	for _, client := range server.Clients {
		key := strings.Join([]string{string(client), look.Server, address, only}, " ")
		switch {
		case p.known[key]:
			continue
		case only != "":
			here := onAgent(client, only)
			p.local[here] = append(p.local[here], look)
		default:
			p.looks[client] = append(p.looks[client], plannedLook{look, edgeHash(key)})
		}
		p.known[key] = true
	}
}

func edgeHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return string(sum[:])
}

func (p *edgePlan) sort() {
	for client, ring := range p.ring {
		slices.SortFunc(ring, func(a, b edgeSeat) int { return strings.Compare(a.hash, b.hash) })
		for _, seat := range ring {
			p.onHost[onAgent(client, seat.agent)] = seat.placement
		}
	}
	for _, looks := range p.looks {
		slices.SortFunc(looks, func(a, b plannedLook) int { return strings.Compare(a.hash, b.hash) })
	}
}

// edgesOf are the looks for which a placement is chosen. Placements and looks
// stand on one ring of hashes, and a look is the next connected placement's: so
// one looks at each address, and few move when one comes or goes.
func (c *Control) edgesOf(plan *edgePlan, client fleet.Name, placement store.Placement) (mine []*api.EdgeLook) {
	ring, own := plan.ring[client], edgeHash(placement.ID)
	at, there := slices.BinarySearchFunc(ring, own, func(s edgeSeat, hash string) int { return strings.Compare(s.hash, hash) })
	if !there {
		return nil
	}
	before := at
	for range ring {
		before = (before + len(ring) - 1) % len(ring)
		if before == at || c.connected(ring[before].agent) {
			break
		}
	}
	if here := onAgent(client, placement.AgentID); plan.onHost[here] == placement.ID {
		mine = append(mine, plan.local[here]...)
	}
	looks := plan.looks[client]
	first, _ := slices.BinarySearchFunc(looks, ring[before].hash, func(l plannedLook, hash string) int { return strings.Compare(l.hash, hash) })
	for i := range looks { // from the one behind the placement before, round the ring, to this one
		one := looks[(first+i)%len(looks)]
		if before != at && !between(ring[before].hash, one.hash, own) || len(mine) == maxEdgeLooks {
			break
		}
		mine = append(mine, one.look)
	}
	return mine
}

func onAgent(client fleet.Name, agent string) string { return string(client) + " " + agent }

// between says whether a hash comes after one, and not after another, on a
// ring.
func between(from, hash, to string) bool {
	if from < to {
		return from < hash && hash <= to
	}
	return from < hash || hash <= to
}

// desireEdges adds the looks for which the agent's placements are chosen.
func (c *Control) desireEdges(ctx context.Context, tx *store.Tx, w *world, placements []store.Held, desired *api.DesiredState) error {
	plan, err := c.edgePlan(ctx, tx, w)
	if err != nil || len(plan.known) == 0 {
		return err
	}
	left := maxEdgeLooks
	for i, placement := range placements {
		looks := c.edgesOf(plan, fleet.Name(desired.Placements[i].Service), placement.Placement)
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

// blockedEdges are the servers that a client's placement can't look at, in words:
// nothing was reached, which says nothing of trust.
func blockedEdges(report *api.PlacementReport, service, agent string) (blocked []string) {
	for _, edge := range report.GetEdges() {
		if edge.Verdict == string(probe.EdgeBlocked) {
			blocked = append(blocked, fmt.Sprintf("%s on agent %s can't look at %s: %s", service, agent, edge.Server, strings.TrimSpace(edge.Words)))
		}
	}
	return blocked
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
