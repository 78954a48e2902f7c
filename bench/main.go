// Bench measures Rotunda as a whole: a real server and a real agent in
// processes of their own. It prints medians, and ratios to floors measured in
// the same run. CPU time is read from the server's process, since it is
// steadier than wall time on a shared machine.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rotunda-pki/rotunda/internal/measure"
)

// Result is one line of the report.
type Result = measure.Result

// usualParts are measured unless others are asked for; fleet, eight minutes of ten
// thousand agents, is not among them.
const usualParts = "ready,issuance,growth,push,revoked,plan,ocsp,revocation,log,rotations,idle"

// options are what the bench was asked for.
type options struct {
	binary       string
	certificates int
	starts       int
	only         []string
	kinds        []string
	stored       []int
}

func main() {
	var o options
	flags := flag.NewFlagSet("bench", flag.ExitOnError) // of its own: packages for tests have theirs in the common one
	flags.StringVar(&o.binary, "rotunda", "bin/rotunda", "the binary to measure")
	output := flags.String("output", "table", "table or json")
	flags.IntVar(&o.certificates, "certificates", 1500, "certificates for each round of issuance")
	flags.IntVar(&o.starts, "starts", 11, "starts of the server for the time to ready")
	only := flags.String("only", usualParts, "what to measure; fleet is ten thousand agents, which takes eight minutes")
	docs := flags.String("docs", "", "write the report into this directory, too, as JSON and as a page; of parts alone by their names")
	kinds := flags.String("kinds", "", "whose rotations to measure, such as redis,nginx; empty: all kinds")
	stored := flags.String("stored", "10000,1000000", "how many certificates the store holds where growth is measured, such as 10000,10000000: that takes half an hour and 20 GB")
	_ = flags.Parse(os.Args[1:]) // ends the process where it fails
	o.only, o.kinds = words(*only), words(*kinds)
	if len(o.only) == 0 {
		fmt.Fprintln(os.Stderr, "bench: --only names no part")
		os.Exit(2)
	}
	for _, word := range words(*stored) {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || len(o.stored) > 0 && n <= o.stored[len(o.stored)-1] {
			fmt.Fprintf(os.Stderr, "bench: --stored %s: numbers, each greater than the one before\n", *stored)
			os.Exit(2)
		}
		o.stored = append(o.stored, n)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	name, title := reportOf(flags)
	report := &measure.Report{Title: title, At: time.Now(), Host: measure.ThisHost(os.TempDir()), Versions: versions(ctx, o.binary)}
	var err error
	report.Results, err = run(ctx, o)
	report.Took, report.Host.LoadAfter = time.Since(report.At).Round(time.Second).String(), measure.Load()
	if err == nil {
		err = show(report, *output, *docs, name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// reportOf is what the report is named, by what was asked for, and what it is of:
// the command with all that shapes it.
func reportOf(flags *flag.FlagSet) (name, title string) {
	name, title = "bench", "make bench"
	if only := flags.Lookup("only").Value.String(); only != usualParts {
		name = strings.Join(words(only), "-")
	}
	if kinds := words(flags.Lookup("kinds").Value.String()); len(kinds) > 0 {
		name += "-of-" + strings.Join(kinds, "-")
	}
	var args []string
	flags.Visit(func(f *flag.Flag) {
		if !slices.Contains([]string{"rotunda", "output", "docs"}, f.Name) {
			args = append(args, "--"+f.Name+" "+f.Value.String())
		}
	})
	if len(args) > 0 {
		title += " ARGS='" + strings.Join(args, " ") + "'"
	}
	return name, title
}

func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}

// show prints the report, and writes it where it is kept, by that name.
func show(report *measure.Report, output, docs, name string) error {
	write := report.WriteTable
	if output == "json" {
		write = report.WriteJSON
	}
	if err := write(os.Stdout); err != nil || docs == "" {
		return err
	}
	for ending, write := range map[string]func(io.Writer) error{".json": report.WriteJSON, ".md": report.WriteMarkdown} {
		var content bytes.Buffer
		if err := write(&content); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(docs, name+ending), content.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// versions are those of the binary that is measured and of the compiler.
func versions(ctx context.Context, binary string) map[string]string {
	said, err := exec.CommandContext(ctx, binary, "version").Output()
	if err != nil {
		said = []byte("unknown")
	}
	return map[string]string{"rotunda": strings.TrimPrefix(strings.TrimSpace(string(said)), "rotunda "), "go": runtime.Version()}
}

// run measures what was asked for, each part in a trust domain of its own.
func run(ctx context.Context, o options) ([]Result, error) {
	type part struct {
		name    string
		measure func(*bench, context.Context) ([]Result, error)
	}
	parts := []part{
		{"ready", func(b *bench, ctx context.Context) ([]Result, error) { return b.timeToReady(ctx, o.starts) }},
		{"issuance", func(b *bench, ctx context.Context) ([]Result, error) { return b.issuance(ctx, o.certificates) }},
		{"growth", func(b *bench, ctx context.Context) ([]Result, error) { return b.growth(ctx, o.stored) }},
		{"push", (*bench).push},
		{"fleet", (*bench).fleet},
		{"revoked", (*bench).revoked},
		{"plan", (*bench).plan},
		{"revocation", (*bench).revocation},
		{"ocsp", (*bench).ocsp},
		{"log", (*bench).auditLog},
		{"rotations", func(b *bench, ctx context.Context) ([]Result, error) { return b.rotations(ctx, o.kinds) }},
		{"idle", (*bench).idle},
	}
	for _, name := range o.only {
		if !slices.ContainsFunc(parts, func(p part) bool { return p.name == name }) {
			return nil, fmt.Errorf("--only %s: there is no such part; there are %s and fleet", name, usualParts)
		}
	}
	var results []Result
	for _, part := range parts {
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
