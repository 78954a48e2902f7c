// Package measure is what benchmarks have in common: figures with their floors,
// latencies, the memory and the CPU time of a process, and a word on the machine
// that all of it was taken of.
package measure

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Result is one figure of a run.
type Result struct {
	Key    string  `json:"key,omitempty"` // by which rotunda capacity --figures takes it; empty: it does not
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Floor  float64 `json:"floor,omitempty"` // of the same unit, measured in the same run
	Target string  `json:"target,omitempty"`
}

// Report is what one run came to, and where.
type Report struct {
	Title    string            `json:"title"`
	At       time.Time         `json:"at"`
	Took     string            `json:"took"`
	Host     Host              `json:"host"`
	Versions map[string]string `json:"versions"`
	Results  []Result          `json:"results"`
	Notes    []string          `json:"notes,omitempty"`
}

// Add adds figures.
func (r *Report) Add(results ...Result) { r.Results = append(r.Results, results...) }

// WriteJSON writes the report for programs.
func (r *Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// WriteTable writes the figures for people.
func (r *Report) WriteTable(w io.Writer) error {
	for _, one := range r.Results {
		target := ""
		if one.Target != "" {
			target = "aim " + one.Target
		}
		line := fmt.Sprintf("%-52s %11s %-8s %-28s %s", one.Name, number(one.Value), one.Unit, one.ratio(), target)
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	for _, note := range r.Notes {
		if _, err := fmt.Fprintln(w, note); err != nil {
			return err
		}
	}
	return nil
}

// WriteMarkdown writes the report as a page.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n", r.Title)
	h := r.Host
	fmt.Fprintf(&b, "%s, %d cores, %.0f GiB; Linux %s; %s under the store. ", h.CPU, h.Cores, h.MemoryGiB, h.Kernel, h.Disk)
	fmt.Fprintf(&b, "Load average when it began %s, when it ended %s: what else ran on this machine is in all figures.\n\n", h.LoadBefore, h.LoadAfter)
	fmt.Fprintf(&b, "%s, %s; rotunda %s, %s.\n\n", r.At.UTC().Format("2006-01-02 15:04 UTC"), r.Took, r.Versions["rotunda"], r.Versions["go"])
	b.WriteString("| figure | value | floor of the same run | ratio | aim |\n|---|---|---|---|---|\n")
	for _, one := range r.Results {
		floor, ratio := "", ""
		if one.Floor > 0 {
			floor, ratio = number(one.Floor)+" "+one.Unit, fmt.Sprintf("%.2f", one.Value/one.Floor)
		}
		fmt.Fprintf(&b, "| %s | %s %s | %s | %s | %s |\n", one.Name, number(one.Value), one.Unit, floor, ratio, one.Target)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "\n%s\n", note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r Result) ratio() string {
	if r.Floor <= 0 {
		return ""
	}
	return fmt.Sprintf("floor %s, ratio %.2f", number(r.Floor), r.Value/r.Floor)
}

// number has as many digits as a figure is good for.
func number(value float64) string {
	switch {
	case value >= 100 || value == float64(int64(value)):
		return fmt.Sprintf("%.0f", value)
	case value >= 1:
		return fmt.Sprintf("%.1f", value)
	}
	return fmt.Sprintf("%.3f", value)
}

// Median is the middle one of values, which it sorts.
func Median[T cmp.Ordered](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}
