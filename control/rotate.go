package control

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/schedule"
	"github.com/rotunda-pki/rotunda/store"
)

// longestOver bounds how long a rotation of many may take: what was asked for
// should not come about when nobody remembers it.
const longestOver = 90 * 24 * time.Hour

// Rotate asks for a new generation at placements. It is desired state, not a
// command: renew if generation ≤ N, N being the highest issued so far. So it
// may be asked twice, and reaches agents that are away when they come back. Of
// many each has its turn: see rollout.Pace.
func (c *Control) Rotate(ctx context.Context, caller Caller, req *api.RotateRequest) (*api.RotateResponse, error) {
	if err := authorize(caller, "rotate"); err != nil {
		return nil, err
	}
	if chosen := count(req.Intent != "", req.All, req.Placement != ""); chosen != 1 {
		return nil, fault.New(fault.Invalid, "rotate wants an intent, a placement or all, and exactly one of them")
	}
	if over := req.Over.AsDuration(); over < 0 || over > longestOver {
		return nil, fault.New(fault.Invalid, "a rotation over %s: it takes between nothing and %s", over, fleet.Duration(longestOver))
	}
	response := &api.RotateResponse{}
	body := func(tx *store.Tx) error {
		proto.Reset(response)
		placements, err := rotated(ctx, tx, req)
		if err != nil {
			return err
		}
		declared, err := c.declaredAt(ctx, tx)
		if err != nil {
			return err
		}
		over := schedule.DefaultOver(len(placements))
		if req.Over != nil {
			over = req.Over.AsDuration()
		}
		response.Over = durationpb.New(over)
		for _, turn := range turns(placements, over) {
			if err := c.rotateOne(ctx, tx, declared, caller, turn, req, response); err != nil {
				return err
			}
		}
		if req.DryRun {
			return nil
		}
		response.AuditId, err = done(ctx, tx, caller, "rotate", rotateObject(req), map[string]any{
			"placements": len(placements), "newKey": req.NewKey, "reason": req.Reason, "over": over.String(),
		})
		return err
	}
	if req.DryRun {
		return response, c.db.Read(ctx, body)
	}
	if err := c.change(ctx, body); err != nil {
		return nil, err
	}
	c.watchers.wakeEverybody()
	return response, nil
}

func count(conditions ...bool) int {
	n := 0
	for _, condition := range conditions {
		if condition {
			n++
		}
	}
	return n
}

func rotateObject(req *api.RotateRequest) string {
	switch {
	case req.Intent != "":
		return "Intent/" + req.Intent
	case req.Placement != "":
		return "Placement/" + req.Placement
	}
	return "Intents"
}

// rotated lists the live placements that a request means.
func rotated(ctx context.Context, tx *store.Tx, req *api.RotateRequest) ([]store.Placement, error) {
	if req.Placement != "" {
		placement, err := tx.Placement(ctx, req.Placement)
		if err == nil && placement.Orphan {
			err = fault.New(fault.Conflict, "placement %s: no intent wants it any more", placement.ID)
		}
		return []store.Placement{placement}, err
	}
	read := func() ([]store.Placement, error) { return tx.IntentPlacements(ctx, req.Intent) }
	if req.All {
		read = func() ([]store.Placement, error) { return tx.Placements(ctx) }
	}
	all, err := read()
	if err != nil {
		return nil, err
	}
	chosen := slices.DeleteFunc(all, func(one store.Placement) bool { return one.Orphan })
	if len(chosen) == 0 {
		return nil, fault.New(fault.NotFound, "%s has no placement", rotateObject(req)).
			WithRemedy("see what there is with: rotunda status")
	}
	return chosen, nil
}

// turn is a placement that is to be rotated, and how long after the first one.
type turn struct {
	store.Placement
	after time.Duration
}

func turns(placements []store.Placement, over time.Duration) []turn {
	byID := map[string]store.Placement{}
	var ids []string
	for _, placement := range placements {
		byID[placement.ID] = placement
		ids = append(ids, placement.ID)
	}
	var all []turn
	for _, paced := range schedule.Pace(ids, over) {
		all = append(all, turn{byID[paced.Placement], paced.After})
	}
	return all
}

// rotateOne asks for one placement's rotation, and shows it in the response; a
// dry run only shows it.
func (c *Control) rotateOne(ctx context.Context, tx *store.Tx, d declared, caller Caller, placement turn, req *api.RotateRequest, response *api.RotateResponse) error {
	status, err := c.statusOf(ctx, tx, d, placement.Placement)
	if err != nil {
		return err
	}
	from := tx.Now.Add(placement.after)
	status.RotateAt = timestamppb.New(from)
	if before := placement.RenewFrom; placement.RotationOpen() && before.Before(from) {
		status.RotateAt = stamp(before) // it keeps the earlier time; none: it is due already
	}
	response.Placements, response.Affected = append(response.Placements, placement.ID), append(response.Affected, status)
	if req.DryRun {
		return nil
	}
	if placement.after == 0 {
		from = time.Time{}
	}
	through, err := newestGeneration(ctx, tx, placement.Placement)
	if err != nil {
		return err
	}
	if err := tx.SetPlacementRotation(ctx, placement.ID, through, req.NewKey, from); err != nil {
		return err
	}
	return tx.InsertDecision(ctx, store.Decision{
		ID: newID(), Kind: "rotate", Intent: placement.Intent, PlacementID: placement.ID,
		ThroughGeneration: through, NewKey: req.NewKey, Reason: req.Reason, By: caller.String(), At: tx.Now,
	})
}

// Resume closes an intent's breaker: failures until now no longer hold its
// other placements, and those that failed try again at once.
func (c *Control) Resume(ctx context.Context, caller Caller, req *api.ResumeRequest) (*api.ResumeResponse, error) {
	if err := authorize(caller, "resume"); err != nil {
		return nil, err
	}
	response := &api.ResumeResponse{}
	err := c.change(ctx, func(tx *store.Tx) error {
		placements, err := tx.IntentPlacements(ctx, req.Intent)
		if err != nil {
			return err
		}
		if len(placements) == 0 {
			return fault.New(fault.NotFound, "intent %s has no placement", printable(req.Intent))
		}
		for _, placement := range placements {
			if err := tx.ResumePlacement(ctx, placement.ID); err != nil {
				return err
			}
		}
		err = tx.InsertDecision(ctx, store.Decision{
			ID: newID(), Kind: "resume", Intent: req.Intent, Reason: req.Reason, By: caller.String(), At: tx.Now,
		})
		if err != nil {
			return err
		}
		response.AuditId, err = done(ctx, tx, caller, "resume", "Intent/"+req.Intent, map[string]any{"reason": req.Reason})
		return err
	})
	if err != nil {
		return nil, err
	}
	c.watchers.wakeEverybody()
	return response, nil
}
