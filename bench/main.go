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

func main() {
	binary := flag.String("rotunda", "bin/rotunda", "the binary to measure")
	output := flag.String("output", "table", "table or json")
	count := flag.Int("certificates", 1500, "certificates for each round of issuance")
	starts := flag.Int("starts", 11, "starts of the server for the time to ready")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	results, err := run(ctx, *binary, *count, *starts)
	show(results, *output)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
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
		fmt.Printf("%-42s %10.1f %-8s %-28s aim %s\n", r.Name, r.Value, r.Unit, floor, r.Target)
	}
}

func run(ctx context.Context, binary string, count, starts int) ([]Result, error) {
	bench, err := newBench(ctx, binary)
	if err != nil {
		return nil, err
	}
	defer bench.close()
	var results []Result
	for _, measure := range []func(context.Context) ([]Result, error){
		func(ctx context.Context) ([]Result, error) { return bench.timeToReady(ctx, starts) },
		func(ctx context.Context) ([]Result, error) { return bench.issuance(ctx, count) },
		bench.idleMemory,
	} {
		measured, err := measure(ctx)
		if err != nil {
			return results, err
		}
		results = append(results, measured...)
	}
	return results, nil
}

func median[T cmp.Ordered](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}
