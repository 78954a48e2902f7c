package fleettest

import (
	"crypto/tls"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rotunda-pki/rotunda/api"
)

// disk is a directory with little room.
type disk struct {
	dir   string
	fills func() error // takes all the room that is left
	empty func() error // gives it back
}

// newDisk mounts a small file system; nil: it can't be done here.
func newDisk(t *testing.T) *disk {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m,mode=700"); err != nil {
		return nil
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	filler := filepath.Join(dir, "filler")
	return &disk{dir, func() error { return fill(filler) }, func() error { return os.Remove(filler) }}
}

// fill writes until there is no room.
func fill(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = file.Write(block)
	}
	if errors.Is(err, syscall.ENOSPC) {
		return nil
	}
	return err
}

// limited is a directory with room, of which a process may use little: where
// nothing can be mounted.
func limited(t *testing.T, pid int) *disk {
	limit := func(most uint64) error {
		return unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: most, Max: unix.RLIM_INFINITY}, nil)
	}
	return &disk{t.TempDir(), func() error { return limit(0) }, func() error { return limit(unix.RLIM_INFINITY) }}
}

// refusal is what somebody is to be told.
type refusal struct{ rule, remedy string }

func (r refusal) in(words string) bool {
	return strings.Contains(words, r.rule) && strings.Contains(words, r.remedy)
}

// refusals counts what was told in the place of an answer.
type refusals struct {
	counter
	mu    sync.Mutex
	words map[string]int
}

func (r *refusals) add(err error) {
	r.mu.Lock()
	if r.words == nil {
		r.words = map[string]int{}
	}
	r.words[err.Error()]++
	r.mu.Unlock()
	r.counter.add()
}

func diskFull(t *testing.T, did *counted) {
	small := newDisk(t)
	if small == nil {
		did.add("no file system can be mounted here, so the server's is a limit on the size of files, and no agent's disk is full")
		storeIsFull(t, did, nil, "")
		return
	}
	binary := build(t)
	storeIsFull(t, did, small, binary)
	agentIsFull(t, did, newDisk(t), binary)
}

// storeIsFull fills the disk of a server's store while it issues.
func storeIsFull(t *testing.T, did *counted, small *disk, binary string) {
	place, says := filepath.Join(t.TempDir(), "rotunda.db"), refusal{"the store's disk fails", "check the disk, the quota"}
	if small != nil {
		place, says = filepath.Join(small.dir, "rotunda.db"), refusal{"the store's disk is full", "make room on it; nothing is lost"}
	}
	p, a := onPostgres(t, place)
	var end func()
	if small != nil {
		end = p.serve(binary).stop
	} else {
		process := p.startProcess()
		small = limited(t, process.Process.Pid)
		end = func() { kill(t, process) }
	}
	var count counter
	stop := make(chan struct{})
	wait := a.load(p, stop, count.add)
	count.more(t, 50, "while there is room")
	p.must(small.fills())
	a.refused.more(t, 50, "refusals while there is none")
	if binary != "" {
		refusedByHand(t, binary, p, says)
	}
	p.must(small.empty())
	count.more(t, 50, "when there is room again")
	close(stop)
	wait()
	for words, n := range a.refused.words {
		if !says.in(words) {
			t.Errorf("%d callers were told %q", n, words)
		}
	}
	conn := a.dial()
	a.askAgain(conn)
	conn.Close()
	end()
	a.checkStore()
	did.add("the store's disk filled: %d refused with rule and remedy, issuing again by itself, %d certificates, each in the store and in the log once",
		a.refused.n, len(a.answers))
}

// refusedByHand has an operator meet the same. What is small may find room yet.
func refusedByHand(t *testing.T, binary string, p *Plane, says refusal) {
	t.Helper()
	for range 100 {
		output, err := exec.Command(binary, "token", "create", "--socket", p.Config.AdminSocket).CombinedOutput()
		if err == nil {
			continue
		}
		if !says.in(string(output)) {
			t.Errorf("token create on a full disk: %s", output)
		}
		return
	}
	t.Error("an operator was never refused")
}

// agentIsFull fills the disk of an agent's state before a rotation.
func agentIsFull(t *testing.T, did *counted, small *disk, binary string) {
	p := NewPlane(t)
	host := p.NewHost(map[string]string{"role": "files", "host": "h0"})
	host.Config.State, host.Config.Socket = filepath.Join(small.dir, "state"), filepath.Join(small.dir, "agent.sock")
	declare(p, host)
	running := host.launch(binary)
	running.awaitReady()
	p.Await("first issuance", Steady(1, 1))
	dir := filepath.Join(host.Tree(), "h0")
	before := read(t, filepath.Join(dir, "current"))
	p.must(small.fills())
	p.must1(p.Rotate(t.Context(), Operator, &api.RotateRequest{All: true, NewKey: true}))
	p.Await("it says that there is no room", func(placements []*api.PlacementStatus) bool {
		return strings.Contains(placements[0].Reason, "no space left")
	})
	if after := read(t, filepath.Join(dir, "current")); after != before {
		t.Error("without room for the new certificate the old one was touched")
	}
	whole(t, dir, 1)
	p.must(small.empty())
	p.Await("it rotates by itself when there is room", Steady(1, 2))
	whole(t, dir, 2)
	running.stop()
	did.add("an agent's disk filled: what was in place stayed, and was rotated by itself when there was room")
}

// whole looks whether each revision in a directory is, and how many there are.
func whole(t *testing.T, dir string, n int) {
	t.Helper()
	revisions, err := filepath.Glob(filepath.Join(dir, "rev-*"))
	if err != nil || len(revisions) > n || len(revisions) == 0 {
		t.Errorf("revisions %v, %v", revisions, err)
	}
	for _, revision := range revisions {
		if _, err := tls.LoadX509KeyPair(filepath.Join(revision, "cert.pem"), filepath.Join(revision, "key.pem")); err != nil {
			t.Errorf("%s: %v", revision, err)
		}
	}
}
