package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fleetload"
	"github.com/rotunda-pki/rotunda/internal/measure"
	"github.com/rotunda-pki/rotunda/pki"
)

// listeners is how many agents a bundle is pushed to.
const listeners = 1000

var benchDomain = spiffeid.RequireTrustDomainFromString("bench.example")

// heard is when a listener had a bundle of so many anchors.
type heard struct {
	at      time.Time
	anchors int
	err     error
}

// push measures how long a new anchor of the trust domain's bundle takes from
// the operator's call to the last of a thousand connected agents, TLS and
// store included; the agents are in this process, on the same cores.
func (b *bench) push(ctx context.Context) ([]Result, error) {
	server, err := b.server(ctx)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	news := make(chan heard, listeners)
	load, err := b.load(ctx, server)
	if err != nil {
		return nil, err
	}
	var known sync.Map // how many anchors a listener has heard of: of other news nobody takes note
	all, err := b.listen(ctx, load.Run, nil, func(one *fleetload.Agent, desired *api.DesiredState, err error) {
		anchors := len(desired.GetAnchors())
		if before, _ := known.Swap(one, anchors); err != nil || before != anchors {
			news <- heard{at: time.Now(), anchors: anchors, err: err}
		}
	})
	defer func() {
		cancel() // so that nobody hears of it
		fleetload.Disconnect(all)
	}()
	if err != nil {
		return nil, err
	}
	if _, err := await(ctx, news, 1); err != nil {
		return nil, err
	}
	var medians, tails, spent []float64
	for round := range rounds {
		var took []float64
		cpu, err := server.number().Spent(func() error {
			took, err = b.pushOnce(ctx, news, round)
			return err
		})
		if err != nil {
			return nil, err
		}
		medians, tails = append(medians, took[len(took)/2]), append(tails, took[len(took)*99/100])
		spent = append(spent, float64(cpu.Milliseconds())/listeners)
	}
	return []Result{
		{Name: fmt.Sprintf("a bundle to %d agents: median", listeners), Value: measure.Median(medians), Unit: "ms", Target: "-"},
		{Name: fmt.Sprintf("a bundle to %d agents: p99", listeners), Value: measure.Median(tails), Unit: "ms", Target: "≤ 250"},
		{Name: fmt.Sprintf("a bundle to %d agents: server CPU for each", listeners), Value: measure.Median(spent), Unit: "ms", Target: "-"},
	}, nil
}

// pushOnce makes one more root trusted, and returns how long each agent took to
// hear of it, in ms, sorted.
func (b *bench) pushOnce(ctx context.Context, news <-chan heard, round int) ([]float64, error) {
	root, _, err := ca.CreateRoot(time.Now(), ca.RootOrder{
		TrustDomain: benchDomain, Name: fmt.Sprintf("pushed %d", round), Algorithm: pki.ECDSAP256, Lifetime: 365 * 24 * time.Hour,
	})
	if err != nil {
		return nil, err
	}
	began := time.Now()
	_, err = b.operator().ImportAuthority(ctx, connect.NewRequest(&api.ImportAuthorityRequest{
		Name: fmt.Sprintf("pushed-%d", round), Root: root.Raw, Trusted: true,
	}))
	if err != nil {
		return nil, err
	}
	times, err := await(ctx, news, round+2)
	var took []float64
	for _, at := range times {
		took = append(took, float64(at.Sub(began).Microseconds())/1000)
	}
	slices.Sort(took)
	return took, err
}

// await waits until each listener has heard of so many anchors.
func await(ctx context.Context, news <-chan heard, anchors int) (times []time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for len(times) < listeners {
		select {
		case one := <-news:
			if one.err != nil {
				return times, one.err
			}
			if one.anchors == anchors {
				times = append(times, one.at)
			}
		case <-ctx.Done():
			return times, fmt.Errorf("%d of %d agents heard of %d anchors: %w", len(times), listeners, anchors, ctx.Err())
		}
	}
	return times, nil
}

// listen enrols agents with these labels and opens their streams.
func (b *bench) listen(ctx context.Context, run *fleetload.Run, labels map[string]string, told fleetload.Told) ([]*fleetload.Agent, error) {
	all, err := run.EnrolLike(ctx, listeners, enrolling, func(int) map[string]string { return labels }, func(int) {})
	if err != nil {
		return nil, err
	}
	return all, fleetload.Connect(ctx, all, enrolling, told)
}

// enrolling is how many agents enrol and connect at once.
const enrolling = 16
