package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/rotunda-pki/rotunda/demo/screen"
	"github.com/rotunda-pki/rotunda/demo/story"
)

// run plays the demo. With --output json, stdout holds one JSON object and
// nothing else, whatever happens.
func run(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("demo run", flag.ContinueOnError)
	rotunda := flags.String("rotunda", "rotunda", "path of the rotunda `binary`")
	output := flags.String("output", "text", "how to report: `text or json`")
	keep := flags.Bool("keep", false, "leave everything running at the end, and say what to type next")
	if err := parse(flags, arguments, 0); err != nil {
		return err
	}
	if *output != "text" && *output != "json" {
		return fmt.Errorf("--output is text or json, not %q", *output)
	}
	s := screen.New(os.Stderr)
	report, err := story.Run(ctx, story.Settings{Rotunda: *rotunda, Keep: *keep, Screen: s})
	s.Close()
	if report == nil {
		report = new(story.Report)
	}
	switch {
	case *output == "json":
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		err = errors.Join(err, encoder.Encode(report))
	case err == nil:
		report.Print(os.Stdout)
	}
	fmt.Fprint(os.Stderr, report.Next)
	return err
}

// stop ends a run that was kept.
func stop(_ context.Context, arguments []string) error {
	flags := flag.NewFlagSet("demo stop", flag.ContinueOnError)
	if err := parse(flags, arguments, 1); err != nil {
		return err
	}
	return story.Stop(flags.Arg(0))
}
