package story

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/interop/lab"
	"github.com/rotunda-pki/rotunda/interop/table"
)

// Killed kills the agent, a process of its own, at each point of a renewal in
// turn, and starts it again. Each time one generation more was issued, that one
// is served, and no client noticed.
func (s *Subject) Killed(t *testing.T) {
	m := s.Members[0]
	from := m.report(t).GetGeneration()
	if s.Sparse > 1 {
		s.Tally.Count(func(r *table.Row) { r.Note = fmt.Sprintf("killed at every %dth point", s.Sparse) })
	}
	if err := m.Host.Stop(); err != nil {
		t.Fatal(err)
	}
	for n := 1; ; n += max(s.Sparse, 1) {
		issued := s.Plane.Count(m.Placement)
		m.want(t, func(d *api.DesiredPlacement) { d.RenewThrough, d.Attempt = from, d.Attempt+1 })
		killed := s.agent(t, m, from, n)
		if killed {
			s.agent(t, m, from, 0)
		}
		if now := s.Plane.Count(m.Placement); now != issued+1 {
			t.Fatalf("%s: killed at point %d: %d generations were issued instead of one", m.Name, n, now-issued)
		}
		from++
		if err := m.serves(&api.PlacementReport{Generation: from}); err != nil {
			s.Tally.Count(func(r *table.Row) { r.FalseProven++ })
			t.Fatalf("%s: killed at point %d: %v", m.Name, n, err)
		}
		s.Tally.Count(func(r *table.Row) {
			r.Renewals++
			r.Proofs++
			if killed {
				r.Kills++
				r.Points = n
			}
		})
		if !killed {
			if n < 15 {
				t.Errorf("%s: a renewal has only %d points", m.Name, n-1)
			}
			break
		}
	}
	if err := m.Host.Start(); err != nil {
		t.Fatal(err)
	}
	m.proven(t, from-1)
}

// agent runs the agent in a process of its own until the generation after this
// one is proven, or until the n-th point, where it is killed.
func (s *Subject) agent(t *testing.T, m *Member, from uint64, n int) (killed bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], ChildArgument, s.Plane.Dir, m.Host.Dir, m.Host.Name, m.Placement, strconv.FormatUint(from, 10), strconv.Itoa(n))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && n > 0 && ctx.Err() == nil {
		if exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
			return true
		}
	}
	if err != nil {
		t.Fatalf("%s: the agent's process (point %d): %v\n%s\nagent: %s", m.Name, n, err, said.String(), m.Host.Journal())
	}
	return false
}

// ChildArgument makes the test's own binary an agent.
const ChildArgument = "interop-agent"

// Child is that agent: it ends when the generation after from is proven, or
// kills itself at the n-th point.
func Child(arguments []string) error {
	if len(arguments) != 6 {
		return fmt.Errorf("wanted plane, host, name, placement, generation and point, got %q", arguments)
	}
	from, err := strconv.ParseUint(arguments[4], 10, 64)
	if err != nil {
		return err
	}
	kill, err := strconv.Atoi(arguments[5])
	if err != nil {
		return err
	}
	plane, err := lab.OpenPlane(arguments[0])
	if err != nil {
		return err
	}
	host, err := lab.OpenHost(arguments[1], arguments[2], plane)
	if err != nil {
		return err
	}
	count := 0 // one placement, one worker
	host.OnReached(func(string) {
		if count++; count == kill {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // not a step further
		}
	})
	if err := host.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	report, err := host.Await(ctx, arguments[3], "renewed", func(r *api.PlacementReport) bool {
		return settled(r) && r.GetGeneration() > from
	})
	if err == nil && report.GetGeneration() != from+1 {
		err = fmt.Errorf("it ends with generation %d, not %d", report.GetGeneration(), from+1)
	}
	return errors.Join(err, host.Stop())
}
