package fleetload

import (
	"context"
	"fmt"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/measure"
)

// patience bounds the wait for what agents are to be told.
const patience = 2 * time.Minute

// heard is what an agent was told, and when.
type heard struct {
	at      time.Time
	desired *api.DesiredState
	err     error
}

// ears hear what the agents of a run are told, until their context ends: nobody
// may wait for them then.
type ears struct {
	ctx  context.Context
	news chan heard
	of   int
}

func newEars(ctx context.Context, agents int) *ears {
	return &ears{ctx, make(chan heard, agents), agents}
}

func (e *ears) told(_ *Agent, desired *api.DesiredState, err error) {
	select {
	case e.news <- heard{time.Now(), desired, err}:
	case <-e.ctx.Done():
	}
}

// await waits until each agent was told what is asked for, and says how long
// after began each was.
func (e *ears) await(ctx context.Context, began time.Time, is func(*api.DesiredState) bool, progress func(int)) (*measure.Latencies, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	took := &measure.Latencies{}
	for took.Count() < e.of {
		select {
		case one := <-e.news:
			if one.err != nil {
				return took, fmt.Errorf("a stream ended: %w", one.err)
			}
			if is(one.desired) {
				took.Add(one.at.Sub(began))
				progress(took.Count())
			}
		case <-ctx.Done():
			return took, fmt.Errorf("%d of %d agents were told of a change: %w", took.Count(), e.of, ctx.Err())
		}
	}
	return took, nil
}

// Push changes the desired state of connected agents, some times, and measures
// from the operator's call until each has it.
func (l *Load) Push(ctx context.Context, count, rounds int) ([]measure.Result, error) {
	agents, results, err := l.enrol(ctx, count)
	if err != nil {
		return nil, err
	}
	listening, stop := context.WithCancel(ctx)
	defer Disconnect(agents)
	defer stop()
	ears := newEars(listening, count)
	if _, err := l.storm(agents, ears, "connected", 0); err != nil {
		return nil, err
	}
	pushed, err := l.pushes(ctx, ears, rounds)
	return append(results, pushed...), err
}

func (l *Load) pushes(ctx context.Context, ears *ears, rounds int) ([]measure.Result, error) {
	all := &measure.Latencies{}
	var total time.Duration
	for round := 1; round <= rounds; round++ {
		spent, err := l.spent(func() error {
			began := time.Now()
			if err := l.Change(ctx, round); err != nil {
				return err
			}
			took, err := ears.await(ctx, began, func(d *api.DesiredState) bool { return Changed(d, round) }, func(done int) {
				l.Say(fmt.Sprintf("change %d of %d: at %d of %d agents", round, rounds, done, ears.of))
			})
			all.Join(took)
			return err
		})
		if err != nil {
			return nil, err
		}
		total += spent
	}
	name := fmt.Sprintf("a change to %d agents", ears.of)
	results := all.Results(name, "≤ 1000 at 10,000 agents")
	return append(results, l.each(measure.Result{Key: "cpu.push", Name: name + ": server CPU each"}, total, ears.of*rounds)...), nil
}
