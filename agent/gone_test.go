package agent

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/loopback"
)

// silent is an address where nothing listens.
func silent(t testing.TB) string {
	t.Helper()
	address, err := loopback.Reserve()
	check(t, err)
	return address
}

// switches counts how often the lab's executors switch a link from now on.
func (l *lab) switches() *atomic.Int64 {
	var count atomic.Int64
	l.crash = func(point string) {
		if strings.HasSuffix(point, ": switched") {
			count.Add(1)
		}
	}
	return &count
}

func patient(d *api.DesiredPlacement) { d.Proof.Timeout = durationpb.New(10 * time.Second) }

// stopWhileProving runs an executor until it has switched to a revision and
// waits for its proof, and stops it there.
func stopWhileProving(t *testing.T, l *lab, revision string, start func() (stop func())) {
	t.Helper()
	stop := start()
	waitFor(t, "the proof begun", func() bool {
		where, err := os.Readlink(filepath.Join(l.path("p1"), currentLink))
		return err == nil && where == revision && l.recorded("p1").Loaded != 0
	})
	stop()
}

// The directory goes while the first revision of all is being proven, as when
// a host with its directory in memory is started anew.
func TestDirectoryGoneDuringTheFirstProof(t *testing.T) {
	l := newLab(t)
	s := &server{address: silent(t)}
	l.want("p1", s.proven, reloading, patient)
	stopWhileProving(t, l, "rev-000001", func() func() { return l.run() })
	check(t, os.RemoveAll(l.path("p1")))
	count := l.switches()
	l.run()
	waitFor(t, "the files put back", func() bool { return l.sound("p1") != nil })
	serveAt(t, s.address, l.path("p1"))
	if r := l.steady("p1", 1); r.GetLevel() != api.Level_LEVEL_PROVEN || l.requests != 1 {
		t.Errorf("%d requests; report: %v", l.requests, r)
	}
	if n := count.Load(); n > 3 {
		t.Errorf("switched %d times", n)
	}
}

// A revision goes while it is being proven, beside one that stood.
func TestRevisionGoneDuringItsProof(t *testing.T) {
	l := newLab(t)
	s := l.serve("p1", false)
	l.want("p1", s.proven, reloading, patient)
	stop := l.run()
	first := l.steady("p1", 1)
	stop()
	s.lying.Store(true)
	stopWhileProving(t, l, "rev-000002", func() func() { stop := l.run(); l.want("p1", renewThrough(1)); return stop })
	check(t, os.RemoveAll(filepath.Join(l.path("p1"), "rev-000002")))
	s.lying.Store(false)
	count := l.switches()
	l.run()
	second := l.steady("p1", 2)
	if second.GetSerial() == first.GetSerial() || second.GetRevision() != 3 || l.requests != 2 {
		t.Errorf("%d requests; report: %v", l.requests, second)
	}
	if n := count.Load(); n > 4 {
		t.Errorf("switched %d times", n)
	}
	l.sound("p1")
}

// Whoever takes away each revision as soon as it was switched to does not make
// the agent reload for ever.
func TestNoProgressPauses(t *testing.T) {
	l := newLab(t)
	s := &server{address: silent(t)}
	l.want("p1", s.proven, reloading)
	var count atomic.Int64
	l.crash = func(point string) {
		if strings.HasSuffix(point, ": switched") {
			count.Add(1)
			_ = os.RemoveAll(l.path("p1"))
		}
	}
	l.run()
	report := l.until("p1", "paused", func(r *api.PlacementReport) bool {
		return r.GetState() == api.State_STATE_FAILED && strings.Contains(r.GetReason(), "no progress")
	})
	if n := count.Load(); n > maxSwitches+1 {
		t.Errorf("switched %d times; report: %v", n, report)
	}
}

// The control plane says of an orphan only that it is one. An agent that was
// started since goes on to say what is in place.
func TestOrphanAfterARestart(t *testing.T) {
	l := newLab(t)
	l.want("p1")
	stop := l.run()
	first := l.steady("p1", 1)
	stop()
	l.mu.Lock()
	l.desired = &api.DesiredState{Epoch: 1, Seq: 9, Placements: []*api.DesiredPlacement{
		{PlacementId: "p1", Intent: "intent-p1", Instance: "main", Orphan: true},
		{PlacementId: "p2", Intent: "intent-p2", Instance: "main", Orphan: true},
		{PlacementId: "p3", Intent: "intent-p3", Instance: "main", Hold: "label rack is missing"},
	}}
	l.mu.Unlock()
	l.run()
	report := l.until("p1", "an orphan", func(r *api.PlacementReport) bool { return r.GetState() == api.State_STATE_ORPHAN })
	if report.GetGeneration() != 1 || report.GetSerial() != first.GetSerial() || !report.GetNotAfter().AsTime().Equal(first.GetNotAfter().AsTime()) {
		t.Errorf("report: %v", report)
	}
	l.until("p2", "an orphan", func(r *api.PlacementReport) bool { return r.GetState() == api.State_STATE_ORPHAN })
	l.until("p3", "held", func(r *api.PlacementReport) bool {
		return r.GetState() == api.State_STATE_WAITING && strings.Contains(r.GetReason(), "label rack is missing")
	})
	l.sound("p1")
}

// A record that can't be read is set aside. The files that the process uses stay
// for the grace, and it is told to load the new ones: it runs, though the record
// knows of none.
func TestRecordLostBesideARunningProcess(t *testing.T) {
	l := newLab(t)
	s := l.serve("p1", false)
	l.want("p1", s.proven, reloading)
	stop := l.run()
	l.steady("p1", 1)
	stop()
	check(t, os.WriteFile(filepath.Join(l.dir, "state", placementsDir, "p1", recordFile), []byte("{"), 0o600))
	l.want("p1", func(d *api.DesiredPlacement) { d.WindowGeneration = 1 })
	count := l.switches()
	l.run()
	if r := l.steady("p1", 2); r.GetFailure() != nil || r.GetLevel() != api.Level_LEVEL_PROVEN {
		t.Errorf("report: %v", r)
	}
	if _, err := os.Stat(filepath.Join(l.dir, "reloaded")); err != nil {
		t.Error("the process was not told")
	}
	if n := count.Load(); n != 1 {
		t.Errorf("it was told only at switch %d", n)
	}
	if _, err := os.Stat(filepath.Join(l.path("p1"), "rev-000001", keyFile)); err != nil {
		t.Errorf("what the process had is gone: %v", err)
	}
}

// By a clock that is off, or was never compared, no grace is over.
func TestNothingIsDestroyedByAClockThatIsOff(t *testing.T) {
	l := newLab(t)
	l.want("p1")
	l.run()
	l.steady("p1", 1)
	l.want("p1", renewThrough(1))
	l.steady("p1", 2)
	l.executor.SetHold("clock 7200 s ahead")
	l.pass(2 * time.Hour)
	l.want("p2", func(d *api.DesiredPlacement) { d.Target.Name = "p1" }) // same worker, after p1
	l.until("p2", "looked at", func(r *api.PlacementReport) bool { return strings.Contains(r.GetReason(), "clock 7200 s ahead") })
	for _, name := range []string{filepath.Join(l.path("p1"), "rev-000001"), filepath.Join(l.dir, "state", placementsDir, "p1", keyName(1))} {
		if _, err := os.Stat(name); err != nil {
			t.Errorf("destroyed: %v", err)
		}
	}
	l.executor.SetHold("")
	waitFor(t, "the old revision removed", func() bool {
		_, err := os.Stat(filepath.Join(l.path("p1"), "rev-000001"))
		return os.IsNotExist(err)
	})
}
