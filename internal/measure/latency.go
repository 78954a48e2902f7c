package measure

import (
	"slices"
	"sync"
	"time"
)

// Latencies are collected from many goroutines.
type Latencies struct {
	mu   sync.Mutex
	took []time.Duration
}

// Add notes how long one operation took.
func (l *Latencies) Add(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, took)
}

// Count is how many were noted.
func (l *Latencies) Count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.took)
}

// Quantile is the time within which this share of the operations was done, by
// the nearest rank; 1 is the longest. Of none it is 0.
func (l *Latencies) Quantile(share float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.took) == 0 {
		return 0
	}
	slices.Sort(l.took)
	rank := int(share*float64(len(l.took))+0.999999) - 1
	return l.took[min(max(rank, 0), len(l.took)-1)]
}

// Results are median, p99 and maximum, in ms.
func (l *Latencies) Results(name, p99Target string) []Result {
	ms := func(share float64) float64 { return float64(l.Quantile(share).Microseconds()) / 1000 }
	return []Result{
		{Name: name + ": p50", Value: ms(0.5), Unit: "ms"},
		{Name: name + ": p99", Value: ms(0.99), Unit: "ms", Target: p99Target},
		{Name: name + ": max", Value: ms(1), Unit: "ms"},
	}
}

// Join adds what another has collected.
func (l *Latencies) Join(other *Latencies) {
	other.mu.Lock()
	took := slices.Clone(other.took)
	other.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, took...)
}
