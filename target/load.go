package target

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
)

// Loaded is what an act came to.
type Loaded struct {
	// Level is fleet.Loaded when the process, by its own word or through its
	// command, said that it took the files; else fleet.Delivered. Never
	// fleet.Proven.
	Level fleet.Level
	// Pending says, in words, what will take effect only later; else empty.
	Pending string
	Output  string // of the command, its end
}

// How often a restarted target is knocked at, and how much of a command's
// output is kept.
const (
	knockEvery = 50 * time.Millisecond
	maxOutput  = 2 << 10
)

// Load carries out one act. After a restart it waits until the target answers
// a TLS handshake again, or ctx ends; whatever certificate it shows then is
// for a proof to judge.
func (a Adapter) Load(ctx context.Context, host Host, act Act) (Loaded, error) {
	switch act.Kind {
	case ActNothing:
		return Loaded{Level: fleet.Delivered}, nil
	case ActPending:
		return Loaded{Level: fleet.Delivered, Pending: act.Reason}, nil
	case ActReload, ActRestart:
		if act.Command == "" {
			return a.reloadByControl(ctx, host, act)
		}
		return command(ctx, host, act)
	}
	return Loaded{}, fault.New(fault.Internal, "target %s: act %q is unknown", act.Target.Name, string(act.Kind))
}

// reloadByControl reloads over the control path. That nothing answers there is
// as it should be when the files are the first: the server has yet to start.
func (a Adapter) reloadByControl(ctx context.Context, host Host, act Act) (Loaded, error) {
	if a.reload == nil || act.Target.Control == nil {
		return Loaded{}, fault.New(fault.Internal, "target %s of kind %s has no control path to reload it by", act.Target.Name, a.Kind)
	}
	loaded, err := a.reload(ctx, host, act.Target, act.Change)
	loaded.Output = ending(loaded.Output)
	switch {
	case err == nil:
		return loaded, nil
	case act.Change.First && fault.CodeOf(err) == fault.Unavailable:
		return Loaded{Level: fleet.Delivered}, nil
	}
	loaded.Level = fleet.Delivered
	return loaded, err
}

func command(ctx context.Context, host Host, act Act) (Loaded, error) {
	output, err := host.Command(ctx, act.Command)
	output = ending(output)
	if err != nil {
		return Loaded{Level: fleet.Delivered, Output: output}, failed(act, output, err)
	}
	if act.Kind == ActRestart {
		if err := answers(ctx, act.Target); err != nil {
			return Loaded{Level: fleet.Delivered, Output: output}, err
		}
	}
	return Loaded{Level: fleet.Loaded, Output: output}, nil
}

func failed(act Act, output string, err error) error {
	if output != "" {
		err = fmt.Errorf("%w; it printed: %s", err, output)
	}
	return fault.Wrap(fault.Unavailable, err, "%s target %s by command %q", act.Kind, act.Target.Name, act.Command).
		WithRemedy("run the command by hand as the user that agent.yaml names, and mend what it complains of")
}

// answers waits until the target shows any certificate at all.
func answers(ctx context.Context, t Target) error {
	if t.Address == "" {
		return nil
	}
	knock := time.NewTicker(knockEvery)
	defer knock.Stop()
	for {
		seen, err := probe.Handshake(ctx, probe.Spec{
			Address: t.Address, ServerName: t.ServerName, Preamble: t.Preamble,
			Timeout: time.Second, Now: time.Now,
		})
		if err == nil && seen.Outcome == probe.Served {
			return nil
		}
		select {
		case <-ctx.Done():
			return fault.New(fault.Unavailable, "target %s was restarted by command %q and does not answer at %s: %s (%s)",
				t.Name, t.RestartCommand, t.Address, seen.Error, seen.Outcome).
				WithRemedy("look at the process's own log on its host")
		case <-knock.C:
		}
	}
}

// ending is the last part of a command's output, where errors stand.
func ending(output string) string {
	output = strings.ToValidUTF8(strings.TrimSpace(output), "?")
	if len(output) <= maxOutput {
		return output
	}
	output = output[len(output)-maxOutput:]
	for len(output) > 0 && !utf8.RuneStart(output[0]) {
		output = output[1:]
	}
	return "…" + output
}
