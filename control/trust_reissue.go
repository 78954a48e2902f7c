package control

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/store"
)

// The renewals of a change of trust are a rollout like any other: slots,
// windows, freezes and breakers hold there, and its planner alone says who is
// next. The change begins it, waits for it, and ends it when it is turned back.

// reissueName is what the rollout of the change's renewals is called.
func (v *trustView) reissueName() string { return "reissue-" + v.next.issuing.Name }

// reissueSpec is how the renewals of n placements go.
func (c *Control) reissueSpec(change store.TrustChange, name string, n int) (rollout.Spec, error) {
	asked := &api.RolloutSpec{}
	if change.Reissue != "" {
		if err := protojson.Unmarshal([]byte(change.Reissue), asked); err != nil {
			return rollout.Spec{}, fault.Wrap(fault.Internal, err, "stored reissue of trust change %s", change.ID)
		}
	}
	if len(asked.Steps) == 0 {
		asked.Steps = []string{"100%"} // a host that is away must not hold the others
	}
	if over := change.Pace; over > 0 && asked.PerMinute == 0 {
		asked.PerMinute = int32((int64(n)*int64(time.Minute) + int64(over) - 1) / int64(over))
	}
	return c.rolloutSpec(&api.StartRolloutRequest{Name: name, Spec: asked})
}

// takeReissue keeps with a change how its renewals are to go, if that can be.
func (c *Control) takeReissue(ctx context.Context, tx *store.Tx, req *api.BeginTrustRequest, change *store.TrustChange) error {
	if err := keepReissue(req.Over, req.Reissue, change); err != nil || req.Reissue == nil {
		return err
	}
	spec, err := c.reissueSpec(*change, "reissue", 1)
	if err != nil {
		return err
	}
	f, err := c.openFacts(ctx, tx)
	if err != nil {
		return err
	}
	return f.model.CheckCalendar(spec, tx.Now)
}

// keepReissue notes with a change how its renewals are asked to go.
func keepReissue(over *durationpb.Duration, asked *api.RolloutSpec, change *store.TrustChange) error {
	if asked == nil {
		return nil
	}
	if over != nil && asked.PerMinute > 0 {
		return fault.New(fault.Invalid, "renewals over a time and so many a minute: say one of them").WithRemedy("leave out --over or --per-minute")
	}
	text, err := protojson.Marshal(asked)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "how the renewals are to go")
	}
	change.Reissue = string(text)
	return nil
}

// reissue begins the rollout of the step's holders.
func (c *Control) reissue(ctx context.Context, tx *store.Tx, v *trustView) error {
	holders := v.step.Holders[:min(len(v.step.Holders), mostInRollout)] // the others when it has ended
	spec, err := c.reissueSpec(v.change, v.reissueName(), len(holders))
	if err != nil {
		return err
	}
	agents, err := tx.Agents(ctx)
	if err != nil {
		return err
	}
	regions := map[string]string{}
	for _, agent := range agents {
		regions[agent.ID] = agent.Region
	}
	begin := beginning{
		name: spec.Name, spec: spec, selection: []byte("what is under " + v.facts.Old), reason: fmt.Sprintf("change of trust to %s", v.facts.New),
	}
	var seats []rollout.Seat
	for _, holder := range holders {
		placement, err := tx.Placement(ctx, holder.ID)
		if err != nil {
			return err
		}
		through, err := newestGeneration(ctx, tx, placement)
		if err != nil {
			return err
		}
		report, err := storedReport(placement)
		if err != nil {
			return err
		}
		if isWell(placement, report) {
			begin.well++
		}
		seats = append(seats, rollout.Seat{ID: rolloutID(placement.ID), Region: regions[placement.AgentID], Through: through})
	}
	if begin.waves, begin.parts, err = rollout.Plan(spec, seats); err != nil {
		return err
	}
	_, _, err = c.beginRollout(ctx, tx, Caller{Kind: Server}, begin)
	return err
}

// readReissue notes how far the rollout of the renewals is: under way, or ended
// by an operator who has not let the change go on since.
func (v *trustView) readReissue(ctx context.Context, tx *store.Tx) error {
	if !v.facts.Active {
		return nil
	}
	record, err := tx.NewestRollout(ctx, v.reissueName())
	if fault.CodeOf(err) == fault.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if record.EndedAt.IsZero() {
		v.facts.Renewing = record.Name
		return nil
	}
	decisions, err := tx.RolloutDecisions(ctx, record.ID)
	if err != nil {
		return err
	}
	for _, d := range decisions {
		if act := rollout.Act(d.Act); (act == rollout.Abort || act == rollout.Rollback) && !v.letGoAfter(d.At) {
			v.facts.Stopped = fmt.Sprintf("rollout %s was ended by %s at %s: %s", record.Name, d.By, d.At.Format("2006-01-02 15:04"), d.Reason)
		}
	}
	return nil
}

// letGoAfter says whether an operator let the change go on after a moment.
func (v *trustView) letGoAfter(at time.Time) bool {
	for _, d := range v.decisions {
		if d.Kind == store.TrustAdvance && d.At.After(at) {
			return true
		}
	}
	return false
}

// decideReissue has the rollout of the renewals follow what was decided on the
// change.
func (c *Control) decideReissue(ctx context.Context, tx *store.Tx, caller Caller, v *trustView, decision store.TrustDecision) error {
	act, follows := map[store.TrustDecisionKind]rollout.Act{
		store.TrustPause: rollout.Pause, store.TrustAdvance: rollout.Resume, store.TrustResume: rollout.Resume, store.TrustBack: rollout.Abort,
	}[decision.Kind]
	if !follows || v.facts.Renewing == "" {
		return nil
	}
	record, err := tx.NewestRollout(ctx, v.facts.Renewing)
	if err != nil {
		return err
	}
	f, err := c.openFacts(ctx, tx, record)
	if err != nil {
		return err
	}
	if status, _ := f.model.Status(rolloutID(record.ID), tx.Now); status.State.Decide(record.Name, act) != nil {
		return nil // it stands so already
	}
	reason := strings.TrimSuffix("the change of trust: "+decision.Reason, ": ")
	return c.decideRollout(ctx, tx, caller, record, act, reason, &api.DecideRolloutResponse{})
}
