package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/internal/fleetload"
	"github.com/rotunda-pki/rotunda/internal/measure"
)

// mostSimulated is how many agents one process simulates at most.
const mostSimulated = 50_000

// cleanWithin bounds the cleaning up after a run, which goes on after Ctrl-C.
const cleanWithin = 10 * time.Minute

// benching is one run of rotunda bench.
type benching struct {
	name      string
	conn      *connection
	output    *format
	agents    int
	address   string
	pid       int
	forceLive bool
	dryRun    bool
	check     func() error
	work      func(context.Context, *fleetload.Load) ([]measure.Result, error)
}

func benchCommand(name, short, example string, agents int) (*cobra.Command, *benching) {
	cmd := &cobra.Command{Use: name, Short: short, Example: example, Args: cobra.NoArgs}
	b := &benching{name: name, conn: connectionFlags(cmd.Flags()), output: outputFlag(cmd)}
	flags := cmd.Flags()
	flags.IntVar(&b.agents, "agents", agents, "how many agents to simulate")
	flags.StringVar(&b.address, "agents-address", "", "the agents' `HOST:PORT` as seen from here (default: as the server says)")
	flags.IntVar(&b.pid, "server-pid", 0, "the server's process `number` on this machine (default: who answers on the admin socket)")
	flags.BoolVar(&b.forceLive, "force-live", false, "load an installation that has other agents, too")
	flags.BoolVar(&b.dryRun, "dry-run", false, "only say what would be made")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := errors.Join(inRange([]bound{{"--agents", b.agents, 1, mostSimulated}}), b.check()); err != nil {
			return usagef("%w", err)
		}
		return b.conn.with(cmd, b.run)
	}
	return cmd, b
}

func (b *benching) run(ctx context.Context, s *server, u *ui) error {
	run, err := fleetload.NewRun(ctx, s, b.address)
	if err != nil {
		return err
	}
	if err := b.admit(ctx, run, u); err != nil {
		return err
	}
	differences, err := run.Plan(ctx)
	if err != nil {
		return err
	}
	if b.dryRun {
		for _, difference := range differences {
			u.say("+ %s/%s", difference.Kind, difference.Name)
		}
		u.say("+ %s, used at once", plural(b.agents, "enrolment token"))
		u.say("+ %s at %s, with the label %s=%s, retired at the end", plural(b.agents, "agent"), run.Plane.Address, fleetload.Label, run.Name)
		u.say("Nothing was made: this was a dry run.")
		return nil
	}
	process, err := b.process(s, u)
	if err != nil {
		return err
	}
	return b.measure(ctx, &fleetload.Load{Run: run, Server: process}, u)
}

// admit refuses to load what others depend on, and what this process can't hold.
func (b *benching) admit(ctx context.Context, run *fleetload.Run, u *ui) error {
	others, _, err := run.Others(ctx)
	if err != nil {
		return err
	}
	if len(others) > 0 && !b.forceLive {
		return fault.New(fault.Conflict, "this installation has %s that %s not simulated: the load would be theirs", plural(len(others), "agent"), isAre(len(others))).
			WithRemedy("use one of its own (rotunda init), or say --force-live")
	}
	need := uint64(b.agents + 256) // sockets, and what else a process has open
	have, err := measure.Descriptors(need)
	if err != nil {
		return err
	}
	if have < need {
		return fault.New(fault.Unavailable, "%s need %d open files, and this process may have %d", plural(b.agents, "agent"), need, have).
			WithRemedy("raise the hard limit (ulimit -Hn, LimitNOFILE=), or simulate fewer with --agents %d", max(int(have)-256, 1))
	}
	u.note("run %s: up to %d open files; the server needs as many for its half", run.Name, have)
	return nil
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// process is the server's, if it is on this machine: the one that the flag
// names, or whoever listens on the admin socket.
func (b *benching) process(s *server, u *ui) (measure.Process, error) {
	process := measure.Process(b.pid)
	if b.pid == 0 && s.socket != "" {
		pid, err := peerOf(s.socket)
		if err != nil {
			return 0, err
		}
		process = measure.Process(pid)
	}
	if process == 0 {
		u.note("whether the server is on this machine is not known, so its CPU time and memory are not measured: say --server-pid, or go through its admin socket")
		return 0, nil
	}
	name, err := process.Name()
	if err != nil {
		return 0, fault.Wrap(fault.NotFound, err, "process %d", process).WithRemedy("--server-pid names a process of this machine")
	}
	u.note("the server is process %d, %s", process, name)
	return process, nil
}

// peerOf is the process that listens on a unix socket.
func peerOf(path string) (int, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }() // nothing was written
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *syscall.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) {
		peer, failed = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err = errors.Join(err, failed); err != nil {
		return 0, fmt.Errorf("who listens on %s: %w", path, err)
	}
	return int(peer.Pid), nil
}

// measure does the work, cleans up whatever came of it, and shows the figures.
func (b *benching) measure(ctx context.Context, l *fleetload.Load, u *ui) error {
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	began := time.Now()
	report := &measure.Report{
		Title: "rotunda bench " + b.name, At: began, Host: measure.ThisHost(dir),
		Versions: map[string]string{"rotunda": version(), "go": runtime.Version()},
	}
	show, done := u.counter("")
	l.Say = everySecond(show)
	report.Results, err = b.work(ctx, l)
	done()
	report.Took, report.Host.LoadAfter = time.Since(began).Round(time.Second).String(), measure.Load()
	cleaned, failed := cleanRun(ctx, l.Run, u)
	report.Notes = append(report.Notes, fmt.Sprintf("Run %s with %d simulated agents on this machine (load %s before, %s after); retired %d, deleted %d documents, revoked %d tokens.",
		l.Name, b.agents, report.Host.LoadBefore, report.Host.LoadAfter, cleaned.Agents, cleaned.Documents, cleaned.Tokens))
	if len(report.Results) > 0 {
		if shown := u.showValue(*b.output, report, func() { _ = report.WriteTable(u.out) }); shown != nil {
			err = errors.Join(err, shown)
		}
	}
	return errors.Join(err, failed)
}

// everySecond lets through what is said, once a second at most.
func everySecond(show func(string)) func(string) {
	turn := make(chan time.Time, 1)
	turn <- time.Time{}
	return func(words string) {
		select {
		case last := <-turn:
			if now := time.Now(); now.Sub(last) >= time.Second {
				last = now
				show(words)
			}
			turn <- last
		default: // somebody else is saying something
		}
	}
}

// cleanRun takes a run away, after Ctrl-C too.
func cleanRun(ctx context.Context, run *fleetload.Run, u *ui) (fleetload.Cleaned, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanWithin)
	defer cancel()
	show, done := u.counter("")
	defer done()
	say := everySecond(show)
	cleaned, err := run.Clean(ctx, func(retired, of int) { say(fmt.Sprintf("cleaning up: %d of %d agents are retired", retired, of)) })
	if err != nil {
		return cleaned, fault.Wrap(fault.CodeOf(err), err, "clean up after run %s", run.Name).WithRemedy("when the server is well again: rotunda bench clean")
	}
	return cleaned, nil
}

func newBenchCleanCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "clean",
		Short:   "Take away what runs have left that were killed",
		Example: "  rotunda bench clean --dry-run\n  rotunda bench clean",
		Args:    cobra.NoArgs,
	}
	conn := connectionFlags(cmd.Flags())
	dryRun := cmd.Flags().Bool("dry-run", false, "only name the runs")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			names, err := fleetload.Runs(ctx, s)
			if err != nil {
				return err
			}
			if len(names) == 0 {
				u.say("There is nothing of a run.")
			}
			for _, name := range names {
				if *dryRun {
					u.say("run %s", name)
					continue
				}
				cleaned, err := cleanRun(ctx, &fleetload.Run{Name: name, Operator: s}, u)
				if err != nil {
					return err
				}
				u.say("run %s: retired %d agents, deleted %d documents, revoked %d tokens", name, cleaned.Agents, cleaned.Documents, cleaned.Tokens)
			}
			return nil
		})
	}
	return cmd
}
