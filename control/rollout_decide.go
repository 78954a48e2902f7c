package control

import (
	"context"
	"encoding/json"
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
		if req.Reason == "" {
			return nil, fault.New(fault.Invalid, "a rollout is ended by hand only with a reason").WithRemedy("--reason TEXT")
		}
	default:
		return nil, fault.New(fault.Invalid, "%s is not an act", printable(req.Act)).WithRemedy("write pause, resume, abort or rollback")
	}
	response := &api.DecideRolloutResponse{}
	err := c.change(ctx, func(tx *store.Tx) error {
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
		if response.Rollback, err = c.rollBack(ctx, tx, caller, record, before.parts[record.ID], reason); err != nil {
			return err
		}
	}
	after, err := c.openFacts(ctx, tx, record)
	if err != nil {
		return err
	}
	response.Rollout, err = after.info(record, tx.Now)
	return err
}

// endOf is what the owners are told of an act.
var endOf = map[rollout.Act]rollout.Event{rollout.Abort: rollout.Dropped, rollout.Rollback: rollout.Undone}

// rollBack begins the rollout that takes another one back: over all that it
// asked, its newest wave first, under the same conditions.
func (c *Control) rollBack(ctx context.Context, tx *store.Tx, caller Caller, record store.Rollout, parts []store.RolloutPart, reason string) (*api.RolloutInfo, error) {
	b := beginning{name: record.Name + "-rollback", selection: record.Selection, undoes: record.ID, reason: reason}
	var waves []rollout.Wave
	var err error
	if b.spec, err = specOf(record); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(record.Waves, &waves); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "stored plan of rollout %s", record.ID)
	}
	b.spec.Name = b.name
	b.spec.Profile, b.spec.Slice = "", nil      // it takes that back
	b.spec.Notice, b.spec.Gates.Told = 0, false // what is to be undone can't wait for that
	wave := -1                                  // that the last one belongs to
	for _, part := range slices.Backward(parts) {
		placement, err := tx.Placement(ctx, part.PlacementID)
		if err != nil {
			return nil, err
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
			return nil, err
		}
		report, err := storedReport(placement)
		if err != nil {
			return nil, err
		}
		if isWell(placement, report) {
			b.well++
		}
		b.waves[len(b.waves)-1].Count++
		b.parts = append(b.parts, rollout.Planned{Placement: rolloutID(part.PlacementID), Wave: len(b.waves) - 1, Through: through})
	}
	if len(b.parts) == 0 {
		return nil, nil
	}
	info, _, err := c.beginRollout(ctx, tx, caller, b)
	return info, err
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
