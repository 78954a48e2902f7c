package control

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/schedule"
	"github.com/rotunda-pki/rotunda/store"
)

// mostDesiring is for how many agents it is found out at once what is wanted of
// them. The streams of all look again at the same time; of the store's few
// readers one stays for what they wait for, such as the lists after a revocation.
const mostDesiring = 3

// Desired is all that is wanted of the calling agent, as one snapshot of the
// store shows it. seq is the time of the newest commit in that snapshot, in µs,
// so it grows with the store and means the same on every server.
func (c *Control) Desired(ctx context.Context, caller Caller) (*api.DesiredState, error) {
	if err := authorize(caller, "agent.connect"); err != nil {
		return nil, err
	}
	if err := c.desiring.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer c.desiring.Release(1)
	desired := &api.DesiredState{ServerTime: timestamppb.New(c.now())}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		agent, err := activeAgent(ctx, tx, caller)
		if err != nil {
			return err
		}
		c.presence.overtaken(agent.ID, agent.Boot)
		common, err := c.commonAt(ctx, tx)
		if err != nil {
			return err
		}
		desired.Epoch, desired.Seq = common.epoch, uint64(common.commit.UnixMicro())
		desired.Checkpoint, desired.Cosigned = common.checkpoint, common.cosigned
		anchors, err := common.bundle(fleet.DefaultBundle)
		if err != nil {
			return err
		}
		desired.Anchors = anchors.Anchors
		renewAt, err := common.renewIdentityAt(ctx, tx, agent)
		if err != nil {
			return err
		}
		desired.RenewIdentityAt, desired.Restored, desired.Testify = stamp(renewAt), common.restored, common.testify
		if err := c.desirePlacements(ctx, tx, common, agent, desired); err != nil {
			return err
		}
		if common.rolledBack != nil {
			standStill(desired, rolledBackWords(common.rolledBack))
		}
		return nil
	})
	return desired, err
}

func (c *Control) desirePlacements(ctx context.Context, tx *store.Tx, common *common, agent store.Agent, desired *api.DesiredState) error {
	desired.Region, desired.Servers = agent.Region, common.world.servers
	placements, err := tx.AgentPlacements(ctx, agent.ID)
	if err != nil {
		return err
	}
	revoked, err := tx.RevokedGenerations(ctx, agent.ID)
	if err != nil {
		return err
	}
	for _, placement := range placements {
		one, err := c.desirePlacement(ctx, tx, common, agent, placement)
		if err != nil {
			return fmt.Errorf("placement %s of intent %s: %w", placement.ID, placement.Intent, err)
		}
		one.RevokedGenerations = revoked[placement.ID]
		desired.Placements = append(desired.Placements, one)
	}
	return c.desireEdges(ctx, tx, common.world, placements, desired)
}

// desirePlacement says what is wanted at one placement. What stands in the way
// of one (a label that is missing) becomes its hold and leaves the others
// alone.
func (c *Control) desirePlacement(ctx context.Context, tx *store.Tx, common *common, agent store.Agent, placement store.Placement) (*api.DesiredPlacement, error) {
	desired := &api.DesiredPlacement{
		PlacementId: placement.ID, Intent: placement.Intent, Instance: placement.Instance,
		RenewThrough: placement.RenewThrough, NewKey: placement.NewKey, Attempt: placement.Attempt,
	}
	if placement.RotationOpen() {
		desired.RenewFrom = stamp(placement.RenewFrom)
	}
	if placement.Orphan {
		desired.Orphan = true
		return desired, nil
	}
	override, err := common.overrideAt(ctx, tx, placement.ID)
	if err != nil {
		return nil, err
	}
	expanded, err := c.expand(common.world, agent, keyOf(placement), fleet.Name(override.Profile))
	if err != nil {
		desired.Hold = err.Error()
		return desired, nil
	}
	desired.Service = string(expanded.Service)
	desired.Target, desired.Files, desired.Proof = targetSpec(expanded.Target), filesSpec(expanded.Files), proofSpec(expanded.Proof)
	digest, err := common.digest(expanded.Bundle)
	if err != nil {
		return nil, err
	}
	desired.BundleDigest = digest.String()
	desireLists(common, expanded, digest, desired)
	if expanded.Names != nil {
		if err := c.desireCertificate(ctx, tx, common, placement, expanded, desired); err != nil {
			return nil, err
		}
	}
	if err := common.change.desire(ctx, tx, placement, expanded, desired); err != nil {
		return nil, err
	}
	if err := desireClosings(common, placement, expanded, desired, tx.Now); err != nil {
		return nil, err
	}
	if desired.NeedsSlot = expanded.Target.Cluster != ""; desired.NeedsSlot {
		if desired.Slot, err = desiredSlot(ctx, tx, placement.ID); err != nil {
			return nil, err
		}
	}
	desired.Hold, err = common.breakers.hold(ctx, tx, placement)
	return desired, err
}

func (c *Control) desireCertificate(ctx context.Context, tx *store.Tx, common *common, placement store.Placement, expanded fleet.Expanded, desired *api.DesiredPlacement) error {
	desired.Identity = identity(*expanded.Names)
	desired.Profile = profileTerms(string(expanded.ProfileName), expanded.Profile)
	for _, name := range common.world.peers(expanded.Service, expanded.Profile) {
		digest, err := common.digest(name)
		if err != nil {
			return err
		}
		desired.PeerBundleDigests = append(desired.PeerBundleDigests, digest.String())
	}
	newest, err := tx.NewestPlacementCertificate(ctx, placement.ID)
	if fault.CodeOf(err) == fault.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	after, before, err := c.windowOf(ctx, tx, placement, expanded.Profile, newest)
	if err != nil {
		return err
	}
	desired.WindowGeneration = newest.Generation
	desired.RenewAfter, desired.RenewBefore = timestamppb.New(after), timestamppb.New(before)
	return desireStaple(ctx, tx, expanded, newest, desired)
}

// windowOf is when a certificate should be renewed, with the meaning that
// RFC 9773 gives to a suggested window: the client picks a moment in it. Members
// of a cluster get a part each.
func (c *Control) windowOf(ctx context.Context, tx *store.Tx, placement store.Placement, profile *fleet.Profile, leaf store.Certificate) (after, before time.Time, err error) {
	after, before = schedule.Window(profile, leaf.IssuedAt, leaf.NotAfter)
	if placement.Cluster == "" {
		return after, before, nil
	}
	members, err := tx.ClusterMembers(ctx, placement.Cluster)
	if err != nil {
		return after, before, err
	}
	all := make([]schedule.Member, len(members))
	for i, member := range members {
		all[i] = schedule.Member{Agent: member.AgentID, Target: member.Name}
	}
	after, before = schedule.Part(placement.Cluster, memberOf(placement), all, after, before)
	return after, before, nil
}

// storedReport is what the placement's agent last said of it.
func storedReport(placement store.Placement) (*api.PlacementReport, error) {
	report := &api.PlacementReport{}
	if err := proto.Unmarshal(placement.Report, report); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "stored report of placement %s", placement.ID)
	}
	return report, nil
}

func identity(names pki.Names) *api.Identity {
	out := &api.Identity{CommonName: names.CommonName, DnsNames: names.DNS, SpiffeId: names.URI}
	for _, ip := range names.IPs {
		out.IpAddresses = append(out.IpAddresses, ip.String())
	}
	return out
}

func profileTerms(name string, profile *fleet.Profile) *api.ProfileTerms {
	terms := &api.ProfileTerms{
		Name: name, Algorithm: string(profile.Algorithm),
		Lifetime: wireDuration(profile.Lifetime), RideOut: wireDuration(profile.RideOut),
		KeyAge: wireDuration(profile.KeyAge), Grace: wireDuration(profile.Grace),
		MinVersion: string(profile.TLS.MinVersion), RepairDrift: profile.RepairDrift, Staple: profile.Revocation.Staple,
	}
	if profile.Revocation.CRL {
		terms.StaleCrl = string(profile.Revocation.OnStale)
	}
	for _, usage := range profile.Usages {
		terms.Usages = append(terms.Usages, string(usage))
	}
	for _, group := range profile.TLS.Groups {
		terms.Groups = append(terms.Groups, string(group))
	}
	return terms
}

func wireDuration(d fleet.Duration) *durationpb.Duration { return durationpb.New(d.Std()) }

func targetSpec(target fleet.Target) *api.TargetSpec {
	return &api.TargetSpec{
		Kind: string(target.Kind), Name: target.Name, Cluster: target.Cluster,
		Address: target.Address, ServerName: target.ServerName,
		Preamble: string(target.Preamble), ClientAuth: string(target.ClientAuth),
		ReloadCommand: target.ReloadCommand, RestartCommand: target.RestartCommand,
	}
}

func filesSpec(files fleet.Files) *api.FilesSpec {
	spec := &api.FilesSpec{
		Directory: files.Directory, Owner: files.Owner, Group: files.Group,
		Mode: string(files.Mode), Password: files.Password,
	}
	for _, format := range files.Formats {
		spec.Formats = append(spec.Formats, string(format))
	}
	return spec
}

var levels = map[fleet.Level]api.Level{
	fleet.Delivered: api.Level_LEVEL_DELIVERED,
	fleet.Loaded:    api.Level_LEVEL_LOADED,
	fleet.Proven:    api.Level_LEVEL_PROVEN,
}

func proofSpec(proof fleet.Proof) *api.ProofSpec {
	return &api.ProofSpec{
		Level: levels[proof.Level], Observe: wireDuration(proof.Observe), Timeout: wireDuration(proof.Timeout),
	}
}
