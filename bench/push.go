package main

import (
	"context"
	"fmt"
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
	ears := fleetload.NewEars(ctx, listeners)
	load, err := b.load(ctx, server)
	if err != nil {
		return nil, err
	}
	all, err := b.listen(ctx, load.Run, nil, ears.Told)
	defer func() {
		cancel() // so that nobody hears of it
		fleetload.Disconnect(all)
	}()
	if err != nil {
		return nil, err
	}
	if _, err := ears.Await(ctx, time.Now(), trusting(1), func(int) {}); err != nil {
		return nil, err
	}
	var medians, tails, spent []float64
	for round := range rounds {
		var took *measure.Latencies
		cpu, err := server.number().Spent(func() error {
			took, err = b.pushOnce(ctx, ears, round)
			return err
		})
		if err != nil {
			return nil, err
		}
		medians, tails = append(medians, ms(took.Quantile(0.5))), append(tails, ms(took.Quantile(0.99)))
		spent = append(spent, float64(cpu.Milliseconds())/listeners)
	}
	return []Result{
		{Name: fmt.Sprintf("a bundle to %d agents: median", listeners), Value: measure.Median(medians), Unit: "ms", Target: "-"},
		{Name: fmt.Sprintf("a bundle to %d agents: p99", listeners), Value: measure.Median(tails), Unit: "ms", Target: "≤ 250"},
		{Name: fmt.Sprintf("a bundle to %d agents: server CPU for each", listeners), Value: measure.Median(spent), Unit: "ms", Target: "-"},
	}, nil
}

// fleet measures what ten thousand agents cost that only are there, a change to all
// of them, and all of them back at once.
func (b *bench) fleet(ctx context.Context) ([]Result, error) {
	return b.loaded(ctx, func(load *fleetload.Load) ([]Result, error) { return load.Fleet(ctx, fleetload.Usual(10_000)) })
}

// pushOnce makes one more root trusted, and returns how long each agent took to
// hear of it.
func (b *bench) pushOnce(ctx context.Context, ears *fleetload.Ears, round int) (*measure.Latencies, error) {
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
	return ears.Await(ctx, began, trusting(round+2), func(int) {})
}

// trusting says of a desired state whether it has so many anchors.
func trusting(anchors int) func(*api.DesiredState) bool {
	return func(d *api.DesiredState) bool { return len(d.GetAnchors()) == anchors }
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
