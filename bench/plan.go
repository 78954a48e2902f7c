package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/measure"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/schedule"
	"github.com/rotunda-pki/rotunda/trust"
)

// plan measures what one decision takes as the fleet grows: of a rollout in the
// middle of its last wave, and of a change of trust that waits for one party.
func (b *bench) plan(ctx context.Context) (results []Result, err error) {
	for _, c := range []struct {
		places, moving int
		target         string
	}{{1_000, 10, "-"}, {10_000, 100, "≤ 50"}, {100_000, 1_000, "-"}, {1_000_000, 1_000, "≤ 1000"}} {
		if ctx.Err() != nil {
			return results, ctx.Err()
		}
		name := fmt.Sprintf("Next of a rollout over %d, %d in motion", c.places, c.moving)
		took, rest, err := planRollout(c.places, c.moving)
		if err != nil {
			return results, err
		}
		results = append(results,
			Result{Name: name, Value: took, Unit: "ms", Target: c.target},
			Result{Name: name + ": at rest", Value: rest, Unit: "B each", Target: "≤ 100"},
			Result{Name: fmt.Sprintf("Next of a change of trust over %d", c.places), Value: planTrust(c.places), Unit: "ms", Target: "-"})
	}
	return results, nil
}

var planned = time.Date(2030, 1, 2, 14, 0, 0, 0, time.UTC)

func placeID(i int) uuid.UUID {
	return uuid.UUID{1, byte(i), byte(i >> 8), byte(i >> 16), 8: 0x80, 12: byte(i >> 16), byte(i >> 8), byte(i), byte(7 * i)}
}

func planRollout(n, moving int) (ms, bytesAtRest float64, err error) {
	spec := rollout.Spec{Name: "all", Steps: rollout.DefaultSteps, PerMinute: n, AtOnce: 1}
	seats := make([]rollout.Seat, n)
	for i := range seats {
		seats[i] = rollout.Seat{ID: placeID(i), Through: 1}
	}
	waves, parts, err := rollout.Plan(spec, seats)
	if err != nil {
		return 0, 0, err
	}
	before := heapInUse()
	model, change := rollout.NewModel(), uuid.Max
	for i := range seats {
		model.Observe(rollout.Seen{
			Placement: placeID(i), At: planned, Intent: fmt.Sprint("intent-", i%200), Cluster: fmt.Sprint("c-", i/3),
			Member: schedule.Member{Agent: fmt.Sprint("agent-", i), Target: "db"}, Generation: 1, Level: fleet.Proven, Steady: true, Well: true, Adopted: true,
		})
	}
	model.Observe(rollout.Begun{Rollout: change, Spec: spec, Waves: waves, Parts: parts, At: planned})
	for i, part := range parts {
		if part.Wave < len(waves)-1 {
			model.Observe(rollout.Asked{Rollout: change, Placement: part.Placement, At: planned})
			model.Observe(rollout.Settled{Rollout: change, Placement: part.Placement, At: planned.Add(time.Minute)})
		} else if i >= n-moving {
			model.Observe(rollout.Asked{Rollout: change, Placement: part.Placement, At: planned.Add(time.Hour - 30*time.Second)})
		}
	}
	bytesAtRest = float64(heapInUse()-before) / float64(n)
	runtime.KeepAlive(seats) // the figure is of the model alone
	runtime.KeepAlive(parts)
	ms = repeated(func() { model.Next(planned.Add(time.Hour)) })
	runtime.KeepAlive(model)
	return ms, bytesAtRest, nil
}

func planTrust(n int) (ms float64) {
	change := trust.Change{Old: "root", New: "root-2", Roots: true, Through: trust.Done, Published: true}
	for i := range n {
		name := fmt.Sprint("placement-", i)
		has := fleet.Proven
		if i == n/2 {
			has = fleet.Loaded
		}
		change.Parties = append(change.Parties, trust.RelyingParty{ID: name, Name: name, Has: has, Needs: fleet.Proven, Since: planned})
		change.Holders = append(change.Holders, trust.Holder{ID: name, Name: name, NotAfter: planned.Add(time.Hour)})
	}
	return repeated(func() { change.Next(planned) })
}

// repeated is the median time of some runs, in ms.
func repeated(work func()) float64 {
	var times []float64
	for range rounds {
		began := time.Now()
		work()
		times = append(times, float64(time.Since(began).Microseconds())/1000)
	}
	return measure.Median(times)
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC() // what pools kept goes with the second one
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
