// Package table is what the suite counted, as the table that it prints and
// docs/targets.md holds.
package table

import (
	"slices"
	"sync"
	"time"
)

// Row is what was counted at one kind of server.
type Row struct {
	Kind    string `json:"kind"`
	Version string `json:"version"`

	Renewals    int    `json:"renewals"`
	Requests    int64  `json:"requests"`
	Failed      int64  `json:"failed"`
	Reconnects  int64  `json:"reconnects"`
	Restarts    int    `json:"restarts"` // by the named restart command, while clients were held
	FalseProven int    `json:"falseProven"`
	FalseFailed int    `json:"falseFailed"`
	Proofs      int    `json:"proofs"` // that the eye looked behind
	Median      int    `json:"medianMillis"`
	Worst       int    `json:"worstMillis"`
	Kills       int    `json:"kills"`
	Points      int    `json:"points"` // of a renewal at which the agent could be killed
	Note        string `json:"note,omitempty"`
}

// Tally counts for one row, from any goroutine.
type Tally struct {
	mu     sync.Mutex
	row    Row
	served []time.Duration
}

// NewTally begins a row.
func NewTally(kind string) *Tally { return &Tally{row: Row{Kind: kind}} }

// Count changes the row.
func (t *Tally) Count(change func(*Row)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.row)
}

// Served notes how long it took from the switch to the first handshake that
// showed the new leaf.
func (t *Tally) Served(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.served = append(t.served, took)
}

// Row is what was counted so far.
func (t *Tally) Row() Row {
	t.mu.Lock()
	defer t.mu.Unlock()
	row := t.row
	if n := len(t.served); n > 0 {
		sorted := slices.Sorted(slices.Values(t.served))
		row.Median, row.Worst = int(sorted[n/2].Milliseconds()), int(sorted[n-1].Milliseconds())
	}
	return row
}

// Sound says whether nothing failed that should not have.
func (r Row) Sound() bool { return r.Failed == 0 && r.FalseProven == 0 && r.FalseFailed == 0 }
