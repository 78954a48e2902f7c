package fleetload

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/measure"
)

// Standing is how a whole fleet is measured.
type Standing struct {
	Agents, Rounds int
	Settle         time.Duration // left alone before memory is looked at
	Rest           time.Duration // over which idle CPU time is summed up
}

// Usual is how a fleet of that size is measured unless something else is asked
// for. The rest is as long as the server goes at most without a look at what is
// desired of an agent, so that each has one in it.
func Usual(agents int) Standing {
	return Standing{Agents: agents, Rounds: 3, Settle: 45 * time.Second, Rest: 5 * time.Minute}
}

// Fleet connects a whole fleet and measures what it costs the server to have it:
// memory for each agent, CPU time while nothing happens, a change to all, and
// that all come back at once.
func (l *Load) Fleet(ctx context.Context, o Standing) ([]measure.Result, error) {
	agents, results, err := l.enrol(ctx, o.Agents)
	if err != nil {
		return nil, err
	}
	before, err := l.settled(ctx, o.Settle)
	if err != nil {
		return nil, err
	}
	handshake, err := measure.Handshake(ctx)
	if err != nil {
		return nil, err
	}
	stood, err := l.stand(ctx, agents, func(ears *Ears) ([]measure.Result, error) {
		all, err := l.storm(agents, ears, "connected", handshake/2)
		if err != nil {
			return all, err
		}
		idle, err := l.idle(ctx, o, before)
		if err != nil {
			return all, err
		}
		pushed, err := l.pushes(ctx, ears, o.Rounds)
		return slices.Concat(all, idle, pushed), err
	})
	results = append(results, stood...)
	if err != nil {
		return results, err
	}
	back, err := l.stand(ctx, agents, func(ears *Ears) ([]measure.Result, error) {
		return l.storm(agents, ears, "back after an outage", handshake/2)
	})
	return append(results, back...), err
}

// stand does work with ears for what agents are told, and disconnects them.
func (l *Load) stand(ctx context.Context, agents []*Agent, work func(*Ears) ([]measure.Result, error)) ([]measure.Result, error) {
	ctx, stop := context.WithCancel(ctx)
	defer Disconnect(agents)
	defer stop()
	return work(NewEars(ctx, len(agents)))
}

// storm connects all agents as fast as this process can, and waits until each
// knows what is desired.
func (l *Load) storm(agents []*Agent, ears *Ears, how string, floor float64) ([]measure.Result, error) {
	began := time.Now()
	var took *measure.Latencies
	spent, err := l.spent(func() error {
		_, _, err := l.connect(ears.ctx, agents, ears.Told)
		if err != nil {
			return err
		}
		took, err = ears.Await(ears.ctx, began, func(d *api.DesiredState) bool { return len(d.Placements) == 1 }, func(int) {})
		return err
	})
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%d agents %s", len(agents), how)
	results := []measure.Result{
		{Name: name + ": rate", Value: rate(len(agents), began), Unit: "/s"},
		{Name: name + ": all there", Value: took.Quantile(1).Seconds(), Unit: "s"},
	}
	return append(results, l.each(measure.Result{Key: "cpu.connect", Name: name + ": server CPU each", Floor: floor}, spent, len(agents))...), nil
}

// settled is the server's memory after a while in which nothing happens.
func (l *Load) settled(ctx context.Context, settle time.Duration) (float64, error) {
	if l.Server == 0 {
		return 0, nil
	}
	l.Say(fmt.Sprintf("leaving the server alone for %s, so that it gives back what it does not need", settle))
	if err := pause(ctx, settle); err != nil {
		return 0, err
	}
	return l.Server.RSSAnon()
}

func (l *Load) idle(ctx context.Context, o Standing, before float64) ([]measure.Result, error) {
	after, err := l.settled(ctx, o.Settle)
	if err != nil || l.Server == 0 {
		return nil, err
	}
	l.Say(fmt.Sprintf("summing up the CPU time of %s in which nothing happens", o.Rest))
	spent, err := l.Server.Spent(func() error { return pause(ctx, o.Rest) })
	if err != nil {
		return nil, err
	}
	return []measure.Result{
		{Key: "memory.server", Name: "server, nobody connected: RssAnon", Value: before / (1 << 20), Unit: "MiB", Target: "≤ 30 at rest"},
		{Key: "memory.agent", Name: fmt.Sprintf("%d agents connected: RssAnon each", o.Agents), Value: (after - before) / 1024 / float64(o.Agents), Unit: "KiB", Target: "≤ 40"},
		{Name: fmt.Sprintf("%d agents connected: idle CPU", o.Agents), Value: 100 * spent.Seconds() / o.Rest.Seconds(), Unit: "% core", Target: "≤ 5 at 10,000"},
		{Key: "cpu.idle", Name: "an idle agent: server CPU a second", Value: float64(spent.Microseconds()) / o.Rest.Seconds() / float64(o.Agents), Unit: "µs"},
	}, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
