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

// desire is what is wanted of one agent in the snapshot that tx reads.
func (c *Control) desire(ctx context.Context, tx *store.Tx, common *common, host store.Host) (*api.DesiredState, error) {
	c.presence.overtaken(host.ID, host.Boot)
	desired := &api.DesiredState{
		ServerTime: timestamppb.New(c.now()), Epoch: common.epoch, Seq: uint64(common.commit.UnixMicro()),
		Checkpoint: common.checkpoint, Cosigned: common.cosigned, Restored: common.restored, Testify: common.testify,
		Region: host.Region, Servers: common.world.servers,
	}
	anchors, err := common.bundle(fleet.DefaultBundle)
	if err != nil {
		return nil, err
	}
	desired.Anchors = anchors.Anchors
	renewAt, err := common.renewIdentityAt(ctx, tx, host.Agent)
	if err != nil {
		return nil, err
	}
	desired.RenewIdentityAt = stamp(renewAt)
	for _, held := range host.Placements {
		one, err := c.desirePlacement(ctx, tx, common, host.Agent, held)
		if err != nil {
			return nil, fmt.Errorf("placement %s of intent %s: %w", held.ID, held.Intent, err)
		}
		desired.Placements = append(desired.Placements, one)
	}
	if err := c.desireEdges(ctx, tx, common.world, host.Placements, desired); err != nil {
		return nil, err
	}
	if common.rolledBack != nil {
		standStill(desired, rolledBackWords(common.rolledBack))
	}
	return desired, nil
}

// desirePlacement says what is wanted at one placement. What stands in the way
// of one (a label that is missing) becomes its hold and leaves the others
// alone.
func (c *Control) desirePlacement(ctx context.Context, tx *store.Tx, common *common, agent store.Agent, held store.Held) (*api.DesiredPlacement, error) {
	placement := held.Placement
	desired := &api.DesiredPlacement{
		PlacementId: placement.ID, Intent: placement.Intent, Instance: placement.Instance,
		RenewThrough: placement.RenewThrough, NewKey: placement.NewKey, Attempt: placement.Attempt, RevokedGenerations: held.Revoked,
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
		if err := c.desireCertificate(ctx, tx, common, held, expanded, desired); err != nil {
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

func (c *Control) desireCertificate(ctx context.Context, tx *store.Tx, common *common, held store.Held, expanded fleet.Expanded, desired *api.DesiredPlacement) error {
	desired.Identity = identity(*expanded.Names)
	desired.Profile = profileTerms(string(expanded.ProfileName), expanded.Profile)
	for _, name := range common.world.peers(expanded.Service, expanded.Profile) {
		digest, err := common.digest(name)
		if err != nil {
			return err
		}
		desired.PeerBundleDigests = append(desired.PeerBundleDigests, digest.String())
	}
	if held.Newest.Generation == 0 {
		return nil
	}
	after, before, err := c.windowOf(ctx, tx, held.Placement, expanded.Profile, held.Newest)
	if err != nil {
		return err
	}
	desired.WindowGeneration = held.Newest.Generation
	desired.RenewAfter, desired.RenewBefore = timestamppb.New(after), timestamppb.New(before)
	return desireStaple(ctx, tx, expanded, held.Newest, desired)
}

// windowOf is when a certificate should be renewed, with the meaning that
// RFC 9773 gives to a suggested window: the client picks a moment in it. Members
// of a cluster get a part each.
func (c *Control) windowOf(ctx context.Context, tx *store.Tx, placement store.Placement, profile *fleet.Profile, leaf store.Issued) (after, before time.Time, err error) {
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
