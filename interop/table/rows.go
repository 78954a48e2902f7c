package table

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Rows is the rows of a run.
type Rows struct {
	mu   sync.Mutex
	rows []Row
}

// Add adds a row.
func (r *Rows) Add(row Row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = append(r.rows, row)
}

// All is the rows by kind.
func (r *Rows) All() []Row {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(slices.Values(r.rows), func(a, b Row) int { return strings.Compare(a.Kind, b.Kind) })
}

// heads is the columns of the table.
var heads = []string{"kind", "version", "renewals", "requests", "failed", "reconnects", "restarts", "proofs", "false proven", "false failed", "served after ms, median (worst)", "kills", "note"}

func (r Row) cells() []string {
	var cells []string
	for _, cell := range []any{r.Kind, r.Version, r.Renewals, r.Requests, r.Failed, r.Reconnects, r.Restarts, r.Proofs, r.FalseProven, r.FalseFailed} {
		cells = append(cells, fmt.Sprint(cell))
	}
	return append(cells, fmt.Sprintf("%d (%d)", r.Median, r.Worst), fmt.Sprint(r.Kills), r.Note)
}

// Markdown is the table as docs have it.
func (r *Rows) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(heads, " | "), strings.Repeat(" --- |", len(heads)))
	for _, row := range r.All() {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row.cells(), " | "))
	}
	return b.String()
}

// Text is the table for a terminal.
func (r *Rows) Text() string { return "\n" + r.Markdown() + "\n" }
