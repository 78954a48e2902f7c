package target

import (
	"context"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// sleeper is a real process of the program sleep, ended with the test.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	sleep := exec.Command("sleep", "600")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sleep.Process.Kill(); _ = sleep.Wait() })
	return sleep
}

// sleeps is the name of what sleep runs as: busybox where it is that.
func sleeps(t *testing.T) string { return filepath.Base(program(t, "sleep")) }

// program is the file that a command runs.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func pidFile(t *testing.T, content string) Target {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pid")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return Target{Name: "db", Control: &Control{PIDFile: path}}
}

// starting is a shell that a SIGHUP would end, until it is told to listen to
// it; then it answers by an exit of its own.
func starting(t *testing.T) (shell *exec.Cmd, listen func()) {
	t.Helper()
	shell = exec.Command(program(t, "sh"), "-c", "read go; trap 'exit 7' HUP; read end")
	told, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = shell.Process.Kill(); _ = shell.Wait() })
	return shell, func() {
		t.Helper()
		if _, err := told.Write([]byte("go\n")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSignalWaitsForItsHandler: a server that has written its pid file and has
// no handler yet would end on the signal.
func TestSignalWaitsForItsHandler(t *testing.T) {
	shell, listen := starting(t)
	target := pidFile(t, strconv.Itoa(shell.Process.Pid)+"\n/var/lib/postgresql\n")
	name := filepath.Base(shell.Path)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := target.signal(ctx, syscall.SIGHUP, "other", name); fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "does not listen to hangup") {
		t.Errorf("%v", err)
	}
	listen()
	if err := target.signal(t.Context(), syscall.SIGHUP, "other", name); err != nil {
		t.Fatal(err)
	}
	_ = shell.Wait() // it says that it ended with 7
	if code := shell.ProcessState.ExitCode(); code != 7 {
		t.Errorf("it ended by %v", shell.ProcessState)
	}
	// Its file is stale now.
	if err := target.signal(t.Context(), syscall.SIGHUP, name); fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("%v", err)
	}
}

// TestSignalSeesAnEnd: one that ends before it listens is not waited for.
func TestSignalSeesAnEnd(t *testing.T) {
	shell, _ := starting(t)
	target := pidFile(t, strconv.Itoa(shell.Process.Pid))
	process, err := target.process(t.Context(), filepath.Base(shell.Path))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = process.Release() }()
	ended := make(chan error, 1)
	go func() { ended <- target.send(t.Context(), process, syscall.SIGHUP) }()
	if err := shell.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = shell.Wait() // it says that it was killed
	if err := <-ended; fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "has just ended") {
		t.Errorf("%v", err)
	}
}

// TestSignalSparesOthers: the process of another program, this test itself,
// would end on the signal.
func TestSignalSparesOthers(t *testing.T) {
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGHUP)
	defer signal.Stop(heard)
	target := pidFile(t, strconv.Itoa(os.Getpid()))
	err := target.signal(t.Context(), syscall.SIGHUP, "nginx", "postgres")
	if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "and not nginx or postgres (name this server's own pid file as targets.db.pidFile") {
		t.Errorf("%v", err)
	}
	// Whatever was sent before this one would be heard before it.
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	<-heard
	select {
	case <-heard:
		t.Error("another program was signalled")
	default:
	}
}

// TestZombieIsGone: one that has ended and was not yet waited for takes
// signals, and nothing comes of them.
func TestZombieIsGone(t *testing.T) {
	sleep := sleeper(t)
	target := pidFile(t, strconv.Itoa(sleep.Process.Pid))
	if err := sleep.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Waits for its end and leaves it as it is.
	const byPID = 1
	if _, _, errno := syscall.Syscall6(syscall.SYS_WAITID, byPID, uintptr(sleep.Process.Pid), 0, syscall.WEXITED|syscall.WNOWAIT, 0, 0); errno != 0 {
		t.Fatal(errno)
	}
	if err := target.signal(t.Context(), syscall.SIGHUP, sleeps(t)); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("%v", err)
	}
}

func TestPIDFiles(t *testing.T) {
	for _, c := range []struct {
		content string
		code    fault.Code
		want    string
	}{
		{"", fault.Unavailable, "is empty"},
		{"\n\n", fault.Unavailable, "is empty"},
		{"0", fault.Invalid, "number of a process"},
		{"-1", fault.Invalid, "number of a process"},
		{"+1", fault.Invalid, "number of a process"},
		{"12 13", fault.Invalid, "number of a process"},
		{"\n12", fault.Invalid, "number of a process"},
		{"4294967297", fault.Invalid, "number of a process"},
		{"0x10", fault.Invalid, "number of a process"},
		{"user nginx;\n", fault.Invalid, "number of a process"},
		{"1\n" + strings.Repeat("x", maxPIDFile), fault.Invalid, "longer than any"},
		{"2147483647", fault.Unavailable, "has ended"}, // above any pid_max
	} {
		err := pidFile(t, c.content).signal(t.Context(), syscall.SIGHUP, "nginx")
		if fault.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.20q: %v, want %s %q", c.content, err, c.code, c.want)
		}
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{fifo: "is no regular file", t.TempDir(): "is no regular file", "": "names no pid file"} {
		err := Target{Name: "db", Control: &Control{PIDFile: path}}.signal(t.Context(), syscall.SIGHUP, "nginx")
		if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestMissingPIDFile is a stopped server, or a wrong path where the server
// answers all the same.
func TestMissingPIDFile(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(t.TempDir(), "none"), pidFile(t, "2147483647").Control.PIDFile} {
		target := Target{Name: "db", Address: listener.Addr().String(), Control: &Control{PIDFile: path}}
		if err := target.signal(context.Background(), syscall.SIGHUP, "nginx"); fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "listens at "+target.Address) {
			t.Errorf("%v", err)
		}
		target.Address = ""
		if err := target.signal(context.Background(), syscall.SIGHUP, "nginx"); fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("%v", err)
		}
	}
	_ = listener.Close()
}

// TestSignalWithoutLeave tries as a user that may not.
func TestSignalWithoutLeave(t *testing.T) {
	if os.Geteuid() != 0 {
		if err := pidFile(t, "1").signal(t.Context(), syscall.SIGHUP, "systemd", "init", "bash", "sh", "tini"); err == nil {
			t.Error("process 1 was signalled")
		}
		return
	}
	shell, listen := starting(t)
	listen()
	target := pidFile(t, strconv.Itoa(shell.Process.Pid))
	process, err := target.process(t.Context(), filepath.Base(shell.Path))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = process.Release() }()
	asNobody(t, func() { err = target.send(t.Context(), process, syscall.SIGHUP) })
	if fault.CodeOf(err) != fault.Forbidden || !strings.Contains(err.Error(), "run the agent as root or as the server's user") {
		t.Errorf("%v", err)
	}
}

// asNobody runs f on a thread that has put off root, and that ends with it.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	done := make(chan syscall.Errno)
	go func() {
		// Never unlocked: the thread goes with the goroutine.
		runtime.LockOSThread()
		const nobody = 65534
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			done <- errno
			return
		}
		f()
		done <- 0
	}()
	if errno := <-done; errno != 0 {
		t.Fatal(errno)
	}
}
