package agent

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkIdle is what a minute's looks at twenty steady placements cost: all
// that an agent does between rotations, but for its beats.
func BenchmarkIdle(b *testing.B) {
	l := newLab(b)
	for i := range 20 {
		l.want(fmt.Sprintf("p%d", i))
	}
	stop := l.run()
	for i := range 20 {
		l.steady(fmt.Sprintf("p%d", i), 1)
	}
	stop()
	e := l.executor
	before := used()
	for b.Loop() {
		for _, p := range e.placements {
			p.looked = time.Time{} // and each file is read again
			p.advance(b.Context())
		}
	}
	b.ReportMetric(float64((used()-before).Microseconds())/float64(b.N)/1000, "cpu-ms/minute")
}

// used is the processor time of this process.
func used() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
