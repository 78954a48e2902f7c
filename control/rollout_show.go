package control

import (
	"context"
	"encoding/json"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/store"
)

// mostRollouts bounds how many rollouts are listed, and searched for a name.
const mostRollouts = 100

// openFacts are the facts about the rollouts that have not ended, and about
// those that are named.
func (c *Control) openFacts(ctx context.Context, tx *store.Tx, also ...store.Rollout) (*rolloutFacts, error) {
	open, err := tx.OpenRollouts(ctx)
	if err != nil {
		return nil, err
	}
	for _, one := range also {
		if !one.EndedAt.IsZero() {
			open = append(open, one)
		}
	}
	return c.rolloutFacts(ctx, tx, open)
}

// ListRollouts shows how the rollouts stand that are open; those that are over
// too, where they are asked for.
func (c *Control) ListRollouts(ctx context.Context, caller Caller, req *api.ListRolloutsRequest) (*api.ListRolloutsResponse, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	response := &api.ListRolloutsResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		records, err := tx.OpenRollouts(ctx)
		if err != nil {
			return err
		}
		f, err := c.rolloutFacts(ctx, tx, records)
		if err != nil {
			return err
		}
		for _, record := range records {
			info, err := f.info(record, tx.Now)
			if err != nil {
				return err
			}
			response.Rollouts = append(response.Rollouts, info)
		}
		if !req.Ended {
			return nil
		}
		ended, err := endedRollouts(ctx, tx)
		response.Rollouts = append(response.Rollouts, ended...)
		return err
	})
	return response, err
}

// endedRollouts shows rollouts that are over, without a look at whom they were
// over.
func endedRollouts(ctx context.Context, tx *store.Tx) (infos []*api.RolloutInfo, err error) {
	records, err := tx.Rollouts(ctx, mostRollouts)
	for _, record := range records {
		if record.EndedAt.IsZero() {
			continue
		}
		decisions, err := tx.RolloutDecisions(ctx, record.ID)
		if err != nil {
			return nil, err
		}
		info, err := goalInfo(record)
		if err != nil {
			return nil, err
		}
		info.State = string(rollout.Completed)
		for _, d := range decisions {
			switch rollout.Act(d.Act) {
			case rollout.Abort:
				info.State = string(rollout.Aborted)
			case rollout.Rollback:
				info.State = string(rollout.RolledBack)
			default:
				continue
			}
			info.DecidedBy, info.DecidedAt, info.DecidedReason = d.By, stamp(d.At), d.Reason
		}
		infos = append(infos, info)
	}
	return infos, err
}

// DescribeRollout shows one rollout whole.
func (c *Control) DescribeRollout(ctx context.Context, caller Caller, req *api.DescribeRolloutRequest) (*api.DescribeRolloutResponse, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	response := &api.DescribeRolloutResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		record, err := findRollout(ctx, tx, req.Rollout)
		if err != nil {
			return err
		}
		f, err := c.openFacts(ctx, tx, record)
		if err != nil {
			return err
		}
		if response.Rollout, err = f.info(record, tx.Now); err != nil {
			return err
		}
		response.Members = f.members(record)
		return describeDecisions(ctx, tx, record.ID, response)
	})
	return response, err
}

func describeDecisions(ctx context.Context, tx *store.Tx, id string, response *api.DescribeRolloutResponse) error {
	decisions, err := tx.RolloutDecisions(ctx, id)
	if err != nil {
		return err
	}
	for _, d := range decisions {
		response.Decisions = append(response.Decisions, &api.RolloutDecision{Act: d.Act, Reason: d.Reason, By: d.By, At: stamp(d.At)})
	}
	notices, err := tx.ChangeNotices(ctx, id)
	if err != nil {
		return err
	}
	response.Notices = wireNotices(notices)
	answers, err := tx.RolloutAnswers(ctx, id)
	for _, a := range answers {
		response.Answers = append(response.Answers, &api.RolloutAnswer{
			Wave: int32(a.Wave) + 1, Gate: a.Gate, Passed: a.Passed, Words: a.Words, By: a.By, At: stamp(a.At),
		})
	}
	return err
}

// findRollout finds a rollout by its id, or by its name: the open one, else the
// newest.
func findRollout(ctx context.Context, tx *store.Tx, wanted string) (store.Rollout, error) {
	open, err := tx.OpenRollouts(ctx)
	if err != nil {
		return store.Rollout{}, err
	}
	newest, err := tx.Rollouts(ctx, mostRollouts)
	if err != nil {
		return store.Rollout{}, err
	}
	for _, record := range append(open, newest...) {
		if record.Name == wanted || record.ID == wanted {
			return record, nil
		}
	}
	record, err := tx.Rollout(ctx, wanted)
	if err != nil && fault.CodeOf(err) == fault.NotFound {
		err = fault.New(fault.NotFound, "rollout %s does not exist", printable(wanted)).
			WithRemedy("rotunda rollout status --all lists those that do")
	}
	return record, err
}

// goalInfo is what was asked for.
func goalInfo(record store.Rollout) (*api.RolloutInfo, error) {
	spec, err := specOf(record)
	if err != nil {
		return nil, err
	}
	var waves []rollout.Wave
	if err := json.Unmarshal(record.Waves, &waves); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "stored plan of rollout %s", record.ID)
	}
	info := &api.RolloutInfo{
		Id: record.ID, Name: record.Name, Selection: selectionWords(record.Selection), WellBefore: int32(record.Well), Spec: specInfo(spec),
		Reason: record.Reason, BegunBy: record.BegunBy, BegunAt: stamp(record.BegunAt), EndedAt: stamp(record.EndedAt), Undoes: record.Undoes,
	}
	for _, wave := range waves {
		info.Waves = append(info.Waves, &api.RolloutWave{Region: wave.Region, Step: wave.Step.String(), Count: int32(wave.Count)})
		info.Placements += int32(wave.Count)
	}
	return info, nil
}

func specInfo(spec rollout.Spec) *api.RolloutSpec {
	info := &api.RolloutSpec{
		ByRegion: spec.ByRegion, Regions: spec.Regions, Soak: durationpb.New(spec.Soak.Std()), PerMinute: int32(spec.PerMinute), AtOnce: int32(spec.AtOnce),
		NewKey: spec.NewKey, Level: string(spec.Gates.Level), Failures: int32(spec.Gates.Failures), Health: spec.Gates.Health, Adoption: spec.Gates.Adoption,
		Told: spec.Gates.Told, Profile: string(spec.Profile), Slice: spec.Slice, Urgent: spec.Urgent,
	}
	if spec.Notice > 0 {
		info.Notice = durationpb.New(spec.Notice.Std())
	}
	for _, step := range spec.Steps {
		info.Steps = append(info.Steps, step.String())
	}
	for _, window := range spec.Windows {
		info.Windows = append(info.Windows, string(window))
	}
	for _, gate := range spec.Gates.Outside {
		info.Gates = append(info.Gates, &api.RolloutGate{Name: string(gate.Name), Webhook: gate.Webhook, Command: gate.Command})
	}
	return info
}

// info is how a rollout stands.
func (f *rolloutFacts) info(record store.Rollout, now time.Time) (*api.RolloutInfo, error) {
	info, err := goalInfo(record)
	if err != nil {
		return nil, err
	}
	id := rolloutID(record.ID)
	status, _ := f.model.Status(id, now)
	info.State, info.WellNow = string(status.State), int32(status.Well)
	if status.Wave < len(status.Waves) && !status.State.Over() {
		info.Wave = int32(status.Wave) + 1
	}
	if !status.Decided.At.IsZero() {
		info.DecidedBy, info.DecidedAt, info.DecidedReason = status.Decided.By, stamp(status.Decided.At), status.Decided.Reason
	}
	for i, w := range status.Waves {
		info.Waves[i].Pending, info.Waves[i].Moving, info.Waves[i].Failed = int32(w.Pending), int32(w.Moving), int32(w.Failed)
		info.Waves[i].There, info.Waves[i].Gone, info.Waves[i].SettledAt = int32(w.There), int32(w.Gone), stamp(w.Settled)
	}
	_, reasons := f.model.Next(now)
	for _, reason := range reasons {
		if reason.Rollout == id {
			info.Reasons = append(info.Reasons, &api.RolloutReason{Wave: int32(reason.Wave) + 1, Count: int32(reason.Count), Text: reason.Text})
		}
	}
	estimate := f.model.Estimate(id, now)
	info.EstimatedEnd, info.Assumes = stamp(estimate.End), estimate.Assumes
	return info, nil
}

// members is whom a rollout is over, in the order in which they go.
func (f *rolloutFacts) members(record store.Rollout) (members []*api.RolloutMember) {
	for _, part := range f.parts[record.ID] {
		placement := f.placements[part.PlacementID]
		members = append(members, &api.RolloutMember{
			Placement: part.PlacementID, Wave: int32(part.Wave) + 1, Intent: placement.Intent, Agent: placement.AgentID,
			Instance: placement.Instance, Cluster: placement.Cluster, AskedAt: stamp(part.AskedAt), SettledAt: stamp(part.SettledAt),
		})
	}
	return members
}
