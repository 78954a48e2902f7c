package agent

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
)

// The stories that are killed. Each is told in turns: a change of what is
// desired, then all that the agent does about it.
var killedStories = map[string]killedStory{
	"first issuance and renewal": {turns: []func(*lab, *server){
		func(l *lab, s *server) { l.want("p1", s.proven, etcdLike) },
		func(l *lab, s *server) { l.want("p1", renewThrough(1)) },
	}, end: 2},
	"a new bundle, and a key that stays": {turns: []func(*lab, *server){
		func(l *lab, s *server) {
			l.want("p1", s.proven, etcdLike, func(d *api.DesiredPlacement) { d.Profile.KeyAge = d.Profile.Lifetime })
		},
		func(l *lab, s *server) {
			l.want("p1", renewThrough(1), func(d *api.DesiredPlacement) { d.BundleDigest = l.bundle("a", "b").Digest().String() })
		},
	}, end: 2},
	"a bridge that comes and goes": {turns: []func(*lab, *server){
		func(l *lab, s *server) { l.signer = "b"; l.want("p1", s.proven, etcdLike, l.bundled("b")) },
		func(l *lab, s *server) { l.want("p1", bridged(l.cross("b", "a")), ordering(closing("o-1"))) },
		func(l *lab, s *server) { l.want("p1", bridged("")) },
	}, end: 1},
	"drift": {turns: []func(*lab, *server){
		func(l *lab, s *server) { l.want("p1", s.proven, reloading) },
		func(l *lab, s *server) {
			check(l.t, os.WriteFile(filepath.Join(l.path("p1"), "current", "bundle.pem"), []byte("edited"), 0o644))
			l.want("p1")
		},
	}, end: 1},
	"a member that waits for its slot": {turns: []func(*lab, *server){
		func(l *lab, s *server) { l.want("p1", s.proven, reloading, asMember) },
		func(l *lab, s *server) { l.want("p1", renewThrough(1)) },
		func(l *lab, s *server) { l.grant("p1") },
	}, end: 2},
	"a member that is restored": {turns: []func(*lab, *server){
		func(l *lab, s *server) {
			l.want("p1", s.proven, reloading, asMember, func(d *api.DesiredPlacement) { d.Proof.Timeout = durationpb.New(500 * time.Millisecond) })
		},
		func(l *lab, s *server) { s.lying.Store(true); l.want("p1", renewThrough(1)) },
		func(l *lab, s *server) { l.grant("p1") },
	}, end: 1, restored: true},
	"a lying reload, restored": {turns: []func(*lab, *server){
		func(l *lab, s *server) {
			l.want("p1", s.proven, reloading, func(d *api.DesiredPlacement) { d.Proof.Timeout = durationpb.New(500 * time.Millisecond) })
		},
		func(l *lab, s *server) { s.lying.Store(true); l.want("p1", renewThrough(1)) },
	}, end: 1, restored: true},
}

type killedStory struct {
	turns    []func(l *lab, s *server)
	end      uint64 // the generation in use at the end
	restored bool
}

// TestKilledAtEachPoint kills the agent at each point between two durable
// effects. At that moment a process could use what is in use; and whoever comes
// next ends where an agent that was not killed ends, with no more certificates.
// The points are those that an agent passes which is not killed: each has a host
// of its own, and most of the time all of them wait for proofs.
func TestKilledAtEachPoint(t *testing.T) {
	for name, story := range killedStories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			points := story.killedAt(t, name, 0)
			if points < 20 {
				t.Errorf("only %d points", points)
			}
			for n := range points {
				t.Run(strconv.Itoa(n+1), func(t *testing.T) {
					t.Parallel()
					story.killedAt(t, name, n+1)
				})
			}
		})
	}
}

// killedAt tells the story of an agent that is killed at its n-th point, if it
// has that many, and counts them.
func (story killedStory) killedAt(t *testing.T, name string, n int) (points int) {
	t.Helper()
	l := newLab(t)
	s := l.serve("p1", !strings.Contains(name, "restored") && !strings.Contains(name, "member") && name != "drift")
	count := l.crashAt(n)
	crashed := ""
	for _, turn := range story.turns {
		turn(l, s)
		at := l.advanceAll()
		l.sound("p1")
		if at != "" {
			crashed = at
			l.advanceAll()
		}
	}
	ended(t, l, crashed, story.end, story.restored)
	if t.Failed() {
		t.Fatalf("killed at point %d, %q", n, crashed)
	}
	return *count
}

func ended(t *testing.T, l *lab, crashed string, generation uint64, restored bool) {
	t.Helper()
	reports := l.executor.Reports()
	if len(reports) != 1 {
		t.Fatalf("%d reports", len(reports))
	}
	r := reports[0]
	if r.GetGeneration() != generation || (r.GetState() == api.State_STATE_STEADY) == restored || r.GetFailure().GetRestored() != restored || r.GetDrift() {
		t.Errorf("ends with %v", r)
	}
	issued, err := filepath.Glob(filepath.Join(l.dir, "issued", "*"))
	check(t, err)
	want := int(generation)
	if restored {
		want++
	}
	if len(issued) != want {
		t.Errorf("%d certificates were issued, not %d", len(issued), want)
	}
	if leaf := l.sound("p1"); leaf == nil {
		t.Error("nothing is in use")
	}
	rec := l.recorded("p1")
	if rec.Slot != nil || r.GetSlotId() != "" || r.GetAsksSlot() != 0 {
		t.Errorf("ends with slot %+v, report %v", rec.Slot, r)
	}
	for _, v := range rec.Revisions {
		if _, err := os.Stat(filepath.Join(l.path("p1"), revName(v.Number))); err != nil {
			t.Errorf("recorded revision is gone: %v", err)
		}
	}
	for _, g := range rec.Generations {
		if _, err := os.Stat(filepath.Join(l.dir, "state", placementsDir, "p1", keyName(g.Number))); err != nil {
			t.Errorf("recorded key is gone: %v", err)
		}
	}
}

// TestSIGKILL kills a whole process, agent, server and all, at each point of a
// first issuance and a renewal with SIGKILL.
func TestSIGKILL(t *testing.T) {
	for n := 1; ; n++ {
		dir := t.TempDir()
		output, err := child(dir, n)
		killed := false
		if exit, ok := err.(*exec.ExitError); ok {
			killed = exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		}
		if err != nil && !killed {
			t.Fatalf("point %d: %v\n%s", n, err, output)
		}
		l := openLab(t, dir)
		l.sound("p1")
		if killed {
			if output, err := child(dir, 0); err != nil {
				t.Fatalf("after point %d the next process fails: %v\n%s", n, err, output)
			}
		}
		l.sound("p1")
		if r := l.recorded("p1"); r.LastGeneration != 2 || r.Standing() == nil || r.Standing().Generation != 2 || r.Proven != r.Standing().Number {
			t.Fatalf("after point %d: %+v", n, r.Record)
		}
		if !killed {
			if n < 20 {
				t.Errorf("only %d points", n)
			}
			return
		}
	}
}

func child(dir string, kill int) (string, error) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), "AGENT_CHILD="+dir, fmt.Sprintf("AGENT_KILL=%d", kill))
	output, err := cmd.CombinedOutput()
	return string(output), err
}

// TestChild is the process that TestSIGKILL starts; by itself it has nothing
// to do.
func TestChild(t *testing.T) {
	dir := os.Getenv("AGENT_CHILD")
	if dir == "" {
		return
	}
	kill, err := strconv.Atoi(os.Getenv("AGENT_KILL"))
	check(t, err)
	l := openLab(t, dir)
	s := l.serve("p1", true)
	count := 0
	l.crash = func(string) {
		if count++; count == kill {
			check(t, syscall.Kill(os.Getpid(), syscall.SIGKILL))
			time.Sleep(time.Minute)
		}
	}
	l.want("p1", s.proven, etcdLike)
	l.run()
	l.until("p1", "in use", func(r *api.PlacementReport) bool {
		return r.GetState() == api.State_STATE_STEADY && r.GetGeneration() > 0
	})
	l.want("p1", renewThrough(1))
	l.steady("p1", 2)
}
