// Package postgrestest runs a real PostgreSQL for tests, and makes a database
// of it for each test that asks.
package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rotunda-pki/rotunda/internal/loopback"
)

// Environment names the variable that holds the URL of a server that runs
// already, as its superuser.
const Environment = "ROTUNDA_TEST_POSTGRES"

// Server is a PostgreSQL that listens on a port of loopback and on a socket in
// its directory. Whoever reaches it may do all.
type Server struct {
	Dir  string
	Port int

	cmd   *exec.Cmd
	ended <-chan struct{} // closed when it has
	conf  []string

	clock, faketime string // the file that says how far its clock is off, and the library that reads it; empty: it has this host's
}

// Settings that make a database for tests quick and small.
var quick = []string{
	"fsync=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=400",
	"autovacuum=off", "max_wal_senders=8", "wal_keep_size=64MB",
}

// Start makes a database cluster in dir, unless one is there, and starts a server on it, with more
// settings; of one name the last counts. It ends with this process.
func Start(dir string, settings ...string) (*Server, error) {
	address, err := loopback.Reserve()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	s := &Server{Dir: dir, conf: settings}
	if s.Port, err = strconv.Atoi(port); err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	if err := giveAway(dir); err != nil {
		return nil, err
	}
	if _, err := os.Stat(data); err != nil {
		if err := s.run("initdb", "--no-sync", "--no-locale", "--encoding=UTF8", "--auth=trust", "--username=postgres", "-D", data); err != nil {
			return nil, err
		}
	}
	return s, s.Restart()
}

// Restart starts the server, which must not run, and returns when it answers.
// Processes of one that was killed may hold its memory for a moment yet: then it
// ends at once, and is started again.
func (s *Server) Restart() error {
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) { // it says nothing that could be awaited
		err := s.launch()
		if err != nil {
			return err
		}
		ended := make(chan struct{})
		go func() {
			_ = s.cmd.Wait() // that it ended is all there is to know
			close(ended)
		}()
		s.ended = ended
		if err = s.answers(ended); err == nil {
			return nil
		}
		if time.Since(began) > time.Minute {
			text, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
			return fmt.Errorf("PostgreSQL does not answer: %w\n%s", err, text[max(0, len(text)-2000):])
		}
	}
}

// answers waits until the server answers, or ends.
func (s *Server) answers(ended <-chan struct{}) error {
	for {
		_, err := s.Exec(context.Background(), "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Server) launch() error {
	args := []string{"-D", filepath.Join(s.Dir, "data"), "-p", strconv.Itoa(s.Port), "-k", s.Dir, "-c", "listen_addresses=127.0.0.1"}
	for _, setting := range append(quick, s.conf...) {
		args = append(args, "-c", setting)
	}
	cmd, err := s.command("postgres", args...)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(s.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if s.clock != "" {
		cmd.Env = append(os.Environ(), "LD_PRELOAD="+s.faketime, "FAKETIME_TIMESTAMP_FILE="+s.clock, "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1")
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd = cmd
	return nil
}

// Kill ends the server and all its processes at once, as a power cut would.
func (s *Server) Kill() error {
	err := s.signal(syscall.SIGKILL)
	<-s.ended
	return err
}

// Freeze has all its processes stand still, as on a disk that does not answer,
// and Thaw has them go on.
func (s *Server) Freeze() error { return s.signal(syscall.SIGSTOP) }

// Thaw ends a Freeze.
func (s *Server) Thaw() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(signal syscall.Signal) error {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", s.PID(), s.PID()))
	err := s.cmd.Process.Signal(signal)
	for _, child := range strings.Fields(string(children)) {
		if pid, parsed := strconv.Atoi(child); parsed == nil {
			_ = syscall.Kill(pid, signal) // it may have ended by itself
		}
	}
	return err
}

// SetClock sets the server's clock so far off this host's. The first time it is
// started again for that.
func (s *Server) SetClock(ahead time.Duration) error {
	first := s.clock == ""
	if first {
		found, _ := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1") // the pattern is a good one
		if len(found) == 0 {
			return errors.New("libfaketime is not installed: run `make deps`")
		}
		s.clock, s.faketime = filepath.Join(s.Dir, "clock"), found[0]
	}
	next := s.clock + ".next"
	if err := os.WriteFile(next, fmt.Appendf(nil, "%+d\n", int(ahead.Seconds())), 0o644); err != nil {
		return err
	}
	if err := os.Rename(next, s.clock); err != nil || !first {
		return err
	}
	if err := s.Stop(); err != nil {
		return err
	}
	return s.Restart()
}

// Stop ends the server in order.
func (s *Server) Stop() error {
	err := s.cmd.Process.Signal(syscall.SIGINT)
	<-s.ended
	return err
}

// PID is the postmaster's.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// URL is that of a database, for the superuser.
func (s *Server) URL(database string) string { return urlAt(s.Port, database) }

func urlAt(port int, database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", port, database)
}

// Exec runs statements as the superuser, and returns the first column of the
// last one's rows.
func (s *Server) Exec(ctx context.Context, sql string) ([]string, error) {
	return execAt(ctx, s.URL("postgres"), sql)
}

func execAt(ctx context.Context, url, sql string) ([]string, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	var column []string
	for _, row := range results[len(results)-1].Rows {
		column = append(column, string(row[0]))
	}
	return column, nil
}

// Bin is where Debian keeps PostgreSQL's programs.
const Bin = "/usr/lib/postgresql/15/bin"

func (s *Server) command(name string, args ...string) (*exec.Cmd, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath(filepath.Join(Bin, name))
	}
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL is not installed: run `make deps`: %w", err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = s.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	uid, gid, other, err := account()
	if other {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return cmd, err
}

func (s *Server) run(name string, args ...string) error {
	cmd, err := s.command(name, args...)
	if err != nil {
		return err
	}
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, output)
	}
	return nil
}

// account is whom PostgreSQL runs as: it refuses to run as root.
func account() (uid, gid int, other bool, err error) {
	if os.Geteuid() != 0 {
		return 0, 0, false, nil
	}
	found, err := user.Lookup("postgres")
	if err != nil {
		return 0, 0, false, fmt.Errorf("run `make deps`: %w", err)
	}
	uid, err = strconv.Atoi(found.Uid)
	if err != nil {
		return 0, 0, false, err
	}
	gid, err = strconv.Atoi(found.Gid)
	return uid, gid, true, err
}

// giveAway makes directories those of PostgreSQL's account.
func giveAway(dirs ...string) error {
	uid, gid, other, err := account()
	if err != nil || !other {
		return err
	}
	for _, dir := range dirs {
		if err := os.Chown(dir, uid, gid); err != nil {
			return err
		}
	}
	return nil
}

// Run starts a server of the test's own, which is stopped when it ends.
func Run(t testing.TB, settings ...string) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "rotunda-postgres-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s, err := Start(dir, settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Kill() }) // its data goes anyway
	return s
}

// RunStandby starts a standby that streams from the primary, with more settings,
// for the test.
func RunStandby(t testing.TB, primary *Server, settings ...string) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "rotunda-standby-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := giveAway(dir); err != nil {
		t.Fatal(err)
	}
	err = (&Server{Dir: dir}).run("pg_basebackup", "-h", "127.0.0.1", "-p", strconv.Itoa(primary.Port), "-U", "postgres",
		"-D", filepath.Join(dir, "data"), "-R", "-c", "fast", "-X", "stream", "--no-sync")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Start(dir, settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Kill() }) // its data goes anyway
	return s
}
