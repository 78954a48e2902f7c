package control

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/graph"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/policy"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/store"
)

// graphFacts gathers what the trust graph is built from. A placement costs one
// look-up, of its certificate; all else is read once for all.
func (c *Control) graphFacts(ctx context.Context, tx *store.Tx) (graph.Facts, error) {
	w, err := c.worldAt(ctx, tx)
	if err != nil {
		return graph.Facts{}, err
	}
	g := &gathering{c: c, tx: tx, world: w, agents: map[string]store.Agent{}, authorities: map[string]store.Authority{}}
	g.facts.Bundles = map[string][]graph.Anchor{}
	for _, document := range w.set.OfKind(fleet.KindService) {
		service, _ := w.set.Service(document.Name)
		g.facts.Services = append(g.facts.Services, graph.Party{
			Name: document.Name, Owner: service.Owner, Outside: service.Outside, Clients: service.Clients,
		})
	}
	for _, step := range []func(context.Context) error{g.readAuthorities, g.readAgents, g.readPlacements, g.readBundles, g.readIssued} {
		if err := step(ctx); err != nil {
			return graph.Facts{}, err
		}
	}
	return g.facts, nil
}

// gathering is the facts of a graph while they are read.
type gathering struct {
	c           *Control
	tx          *store.Tx
	world       *world
	agents      map[string]store.Agent
	authorities map[string]store.Authority
	facts       graph.Facts
}

func (g *gathering) readAuthorities(ctx context.Context) error {
	all, err := g.tx.Authorities(ctx)
	if err != nil {
		return err
	}
	for _, authority := range all {
		g.authorities[authority.ID] = authority
	}
	for _, authority := range all {
		g.facts.Authorities = append(g.facts.Authorities, graph.Authority{
			ID: authority.ID, Name: authority.Name, Parent: authority.ParentID, State: authority.State, Anchor: g.rootOf(authority.ID),
		})
	}
	return nil
}

func (g *gathering) readIssued(ctx context.Context) error {
	all, err := g.tx.LiveCertificates(ctx, g.tx.Now)
	for _, live := range all {
		g.facts.Issued = append(g.facts.Issued, graph.Issued{
			Authority: live.AuthorityID, Kind: string(live.Kind), Count: int(live.Count), Last: live.Last,
		})
	}
	return err
}

func (g *gathering) readAgents(ctx context.Context) error {
	all, err := g.tx.Agents(ctx)
	for _, agent := range all {
		g.agents[agent.ID] = agent
		g.facts.Agents = append(g.facts.Agents, agent.ID)
	}
	return err
}

// rootOf is the root above an authority. Of one whose root has no record there
// is no more than a name.
func (g *gathering) rootOf(id string) graph.Anchor {
	authority := g.authorities[id]
	for range len(g.authorities) { // no longer, though the store were damaged
		if authority.Kind == store.RootAuthority && authority.ParentID == "" {
			return graph.Anchor{Fingerprint: pki.FingerprintOf(authority.Certificate), Name: authority.Name}
		}
		parent, ok := g.authorities[authority.ParentID]
		if !ok {
			break
		}
		authority = parent
	}
	return graph.Anchor{Name: "the root above " + authority.Name}
}

// bridgesOf are the roots that signed another certificate of this one: the
// bridges that travel in chains while they are active.
func (g *gathering) bridgesOf(root graph.Anchor) []graph.Anchor {
	var all []graph.Anchor
	for _, bridge := range g.authorities {
		of, ok := g.authorities[bridge.CrossOf]
		if ok && bridge.State == fleet.AuthorityActive && pki.FingerprintOf(of.Certificate) == root.Fingerprint {
			all = append(all, g.rootOf(bridge.ParentID))
		}
	}
	slices.SortFunc(all, func(a, b graph.Anchor) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (g *gathering) readPlacements(ctx context.Context) error {
	placements, err := g.tx.Placements(ctx)
	if err != nil {
		return err
	}
	for _, placement := range placements {
		place, err := g.place(ctx, placement)
		if err != nil {
			return err
		}
		g.facts.Places = append(g.facts.Places, place)
	}
	return nil
}

func (g *gathering) place(ctx context.Context, placement store.Placement) (graph.Place, error) {
	report, err := storedReport(placement)
	if err != nil {
		return graph.Place{}, err
	}
	agent := g.agents[placement.AgentID]
	place := graph.Place{
		ID: placement.ID, Intent: placement.Intent, Agent: placement.AgentID, Instance: placement.Instance,
		Region: agent.Region, Cluster: placement.Cluster, Target: placement.Target,
		State: stateName(report.State), Orphan: placement.Orphan, Gone: agent.State == fleet.AgentRetired,
		Generation: report.Generation, Serial: report.Serial, Shown: fleet.Level(levelName(report.Level)), Bundle: report.BundleDigest,
	}
	for _, edge := range report.Edges {
		place.Looks = append(place.Looks, lookOf(edge, placement.AgentID))
	}
	if placement.Orphan {
		place.State = stateName(api.State_STATE_ORPHAN)
	}
	if in, ok := g.world.set.Intent(fleet.Name(placement.Intent)); ok {
		place.Service, place.Kind, place.ClientAuth = in.Service, in.Target.Kind, in.Target.ClientAuth
		if profile, ok := g.world.set.Profile(in.Profile); ok && in.Identity != nil {
			place.Serves, place.Presents = slices.Contains(profile.Usages, fleet.ServerAuth), slices.Contains(profile.Usages, fleet.ClientAuth)
		}
	}
	if report.Generation > 0 {
		if err := g.certificate(ctx, &place); err != nil {
			return place, err
		}
	}
	if _, declared := g.world.set.Service(place.Service); !declared {
		place.Service = ""
	}
	return place, nil
}

func lookOf(edge *api.EdgeReport, observer string) graph.Look {
	verdicts := map[probe.EdgeVerdict]graph.Fit{probe.EdgeFits: graph.Fits, probe.EdgeBroken: graph.Breaks}
	verdict := probe.EdgeVerdict(edge.Verdict)
	return graph.Look{
		Server: fleet.Name(edge.Server), Address: edge.Address, Observer: observer, At: edge.At.AsTime(),
		Verdict: cmp.Or(verdicts[verdict], graph.Unclear), Blocked: verdict == probe.EdgeBlocked, Words: edge.Words,
	}
}

// certificate fills in what the record of the certificate in use says. What it
// is for goes by the certificate itself: the profile may be another by now. A
// restored store may have no record.
func (g *gathering) certificate(ctx context.Context, place *graph.Place) error {
	record, err := g.tx.PlacementCertificate(ctx, place.ID, place.Generation)
	if err != nil && fault.CodeOf(err) == fault.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(record.DER)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "certificate %s", record.Serial)
	}
	place.Serves = slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	place.Presents = slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	place.Serial, place.Authority, place.Root = record.Serial.String(), record.AuthorityID, g.rootOf(record.AuthorityID)
	place.Bridged = g.bridgesOf(place.Root)
	place.NotAfter, place.Revoked = record.NotAfter, !record.RevokedAt.IsZero()
	if place.Service == "" { // its intent is gone; the policy knew it
		var input policy.Input
		if err := json.Unmarshal(record.PolicyInput, &input); err == nil {
			place.Service = fleet.Name(input.Service)
		}
	}
	return nil
}

// readBundles reads each bundle that some placement has in use, and who has
// adopted it how far. One that has no record stays away.
func (g *gathering) readBundles(ctx context.Context) error {
	users := map[string]map[string]*graph.Place{}
	for i := range g.facts.Places {
		place := &g.facts.Places[i]
		if place.Bundle == "" {
			continue
		}
		if users[place.Bundle] == nil {
			users[place.Bundle] = map[string]*graph.Place{}
		}
		users[place.Bundle][place.ID] = place
	}
	for digest, places := range users {
		if err := g.readBundle(ctx, digest); err != nil {
			return err
		}
		adoptions, err := g.tx.BundleAdoptions(ctx, digest)
		if err != nil {
			return err
		}
		for _, adoption := range adoptions {
			place := places[adoption.PlacementID]
			if place == nil {
				continue // it has gone on to another
			}
			place.Adopted, place.AdoptedAt = fleet.Level(adoption.Level), adoption.At
			if adoption.Evidence != "" {
				place.Observer = place.Agent // evidence of others is refused
			}
		}
	}
	return nil
}

func (g *gathering) readBundle(ctx context.Context, text string) error {
	digest, err := pki.ParseBundleDigest(text)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "stored report of a bundle")
	}
	bundle, err := g.tx.BundleByDigest(ctx, digest)
	if err != nil && fault.CodeOf(err) == fault.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	for _, der := range bundle.Anchors {
		anchor, err := g.anchor(der)
		if err != nil {
			return err
		}
		g.facts.Bundles[text] = append(g.facts.Bundles[text], anchor)
	}
	return nil
}

// anchor is one of a bundle, by the name of its authority, or by its subject
// where it is somebody else's.
func (g *gathering) anchor(der []byte) (graph.Anchor, error) {
	anchor := graph.Anchor{Fingerprint: pki.FingerprintOf(der)}
	for _, authority := range g.facts.Authorities {
		if authority.Parent == "" && authority.Anchor.Fingerprint == anchor.Fingerprint {
			anchor.Name = authority.Name
			return anchor, nil
		}
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return anchor, fault.Wrap(fault.Internal, err, "stored anchor %s", anchor.Fingerprint)
	}
	anchor.Name = cmp.Or(certificate.Subject.CommonName, certificate.Subject.String())
	return anchor, nil
}
