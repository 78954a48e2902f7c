package fleetload

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/measure"
)

// renewers is how many agents are at work at once: each makes a key.
const renewers = 64

// Renew has every agent of the run rotate its certificate because an operator
// asks for it: pushed over the stream, with a new key, issued, reported back.
func (l *Load) Renew(ctx context.Context, count, rounds int) ([]measure.Result, error) {
	agents, results, err := l.enrol(ctx, count)
	if err != nil {
		return nil, err
	}
	listening, stop := context.WithCancel(ctx)
	defer Disconnect(agents)
	defer stop()
	news := make(chan asked, 4*count)
	if _, _, err := l.connect(listening, agents, func(a *Agent, desired *api.DesiredState, err error) {
		one := asked{agent: a, err: err}
		if err == nil && len(desired.Placements) == 1 {
			one.through = desired.Placements[0].RenewThrough
		}
		if err == nil && !one.due() {
			return
		}
		select {
		case news <- one:
		case <-listening.Done():
		}
	}); err != nil {
		return nil, err
	}
	if err := Each(ctx, count, renewers, func(ctx context.Context, i int) error { return agents[i].rotate(ctx) }); err != nil {
		return nil, err
	}
	took := &measure.Latencies{}
	var spent, whole time.Duration
	for round := 1; round <= rounds; round++ {
		began := time.Now()
		used, err := l.spent(func() error { return l.renewAll(ctx, news, count, took) })
		if err != nil {
			return nil, err
		}
		spent, whole = spent+used, whole+time.Since(began)
	}
	for _, agent := range agents {
		if err := agent.Hush(); err != nil {
			return nil, err
		}
	}
	name := fmt.Sprintf("a renewal of %d agents", count)
	results = append(results, measure.Result{Name: name + ": rate", Value: float64(count*rounds) / whole.Seconds(), Unit: "/s"})
	results = append(results, l.each(measure.Result{Key: "cpu.renew", Name: name + ": server CPU each"}, spent, count*rounds)...)
	return append(results, took.Results(name+": asked to reported", "")...), nil
}

// asked is an agent that was asked for another generation than its own.
type asked struct {
	agent   *Agent
	through uint64 // it is to renew if its generation is not above that
	err     error
}

func (a asked) due() bool { return a.agent.Generation() > 0 && a.through >= a.agent.Generation() }

// renewAll asks for it, and has agents renew as they hear of it.
func (l *Load) renewAll(ctx context.Context, news <-chan asked, count int, took *measure.Latencies) error {
	began := time.Now()
	_, err := l.Operator.Rotate(ctx, connect.NewRequest(&api.RotateRequest{Intent: l.Document(), Over: durationpb.New(0), Reason: "rotunda bench"}))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return Each(ctx, count, renewers, func(ctx context.Context, _ int) error {
		for {
			select {
			case one := <-news:
				if one.err != nil {
					return fmt.Errorf("a stream ended: %w", one.err)
				}
				if !one.due() {
					continue
				}
				if err := one.agent.rotate(ctx); err != nil {
					return err
				}
				took.Add(time.Since(began))
				l.Say(fmt.Sprintf("renewing: %d", took.Count()))
				return nil
			case <-ctx.Done():
				return fmt.Errorf("%d renewals were done: %w", took.Count(), ctx.Err())
			}
		}
	})
}

// rotate asks for the next generation with a new key and reports it in use, as
// far as an agent without a process to look at can: delivered.
func (a *Agent) rotate(ctx context.Context) error {
	_, csr, err := newCSR()
	if err != nil {
		return err
	}
	if _, err := a.Issue(ctx, csr); err != nil {
		return err
	}
	now := a.Generation()
	return a.say(&api.AgentReport{Placements: []*api.PlacementReport{{
		PlacementId: a.Placement(), State: api.State_STATE_STEADY, Generation: now, LastGeneration: now, Revision: now,
		Level: api.Level_LEVEL_DELIVERED, CommittedAt: timestamppb.Now(), Rotations: now,
	}}})
}
