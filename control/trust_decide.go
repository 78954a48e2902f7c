package control

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/trust"
)

// DecideTrust records an operator's decision on a change of trust: a dated fact
// that the next derivation of its phase reads.
func (c *Control) DecideTrust(ctx context.Context, caller Caller, req *api.DecideTrustRequest) (*api.DecideTrustResponse, error) {
	if err := authorize(caller, "trust.decide"); err != nil {
		return nil, err
	}
	response := &api.DecideTrustResponse{}
	body := func(tx *store.Tx) error {
		proto.Reset(response)
		change, err := theChange(ctx, tx, req.Id)
		if err != nil {
			return err
		}
		v, err := c.viewTrust(ctx, tx, change)
		if err != nil {
			return err
		}
		decision, effects, err := v.decide(caller, req)
		if err != nil {
			return err
		}
		if decision.Kind == store.TrustBack && change.Standby {
			if err := noneOpen(ctx, tx); err != nil { // both would change the bundles
				return err
			}
		}
		response.Effects = effects
		if req.DryRun {
			response.Change = v.showTo(caller)
			return nil
		}
		decision.ID, decision.ChangeID, decision.By = newID(), change.ID, caller.String()
		if err := tx.InsertTrustDecision(ctx, decision); err != nil {
			return err
		}
		if decision.Kind == store.TrustBack {
			_, err := c.tellTrust(ctx, tx, v, notice{
				event: rollout.TurnedBack, by: caller.String(), reason: req.Reason, what: "the change of trust is turned back: " + strings.Join(effects, "; "),
			})
			if err != nil {
				return err
			}
		}
		if err := c.decideReissue(ctx, tx, caller, v, decision); err != nil {
			return err
		}
		if decision.Kind == store.TrustBack && v.facts.Foreign {
			if err := tx.EndTrustChange(ctx, change.ID); err != nil {
				return err
			}
			if change, err = tx.TrustChange(ctx, change.ID); err != nil {
				return err
			}
		}
		after, err := c.viewTrust(ctx, tx, change)
		if err != nil {
			return err
		}
		response.Change = after.showTo(caller)
		response.AuditId, err = done(ctx, tx, caller, "trust."+string(decision.Kind), "TrustChange/"+change.ID, map[string]any{
			"phase": decision.Phase, "at": string(v.step.Phase), "reason": req.Reason, "effects": effects,
		})
		return err
	}
	if req.DryRun {
		return response, c.db.Read(ctx, body)
	}
	if err := c.change(ctx, body); err != nil {
		return nil, err
	}
	c.watchers.wakeTrust()
	return response, nil
}

// theChange is the change of the id, or the one that is under way. It must be
// under way.
func theChange(ctx context.Context, tx *store.Tx, id string) (store.TrustChange, error) {
	if id != "" {
		change, err := tx.TrustChange(ctx, id)
		if err == nil && !change.EndedAt.IsZero() {
			err = fault.New(fault.Conflict, "trust change %s ended at %s: nothing can be decided on it any more", change.ID, change.EndedAt.Format("2006-01-02 15:04"))
		}
		return change, err
	}
	open, err := tx.OpenTrustChanges(ctx)
	if err != nil {
		return store.TrustChange{}, err
	}
	change, ok := underWay(open)
	if !ok {
		return store.TrustChange{}, fault.New(fault.NotFound, "no change of trust is under way").WithRemedy("begin one with: rotunda trust rotate root")
	}
	return change, nil
}

// decide says what a request means for the change as it stands, in words too.
func (v *trustView) decide(caller Caller, req *api.DecideTrustRequest) (store.TrustDecision, []string, error) {
	switch req.Decision {
	case "advance":
		return v.decideAdvance(req)
	case "pause":
		return v.decidePause(req)
	case "back":
		return v.decideBack(req)
	case "force":
		return v.decideForce(caller, req)
	}
	return store.TrustDecision{}, nil, fault.New(fault.Invalid, "decision %s: it is advance, pause, back or force", printable(req.Decision))
}

// decideAdvance lets a change go further, or go on. Who ends a pause, or takes up
// renewals that were stopped, and names no phase has not said that it may go further
// than before.
func (v *trustView) decideAdvance(req *api.DecideTrustRequest) (store.TrustDecision, []string, error) {
	through := trust.Done
	if held := v.facts.Paused != "" || v.facts.Stopped != ""; held && req.Through == "" {
		return v.goOn(req)
	}
	if req.Through != "" {
		var err error
		if through, err = parsePhase(req.Through); err != nil {
			return store.TrustDecision{}, nil, err
		}
	}
	if v.facts.Standby && v.facts.Paused == "" {
		return store.TrustDecision{}, nil, fault.New(fault.Conflict, "%s stands by: it goes no further than that everybody trusts it", v.facts.New).
			WithRemedy("put it in the place of %s: rotunda trust failover", v.facts.Old)
	}
	if !v.facts.Through.Before(through) && v.facts.Paused == "" && v.facts.Stopped == "" {
		return store.TrustDecision{}, nil, fault.New(fault.Conflict, "the change may go on through %s already; it is at %s", v.facts.Through, v.step.Phase).
			WithRemedy("rotunda trust status says what it waits for")
	}
	effects := []string{fmt.Sprintf("it goes on by itself, gate by gate, through %s", later(v.facts.Through, through))}
	if !v.step.Phase.Before(trust.Withdraw) || !through.Before(trust.Withdraw) {
		effects = append(effects, "from withdraw on it can't be turned back")
	}
	return store.TrustDecision{Kind: store.TrustAdvance, Phase: string(through), Reason: req.Reason}, effects, nil
}

// goOn lets a change go on where it was held, through the phase that it was let
// enter before.
func (v *trustView) goOn(req *api.DecideTrustRequest) (store.TrustDecision, []string, error) {
	effects := []string{fmt.Sprintf("it goes on where it was held, through %s as before", v.facts.Through)}
	if v.facts.Through.Before(trust.Done) {
		effects = append(effects, "what comes after that wants another word: rotunda trust advance")
	}
	if v.facts.Stopped != "" {
		return store.TrustDecision{Kind: store.TrustAdvance, Phase: string(v.facts.Through), Reason: req.Reason}, effects, nil
	}
	return store.TrustDecision{Kind: store.TrustResume, Reason: req.Reason}, effects, nil
}

// later is the one that comes after the other.
func later(a, b trust.Phase) trust.Phase {
	if a.Before(b) {
		return b
	}
	return a
}

func (v *trustView) decidePause(req *api.DecideTrustRequest) (store.TrustDecision, []string, error) {
	if err := wantReason(req); err != nil {
		return store.TrustDecision{}, nil, err
	}
	return store.TrustDecision{Kind: store.TrustPause, Reason: req.Reason},
		[]string{"what was begun on hosts goes on; the change itself does nothing more until rotunda trust advance"}, nil
}

func (v *trustView) decideBack(req *api.DecideTrustRequest) (store.TrustDecision, []string, error) {
	if err := wantReason(req); err != nil {
		return store.TrustDecision{}, nil, err
	}
	switch {
	case v.facts.Back:
		return store.TrustDecision{}, nil, fault.New(fault.Conflict, "the change is being turned back already; it is at %s", v.step.Phase)
	case v.facts.Withdrawn && v.facts.Roots:
		return store.TrustDecision{}, nil, fault.New(fault.Conflict, "%s is withdrawn: from then on a change can't be turned back", v.facts.Old).
			WithRemedy("go on, or begin another change: rotunda trust rotate root")
	}
	effects := []string{fmt.Sprintf("%s signs again, what %s has signed is renewed, and %s leaves the bundles", v.facts.Old, v.facts.New, v.facts.New)}
	switch {
	case v.facts.Foreign:
		effects = []string{fmt.Sprintf("the change ends; %s and %s both stay trusted", v.facts.Old, v.facts.New)}
	case !v.facts.Active:
		effects = []string{fmt.Sprintf("%s leaves the bundles; it has signed nothing in use", v.facts.New)}
	}
	return store.TrustDecision{Kind: store.TrustBack, Reason: req.Reason}, effects, nil
}

func (v *trustView) decideForce(caller Caller, req *api.DecideTrustRequest) (store.TrustDecision, []string, error) {
	if err := wantReason(req); err != nil {
		return store.TrustDecision{}, nil, err
	}
	if v.facts.Standby {
		return store.TrustDecision{}, nil, fault.New(fault.Conflict, "%s stands by: there is nothing to force", v.facts.New).
			WithRemedy("rotunda trust failover puts it in the place of %s; force that where somebody holds it up", v.facts.Old)
	}
	forced := v.facts
	forced.Forced = map[trust.Phase]string{v.step.Phase: req.Reason}
	forced.Paused, forced.Through = "", trust.Done
	step := forced.Next(v.change.BegunAt) // expiry can't be forced: all that is listed counts
	if len(step.SetAside) == 0 {
		return store.TrustDecision{}, nil, fault.New(fault.Conflict, "nothing at %s holds the change that could be forced", v.step.Phase).
			WithRemedy("rotunda trust status says what it waits for; rotunda trust advance lets it go on")
	}
	var effects []string
	for _, law := range step.SetAside {
		effects = append(effects, "sets aside the law "+strings.TrimSuffix(law, " ("+req.Reason+")"))
	}
	for _, wait := range v.step.Waits {
		if caller.is(wait.Who) {
			wait.Who += ", that is you,"
		}
		if wait.Who != "" {
			effects = append(effects, "breaks, or may break: "+wait.String())
		}
	}
	return store.TrustDecision{Kind: store.TrustForce, Phase: string(v.step.Phase), Reason: req.Reason}, effects, nil
}

func wantReason(req *api.DecideTrustRequest) error {
	if strings.TrimSpace(req.Reason) == "" {
		return fault.New(fault.Invalid, "%s wants a reason", req.Decision).WithRemedy("say why with --reason: it stands in the audit log")
	}
	return nil
}

func parsePhase(text string) (trust.Phase, error) {
	phase := trust.Phase(text)
	if !slices.Contains(trust.Phases, phase) {
		var names []string
		for _, one := range trust.Phases {
			names = append(names, string(one))
		}
		return "", fault.New(fault.Invalid, "phase %s: it is one of %s", printable(text), strings.Join(names, ", "))
	}
	return phase, nil
}
