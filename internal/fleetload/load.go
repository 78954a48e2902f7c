package fleetload

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rotunda-pki/rotunda/internal/measure"
)

// Load loads a server through a run, and measures.
type Load struct {
	*Run
	Server measure.Process // 0: it is not on this machine, or nobody knows which it is
	Say    func(string)    // is told how far it has come
}

// Enrolling, connecting and retiring are done by so many at once: far more than
// a server has cores, and as many as share a commit well.
const atOnce = 32

// spent is the CPU time that the server used for work, if that can be told.
func (l *Load) spent(work func() error) (time.Duration, error) {
	if l.Server == 0 {
		return 0, work()
	}
	return l.Server.Spent(work)
}

// each adds a figure of CPU time for one of n, if it could be told.
func (l *Load) each(result measure.Result, spent time.Duration, n int) []measure.Result {
	if l.Server == 0 {
		return nil
	}
	result.Value, result.Unit = float64(spent.Microseconds())/float64(n), "µs"
	return []measure.Result{result}
}

// enrol makes the run's documents and so many agents.
func (l *Load) enrol(ctx context.Context, count int) (agents []*Agent, results []measure.Result, err error) {
	if err := l.Declare(ctx); err != nil {
		return nil, nil, err
	}
	began := time.Now()
	spent, err := l.spent(func() (err error) {
		agents, err = l.Enrol(ctx, count, atOnce, func(done int) { l.Say(fmt.Sprintf("enrolling: %d of %d", done, count)) })
		return err
	})
	if err != nil {
		return agents, nil, err
	}
	results = append(results, measure.Result{Name: "enrolled: rate", Value: rate(count, began), Unit: "/s"})
	return agents, append(results, l.each(measure.Result{Key: "cpu.enrol", Name: "enrolled, token and all: server CPU each"}, spent, count)...), nil
}

// connect connects agents and waits until each has its placement.
func (l *Load) connect(ctx context.Context, agents []*Agent, told Told) (took time.Duration, spent time.Duration, err error) {
	began := time.Now()
	var done atomic.Int64
	spent, err = l.spent(func() error {
		return Each(ctx, len(agents), 4*atOnce, func(_ context.Context, i int) error {
			err := agents[i].Connect(ctx, told)
			l.Say(fmt.Sprintf("connecting: %d of %d", done.Add(1), len(agents)))
			return err
		})
	})
	if err != nil {
		return 0, 0, err
	}
	took = time.Since(began)
	for _, agent := range agents {
		if agent.Placement() == "" {
			return took, spent, fmt.Errorf("agent %s has no placement: the intent %s does not mean it", agent.ID, l.Document())
		}
	}
	return took, spent, nil
}

func rate(count int, since time.Time) float64 { return float64(count) / time.Since(since).Seconds() }
