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
	agent   *Agent
	desired *api.DesiredState
	err     error
}

// Ears hear what agents are told, until their context ends: nobody may wait for
// them then.
type Ears struct {
	ctx  context.Context
	news chan heard
	of   int
}

// NewEars are for so many agents.
func NewEars(ctx context.Context, agents int) *Ears {
	return &Ears{ctx, make(chan heard, agents), agents}
}

// Told is what to connect the agents with.
func (e *Ears) Told(agent *Agent, desired *api.DesiredState, err error) {
	select {
	case e.news <- heard{time.Now(), agent, desired, err}:
	case <-e.ctx.Done():
	}
}

// Await waits until each agent was told what is asked for, and says how long
// after began each was for the first time.
func (e *Ears) Await(ctx context.Context, began time.Time, is func(*api.DesiredState) bool, progress func(int)) (*measure.Latencies, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	took, has := &measure.Latencies{}, map[*Agent]bool{}
	for len(has) < e.of {
		select {
		case one := <-e.news:
			if one.err != nil {
				return took, fmt.Errorf("a stream ended: %w", one.err)
			}
			if !has[one.agent] && is(one.desired) {
				has[one.agent] = true
				took.Add(one.at.Sub(began))
				progress(len(has))
			}
		case <-ctx.Done():
			return took, fmt.Errorf("%d of %d agents were told of a change: %w", len(has), e.of, ctx.Err())
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
	ears := NewEars(listening, count)
	if _, err := l.storm(agents, ears, "connected", 0); err != nil {
		return nil, err
	}
	pushed, err := l.pushes(ctx, ears, rounds)
	return append(results, pushed...), err
}

func (l *Load) pushes(ctx context.Context, ears *Ears, rounds int) ([]measure.Result, error) {
	all := &measure.Latencies{}
	var total time.Duration
	for round := 1; round <= rounds; round++ {
		spent, err := l.spent(func() error {
			began := time.Now()
			if err := l.Change(ctx, round); err != nil {
				return err
			}
			took, err := ears.Await(ctx, began, func(d *api.DesiredState) bool { return Changed(d, round) }, func(done int) {
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
