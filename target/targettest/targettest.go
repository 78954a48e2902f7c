// Package targettest runs real servers of each kind for tests: on loopback, on
// free ports, in directories of their own, ended by their process id. There is
// one file for each kind, with the configuration that an operator would write.
//
// A binary that is missing fails the test and names make deps; nothing is
// skipped.
package targettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/internal/loopback"
	"github.com/rotunda-pki/rotunda/target"
)

// Patience bounds every wait: far above what anything takes, so that only what
// never happens fails a test.
const Patience = 60 * time.Second

// Server is a real server under test. What a kind adds (its configuration, its
// control path) its own file says.
type Server struct {
	// Target is how an adapter knows it: name, address, preamble, control path.
	Target target.Target
	// Dir is the server's own directory, for everybody to enter.
	Dir string
	// Account is the user that the process runs as; empty: the test's own.
	Account string

	t       testing.TB
	argv    []string
	env     []string
	foreign func(context.Context) error // more than its port that must answer

	mu      sync.Mutex
	process *exec.Cmd
	ended   chan struct{}
	log     *os.File
}

// Binary finds a program by name, also where Debian puts daemons.
func Binary(t testing.TB, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
		for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/usr/lib/postgresql/15/bin", "/usr/lib/rabbitmq/bin"} {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return path
			}
		}
	}
	t.Fatalf("none of %q is installed: run `make deps`", names)
	return ""
}

// Port is a port of loopback that is this test process's to listen on.
func Port(t testing.TB) int {
	t.Helper()
	address, err := loopback.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	return int(netip.MustParseAddrPort(address).Port())
}

// Loopback is host:port of a loopback port.
func Loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Dir makes a directory that every user can enter, and that goes with the test.
func Dir(t testing.TB, prefix string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // a server that is still ending may write there
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Write writes a file for the server's account, or the test's own.
func Write(t testing.TB, path, content string, mode os.FileMode, account string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	Own(t, path, account)
}

// Own gives a path to an account; as another user than root, or with no
// account, it stays the test's own.
func Own(t testing.TB, path, account string) {
	t.Helper()
	uid, gid, ok := ids(t, account)
	if !ok {
		return
	}
	if err := os.Chown(path, uid, gid); err != nil {
		t.Fatal(err)
	}
}

func ids(t testing.TB, account string) (uid, gid int, other bool) {
	t.Helper()
	if account == "" || os.Geteuid() != 0 {
		return 0, 0, false
	}
	found, err := user.Lookup(account)
	if err != nil {
		t.Fatalf("user %s: %v: run `make deps`", account, err)
	}
	uid, uerr := strconv.Atoi(found.Uid)
	gid, gerr := strconv.Atoi(found.Gid)
	if err := errors.Join(uerr, gerr); err != nil {
		t.Fatal(err)
	}
	return uid, gid, true
}

// AccountOf is the account that a server of a kind runs as in tests: its
// package's own where the test is root, else the test's.
func AccountOf(name string) string {
	if os.Geteuid() != 0 {
		return ""
	}
	return name
}

// Start starts the process and returns when it answers.
func (s *Server) Start() {
	s.t.Helper()
	if err := s.start(); err != nil {
		s.t.Fatalf("start %s: %v\n%s", s.argv[0], err, s.Log())
	}
}

func (s *Server) start() error {
	if err := s.launch(); err != nil {
		return err
	}
	return s.Await()
}

// Launch starts the process and does not wait for it.
func (s *Server) Launch() {
	s.t.Helper()
	if err := s.launch(); err != nil {
		s.t.Fatalf("start %s: %v", s.argv[0], err)
	}
}

func (s *Server) launch() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log == nil {
		log, err := os.Create(filepath.Join(s.Dir, "log"))
		if err != nil {
			return err
		}
		s.log = log
		s.t.Cleanup(func() { s.Kill(); _ = log.Close() })
	}
	cmd := exec.Command(s.argv[0], s.argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, s.log, s.log
	cmd.Env = append(os.Environ(), s.env...)
	// A group of its own, so that its workers end with it; and it ends with
	// the test, however that ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if uid, gid, other := ids(s.t, s.Account); other {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // how it ends is the log's to tell
	s.process, s.ended = cmd, ended
	return nil
}

// Await waits until the server that was launched answers.
func (s *Server) Await() error {
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	knock := time.NewTicker(10 * time.Millisecond)
	defer knock.Stop()
	for {
		err := s.answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return errors.New("it ended")
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		case <-knock.C:
		}
	}
}

func (s *Server) answers(ctx context.Context) error {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", s.Target.Address)
	if err != nil {
		return err
	}
	if err := conn.Close(); err != nil {
		return err
	}
	if s.foreign != nil {
		return s.foreign(ctx)
	}
	return nil
}

// PID is the process id, 0 where it does not run.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return 0
	}
	return s.process.Process.Pid
}

// Stop asks the process to end, and waits until it has.
func (s *Server) Stop() { s.end(syscall.SIGTERM, false) }

// Kill ends the process and all that it started, at once.
func (s *Server) Kill() { s.end(syscall.SIGKILL, true) }

func (s *Server) end(signal syscall.Signal, group bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return
	}
	pid := s.process.Process.Pid
	_ = syscall.Kill(pid, syscall.SIGCONT) // a frozen process hears nothing
	if group {
		_ = syscall.Kill(-pid, signal)
	}
	_ = syscall.Kill(pid, signal) // it may have ended by itself
	select {
	case <-s.ended:
	case <-time.After(Patience):
		_ = syscall.Kill(-pid, syscall.SIGKILL)
		<-s.ended
		s.t.Errorf("%s did not end on %v", s.argv[0], signal)
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL) // workers that outlived it
	s.process = nil
}

// Restart stops and starts the server.
func (s *Server) Restart() { s.Stop(); s.Start() }

// Freeze stops the process and its workers in the middle of what they do; Thaw
// lets them go on.
func (s *Server) Freeze() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
	end := time.Now().Add(Patience)
	for !s.stopped() { // a signal is taken later than it is sent
		if time.Now().After(end) {
			s.t.Fatalf("%s does not stop", s.argv[0])
		}
		time.Sleep(time.Millisecond) // the pace of looking
	}
}

// stopped says whether each process of the server's group stands still.
func (s *Server) stopped() bool {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		end := bytes.LastIndexByte(text, ')')
		if err != nil || end < 0 {
			continue // it ended
		}
		_, rest, _ := strings.Cut(string(text[end:]), " ")
		fields := strings.Fields(rest) // state, parent, group (proc_pid_stat(5))
		if len(fields) > 2 && fields[2] == strconv.Itoa(s.PID()) && !strings.Contains("TtZX", fields[0]) {
			return false
		}
	}
	return true
}

// Thaw lets a frozen process go on.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(signal syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(-s.PID(), signal); err != nil {
		s.t.Fatalf("%v to %s: %v", signal, s.argv[0], err)
	}
}

// Log is the end of what the server printed.
func (s *Server) Log() string {
	const most = 8 << 10
	f, err := os.Open(filepath.Join(s.Dir, "log"))
	if err != nil {
		return ""
	}
	defer f.Close()
	all, err := io.ReadAll(f)
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(all[max(0, len(all)-most):]))
}

// Host is what adapters have done on this host: programs run as they are; a
// named command is one of the given functions.
func Host(commands map[string]func(context.Context) error) target.Host {
	return target.Host{
		Command: func(ctx context.Context, name string) (string, error) {
			command, ok := commands[name]
			if !ok {
				return "", fmt.Errorf("no command %q", name)
			}
			return "", command(ctx)
		},
		Program: func(ctx context.Context, _ string, argv ...string) (string, error) {
			output, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
			return string(output), err
		},
	}
}
