package fleetload

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/measure"
)

// Issuing is how many certificates are asked for, and how.
type Issuing struct {
	Agents       int
	Certificates int // in each round
	Rounds       int // of which each figure is the median
	Calls        []Calls
}

// Calls are how certificates are asked for.
type Calls struct {
	InFlight int // at once
	Batch    int // requests in one
}

// floorCSRs are enough for the floor, and warmUp certificates do not count.
const (
	floorCSRs = 2000
	warmUp    = 200
)

// Issue has agents ask for certificates with requests that were made beforehand,
// beside what the parts of it cost here and now. Their
// streams are closed, so that a certificate is all that is paid for; what telling
// an agent of it costs is in Renew.
func (l *Load) Issue(ctx context.Context, o Issuing) ([]measure.Result, error) {
	agents, results, err := l.enrol(ctx, o.Agents)
	if err != nil {
		return nil, err
	}
	defer Disconnect(agents)
	if _, _, err := l.connect(ctx, agents, quiet); err != nil {
		return nil, err
	}
	for _, agent := range agents {
		if err := agent.Hush(); err != nil {
			return nil, err
		}
	}
	csrs, err := CSRs(ctx, o.Certificates)
	if err != nil {
		return nil, err
	}
	l.Say("measuring what the parts of it cost")
	floor, err := Floor(ctx, csrs[:min(floorCSRs, len(csrs))])
	if err != nil {
		return nil, err
	}
	for _, calls := range o.Calls {
		load := issuing{l, agents, csrs, calls}
		measured, err := load.measure(ctx, o.Rounds, floor)
		if err != nil {
			return nil, err
		}
		results = append(results, measured...)
	}
	return results, nil
}

// issuing is a load of one shape.
type issuing struct {
	*Load
	agents []*Agent
	csrs   [][]byte
	Calls
}

func (l issuing) measure(ctx context.Context, rounds int, floor float64) ([]measure.Result, error) {
	if err := l.issue(ctx, l.csrs[:min(warmUp, len(l.csrs))], &measure.Latencies{}); err != nil {
		return nil, err
	}
	latencies := &measure.Latencies{}
	var rates, spent []float64
	for range max(1, rounds) {
		began := time.Now()
		used, err := l.spent(func() error { return l.issue(ctx, l.csrs, latencies) })
		if err != nil {
			return nil, err
		}
		rates, spent = append(rates, rate(len(l.csrs), began)), append(spent, float64(used))
	}
	name := fmt.Sprintf("issuance, %d calls in flight, %d in a call", l.InFlight, l.Batch)
	results := []measure.Result{{Name: name + ": rate", Value: measure.Median(rates), Unit: "/s", Target: l.aim(map[Calls]string{{2, 50}: "≥ 5000"})}}
	cpu := measure.Result{
		Key: "cpu.issue", Name: name + ": server CPU each", Floor: floor,
		Target: l.aim(map[Calls]string{{16, 1}: "≤ 200, 1.25 of floor", {2, 50}: "≤ 170, 1.25 of floor"}),
	}
	results = append(results, l.each(cpu, time.Duration(measure.Median(spent)), len(l.csrs))...)
	return append(results, latencies.Results(name+": a call", l.aim(map[Calls]string{{64, 1}: "≤ 25"}))...), nil
}

func (c Calls) aim(of map[Calls]string) string { return of[c] }

// issue has the calls go round the agents.
func (l issuing) issue(ctx context.Context, csrs [][]byte, latencies *measure.Latencies) error {
	calls := (len(csrs) + l.Batch - 1) / l.Batch
	var done atomic.Int64
	return Each(ctx, calls, l.InFlight, func(ctx context.Context, i int) error {
		part := csrs[i*l.Batch : min((i+1)*l.Batch, len(csrs))]
		began := time.Now()
		if _, err := l.agents[i%len(l.agents)].Issue(ctx, part...); err != nil {
			return err
		}
		latencies.Add(time.Since(began))
		l.Say(fmt.Sprintf("issuing: %d of %d", done.Add(int64(len(part))), len(csrs)))
		return nil
	})
}

// quiet is for agents that do nothing about what they are told.
func quiet(*Agent, *api.DesiredState, error) {}
