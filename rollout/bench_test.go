package rollout

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/schedule"
)

// BenchmarkNext measures a decision over a fleet of clusters of three, in the
// middle of its last wave, and what a placement takes: at rest as part of a
// rollout, and in motion beside that.
func BenchmarkNext(b *testing.B) {
	for _, c := range []struct{ places, moving int }{{10_000, 100}, {1_000_000, 1_000}} {
		b.Run(fmt.Sprintf("%d/%d", c.places, c.moving), func(b *testing.B) {
			before := heap()
			m, last := largeModel(b, c.places, c.moving)
			rest := heap() - before
			now := noon.Add(time.Hour)
			setMoving(m, last, c.moving, now)
			m.Next(now)
			motion := max(heap(), before+rest) - before - rest
			b.ResetTimer()
			for b.Loop() {
				if _, reasons := m.Next(now); len(reasons) == 0 {
					b.Fatal("no reason")
				}
			}
			b.ReportMetric(float64(rest)/float64(c.places), "B/at-rest")
			b.ReportMetric(float64(motion)/float64(c.moving), "B/in-motion")
			runtime.KeepAlive(m)
		})
	}
}

// BenchmarkObserve measures one report of a placement of a million.
func BenchmarkObserve(b *testing.B) {
	m, parts := largeModel(b, 1_000_000, 100_000)
	i := 0
	for b.Loop() {
		m.Observe(seenOf(parts[i%len(parts)].Placement, i%len(parts), noon.Add(time.Duration(i))))
		i++
	}
}

func heap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func numbered(i int) uuid.UUID {
	return uuid.UUID{1, byte(i), byte(i >> 8), byte(i >> 16), 8: 0x80, 12: byte(i >> 16), byte(i >> 8), byte(i), byte(7 * i)}
}

func seenOf(id uuid.UUID, i int, at time.Time) Seen {
	return Seen{
		Placement: id, At: at, Intent: fmt.Sprint("intent-", i%200), Cluster: fmt.Sprint("c-", i/3),
		Member: schedule.Member{Agent: fmt.Sprint("agent-", i), Target: "db"}, Generation: 1, Level: fleet.Proven, Steady: true, Well: true, Adopted: true,
	}
}

// largeModel is a rollout whose waves but the last are done, and some of that.
func largeModel(b *testing.B, n, some int) (*Model, []Planned) {
	spec := Spec{Name: "all", Steps: DefaultSteps, PerMinute: n, AtOnce: 1}
	places := make([]Seat, n)
	for i := range places {
		places[i] = Seat{ID: numbered(i), Through: 1}
	}
	waves, parts, err := Plan(spec, places)
	if err != nil {
		b.Fatal(err)
	}
	m := NewModel()
	for i := range places {
		m.Observe(seenOf(numbered(i), i, noon))
	}
	m.Observe(Begun{Rollout: id("all"), Spec: spec, Waves: waves, Parts: parts, At: noon})
	for _, part := range parts {
		if part.Wave < len(waves)-1 {
			m.Observe(Asked{id("all"), part.Placement, noon})
			m.Observe(Settled{id("all"), part.Placement, noon.Add(time.Minute)})
		}
	}
	return m, slices.Clone(parts[n-some:])
}

func setMoving(m *Model, parts []Planned, moving int, now time.Time) {
	for _, part := range parts[:moving] {
		m.Observe(Asked{id("all"), part.Placement, now.Add(-30 * time.Second)})
	}
}
