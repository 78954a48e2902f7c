// Package story is what the demo does, step by step: a fleet as small as it
// can be, rotated under load, with two things going wrong on purpose, and its root replaced.
package story

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/rotunda-pki/rotunda/demo/documents"
	"github.com/rotunda-pki/rotunda/demo/load"
	"github.com/rotunda-pki/rotunda/demo/operator"
	"github.com/rotunda-pki/rotunda/demo/process"
	"github.com/rotunda-pki/rotunda/demo/screen"
)

// Settings is what the demo was asked for.
type Settings struct {
	Rotunda string // path of the binary
	Keep    bool   // leave everything running at the end
	Screen  *screen.Screen
}

// demo is one run.
type demo struct {
	settings  Settings
	self      string // path of the demo's own binary
	directory string // holds all that the run makes
	screen    *screen.Screen

	hosts     []host
	greeter   string        // host:port
	installed []installedOn // what this machine has
	listen    []string      // of the control plane: agents, operators, public
	gaps      documents.Gaps
	hostOf    map[string]string // agent id → host

	rotunda operator.Rotunda
	family  *process.Family
	fleet   *operator.Fleet
	load    *load.Load
	trust   atomic.Pointer[operator.Change] // that is under way, or nil
	report  Report
}

// Run plays the whole demo. The report is complete only without an error; with
// one it says how far things went.
func Run(ctx context.Context, settings Settings) (report *Report, err error) {
	d := &demo{settings: settings, screen: settings.Screen, hostOf: make(map[string]string)}
	d.report.start = time.Now()
	if err := d.settle(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(d.directory))
	}
	defer func() { err = errors.Join(err, d.leave(err == nil)) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case lost := <-d.family.Lost():
			cancel(lost.Ended())
		case <-ctx.Done():
		}
	}()
	d.screen.Show(d.table)
	if err := d.play(ctx); err != nil {
		if cause := context.Cause(ctx); ctx.Err() != nil && cause != nil {
			err = cause // what was waited for in vain is no news then
		}
		return &d.report, err
	}
	return &d.report, nil
}

// step is one part of the story.
type step struct {
	title string
	play  func(context.Context) error
}

func (d *demo) play(ctx context.Context) error {
	for _, s := range []step{
		{"a control plane on embedded SQLite, and three agents that enrol by token", d.enrol},
		{"first issuance: a three-member etcd cluster and a greeter start once they have certificates", d.firstIssuance},
		{"ten renewals of each placement, by their ordinary windows, under load", d.tenRenewals},
		{"a forced rotation of all, with new keys: rotunda rotate --all --new-key", d.newKeys},
		{"a certificate that a declared client could not accept", d.caughtAtCheck},
		{"a reload that lies: the greeter says yes, and serves the old", d.caughtAtProve},
		{"a new root, and another one: rotunda trust rotate root; etcd restarts, member by member", d.newRoots},
	} {
		d.screen.Step(s.title)
		if err := s.play(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.title, err)
		}
	}
	return d.sumUp(ctx)
}

// settle finds a place for the run.
func (d *demo) settle() error {
	var err error
	if d.self, err = os.Executable(); err != nil {
		return fmt.Errorf("find the demo's own binary: %w", err)
	}
	if d.settings.Rotunda, err = filepath.Abs(d.settings.Rotunda); err != nil {
		return fmt.Errorf("find rotunda: %w", err)
	}
	if _, err := os.Stat(d.settings.Rotunda); err != nil {
		return fmt.Errorf("find rotunda: %w (make build makes it; --rotunda says where it is)", err)
	}
	if d.directory, err = os.MkdirTemp("", "rotunda-demo-"); err != nil {
		return fmt.Errorf("make a directory for the run: %w", err)
	}
	// Agents refuse paths that lead through links, as some /tmp do.
	// A server that runs as a user of its own passes through to its files.
	if err = os.Chmod(d.directory, 0o711); err != nil {
		return fmt.Errorf("open the way into the run's directory: %w", err)
	}
	if d.directory, err = filepath.EvalSymlinks(d.directory); err != nil {
		return fmt.Errorf("make a directory for the run: %w", err)
	}
	logs := filepath.Join(d.directory, "logs")
	if err := os.Mkdir(logs, 0o700); err != nil {
		return fmt.Errorf("make a directory for the logs: %w", err)
	}
	d.family, err = process.NewFamily(logs, d.settings.Keep)
	return err
}

// leave ends what was started and removes what was made; or, where it is to be
// kept and all went well, leaves it and notes down how to end it later.
func (d *demo) leave(well bool) error {
	if d.load != nil {
		d.load.Stop()
	}
	if d.fleet != nil {
		d.fleet.Close()
	}
	if d.settings.Keep && well {
		return d.keep()
	}
	d.family.End()
	if d.settings.Keep {
		d.screen.Say("all processes have ended; the run's logs are in %s", d.family.Logs)
		return nil
	}
	return os.RemoveAll(d.directory)
}

// patience is how long the demo waits for what should take a second or two.
const patience = 30 * time.Second
