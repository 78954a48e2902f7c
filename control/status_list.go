package control

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/store"
)

// mostListed bounds a page of placements, or of agents.
const mostListed = 10_000

// ListPlacements shows what each placement serves, since when that is proven,
// and why it does what it does; a page of them where the request has a limit.
func (c *Control) ListPlacements(ctx context.Context, caller Caller, req *api.ListPlacementsRequest) (*api.ListPlacementsResponse, error) {
	if err := authorize(caller, "list"); err != nil {
		return nil, err
	}
	response := &api.ListPlacementsResponse{}
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		if req.After == nil {
			if err := c.fleetWords(ctx, tx, response); err != nil {
				return err
			}
		}
		declared, err := c.declaredAt(ctx, tx)
		if err != nil {
			return err
		}
		l := lister{Control: c, tx: tx, declared: declared, request: req, limit: min(int(req.Limit), mostListed), response: response}
		return l.list(ctx)
	})
	slices.SortFunc(response.Placements, InOrder)
	return response, err
}

// InOrder compares placements as lists show them: by service, intent, agent and
// instance.
func InOrder(a, b *api.PlacementStatus) int {
	return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Intent, b.Intent), cmp.Compare(a.Agent, b.Agent), cmp.Compare(a.Instance, b.Instance))
}

// fleetWords is what is said above a list: what no placement says of itself.
func (c *Control) fleetWords(ctx context.Context, tx *store.Tx, response *api.ListPlacementsResponse) (err error) {
	if response.RolledBack, err = rolledBackIn(ctx, tx); err != nil {
		return err
	}
	if response.Emergencies, err = emergenciesIn(ctx, tx); err != nil {
		return err
	}
	if ended, err := c.issuerEnded(ctx, tx); err != nil {
		return err
	} else if ended != "" {
		response.Emergencies = append(response.Emergencies, ended)
	}
	away, err := c.awayWords(ctx, tx)
	if err != nil {
		return err
	}
	response.Emergencies = append(response.Emergencies, away...)
	if response.Behind, err = c.syntheticsBehind(ctx, tx); err != nil {
		return err
	}
	if response.RootLists, err = c.rootListWords(ctx, tx); err != nil {
		return err
	}
	if response.AgentAlarms, err = c.agentAlarms(ctx, tx); err != nil {
		return err
	}
	response.LogAlarms, response.Unpublished, err = c.logWords(ctx, tx)
	return err
}

// mostAgentAlarms is how many agents are named that raise an alarm: a wrong clock may
// be that of a whole site.
const mostAgentAlarms = 5

// agentAlarms are in words what agents raise: an alarm of a host belongs to no
// placement, and those of a log that was rewritten are what agents are witnesses for.
func (c *Control) agentAlarms(ctx context.Context, tx *store.Tx) (words []string, err error) {
	alarms := c.presence.alarms()
	c.clones.Range(func(id, alarm any) bool {
		alarms[id.(string)] = strings.TrimSuffix(alarm.(string)+"; "+alarms[id.(string)], "; ")
		return true
	})
	for i, id := range slices.Sorted(maps.Keys(alarms)) {
		if i == mostAgentAlarms {
			return append(words, fmt.Sprintf("%d agents more raise one: rotunda get agents", len(alarms)-i)), nil
		}
		agent, err := tx.Agent(ctx, id)
		if ignoreMissing(err) != nil {
			return nil, err
		}
		words = append(words, fmt.Sprintf("agent %s on %s: %s", id, cmp.Or(agent.Facts["hostname"], "a host without a name"), alarms[id]))
	}
	return words, nil
}

// lister lists the placements that a request chooses. No more than a page is read
// at once, and of what an index finds nothing else is read.
type lister struct {
	*Control
	tx       *store.Tx
	declared declared
	request  *api.ListPlacementsRequest
	limit    int // of placements that are looked at; 0: none
	response *api.ListPlacementsResponse
	looked   int // placements that were looked at
}

func (l *lister) list(ctx context.Context) error {
	after := l.after()
	switch {
	case l.request.Agent != "":
		placements, err := l.tx.AgentPlacements(ctx, l.request.Agent)
		if err != nil {
			return err
		}
		return l.look(ctx, placements)
	case l.request.Intent != "":
		return l.ofIntent(ctx, fleet.Name(l.request.Intent), after)
	case l.request.Service != "":
		for _, name := range l.declared.world.intents {
			intent, _ := l.declared.world.set.Intent(name)
			if intent.Service != fleet.Name(l.request.Service) || name < after.Intent {
				continue
			}
			if err := l.ofIntent(ctx, name, after); err != nil || l.response.Next != nil {
				return err
			}
		}
		return nil
	}
	return l.pages(ctx, after, l.tx.PlacementsBeyond)
}

func (l *lister) ofIntent(ctx context.Context, name fleet.Name, after fleet.PlacementKey) error {
	if name != after.Intent {
		after = fleet.PlacementKey{Intent: name}
	}
	return l.pages(ctx, after, l.tx.IntentPlacementsBeyond)
}

func (l *lister) after() fleet.PlacementKey {
	after := l.request.GetAfter()
	return fleet.PlacementKey{Intent: fleet.Name(after.GetIntent()), Agent: after.GetAgent(), Instance: fleet.Name(after.GetInstance())}
}

// pages looks at what is read, a page after the other, until there is no more or
// the request's limit is reached.
func (l *lister) pages(ctx context.Context, after fleet.PlacementKey, read func(context.Context, fleet.PlacementKey, int) ([]store.Placement, error)) error {
	for {
		size := pageOfFleet
		if l.limit > 0 {
			size = min(size, l.limit-l.looked)
		}
		page, err := read(ctx, after, size)
		if err != nil || len(page) == 0 {
			return err
		}
		if err := l.look(ctx, page); err != nil {
			return err
		}
		after = keyOf(page[len(page)-1])
		if l.limit > 0 && l.looked >= l.limit {
			l.response.Next = &api.PlacementKey{Intent: string(after.Intent), Agent: after.Agent, Instance: string(after.Instance)}
			return nil
		}
	}
}

func (l *lister) look(ctx context.Context, placements []store.Placement) error {
	l.looked += len(placements)
	for _, placement := range placements {
		status, err := l.statusOf(ctx, l.tx, l.declared, placement)
		if err != nil {
			return err
		}
		if chosen(l.request, status) && (!l.request.Unsettled || unsettled(placement, status)) {
			l.response.Placements = append(l.response.Placements, status)
		}
	}
	return nil
}

func chosen(req *api.ListPlacementsRequest, status *api.PlacementStatus) bool {
	return (req.Service == "" || req.Service == status.Service) && (req.Intent == "" || req.Intent == status.Intent)
}

func unsettled(placement store.Placement, status *api.PlacementStatus) bool {
	return status.State != api.State_STATE_STEADY || status.Drift || status.Besides != "" || placement.RotationOpen()
}
