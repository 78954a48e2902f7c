package control

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/store"
)

// heardWithin is how long an agent of which another server has written nothing
// down counts as heard of: presence is written now and then only.
const heardWithin = 2 * presenceWriteEvery

// ListRegions shows how each region does: its servers, its agents, who signs
// for it, what its synthetic intents prove, and whether its clients can verify
// the servers of the others.
func (c *Control) ListRegions(ctx context.Context, caller Caller, _ *api.ListRegionsRequest) (*api.ListRegionsResponse, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	regions, err := c.Regions(ctx)
	return &api.ListRegionsResponse{Regions: regions}, err
}

// Regions is how each region does.
func (c *Control) Regions(ctx context.Context) (regions []*api.RegionStatus, err error) {
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		v := &regionView{Control: c, tx: tx, regions: map[string]*region{}}
		for _, gather := range []func(context.Context) error{v.declared, v.signersOf, v.agentsOf, v.serversOf, v.placementsOf, v.syntheticsOf} {
			if err := gather(ctx); err != nil {
				return err
			}
		}
		err := v.signs(ctx)
		regions = v.wire()
		return err
	})
	return regions, err
}

// regionView gathers what one snapshot of the store shows of regions.
type regionView struct {
	*Control
	tx          *store.Tx
	world       *world
	regions     map[string]*region
	active      []store.Authority // that sign, or are stopped
	home        map[string]string // regions of agents that are in one
	authorities map[string]store.Authority
	servers     map[fleet.Name]map[string]bool // regions of a service's placements
}

type region struct {
	*api.RegionStatus
	authorities map[string]int32
	trust       map[string]*api.RegionTrust
}

func (v *regionView) region(name string) *region {
	r := v.regions[name]
	if r == nil {
		r = &region{&api.RegionStatus{Name: name}, map[string]int32{}, map[string]*api.RegionTrust{}}
		v.regions[name] = r
	}
	return r
}

func (v *regionView) declared(ctx context.Context) (err error) {
	if v.world, err = v.worldAt(ctx, v.tx); err != nil {
		return err
	}
	for _, document := range v.world.set.OfKind(fleet.KindRegion) {
		spec, _ := document.Spec.(*fleet.Region)
		r := v.region(string(document.Name))
		r.Declared, r.Description = true, spec.Description
		for _, address := range spec.Servers {
			r.Servers = append(r.Servers, &api.RegionServerStatus{Address: address})
		}
	}
	return nil
}

func (v *regionView) agentsOf(ctx context.Context) error {
	v.home = map[string]string{}
	err := eachAgent(ctx, v.tx, func(agent store.Agent) error {
		if agent.Region != "" {
			v.home[agent.ID] = agent.Region
		}
		if agent.State != fleet.AgentActive {
			return nil
		}
		r, seen := v.region(agent.Region), agent.SeenAt
		if v.connected(agent.ID) {
			seen = v.tx.Now
		}
		r.Agents++
		if v.tx.Now.Sub(seen) <= heardWithin {
			r.Heard++
		}
		r.contact(seen)
		return nil
	})
	if err != nil {
		return err
	}
	return v.believers(ctx)
}

func (r *region) contact(at time.Time) {
	if !at.IsZero() && at.After(r.NewestContact.AsTime()) {
		r.NewestContact = stamp(at)
	}
}

// believers counts the agents that have the domain's present bundle.
func (v *regionView) believers(ctx context.Context) error {
	common, err := v.commonAt(ctx, v.tx)
	if err != nil {
		return err
	}
	digest, err := common.digest(fleet.DefaultBundle)
	if err != nil {
		return err
	}
	all, err := v.tx.AgentAnchors(ctx)
	for _, one := range all {
		if one.Digest == digest.String() {
			v.region(v.home[one.AgentID]).Believing++
		}
	}
	return err
}

// serversOf puts the servers that were heard of where their addresses are
// declared; of several processes with one address the newest counts.
func (v *regionView) serversOf(ctx context.Context) error {
	heard, err := v.serversIn(ctx, v.tx)
	v.place(heard)
	return err
}

func (v *regionView) place(heard []*api.ServerInfo) {
	for _, one := range heard {
		status := v.declaredServer(one.Address)
		if status.SeenAt != nil && status.SeenAt.AsTime().After(one.SeenAt.AsTime()) {
			continue
		}
		status.Id, status.Version, status.Agents = one.Instance, one.Version, int32(one.Agents)
		status.StartedAt, status.SeenAt, status.Alive = one.StartedAt, one.SeenAt, one.Alive
	}
}

func (v *regionView) declaredServer(address string) *api.RegionServerStatus {
	for _, r := range v.regions {
		for _, one := range r.Servers {
			if one.Address == address {
				return one
			}
		}
	}
	status := &api.RegionServerStatus{Address: address}
	r := v.region("")
	r.Servers = append(r.Servers, status)
	return status
}

// signersOf adds the regions that have authorities of their own.
func (v *regionView) signersOf(ctx context.Context) (err error) {
	if v.active, err = activeIssuing(ctx, v.tx); err != nil {
		return err
	}
	for _, one := range v.active {
		v.region(one.Region)
	}
	return nil
}

// signs says of each region who signs for it now, and why that is not its own.
func (v *regionView) signs(ctx context.Context) error {
	out, err := v.unable(ctx, v.tx)
	if err != nil {
		return err
	}
	for name, r := range v.regions {
		if r.Signer, err = v.signerName(ctx, v.tx, v.active, name); err != nil {
			return err
		}
		for _, one := range v.active {
			if one.Name == r.Signer {
				r.SignerRegion = one.Region
			}
			if one.Region == name && one.Name != r.Signer {
				r.Away = fmt.Sprintf("%s, %s", one.Name, out.away(one))
			}
		}
	}
	return nil
}

// placementsOf reads the placements twice: whose service is in which region has to
// be known of all before the first edge is looked at.
func (v *regionView) placementsOf(ctx context.Context) error {
	if err := v.authoritiesOf(ctx); err != nil {
		return err
	}
	v.servers = map[fleet.Name]map[string]bool{}
	if len(v.home) == 0 { // of one region nobody asks which
		return pagesOfPlacements(ctx, v.tx, func(page []store.Placement) error { return v.placements(ctx, page) })
	}
	err := pagesOfPlacements(ctx, v.tx, func(page []store.Placement) error {
		for _, placement := range page {
			if intent, ok := v.world.set.Intent(fleet.Name(placement.Intent)); ok {
				if v.servers[intent.Service] == nil {
					v.servers[intent.Service] = map[string]bool{}
				}
				v.servers[intent.Service][v.home[placement.AgentID]] = true
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return pagesOfPlacements(ctx, v.tx, func(page []store.Placement) error { return v.placements(ctx, page) })
}

func (v *regionView) placements(ctx context.Context, page []store.Placement) error {
	signed, err := v.tx.SignedBy(ctx, page[0].ID, page[len(page)-1].ID)
	if err != nil {
		return err
	}
	for of, n := range signed {
		v.region(of[0]).authorities[of[1]] += int32(n)
	}
	for _, placement := range page {
		if placement.Orphan {
			continue
		}
		if err := v.placement(placement); err != nil {
			return err
		}
	}
	return nil
}

func (v *regionView) authoritiesOf(ctx context.Context) error {
	all, err := v.tx.Authorities(ctx)
	v.authorities = map[string]store.Authority{}
	for _, one := range all {
		v.authorities[one.ID] = one
	}
	return err
}

func (v *regionView) placement(placement store.Placement) error {
	r := v.region(v.home[placement.AgentID])
	report, err := storedReport(placement)
	if err != nil {
		return err
	}
	r.Placements++
	if report.Level == api.Level_LEVEL_PROVEN {
		r.Proven++
	}
	if report.State == api.State_STATE_FAILED {
		r.Failed++
	}
	for _, edge := range report.Edges {
		r.saw(v.regionOfService(fleet.Name(edge.Server)), edge)
	}
	return nil
}

// regionOfService is the region of a service that is in one alone; else several
// of them can be behind an address.
func (v *regionView) regionOfService(name fleet.Name) string {
	regions := slices.Sorted(maps.Keys(v.servers[name]))
	if len(regions) == 1 {
		return regions[0]
	}
	return ""
}

func (r *region) saw(other string, edge *api.EdgeReport) {
	one := r.trust[other]
	if one == nil {
		one = &api.RegionTrust{Region: other}
		r.trust[other] = one
	}
	switch probe.EdgeVerdict(edge.Verdict) {
	case probe.EdgeFits:
		one.Fits++
	case probe.EdgeBroken:
		one.Breaks++
		one.Words = cmp.Or(one.Words, edge.Server+": "+edge.Words)
	default:
		one.Unclear++
	}
}

func (v *regionView) syntheticsOf(ctx context.Context) error {
	all, err := v.synthetics(ctx, v.tx)
	for _, one := range all {
		r := v.region(one.Region)
		r.Synthetics = append(r.Synthetics, &api.RegionSynthetic{Intent: one.Intent, ProvenAt: stamp(one.Proven), Behind: one.Behind, Words: one.Words})
	}
	return err
}
