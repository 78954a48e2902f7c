package control

import (
	"context"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// A quiet agent's presence is written this often at most, and that of so many in one
// transaction.
const (
	presenceWriteEvery = 10 * time.Minute
	presenceAtOnce     = 256
)

// Connection is an agent's stream that was admitted.
type Connection struct {
	Replaced <-chan struct{} // closed when a newer stream of the agent takes its place
	Leave    func()          // must be called when the stream ends
}

// Connect admits an agent's stream. Its boot counter must be higher than that
// of every stream before: an equal or lower one is a clone of the agent's
// state on another host, or an old copy of it. The stream before it is ended.
// Which of two copies is the genuine one can't be told from here: the one whose
// counter is used up stays out, and the agent shows an alarm until it rejoins.
func (c *Control) Connect(ctx context.Context, caller Caller, hello *api.Hello) (*Connection, error) {
	if err := authorize(caller, "agent.connect"); err != nil {
		return nil, err
	}
	if hello.GetBoot() > lastBoot {
		return nil, fault.New(fault.Invalid, "boot counter %d is too great", hello.Boot)
	}
	err := c.db.Write(ctx, func(tx *store.Tx) error {
		tx.Quiet()
		agent, err := activeAgent(ctx, tx, caller)
		if err != nil {
			return err
		}
		if hello.GetBoot() <= agent.Boot {
			return fault.New(fault.Conflict, "agent %s connects with boot counter %d, it had %d already: its state runs twice, or an old copy of it was restored",
				caller.ID, hello.GetBoot(), agent.Boot).
				WithRemedy("stop the copy; then rotunda agent rejoin %s", caller.ID)
		}
		if err := tx.SetAgentBoot(ctx, caller.ID, agent.Boot, hello.Boot, facts(hello.Facts)); err != nil {
			return err
		}
		return c.noteConnected(ctx, tx, caller.ID)
	})
	if err != nil && fault.CodeOf(err) == fault.Conflict {
		c.clones.Store(caller.ID, "its state runs twice, or an old copy of it was restored: seen "+c.now().Format(time.RFC3339)+" from "+caller.Address)
		c.log.Warn("an agent's state runs twice", "agent", caller.ID, "address", caller.Address, "boot", hello.GetBoot())
		c.watchers.wakeAgents()
		return nil, c.refused(ctx, caller, "agent.connect", "Agent/"+caller.ID, err)
	}
	if err != nil {
		return nil, err
	}
	c.anchors.Delete(caller.ID) // it may have said another one at another server
	replaced := c.presence.join(caller.ID, hello.Boot, caller.Serial, c.now())
	c.watchers.wakeAgents(caller.ID)
	return &Connection{Replaced: replaced, Leave: func() {
		c.presence.leave(caller.ID, hello.Boot)
		c.noteLeft(caller.ID, hello.Boot)
		c.watchers.wakeAgents()
	}}, nil
}

// lastBoot is the greatest boot counter that columns can hold with room to grow:
// an agent that showed the very last one could never connect again.
const lastBoot = 1 << 62

func (c *Control) notePresence(caller Caller, report *api.AgentReport) {
	var offset time.Duration
	if report.AgentTime != nil {
		offset = report.AgentTime.AsTime().Sub(c.now())
	}
	alarm := short(report.Alarm)
	if before := c.presence.note(caller.ID, offset, alarm, c.now()); alarm != "" && alarm != before {
		c.log.Warn("agent raises an alarm", "agent", caller.ID, "alarm", alarm)
	}
}

// noteAnchors records by which bundle an agent believes servers, when that
// changed.
func (c *Control) noteAnchors(ctx context.Context, caller Caller, text string) error {
	if last, told := c.anchors.Load(caller.ID); text == "" || told && last == text {
		return nil
	}
	if _, err := pki.ParseBundleDigest(text); err != nil {
		return err
	}
	err := c.db.Write(ctx, func(tx *store.Tx) error {
		tx.Quiet()
		if _, err := activeAgent(ctx, tx, caller); err != nil {
			return err
		}
		return tx.SetAgentAnchors(ctx, caller.ID, text)
	})
	if err == nil {
		c.anchors.Store(caller.ID, text)
	}
	return err
}

// WritePresence tells the store of the quiet agents that are connected here and were
// not written for long. In between nothing is asked of it: a beat changes nothing,
// and whose identity has ended hears of that with what is desired.
func (c *Control) WritePresence(ctx context.Context) error {
	now := c.now()
	for ids := range slices.Chunk(c.presence.due(now), presenceAtOnce) {
		err := c.db.Write(ctx, func(tx *store.Tx) error {
			tx.Quiet()
			return tx.SetAgentsSeen(ctx, ids)
		})
		if err != nil {
			return err
		}
		c.presence.wrote(now, ids...)
	}
	return nil
}

// beat takes a report that says no more than that its agent is there. Of one that is
// not connected here nothing is known but what the store has.
func (c *Control) beat(ctx context.Context, caller Caller) error {
	if _, here := c.presence.of(caller.ID); here {
		return nil
	}
	return c.db.Read(ctx, func(tx *store.Tx) error {
		_, err := activeAgent(ctx, tx, caller)
		return err
	})
}

// connected says whether a stream of the agent is open, here or at another
// server.
func (c *Control) connected(agent string) bool {
	_, here := c.presence.of(agent)
	return here || c.elsewhere.has(agent)
}
