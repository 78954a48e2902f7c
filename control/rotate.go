package control

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// Rotate asks for a new generation at placements. It is desired state, not a
// command: renew if generation ≤ N, N being the highest issued so far. So it
// may be asked twice, and reaches agents that are away when they come back.
func (c *Control) Rotate(ctx context.Context, caller Caller, req *api.RotateRequest) (*api.RotateResponse, error) {
	if err := authorize(caller, "rotate"); err != nil {
		return nil, err
	}
	if chosen := count(req.Intent != "", req.All, req.Placement != ""); chosen != 1 {
		return nil, fault.New(fault.Invalid, "rotate wants an intent, a placement or all, and exactly one of them")
	}
	response := &api.RotateResponse{}
	body := func(tx *store.Tx) error {
		proto.Reset(response)
		placements, err := rotated(ctx, tx, req)
		if err != nil {
			return err
		}
		for _, placement := range placements {
			status, err := c.statusOf(ctx, tx, placement)
			if err != nil {
				return err
			}
			response.Placements = append(response.Placements, placement.ID)
			response.Affected = append(response.Affected, status)
			if req.DryRun {
				continue
			}
			if err := c.rotateOne(ctx, tx, caller, placement, req); err != nil {
				return err
			}
		}
		if req.DryRun {
			return nil
		}
		response.AuditId, err = done(ctx, tx, caller, "rotate", rotateObject(req), map[string]any{
			"placements": len(placements), "newKey": req.NewKey, "reason": req.Reason,
		})
		return err
	}
	if req.DryRun {
		return response, c.db.Read(ctx, body)
	}
	if err := c.db.Write(ctx, body); err != nil {
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
	all, err := tx.Placements(ctx)
	if err != nil {
		return nil, err
	}
	var chosen []store.Placement
	for _, placement := range all {
		if !placement.Orphan && (req.All || placement.Intent == req.Intent) {
			chosen = append(chosen, placement)
		}
	}
	if len(chosen) == 0 {
		return nil, fault.New(fault.NotFound, "%s has no placement", rotateObject(req)).
			WithRemedy("see what there is with: rotunda status")
	}
	return chosen, nil
}

func (c *Control) rotateOne(ctx context.Context, tx *store.Tx, caller Caller, placement store.Placement, req *api.RotateRequest) error {
	through, err := newestGeneration(ctx, tx, placement)
	if err != nil {
		return err
	}
	if err := tx.SetPlacementRotation(ctx, placement.ID, through, req.NewKey); err != nil {
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
	err := c.db.Write(ctx, func(tx *store.Tx) error {
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
