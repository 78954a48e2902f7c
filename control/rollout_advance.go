package control

import (
	"context"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/store"
)

// GateAsk is a gate outside that is to be asked about a wave.
type GateAsk struct {
	Rollout string // id
	Name    string // of the rollout
	Wave    int    // from 1
	Gate    string
	Webhook string // one of the two
	Command string
	Facts   []byte // how the rollout stands: api.RolloutInfo in JSON
}

// due is what a look at the store found to be done.
type due struct {
	*rolloutFacts
	turn    uint64 // that it was planned in
	now     time.Time
	records map[uuid.UUID]store.Rollout
	actions []rollout.Action
}

// AdvanceRollouts does what is due in the rollouts that are open: asks
// placements to rotate, dates that they got there, and ends what is over. It
// returns how much that was, and whom outside to ask.
//
// What is due follows from one snapshot of the store. It is long to reckon and
// short to write, so that it is not reckoned in the writing transaction; that
// one takes the turn instead, which fails if a pass of another server, or an
// operator, has decided anything since. So a pass may be cut off anywhere, and
// several servers may make one at once.
func (c *Control) AdvanceRollouts(ctx context.Context) (did int, asks []GateAsk, err error) {
	if still, err := c.standsStill(ctx); err != nil || still {
		return 0, nil, err
	}
	var d *due
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		var err error
		d, err = c.dueInRollouts(ctx, tx)
		return err
	})
	if err != nil || d == nil {
		return 0, nil, err
	}
	var actions []rollout.Action
	for _, a := range d.actions {
		switch {
		case a.Do == rollout.Tell && !c.canTell(d.rolloutFacts, d.records[a.Rollout]):
		case a.Do != rollout.AskOut:
			actions = append(actions, a)
		case a.Gate.Webhook != "" || a.Gate.Command != "":
			ask, err := d.ask(a)
			if err != nil {
				return 0, nil, err
			}
			asks = append(asks, ask)
		}
	}
	if d.actions = actions; len(actions) == 0 {
		return 0, asks, nil
	}
	var agents []string
	err = c.change(ctx, func(tx *store.Tx) error {
		var err error
		did, agents, err = c.advanceAll(ctx, tx, d)
		return err
	})
	if err != nil && fault.CodeOf(err) == fault.Conflict {
		return 0, nil, nil // somebody decided meanwhile: the next pass looks again
	}
	if err != nil {
		return 0, nil, err
	}
	c.watchers.wakeAgents(agents...)
	return did, asks, nil
}

// dueInRollouts is what is to be done now; nil: no rollout is open.
func (c *Control) dueInRollouts(ctx context.Context, tx *store.Tx) (*due, error) {
	open, err := tx.OpenRollouts(ctx)
	if err != nil || len(open) == 0 {
		return nil, err
	}
	d := &due{records: map[uuid.UUID]store.Rollout{}}
	if d.turn, err = tx.RolloutTurn(ctx); err != nil {
		return nil, err
	}
	if d.rolloutFacts, err = c.rolloutFacts(ctx, tx, open); err != nil {
		return nil, err
	}
	for _, record := range open {
		d.records[rolloutID(record.ID)] = record
	}
	d.now = tx.Now
	d.actions, _ = d.model.Next(tx.Now)
	return d, nil
}

// ask is the question to a gate, with how the rollout stands.
func (d *due) ask(a rollout.Action) (GateAsk, error) {
	record := d.records[a.Rollout]
	ask := GateAsk{
		Rollout: record.ID, Name: record.Name, Wave: a.Wave + 1, Gate: string(a.Gate.Name), Webhook: a.Gate.Webhook, Command: a.Gate.Command,
	}
	info, err := d.info(record, d.now)
	if err == nil {
		ask.Facts, err = protojson.Marshal(info)
	}
	return ask, err
}

// advanceAll carries out what is due, and returns the agents that it concerns.
func (c *Control) advanceAll(ctx context.Context, tx *store.Tx, d *due) (did int, agents []string, err error) {
	if err := tx.TakeRolloutTurn(ctx, d.turn); err != nil {
		return 0, nil, err
	}
	asked := map[uuid.UUID][]string{}
	for _, a := range d.actions {
		placement := d.placements[a.Placement.String()]
		done, err := c.advance(ctx, tx, d, placement, a)
		if err != nil {
			return 0, nil, err
		}
		if !done {
			continue
		}
		if did++; a.Do == rollout.Rotate {
			asked[a.Rollout] = append(asked[a.Rollout], placement.ID)
			agents = append(agents, placement.AgentID)
		}
	}
	if err := c.tellStarted(ctx, tx, d, asked); err != nil {
		return 0, nil, err
	}
	return did, agents, enterAsked(ctx, tx, d.records, asked)
}

// advance carries out one action, together with the fact that comes of it. It
// returns false for what somebody else has done meanwhile.
func (c *Control) advance(ctx context.Context, tx *store.Tx, d *due, placement store.Placement, a rollout.Action) (bool, error) {
	record := d.records[a.Rollout]
	var err error
	switch a.Do {
	case rollout.Rotate:
		if err = tx.AskRolloutPart(ctx, record.ID, placement.ID); err == nil {
			if err = useProfile(ctx, tx, record, d.specs[record.ID], placement); err != nil {
				return false, err
			}
			return true, askRotation(ctx, tx, record, placement, a)
		}
	case rollout.Note:
		err = tx.SettleRolloutPart(ctx, record.ID, a.Placement.String())
	case rollout.Tell:
		return c.tellHeld(ctx, tx, d.rolloutFacts, record, a)
	case rollout.End:
		if err = tx.EndRollout(ctx, record.ID); err == nil {
			err = c.tellEnd(ctx, tx, d.rolloutFacts, record, rollout.Finished, "", "")
		}
		if err == nil {
			_, err = done(ctx, tx, Caller{Kind: Server}, "rollout.end", "Rollout/"+record.ID, map[string]any{"name": record.Name})
			return true, err
		}
	default:
		return false, nil
	}
	if fault.CodeOf(err) == fault.Conflict {
		return false, nil
	}
	return err == nil, err
}

func askRotation(ctx context.Context, tx *store.Tx, record store.Rollout, placement store.Placement, a rollout.Action) error {
	if err := tx.SetPlacementRotation(ctx, placement.ID, a.Through, a.NewKey, time.Time{}); err != nil {
		return err
	}
	return tx.InsertDecision(ctx, store.Decision{
		ID: newID(), Kind: "rotate", Intent: placement.Intent, PlacementID: placement.ID, ThroughGeneration: a.Through, NewKey: a.NewKey,
		Reason: "rollout " + record.Name, By: record.BegunBy, At: tx.Now,
	})
}

// enterAsked enters how many placements each rollout has asked in this pass.
func enterAsked(ctx context.Context, tx *store.Tx, records map[uuid.UUID]store.Rollout, asked map[uuid.UUID][]string) error {
	for id, placements := range asked {
		_, err := done(ctx, tx, Caller{Kind: Server}, "rollout.advance", "Rollout/"+id.String(), map[string]any{
			"name": records[id].Name, "placements": len(placements),
		})
		if err != nil {
			return err
		}
	}
	return nil
}
