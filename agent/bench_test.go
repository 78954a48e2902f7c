package agent

import (
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
)

// BenchmarkRenewal is one renewal with a proof by handshakes, less the window
// that is to be observed: what the machinery itself costs. Steps are logged with
// -v, each with the time since the one before.
func BenchmarkRenewal(b *testing.B) {
	l := newLab(b)
	s := l.serve("p1", true)
	var last time.Time
	var steps []string
	l.crash = func(point string) {
		now := time.Now()
		steps = append(steps, now.Sub(last).Round(10*time.Microsecond).String()+" "+point)
		last = now
	}
	l.want("p1", s.proven, etcdLike, func(d *api.DesiredPlacement) { d.Target.ClientAuth, d.Profile.Grace = "none", nil })
	l.run()
	observe := 40 * time.Millisecond // as the lab wants it
	generation := uint64(1)
	l.steady("p1", generation)
	var sum time.Duration
	for b.Loop() {
		steps, last = nil, time.Now()
		began := last
		l.want("p1", renewThrough(generation))
		generation++
		l.steady("p1", generation)
		sum += time.Since(began) - observe
	}
	b.ReportMetric(float64(sum.Milliseconds())/float64(b.N), "ms/renewal-less-window")
	for _, step := range steps {
		b.Log(step)
	}
}
