package target

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// maxPIDFile is far above any pid file; PostgreSQL's has eight lines.
const maxPIDFile = 4 << 10

// heardEvery is how often a process that starts is asked whether it listens to
// a signal yet.
const heardEvery = time.Millisecond

// signal sends a signal to the process that the target's pid file names, if
// it is one of these programs.
func (t Target) signal(ctx context.Context, signal syscall.Signal, programs ...string) error {
	process, err := t.process(ctx, programs...)
	if err != nil {
		return err
	}
	defer func() { _ = process.Release() }() // forgets it; the process runs on
	return t.send(ctx, process, signal)
}

// send is for a process that was found by process. All that asks for a reload
// ends a process that has no handler for it, and a server writes its pid file
// before it has: so it is sent once there is one.
func (t Target) send(ctx context.Context, process *os.Process, signal syscall.Signal) error {
	if err := t.awaitHandler(ctx, process, signal); err != nil {
		return err
	}
	err := process.Signal(signal)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrProcessDone):
		return fault.New(fault.Unavailable, "process %d of target %s has just ended", process.Pid, t.Name)
	case errors.Is(err, syscall.EPERM):
		return fault.New(fault.Forbidden, "target %s: user %d may not send %v to process %d", t.Name, os.Geteuid(), signal, process.Pid).
			WithRemedy("run the agent as root or as the server's user, or let the intent name a reloadCommand instead of targets.%s.pidFile", t.Name)
	}
	return fault.Wrap(fault.Unavailable, err, "send %v to process %d of target %s", signal, process.Pid, t.Name)
}

// awaitHandler waits until a process has a handler for a signal. A process of
// Go's (NATS) has one for each from its first moment, which ends it like the
// kernel would; NATS asks for its signals before it writes its pid file.
func (t Target) awaitHandler(ctx context.Context, process *os.Process, signal syscall.Signal) error {
	look := time.NewTicker(heardEvery)
	defer look.Stop()
	for !signalsOf(process.Pid).caught(signal) {
		if err := process.Signal(syscall.Signal(0)); errors.Is(err, os.ErrProcessDone) {
			return fault.New(fault.Unavailable, "process %d of target %s has just ended", process.Pid, t.Name)
		}
		select {
		case <-ctx.Done():
			return fault.New(fault.Unavailable, "process %d of target %s does not listen to %v, which would end it: it is starting, or ignores it", process.Pid, t.Name, signal).
				WithRemedy("see whether its start hangs; start it without nohup")
		case <-look.C:
		}
	}
	return nil
}

// signals is what a process does about signals: sets of bits, as /proc shows
// them.
type signals struct{ handled, held uint64 }

// signalsOf is empty where /proc does not show it.
func signalsOf(pid int) signals {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return signals{}
	}
	fields := values(string(status), ":")
	set := func(name string) uint64 {
		mask, _ := strconv.ParseUint(fields[name], 16, 64) // none where it is not there
		return mask
	}
	return signals{handled: set("SigCgt"), held: set("SigBlk")}
}

// caught says whether there is a handler; holds, whether what is sent has to
// wait.
func (s signals) caught(signal syscall.Signal) bool { return s.handled&(1<<(signal-1)) != 0 }
func (s signals) holds(signal syscall.Signal) bool  { return s.held&(1<<(signal-1)) != 0 }

// process finds the process that the pid file names, and holds it by a handle
// of the kernel's (pidfd) where there is one: should it end now and its number
// go to another, that one is never signalled. The caller releases it.
//
// It is looked at after the handle is taken, so what was looked at is what the
// handle holds. A pid file that an attacker can write names at worst another
// process of the same program.
func (t Target) process(ctx context.Context, programs ...string) (*os.Process, error) {
	pid, err := t.pid()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, t.away(ctx, "does not exist")
	}
	if err != nil {
		return nil, err
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "find process %d of target %s", pid, t.Name)
	}
	if err := t.inspect(ctx, process, programs); err != nil {
		_ = process.Release()
		return nil, err
	}
	return process, nil
}

func (t Target) inspect(ctx context.Context, process *os.Process, programs []string) error {
	name, err := programOf(process.Pid)
	gone := process.Signal(syscall.Signal(0))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) || errors.Is(gone, os.ErrProcessDone) {
		return t.away(ctx, "names process "+strconv.Itoa(process.Pid)+", which has ended")
	}
	if err != nil {
		return fault.Wrap(fault.Forbidden, err, "look at process %d of target %s", process.Pid, t.Name).
			WithRemedy("run the agent as a user that may read /proc/%d", process.Pid)
	}
	if !slices.Contains(programs, name) {
		return fault.New(fault.Invalid, "pid file %s of target %s names process %d, which is %s and not %s",
			t.Control.PIDFile, t.Name, process.Pid, name, strings.Join(programs, " or ")).
			WithRemedy("name this server's own pid file as targets.%s.pidFile in agent.yaml; one of a process in a container has the container's numbers", t.Name)
	}
	return nil
}

// away is a pid file that leads to no process. Where the target answers all
// the same it is the wrong file; else the server just isn't running.
func (t Target) away(ctx context.Context, how string) error {
	if t.listens(ctx) {
		return fault.New(fault.Invalid, "pid file %s of target %s %s, though something listens at %s", t.Control.PIDFile, t.Name, how, t.Address).
			WithRemedy("name the pid file that the server writes as targets.%s.pidFile in agent.yaml", t.Name)
	}
	return fault.New(fault.Unavailable, "target %s is not running: its pid file %s %s", t.Name, t.Control.PIDFile, how).
		WithRemedy("start it; if it does run, name the pid file that it writes as targets.%s.pidFile in agent.yaml", t.Name)
}

func (t Target) listens(ctx context.Context) bool {
	if t.Address == "" {
		return false
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", t.Address)
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was said
	return true
}

// pid reads the number on the first line of the pid file. The file may belong
// to the server's user, so what is opened must be a file, and a short one.
func (t Target) pid() (int, error) {
	if t.Control == nil || t.Control.PIDFile == "" {
		return 0, fault.New(fault.Invalid, "target %s: agent.yaml names no pid file", t.Name).
			WithRemedy("name the one that the server writes as targets.%s.pidFile", t.Name)
	}
	path := t.Control.PIDFile
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO would hold us
	if errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if err != nil {
		return 0, fault.Wrap(fault.Forbidden, err, "read the pid file of target %s", t.Name).
			WithRemedy("let the agent's user read it")
	}
	defer func() { _ = file.Close() }() // only read from
	info, err := file.Stat()
	if err != nil {
		return 0, fault.Wrap(fault.Unavailable, err, "read the pid file of target %s", t.Name)
	}
	if !info.Mode().IsRegular() {
		return 0, notPIDFile(t, "is no regular file")
	}
	content, err := io.ReadAll(io.LimitReader(file, maxPIDFile+1))
	if err != nil {
		return 0, fault.Wrap(fault.Unavailable, err, "read the pid file of target %s", t.Name)
	}
	return t.parsePID(content)
}

func (t Target) parsePID(content []byte) (int, error) {
	first, _, _ := bytes.Cut(content, []byte("\n"))
	text := string(bytes.TrimSpace(first))
	switch {
	case len(content) > maxPIDFile:
		return 0, notPIDFile(t, "is longer than any pid file")
	case len(bytes.TrimSpace(content)) == 0:
		// Servers open it before they write it.
		return 0, fault.New(fault.Unavailable, "pid file %s of target %s is empty: the server is starting or stopping", t.Control.PIDFile, t.Name)
	}
	// An unsigned number: 0 and less would be groups of processes.
	pid, err := strconv.ParseUint(text, 10, 31)
	if err != nil || pid == 0 {
		return 0, notPIDFile(t, "does not begin with the number of a process")
	}
	return int(pid), nil
}

func notPIDFile(t Target, how string) error {
	return fault.New(fault.Invalid, "pid file %s of target %s %s", t.Control.PIDFile, t.Name, how).
		WithRemedy("name the pid file that the server writes as targets.%s.pidFile in agent.yaml", t.Name)
}

// programOf is the base name of what a process runs. A process can choose
// its comm, so that counts only where the other may not be read.
func programOf(pid int) (string, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	path, err := os.Readlink(filepath.Join(dir, "exe"))
	if err == nil {
		return strings.TrimSuffix(filepath.Base(path), " (deleted)"), nil // an upgrade took the file away
	}
	if !errors.Is(err, fs.ErrPermission) {
		return "", err
	}
	comm, err := os.ReadFile(filepath.Join(dir, "comm"))
	return string(bytes.TrimSpace(comm)), err
}
