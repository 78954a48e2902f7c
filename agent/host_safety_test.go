package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/command"
)

// needRoot skips what only root can set up, and says so.
func needRoot(t *testing.T, what string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("%s takes root; run the tests as root to cover it", what)
	}
}

func (l *lab) refused(id, says string) *api.PlacementReport {
	l.t.Helper()
	return l.until(id, "refused: "+says, func(r *api.PlacementReport) bool {
		return r.GetState() == api.State_STATE_FAILED && strings.Contains(r.GetReason(), says)
	})
}

func TestTwoAgentsOnOnePlacementDirectory(t *testing.T) {
	l := newLab(t)
	l.want("p1")
	stop := l.run()
	l.steady("p1", 1)
	stop()
	other := newLab(t)
	other.dir = l.dir
	check(t, os.MkdirAll(filepath.Join(l.dir, "state2"), 0o755))
	options := other.options()
	options.AgentID = "agent-2"
	root, err := os.OpenRoot(filepath.Join(l.dir, "state2"))
	check(t, err)
	defer root.Close()
	options.State = root
	e, err := NewExecutor(options)
	check(t, err)
	e.SetDesired(l.desired)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	other.executor = e
	report := other.refused("p1", "agent-1")
	if !strings.Contains(report.GetReason(), ".rotunda") || other.requests != 0 && report.GetGeneration() != 0 {
		t.Errorf("report: %v", report)
	}
	cancel()
	check(t, <-done)
	if got := l.sound("p1"); got == nil {
		t.Error("what was in use is gone")
	}
}

func TestTwoPlacementsOnOneDirectory(t *testing.T) {
	l := newLab(t)
	l.want("p1")
	l.run()
	l.steady("p1", 1)
	l.want("p2", func(d *api.DesiredPlacement) { d.Files.Directory = l.path("p1") })
	l.refused("p2", `belongs to placement "p1"`)
	l.sound("p1")
}

// Directories that someone else could change under our hands are refused: the
// one that is named, and each on the way to it.
func TestDirectoriesOfOthers(t *testing.T) {
	type trap struct {
		root bool
		set  func(t *testing.T, l *lab)
		says string
	}
	srv := func(l *lab, names ...string) string {
		return filepath.Join(append([]string{l.dir, "srv"}, names...)...)
	}
	traps := map[string]trap{
		"everybody may write there": {false, func(t *testing.T, l *lab) {
			check(t, os.Mkdir(srv(l, "p1"), 0o755))
			check(t, os.Chmod(srv(l, "p1"), 0o777))
		}, "everybody can write there"},
		"everybody may write above": {false, func(t *testing.T, l *lab) { check(t, os.Chmod(srv(l), 0o777)) }, "everybody can write there"},
		"sticky, but the directory itself": {false, func(t *testing.T, l *lab) {
			check(t, os.Mkdir(srv(l, "p1"), 0o755))
			check(t, os.Chmod(srv(l, "p1"), 0o777|os.ModeSticky))
		}, "everybody can write there"},
		"belongs to the service": {true, func(t *testing.T, l *lab) {
			check(t, os.Mkdir(srv(l, "p1"), 0o755))
			check(t, os.Chown(srv(l, "p1"), 1, 1))
		}, "belongs to user daemon"},
		"the one above belongs to the service": {true, func(t *testing.T, l *lab) { check(t, os.Chown(srv(l), 1, 1)) }, "belongs to user daemon"},
		"the service's group may write": {true, func(t *testing.T, l *lab) {
			check(t, os.Mkdir(srv(l, "p1"), 0o755))
			check(t, os.Chown(srv(l, "p1"), 0, 1))
			check(t, os.Chmod(srv(l, "p1"), 0o775))
		}, "its group (1) can write there"},
		"a symbolic link in its place": {false, func(t *testing.T, l *lab) {
			check(t, os.Mkdir(filepath.Join(l.dir, "elsewhere"), 0o755))
			check(t, os.Symlink(filepath.Join(l.dir, "elsewhere"), srv(l, "p1")))
		}, "must be a directory, not a link"},
		"a relative link in its place": {false, func(t *testing.T, l *lab) {
			check(t, os.Mkdir(srv(l, "other"), 0o755))
			check(t, os.Symlink("other", srv(l, "p1")))
		}, "must be a directory, not a link"},
	}
	for name, trap := range traps {
		t.Run(name, func(t *testing.T) {
			if trap.root {
				needRoot(t, "giving a directory to another user")
			}
			l := newLab(t)
			trap.set(t, l)
			l.want("p1")
			l.run()
			l.refused("p1", trap.says)
			for _, place := range []string{filepath.Join(l.dir, "elsewhere"), srv(l, "other"), srv(l, "p1")} {
				if entries, err := os.ReadDir(place); err == nil && len(entries) > 0 {
					t.Errorf("something was written to %s: %v", place, entries)
				}
			}
		})
	}
}

// Things that stand where ours should be are not followed and not written to.
func TestPlantedThings(t *testing.T) {
	plant := map[string]func(dir, outside string) error{
		"a directory at current":            func(dir, _ string) error { return os.Mkdir(filepath.Join(dir, "current"), 0o755) },
		"a link at the next revision":       func(dir, outside string) error { return os.Symlink(outside, filepath.Join(dir, "rev-000001")) },
		"a file at the next revision":       func(dir, _ string) error { return os.WriteFile(filepath.Join(dir, "rev-000001"), nil, 0o644) },
		"current leads out":                 func(dir, outside string) error { return os.Symlink(outside, filepath.Join(dir, "current")) },
		"current leads to a strange number": func(dir, _ string) error { return os.Symlink("rev-1", filepath.Join(dir, "current")) },
		"a marker that is no JSON":          func(dir, _ string) error { return os.WriteFile(filepath.Join(dir, ".rotunda"), []byte("{"), 0o644) },
	}
	for name, set := range plant {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			outside := filepath.Join(l.dir, "outside")
			check(t, os.Mkdir(outside, 0o755))
			check(t, os.Mkdir(l.path("p1"), 0o755))
			check(t, set(l.path("p1"), outside))
			l.want("p1")
			l.run()
			l.until("p1", "settled one way or the other", func(r *api.PlacementReport) bool {
				return r.GetState() == api.State_STATE_STEADY || r.GetState() == api.State_STATE_FAILED
			})
			if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
				t.Errorf("something was written outside: %v, %v", entries, err)
			}
		})
	}
}

func TestFilesBelongToWhomTheIntentSays(t *testing.T) {
	needRoot(t, "giving files to another user")
	l := newLab(t)
	l.want("p1", func(d *api.DesiredPlacement) { d.Files.Owner, d.Files.Group, d.Files.Mode = "daemon", "bin", "0600" })
	l.run(func(c *Config) { c.Allow.Users, c.Allow.Groups = []string{"daemon"}, []string{"bin"} })
	l.steady("p1", 1)
	for name, mode := range map[string]os.FileMode{"key.pem": 0o600, "chain.pem": 0o644} {
		info, err := os.Stat(filepath.Join(l.path("p1"), "current", name))
		check(t, err)
		stat := info.Sys().(*syscall.Stat_t)
		if stat.Uid != 1 || stat.Gid != 2 || info.Mode().Perm() != mode {
			t.Errorf("%s: %d:%d %v", name, stat.Uid, stat.Gid, info.Mode())
		}
	}
	for _, dir := range []string{"", "rev-000001"} {
		info, err := os.Stat(filepath.Join(l.path("p1"), dir))
		check(t, err)
		if info.Sys().(*syscall.Stat_t).Uid != 0 || info.Mode().Perm()&0o022 != 0 {
			t.Errorf("the service could write to %q", dir)
		}
	}
	// Another mode is a new revision with the same certificate.
	l.want("p1", func(d *api.DesiredPlacement) { d.Files.Mode = "0640"; d.Profile.RepairDrift = false })
	l.until("p1", "with the new mode", func(r *api.PlacementReport) bool {
		return r.GetRevision() == 2 && r.GetState() == api.State_STATE_STEADY
	})
	info, err := os.Stat(filepath.Join(l.path("p1"), "current", "key.pem"))
	check(t, err)
	if info.Mode().Perm() != 0o640 || l.requests != 1 {
		t.Errorf("mode %v, %d requests", info.Mode(), l.requests)
	}
}

func TestDrift(t *testing.T) {
	current := func(l *lab, name string) string { return filepath.Join(l.path("p1"), "current", name) }
	edits := map[string]func(l *lab) error{
		"edited":              func(l *lab) error { return os.WriteFile(current(l, "cert.pem"), []byte("edited"), 0o644) },
		"appended":            func(l *lab) error { return appendTo(current(l, "bundle.pem"), "\n") },
		"key readable by all": func(l *lab) error { return os.Chmod(current(l, "key.pem"), 0o644) },
		"deleted":             func(l *lab) error { return os.Remove(current(l, "chain.pem")) },
		"replaced by a link": func(l *lab) error {
			return errors.Join(os.Symlink("/etc/passwd", current(l, "other")), os.Rename(current(l, "other"), current(l, "key.pem")))
		},
		"replaced by a pipe": func(l *lab) error {
			return errors.Join(syscall.Mkfifo(current(l, "other"), 0o644), os.Rename(current(l, "other"), current(l, "bundle.pem")))
		},
		"link removed": func(l *lab) error { return os.Remove(current(l, "")) },
		"link to nowhere": func(l *lab) error {
			return errors.Join(os.Remove(current(l, "")), os.Symlink("rev-000099", current(l, "")))
		},
		"revision removed":    func(l *lab) error { return os.RemoveAll(filepath.Join(l.path("p1"), "rev-000001")) },
		"the whole directory": func(l *lab) error { return os.Rename(l.path("p1"), filepath.Join(l.dir, "taken")) }, // at once: it is put back as fast
	}
	gone := map[string]uint64{ // put back whatever is to become of edits, and the revision then in use
		"deleted": 2, "link removed": 1, "link to nowhere": 1, "revision removed": 2, "the whole directory": 2,
	}
	for name, edit := range edits {
		for _, repair := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, repair %v", name, repair), func(t *testing.T) {
				l := newLab(t)
				l.want("p1", func(d *api.DesiredPlacement) { d.Profile.RepairDrift = repair })
				l.run()
				first := l.steady("p1", 1)
				check(t, edit(l))
				l.pass(driftInterval + time.Second)
				revision, isGone := gone[name]
				if !isGone {
					revision = 2
				}
				if !repair && !isGone {
					l.until("p1", "drifting", func(r *api.PlacementReport) bool {
						return (r.GetDrift() || r.GetRevision() == 0) && strings.Contains(r.GetReason(), "drift")
					})
					return
				}
				waitFor(t, "the files put back", func() bool { _, err := os.Stat(current(l, "chain.pem")); return err == nil })
				report := l.until("p1", "put back", func(r *api.PlacementReport) bool {
					return r.GetState() == api.State_STATE_STEADY && r.GetRevision() == revision && !r.GetDrift()
				})
				if report.GetSerial() != first.GetSerial() || l.requests != 1 {
					t.Errorf("report: %v", report)
				}
				l.sound("p1")
			})
		}
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// The revision that a restore leads to was edited: it is mended before the
// switch.
func TestRestoreToAnEditedRevision(t *testing.T) {
	l := newLab(t)
	s := l.serve("p1", false)
	l.want("p1", s.proven, reloading)
	l.run()
	l.steady("p1", 1)
	s.lying.Store(true)
	edited := false
	l.executor.Reached = func(point string) {
		if point == "activate: loaded" && !edited {
			edited = true
			check(t, os.WriteFile(filepath.Join(l.path("p1"), "rev-000001", "key.pem"), []byte("edited"), 0o640))
		}
	}
	l.want("p1", renewThrough(1))
	report := l.until("p1", "restored", func(r *api.PlacementReport) bool { return r.GetFailure().GetRestored() })
	if !edited || report.GetGeneration() != 1 || report.GetDrift() {
		t.Errorf("report: %v", report)
	}
	l.sound("p1")
}

// The files of a revision are edited between stage and check.
func TestEditBeforeCheck(t *testing.T) {
	for name, edit := range map[string]func(path string) error{
		"content": func(path string) error { return os.WriteFile(path, []byte("edited"), 0o640) },
		"mode":    func(path string) error { return os.Chmod(path, 0o644) },
	} {
		t.Run(name, func(t *testing.T) { testEditBeforeCheck(t, edit) })
	}
}

func testEditBeforeCheck(t *testing.T, edit func(path string) error) {
	l := newLab(t)
	l.want("p1")
	l.run()
	l.steady("p1", 1)
	edited := false
	l.executor.Reached = func(point string) {
		if point == "stage: recorded" && !edited {
			edited = true
			check(t, edit(filepath.Join(l.path("p1"), "rev-000002", "key.pem")))
		}
	}
	l.want("p1", renewThrough(1))
	report := l.until("p1", "failed at check", func(r *api.PlacementReport) bool { return r.GetFailure().GetStep() == "check" })
	if report.GetGeneration() != 1 {
		t.Errorf("report: %v", report)
	}
	l.want("p1", func(d *api.DesiredPlacement) { d.Attempt = 1 })
	l.steady("p1", 2) // nothing was wrong with the certificate
}

func TestCorruptedRecord(t *testing.T) {
	l := newLab(t)
	l.want("p1")
	stop := l.run()
	l.steady("p1", 1)
	stop()
	at := filepath.Join(l.dir, "state", placementsDir, "p1", recordFile)
	for i, text := range []string{"", "{", `{"generations": 5}`, "\x00\x00\x00"} {
		check(t, os.WriteFile(at, []byte(text), 0o600))
		// What is in use is not known to be ours; a new generation, above all that
		// the server knows of, takes its place.
		l.want("p1", func(d *api.DesiredPlacement) { d.WindowGeneration = uint64(i + 1) })
		stop = l.run()
		l.steady("p1", uint64(i+2))
		l.sound("p1")
		stop()
		if _, err := os.Stat(at + ".broken"); err != nil {
			t.Errorf("the broken record was not kept: %v", err)
		}
	}
}

// A corrupted key or chain in the state directory: the generation in use stays
// in use, and the next one is made.
func TestCorruptedState(t *testing.T) {
	l := newLab(t)
	l.want("p1", func(d *api.DesiredPlacement) { d.Profile.KeyAge = durationpb.New(24 * time.Hour) })
	stop := l.run()
	l.steady("p1", 1)
	stop()
	for _, name := range []string{keyName(1), chainName(1), bundleName(l.bundle("a").Digest())} {
		check(t, os.WriteFile(filepath.Join(l.dir, "state", placementsDir, "p1", name), []byte("rubbish"), 0o600))
	}
	l.run()
	l.want("p1", renewThrough(1))
	l.steady("p1", 2)
	l.sound("p1")
}

// A disk that is full, or read-only, stops what is new and nothing else; the
// record of a failure, and the way back, still find room.
func TestDiskFull(t *testing.T) {
	needRoot(t, "mounting a small file system")
	for _, where := range []string{"srv", "state"} {
		t.Run(where, func(t *testing.T) {
			l := newLab(t)
			small := mountSmall(t, filepath.Join(l.dir, where))
			s := l.serve("p1", false)
			l.want("p1", s.proven, reloading)
			l.run()
			first := l.steady("p1", 1)
			empty := fill(t, small)
			l.want("p1", renewThrough(1))
			report := l.until("p1", "failed", func(r *api.PlacementReport) bool {
				return strings.Contains(r.GetReason(), "no space left")
			})
			if report.GetSerial() != first.GetSerial() || report.GetGeneration() != 1 {
				t.Errorf("report: %v", report)
			}
			l.sound("p1")
			empty()
			l.want("p1", func(d *api.DesiredPlacement) { d.Attempt++ })
			l.pass(10 * time.Second)
			l.steady("p1", 2)
		})
	}
}

func TestDiskFullInTheMiddle(t *testing.T) {
	needRoot(t, "mounting a small file system")
	l := newLab(t)
	small := mountSmall(t, filepath.Join(l.dir, "state"))
	s := l.serve("p1", false)
	l.want("p1", s.proven, reloading)
	l.run()
	first := l.steady("p1", 1)
	s.lying.Store(true)
	full := false
	l.executor.Reached = func(point string) {
		if point == "activate: loaded" && !full {
			full = true
			fill(t, small)
		}
	}
	l.want("p1", renewThrough(1))
	report := l.until("p1", "restored", func(r *api.PlacementReport) bool { return r.GetFailure().GetRestored() })
	if report.GetSerial() != first.GetSerial() || !full {
		t.Errorf("report: %v", report)
	}
	l.sound("p1")
}

func TestReadOnlyDisk(t *testing.T) {
	needRoot(t, "mounting a small file system")
	l := newLab(t)
	small := mountSmall(t, filepath.Join(l.dir, "srv"))
	l.want("p1")
	l.run()
	first := l.steady("p1", 1)
	check(t, syscall.Mount("", small, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	l.want("p1", renewThrough(1))
	report := l.until("p1", "failed", func(r *api.PlacementReport) bool { return strings.Contains(r.GetReason(), "read-only") })
	if report.GetSerial() != first.GetSerial() {
		t.Errorf("report: %v", report)
	}
	check(t, syscall.Mount("", small, "", syscall.MS_REMOUNT, "size=1m,mode=755"))
	l.want("p1", func(d *api.DesiredPlacement) { d.Attempt++ })
	l.pass(time.Minute)
	l.steady("p1", 2)
}

func mountSmall(t *testing.T, dir string) string {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=755"); err != nil {
		t.Skipf("tmpfs can't be mounted here: %v", err)
	}
	t.Cleanup(func() { check(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

func fill(t *testing.T, dir string) (empty func()) {
	t.Helper()
	at := filepath.Join(dir, "filler")
	f, err := os.Create(at)
	check(t, err)
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	f.Close()
	return func() { check(t, os.Remove(at)) }
}

func TestReadinessOverTheSocket(t *testing.T) {
	l := newLab(t)
	s := l.serve("p1", true)
	l.mu.Lock()
	l.down = true
	l.mu.Unlock()
	l.want("p1", s.proven, etcdLike)
	l.run()
	socket := filepath.Join(l.dir, "agent.sock")
	listener, err := net.Listen("unix", socket)
	check(t, err)
	serving, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- l.executor.ServeReadiness(serving, listener) }()

	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = AwaitReady(short, socket, "intent-p1", "", false, nil)
	if err == nil || !strings.Contains(err.Error(), "nothing is delivered yet") {
		t.Errorf("before anything was issued: %v", err)
	}
	told := make(chan Readiness, 10)
	type answer struct {
		r   Readiness
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		r, err := AwaitReady(t.Context(), socket, "intent-p1", "main", true, func(r Readiness) { told <- r })
		answers <- answer{r, err}
	}()
	<-told // it waits
	l.mu.Lock()
	l.down = false
	l.mu.Unlock()
	l.want("p1", func(d *api.DesiredPlacement) { d.Attempt = 1 })
	a := <-answers
	check(t, a.err)
	if !a.r.Ready || !a.r.Proven || a.r.Serial == "" || a.r.Directory != filepath.Join(l.path("p1"), "current") {
		t.Errorf("answer: %+v", a.r)
	}
	if r := l.executor.Ready("intent-p9", ""); r.Ready || r.Reason == "" {
		t.Errorf("an intent that is not here: %+v", r)
	}
	l.pass(13 * time.Hour)
	l.mu.Lock()
	l.down = true
	l.mu.Unlock()
	stop()
	check(t, <-served)
}

// One process is reloaded by one placement at a time; another process does not
// wait for it.
func TestOneTargetAtATime(t *testing.T) {
	l := newLab(t)
	busy, on := filepath.Join(l.dir, "busy"), filepath.Join(l.dir, "on")
	slow := func(c *Config) {
		script := "mkdir " + busy + " || exit 9; while [ ! -e " + on + " ]; do sleep 0.02; done; rmdir " + busy
		c.Commands["slow"] = command.Config{Argv: []string{"/bin/sh", "-c", script}, Timeout: command.Duration(time.Minute)}
	}
	for _, id := range []string{"p1", "p2", "p3"} {
		l.want(id, func(d *api.DesiredPlacement) { d.Target.Name = "shared"; d.Target.ReloadCommand = "slow" })
	}
	l.want("q1", reloading)
	l.run(slow)
	for _, id := range []string{"p1", "p2", "p3", "q1"} {
		l.steady(id, 1)
	}
	for _, id := range []string{"p1", "p2", "p3", "q1"} {
		l.want(id, renewThrough(1))
	}
	l.steady("q1", 2)
	behind := 0 // of those whose reload hangs, or waits for the one that does
	for _, r := range l.executor.Reports() {
		if strings.HasPrefix(r.GetPlacementId(), "p") && r.GetRotations() < 2 {
			behind++
		}
	}
	if behind != 3 {
		t.Errorf("only %d of p1 to p3 are behind, and none was let go on", behind)
	}
	check(t, os.WriteFile(on, nil, 0o600))
	for _, id := range []string{"p1", "p2", "p3"} {
		if r := l.steady(id, 2); r.GetFailure() != nil {
			t.Errorf("%s: two reloads at once: %v", id, r.GetFailure())
		}
	}
}

// A worker with nothing to do sleeps.
func TestIdleIsIdle(t *testing.T) {
	l := newLab(t)
	l.want("p1")
	l.run()
	l.steady("p1", 1)
	w := &worker{e: l.executor, placements: []*placement{l.executor.placements["p1"]}}
	for range 3 {
		if sleep := w.once(t.Context()); sleep < 30*time.Second {
			t.Errorf("a worker with nothing to do sleeps for %s", sleep)
		}
	}
}
