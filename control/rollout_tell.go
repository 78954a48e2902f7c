package control

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/graph"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/store"
)

// servicesOf are the services that a rollout touches: all, or those of the parts
// that which picks.
func (f *rolloutFacts) servicesOf(rolloutID string, which func(store.RolloutPart) bool) []fleet.Name {
	var intents []string
	for _, part := range f.parts[rolloutID] {
		if which(part) {
			intents = append(intents, f.placements[part.PlacementID].Intent)
		}
	}
	slices.Sort(intents)
	return f.world.servicesOf(slices.Compact(intents))
}

func anyPart(store.RolloutPart) bool { return true }

// tellRollout tells the owners of services of an event of a rollout.
func (c *Control) tellRollout(ctx context.Context, tx *store.Tx, f *rolloutFacts, record store.Rollout, n notice) (int, error) {
	if ofTrust(record) {
		return 0, nil
	}
	n.kind, n.changeID, n.name, n.show = store.NoticeOfRollout, record.ID, record.Name, "rotunda rollout status "+record.Name
	if n.by == "" {
		n.by, n.reason = record.BegunBy, record.Reason
	}
	return c.tell(ctx, tx, f.world, n)
}

// announceRollout tells the owners of a rollout that asks nobody yet, and lets
// the model know that it did.
func (c *Control) announceRollout(ctx context.Context, tx *store.Tx, f *rolloutFacts, record store.Rollout, b beginning) error {
	services := f.servicesOf(record.ID, anyPart)
	if b.spec.Notice > 0 || b.spec.Gates.Told {
		if err := c.checkReachable(f.world, services); err != nil {
			return err
		}
	}
	begins, known := f.model.Begins(rolloutID(record.ID), tx.Now)
	if known && !begins.After(tx.Now) && !b.spec.Gates.Told {
		return nil // it begins now, and is told where it does
	}
	_, err := c.tellRollout(ctx, tx, f, record, notice{
		event: rollout.Announced, services: services, begins: begins,
		what: fmt.Sprintf("rollout %s will rotate %s in %s", record.Name, graph.Count(len(b.parts), "certificate"), graph.Count(len(b.waves), "wave")),
	})
	for _, service := range services {
		if err == nil && c.notifyURLOf(f.world, service) != "" {
			f.model.Observe(rollout.Told{Rollout: rolloutID(record.ID), Event: rollout.Announced, Service: service, At: tx.Now})
		}
	}
	return err
}

// observeTold feeds the model with what the owners are told of a rollout.
func (f *rolloutFacts) observeTold(ctx context.Context, tx *store.Tx, r store.Rollout) error {
	notices, err := tx.ChangeNotices(ctx, r.ID)
	for _, n := range notices {
		f.model.Observe(rollout.Told{
			Rollout: rolloutID(r.ID), Event: rollout.Event(n.Event), Service: fleet.Name(n.Service), At: n.MadeAt, Reached: n.SentAt,
		})
	}
	return err
}

// tellStarted tells the owners of services of which somebody is asked for the
// first time in this pass.
func (c *Control) tellStarted(ctx context.Context, tx *store.Tx, d *due, asked map[uuid.UUID][]string) error {
	for id, placements := range asked {
		record := d.records[id]
		before := d.servicesOf(record.ID, func(p store.RolloutPart) bool { return !p.AskedAt.IsZero() })
		now := d.servicesOf(record.ID, func(p store.RolloutPart) bool { return slices.Contains(placements, p.PlacementID) })
		first := slices.DeleteFunc(now, func(name fleet.Name) bool { return slices.Contains(before, name) })
		_, err := c.tellRollout(ctx, tx, d.rolloutFacts, record, notice{
			event: rollout.Started, services: first, what: fmt.Sprintf("rollout %s asks the first placements of the service to rotate", record.Name),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// tellHeld tells the owners that a breaker holds a rollout, or does no more. It
// returns false where none of them can be told.
func (c *Control) tellHeld(ctx context.Context, tx *store.Tx, f *rolloutFacts, record store.Rollout, a rollout.Action) (bool, error) {
	what := fmt.Sprintf("rollout %s goes on: no breaker holds it any more", record.Name)
	if a.Event == rollout.HeldUp {
		what = fmt.Sprintf("a breaker holds rollout %s: %s", record.Name, a.Words)
	}
	told, err := c.tellRollout(ctx, tx, f, record, notice{event: a.Event, services: f.servicesOf(record.ID, anyPart), what: what})
	return told > 0, err
}

// ofTrust says whether a rollout is the renewals of a change of trust, of which
// the owners are told as a whole.
func ofTrust(record store.Rollout) bool { return record.BegunBy == Caller{Kind: Server}.String() }

// canTell says whether somebody can be told of a rollout.
func (c *Control) canTell(f *rolloutFacts, record store.Rollout) bool {
	return !ofTrust(record) && slices.ContainsFunc(f.servicesOf(record.ID, anyPart), func(name fleet.Name) bool { return c.notifyURLOf(f.world, name) != "" })
}

// tellEnd tells the owners that a rollout is over.
func (c *Control) tellEnd(ctx context.Context, tx *store.Tx, f *rolloutFacts, record store.Rollout, event rollout.Event, by, reason string) error {
	asked := 0
	for _, part := range f.parts[record.ID] {
		if !part.AskedAt.IsZero() {
			asked++
		}
	}
	_, err := c.tellRollout(ctx, tx, f, record, notice{
		event: event, services: f.servicesOf(record.ID, anyPart), by: by, reason: reason,
		what: fmt.Sprintf("rollout %s is %s; it has asked %d of %s", record.Name, event, asked, graph.Count(len(f.parts[record.ID]), "placement")),
	})
	return err
}
