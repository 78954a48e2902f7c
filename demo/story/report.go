package story

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/demo/operator"
)

// Report is what a run came to.
type Report struct {
	OK       bool  `json:"ok"` // every step ended as it should, and no request failed
	Requests int64 `json:"requests"`
	Failed   int64 `json:"failed_requests"`
	Opened   int64 `json:"connections"`
	// Reconnects counts the times that a kept connection was lost.
	Reconnects int64 `json:"reconnects"`
	// Retries counts the requests to a member that restarted, which another
	// one answered.
	Retries int64 `json:"retries"`
	// Rotations that were proven, or delivered where nothing listens.
	Rotations  uint64 `json:"rotations"`
	Caught     int    `json:"caught"`   // certificates and reloads that were no good, and noticed
	Restored   int    `json:"restored"` // of those, the ones that had been activated and were put back
	Placements int    `json:"placements"`
	// Generations by placement: "intent host".
	Generations map[string]uint64 `json:"generations"`
	Proof       Times             `json:"request_to_proof"`
	Roots       []RootChange      `json:"root_changes"`
	Seconds     float64           `json:"seconds"`

	// Next says what to type next, where the run was kept.
	Next string `json:"-"`

	failures []string
	start    time.Time
}

// Times is how long the rotations took, from request to proof.
type Times struct {
	Measured int     `json:"measured"`
	P50      float64 `json:"p50_ms"`
	Worst    float64 `json:"worst_ms"`
}

// sumUp ends the clients' work and gathers the report. A failed request is an
// error here, though every step went well.
func (d *demo) sumUp(ctx context.Context) error {
	d.load.Stop()
	placements, err := d.rotunda.Status(ctx)
	if err != nil {
		return err
	}
	d.fleet.Update(placements)
	r := &d.report
	r.count(d, placements)
	r.OK = r.Failed == 0
	r.Seconds = time.Since(r.start).Seconds()
	if !r.OK {
		return fmt.Errorf("%d of %d requests failed; the first of them:\n  %s", r.Failed, r.Requests, strings.Join(r.failures, "\n  "))
	}
	return nil
}

func (r *Report) count(d *demo, placements []operator.Placement) {
	tally := d.load.Tally()
	r.Requests, r.Failed, r.Opened = tally.Requests, tally.Failed, tally.Opened
	r.Reconnects, r.Retries = tally.Reconnects, tally.Retries
	r.failures = d.load.Failures()
	r.Placements, r.Generations = len(placements), make(map[string]uint64)
	for _, p := range placements {
		r.Rotations += p.Rotations
		r.Generations[p.Intent+" "+d.hostOf[p.Agent]] = p.Generation
	}
	if took := d.fleet.Took(); len(took) > 0 {
		slices.Sort(took)
		r.Proof = Times{len(took), milliseconds(took[len(took)/2]), milliseconds(took[len(took)-1])}
	}
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}

// Print writes the report for people.
func (r *Report) Print(out io.Writer) {
	fmt.Fprintf(out, `
requests      %d, of which %d failed
connections   %d opened; %d reconnects of those that were kept; %d requests that another member answered
rotations     %d at %d placements
took each     p50 %.0f ms, worst %.0f ms, from request to proof (%d were timed)
caught        %d, of which %d had been activated and were restored
all in all    %.1f s

`, r.Requests, r.Failed, r.Opened, r.Reconnects, r.Retries, r.Rotations, r.Placements,
		r.Proof.P50, r.Proof.Worst, r.Proof.Measured, r.Caught, r.Restored, r.Seconds)
	for _, c := range r.Roots {
		fmt.Fprintf(out, "%-13s %.1f s, %d relying parties; %d requests meanwhile, %d failed\n",
			c.From+" → "+c.To, c.Seconds, c.Parties, c.Requests, c.Failed)
	}
	fmt.Fprintln(out, "\ngenerations")
	for _, placement := range slices.Sorted(maps.Keys(r.Generations)) {
		if generation := r.Generations[placement]; generation > 0 {
			fmt.Fprintf(out, "  %-22s %d\n", placement, generation)
		} else {
			fmt.Fprintf(out, "  %-22s a bundle alone\n", placement)
		}
	}
}
