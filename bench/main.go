// Bench measures Rotunda as a whole: a real server and a real agent in
// processes of their own. It prints medians, and ratios to floors measured in
// the same run. CPU time is read from the server's process, since it is
// steadier than wall time on a shared machine.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// Result is one line of the report.
type Result struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Floor  float64 `json:"floor,omitempty"` // of the same unit, measured in the same run
	Target string  `json:"target"`
}

// options are what the bench was asked for.
type options struct {
	binary       string
	certificates int
	starts       int
	only         []string
	kinds        []string
}

func main() {
	var o options
	flag.StringVar(&o.binary, "rotunda", "bin/rotunda", "the binary to measure")
	output := flag.String("output", "table", "table or json")
	flag.IntVar(&o.certificates, "certificates", 1500, "certificates for each round of issuance")
	flag.IntVar(&o.starts, "starts", 11, "starts of the server for the time to ready")
	only := flag.String("only", "ready,issuance,push,plan,ocsp,revocation,log,rotations,idle", "what to measure")
	kinds := flag.String("kinds", "", "whose rotations to measure, such as redis,nginx; empty: all kinds")
	flag.Parse()
	o.only, o.kinds = words(*only), words(*kinds)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	results, err := run(ctx, o)
	show(results, *output)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}

func show(results []Result, output string) {
	if output == "json" {
		json.NewEncoder(os.Stdout).Encode(results)
		return
	}
	for _, r := range results {
		floor := ""
		if r.Floor > 0 {
			floor = fmt.Sprintf("floor %.0f, ratio %.2f", r.Floor, r.Value/r.Floor)
		}
		fmt.Printf("%-50s %10.1f %-8s %-28s aim %s\n", r.Name, r.Value, r.Unit, floor, r.Target)
	}
}

// run measures what was asked for, each part in a trust domain of its own.
func run(ctx context.Context, o options) ([]Result, error) {
	var results []Result
	for _, part := range []struct {
		name    string
		measure func(*bench, context.Context) ([]Result, error)
	}{
		{"ready", func(b *bench, ctx context.Context) ([]Result, error) { return b.timeToReady(ctx, o.starts) }},
		{"issuance", func(b *bench, ctx context.Context) ([]Result, error) { return b.issuance(ctx, o.certificates) }},
		{"push", (*bench).push},
		{"plan", (*bench).plan},
		{"revocation", (*bench).revocation},
		{"ocsp", (*bench).ocsp},
		{"log", (*bench).auditLog},
		{"rotations", func(b *bench, ctx context.Context) ([]Result, error) { return b.rotations(ctx, o.kinds) }},
		{"idle", (*bench).idle},
	} {
		if !slices.Contains(o.only, part.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: %s\n", part.name)
		b, err := newBench(ctx, o.binary)
		if err != nil {
			return results, err
		}
		measured, err := part.measure(b, ctx)
		b.close()
		results = append(results, measured...)
		if err != nil {
			return results, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return results, nil
}

func median[T cmp.Ordered](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}
