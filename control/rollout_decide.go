package control

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/store"
)

// DecideRollout records what an operator decides about a rollout. An abort asks
// for nothing more, and takes nothing back: what was asked for goes its way. A
// rollback does the same, and begins another rollout over all that were asked,
// the newest wave first: they rotate once more, to what the documents say now.
func (c *Control) DecideRollout(ctx context.Context, caller Caller, req *api.DecideRolloutRequest) (*api.DecideRolloutResponse, error) {
	if err := authorize(caller, "rollout.decide"); err != nil {
		return nil, err
	}
	act := rollout.Act(req.Act)
	switch act {
	case rollout.Pause, rollout.Resume:
	case rollout.Abort, rollout.Rollback:
		if req.Reason == "" && !req.DryRun {
			return nil, fault.New(fault.Invalid, "a rollout is ended by hand only with a reason").WithRemedy("--reason TEXT")
		}
	default:
		return nil, fault.New(fault.Invalid, "%s is not an act", printable(req.Act)).WithRemedy("write pause, resume, abort or rollback")
	}
	response := &api.DecideRolloutResponse{}
	err := c.verb(ctx, req.DryRun, func(tx *store.Tx) error {
		proto.Reset(response)
		record, err := findRollout(ctx, tx, req.Rollout)
		if err != nil {
			return err
		}
		if err := c.decideRollout(ctx, tx, caller, record, act, req.Reason, response); err != nil {
			return err
		}
		response.AuditId, err = done(ctx, tx, caller, "rollout."+req.Act, "Rollout/"+record.ID, map[string]any{
			"name": record.Name, "reason": req.Reason, "rollback": response.Rollback.GetId(),
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	if req.DryRun {
		response.AuditId = ""
		return response, nil
	}
	c.watchers.wakeAgents()
	return response, nil
}

func (c *Control) decideRollout(ctx context.Context, tx *store.Tx, caller Caller, record store.Rollout, act rollout.Act, reason string, response *api.DecideRolloutResponse) error {
	before, err := c.openFacts(ctx, tx, record)
	if err != nil {
		return err
	}
	status, _ := before.model.Status(rolloutID(record.ID), tx.Now)
	if err := status.State.Decide(record.Name, act); err != nil {
		return err
	}
	for _, member := range before.members(record) {
		if member.AskedAt != nil && member.SettledAt == nil && !before.placements[member.Placement].Orphan {
			response.Moving = append(response.Moving, member)
		}
	}
	if err := tx.RaiseRolloutTurn(ctx); err != nil {
		return err
	}
	decision := store.RolloutDecision{Act: string(act), Reason: reason, By: caller.String()}
	if err := tx.InsertRolloutDecision(ctx, record.ID, decision); err != nil {
		return err
	}
	if (act == rollout.Abort || act == rollout.Rollback) && record.EndedAt.IsZero() {
		if err := tx.EndRollout(ctx, record.ID); err != nil {
			return err
		}
		record.EndedAt = tx.Now
	}
	if event, ends := endOf[act]; ends {
		if err := tx.TakeBackOverrides(ctx, record.ID); err != nil {
			return err
		}
		if err := c.tellEnd(ctx, tx, before, record, event, caller.String(), reason); err != nil {
			return err
		}
	}
	if act == rollout.Rollback {
		if response.Rollback, response.Again, err = c.rollBack(ctx, tx, caller, record, before.parts[record.ID], reason); err != nil {
			return err
		}
	}
	spec, err := specOf(record)
	if err != nil {
		return err
	}
	response.Effects = decisionEffects(act, spec, status, response)
	after, err := c.openFacts(ctx, tx, record)
	if err != nil {
		return err
	}
	response.Rollout, err = after.info(record, tx.Now)
	return err
}

// decisionEffects says what a decision means for whom the rollout is over.
func decisionEffects(act rollout.Act, spec rollout.Spec, status rollout.Status, response *api.DecideRolloutResponse) (effects []string) {
	pending, there, moving := 0, 0, len(response.Moving)
	for _, wave := range status.Waves {
		pending, there = pending+wave.Pending, there+wave.There
	}
	say := func(n int, format string, args ...any) {
		if n > 0 {
			effects = append(effects, fmt.Sprintf(format, args...))
		}
	}
	switch act {
	case rollout.Pause:
		say(1, "nobody is asked any more, until it is resumed: %d are not asked yet", pending)
		say(moving, "%d under way get there", moving)
	case rollout.Resume:
		say(1, "it goes on with wave %d, under its conditions: %d are not asked yet", status.Wave+1, pending)
	case rollout.Abort:
		say(1, "it ends: %d that are not asked keep what they have", pending)
		say(moving, "%d under way get there", moving)
		say(there, "%d that are there stay as they are: nothing is taken back", there)
	case rollout.Rollback:
		say(pending, "it ends: %d that are not asked keep what they have", pending)
		say(len(response.Again), "%d that it asked rotate once more, to what the documents say now, in %d waves, the newest first", len(response.Again), len(response.Rollback.GetWaves()))
		if len(response.Again) == 0 {
			effects = append(effects, "it has asked nobody: there is nothing to rotate again")
		}
	}
	if _, ends := endOf[act]; ends {
		say(len(spec.Profile), "profile %s is used for them no more: %s", spec.Profile, map[rollout.Act]string{
			rollout.Abort: "at once where algorithm and usages are the same, else from the next renewal on", rollout.Rollback: "as each rotates",
		}[act])
		effects = append(effects, "the owners of the services that it touched are told")
	}
	return effects
}

// endOf is what the owners are told of an act.
var endOf = map[rollout.Act]rollout.Event{rollout.Abort: rollout.Dropped, rollout.Rollback: rollout.Undone}

// rollBack begins the rollout that takes another one back: over all that it
// asked, its newest wave first, under the same conditions.
func (c *Control) rollBack(ctx context.Context, tx *store.Tx, caller Caller, record store.Rollout, parts []store.RolloutPart, reason string) (*api.RolloutInfo, []*api.RolloutMember, error) {
	b := beginning{name: record.Name + "-rollback", selection: record.Selection, undoes: record.ID, reason: reason}
	var waves []rollout.Wave
	var err error
	if b.spec, err = specOf(record); err != nil {
		return nil, nil, err
	}
	if err := json.Unmarshal(record.Waves, &waves); err != nil {
		return nil, nil, fault.Wrap(fault.Internal, err, "stored plan of rollout %s", record.ID)
	}
	b.spec.Name = b.name
	b.spec.Profile, b.spec.Slice = "", nil      // it takes that back
	b.spec.Notice, b.spec.Gates.Told = 0, false // what is to be undone can't wait for that
	wave := -1                                  // that the last one belongs to
	for _, part := range slices.Backward(parts) {
		placement, err := tx.Placement(ctx, part.PlacementID)
		if err != nil {
			return nil, nil, err
		}
		if part.AskedAt.IsZero() || placement.Orphan {
			continue
		}
		if part.Wave != wave {
			wave = part.Wave
			b.waves = append(b.waves, rollout.Wave{Region: waves[wave].Region, Step: waves[wave].Step})
		}
		through, err := newestGeneration(ctx, tx, placement)
		if err != nil {
			return nil, nil, err
		}
		report, err := storedReport(placement)
		if err != nil {
			return nil, nil, err
		}
		if isWell(placement, report) {
			b.well++
		}
		b.waves[len(b.waves)-1].Count++
		b.parts = append(b.parts, rollout.Planned{Placement: rolloutID(part.PlacementID), Wave: len(b.waves) - 1, Through: through})
	}
	if len(b.parts) == 0 {
		return nil, nil, nil
	}
	return c.beginRollout(ctx, tx, caller, b)
}

// AnswerRolloutGate records what a gate outside says about a wave.
func (c *Control) AnswerRolloutGate(ctx context.Context, caller Caller, req *api.AnswerRolloutGateRequest) (*api.AnswerRolloutGateResponse, error) {
	if err := authorize(caller, "rollout.answer"); err != nil {
		return nil, err
	}
	response := &api.AnswerRolloutGateResponse{}
	err := c.change(ctx, func(tx *store.Tx) error {
		record, err := findRollout(ctx, tx, req.Rollout)
		if err != nil {
			return err
		}
		info, err := goalInfo(record)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(info.Spec.Gates, func(gate *api.RolloutGate) bool { return gate.Name == req.Gate }) {
			return fault.New(fault.NotFound, "rollout %s has no gate %s", record.Name, printable(req.Gate)).WithRemedy("rotunda rollout status %s names them", record.Name)
		}
		if req.Wave < 1 || int(req.Wave) > len(info.Waves) {
			return fault.New(fault.Invalid, "rollout %s has waves 1 to %d", record.Name, len(info.Waves))
		}
		if !record.EndedAt.IsZero() {
			return fault.New(fault.Conflict, "rollout %s is over", record.Name)
		}
		if err := tx.RaiseRolloutTurn(ctx); err != nil {
			return err
		}
		words := short(req.Words)
		err = tx.PutRolloutAnswer(ctx, record.ID, store.RolloutAnswer{
			Wave: int(req.Wave) - 1, Gate: req.Gate, Passed: req.Passed, Words: words, By: caller.String(),
		})
		if err != nil {
			return err
		}
		response.AuditId, err = done(ctx, tx, caller, "rollout.answer", "Rollout/"+record.ID, map[string]any{
			"name": record.Name, "wave": req.Wave, "gate": req.Gate, "passed": req.Passed, "words": words,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	c.watchers.wakeAgents()
	return response, nil
}
