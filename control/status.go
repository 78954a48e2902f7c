package control

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// statusOf puts together what the store declares of a placement and what its
// agent last said of it.
func (c *Control) statusOf(ctx context.Context, tx *store.Tx, d declared, placement store.Placement) (*api.PlacementStatus, error) {
	report, err := storedReport(placement)
	if err != nil {
		return nil, err
	}
	status := &api.PlacementStatus{
		Id: placement.ID, Intent: placement.Intent, Agent: placement.AgentID, Instance: placement.Instance,
		Generation: report.Generation, Revision: report.Revision, Serial: report.Serial, NotAfter: report.NotAfter,
		State: report.State, Level: report.Level, Reason: report.Reason, Failure: report.Failure, Took: report.Took,
		Drift: report.Drift, BundleDigest: report.BundleDigest, Rotations: report.Rotations, Restores: report.Restores,
		ReportedAt: stamp(placement.ReportedAt), LastGeneration: report.LastGeneration, Product: report.Product,
		CrlDigest: report.CrlDigest, CrlLevel: report.CrlLevel, CrlAside: report.CrlAside, StapleDigest: report.StapleDigest,
	}
	if placement.RotationOpen() {
		status.RotateAt = stamp(placement.RenewFrom)
	}
	if report.Level == api.Level_LEVEL_PROVEN {
		status.ProvenSince = report.CommittedAt
	}
	c.describeState(placement, status)
	if err := c.fillDeclared(ctx, tx, d, placement, status); err != nil {
		return nil, err
	}
	err = c.fillCluster(ctx, tx, d, placement, status)
	status.Besides = strings.TrimPrefix(strings.TrimPrefix(status.Reason, report.Reason), "; ")
	return status, err
}

// describeState says in words what the agent's report can't: that there is
// none or a newer one that was not believed, that nobody is there to send one,
// that no intent wants the placement.
func (c *Control) describeState(placement store.Placement, status *api.PlacementStatus) {
	connected := c.connected(placement.AgentID)
	doubt := c.doubtOf(placement)
	switch {
	case placement.Orphan:
		status.State, status.Reason = api.State_STATE_ORPHAN, "no intent wants it any more; its files are left alone"
	case placement.ReportedAt.IsZero() && !connected:
		status.State, status.Reason = api.State_STATE_WAITING, "its agent is not connected and has not reported yet"
	case placement.ReportedAt.IsZero():
		status.State, status.Reason = api.State_STATE_WAITING, "its agent has not reported yet"
	case doubt != nil:
		status.Reason = fmt.Sprintf("its agent's newest report is refused, so this is from before: %v", doubt)
	case !connected:
		status.Reason = strings.TrimPrefix(status.Reason+"; its agent is not connected", "; ")
	}
}

func (c *Control) fillDeclared(ctx context.Context, tx *store.Tx, d declared, placement store.Placement, status *api.PlacementStatus) error {
	agent, err := tx.Agent(ctx, placement.AgentID)
	if err != nil {
		return err
	}
	status.Host = agent.Facts["hostname"]
	override, err := d.overrideAt(ctx, tx, placement.ID)
	if err != nil {
		return err
	}
	if override.Profile != "" {
		if status.ProfileOverride, err = wireOverride(ctx, tx, override); err != nil {
			return err
		}
	}
	if intent, known := d.world.set.Intent(fleet.Name(placement.Intent)); known {
		status.Service = string(intent.Service)
	}
	expanded, err := c.expand(d.world, agent, keyOf(placement), fleet.Name(override.Profile))
	if err != nil {
		if !placement.Orphan {
			status.Reason = err.Error()
		}
		return nil
	}
	status.Target = string(expanded.Target.Kind) + "/" + expanded.Target.Name
	if expanded.Profile != nil && status.NotAfter != nil && !placement.Orphan {
		leaf, err := tx.PlacementCertificate(ctx, placement.ID, status.Generation)
		if err != nil && fault.CodeOf(err) == fault.NotFound {
			return nil // a restored store knows less
		}
		if err != nil {
			return err
		}
		after, _, err := c.windowOf(ctx, tx, placement, expanded.Profile, leaf.Issued())
		if err != nil {
			return err
		}
		status.RenewAfter = timestamppb.New(after)
	}
	return nil
}

// fillCluster says how the placement stands to the slots of its cluster.
func (c *Control) fillCluster(ctx context.Context, tx *store.Tx, d declared, placement store.Placement, status *api.PlacementStatus) error {
	if status.Cluster = placement.Cluster; status.Cluster == "" || placement.Orphan {
		return nil
	}
	var waits string
	var err error
	if status.Slot, waits, err = c.slotStatus(ctx, tx, d.world, placement); err != nil || waits == "" {
		return err
	}
	status.Reason = strings.TrimPrefix(status.Reason+"; "+waits, "; ")
	return nil
}

// DescribePlacement shows one placement whole: status, what is desired, its
// certificates and the evidence.
func (c *Control) DescribePlacement(ctx context.Context, caller Caller, req *api.DescribePlacementRequest) (*api.DescribePlacementResponse, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	response := &api.DescribePlacementResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		placement, err := tx.Placement(ctx, req.Id)
		if err != nil {
			return err
		}
		common, err := c.commonAt(ctx, tx)
		if err != nil {
			return err
		}
		if response.Status, err = c.statusOf(ctx, tx, common.declared, placement); err != nil {
			return err
		}
		hosts, err := tx.Hosts(ctx, []string{placement.AgentID})
		if err != nil {
			return err
		}
		host := hosts[placement.AgentID]
		held := host.Placements[slices.IndexFunc(host.Placements, func(h store.Held) bool { return h.ID == placement.ID })]
		if response.Desired, err = c.desirePlacement(ctx, tx, common, host.Agent, held); err != nil {
			return err
		}
		return describeHistory(ctx, tx, placement, response)
	})
	return response, err
}

func describeHistory(ctx context.Context, tx *store.Tx, placement store.Placement, response *api.DescribePlacementResponse) error {
	certificates, err := tx.PlacementCertificates(ctx, placement.ID)
	if err != nil {
		return err
	}
	for _, certificate := range certificates {
		response.Certificates = append(response.Certificates, certificateInfo(certificate))
	}
	evidence, err := tx.EvidenceOf(ctx, placement.ID)
	for _, one := range evidence {
		response.Evidence = append(response.Evidence, &api.EvidenceRecord{
			Digest: one.Digest, Observer: one.Observer, Kind: one.Kind, At: stamp(one.At),
			Statement: one.Statement, Signature: one.Signature, Verdict: one.Verdict,
		})
	}
	return err
}
