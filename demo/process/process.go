// Package process starts the demo's processes and ends them, each by its own
// id, whatever way the demo itself ends.
//
// Every process has a session of its own, so that Ctrl-C reaches the demo
// alone, and its output goes to a log file. If the demo is killed, the kernel
// takes its children along on Linux; those of the demo's own also see their
// lifeline end, which rotunda exec hands on to them.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// grace is how long a process may take to end when asked to.
const grace = 5 * time.Second

// Process is one running child.
type Process struct {
	Name string
	PID  int
	Log  string // path

	command *exec.Cmd
	done    chan struct{}
	err     error // why it ended; read it after done
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended says how the process ended, with the end of its log. Call it after
// Done.
func (p *Process) Ended() error {
	<-p.done
	how := "it exited with code 0"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("%s (process %d) ended: %s; the end of %s:\n%s", p.Name, p.PID, how, p.Log, tail(p.Log, 12))
}

func (p *Process) end() {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(grace):
		_ = p.command.Process.Kill()
		<-p.done
	}
}

// Family is the processes of one run, and its logs' directory.
type Family struct {
	Logs string

	orphans bool // they may outlive this process

	mu      sync.Mutex
	members []*Process
	closed  bool
	// The children's standard input is one end of a pipe, and nobody ever
	// writes to the other, which is closed when this process is gone.
	lifeline, held *os.File
	lost           chan *Process
	lostOne        sync.Once
}

// NewFamily makes a family whose logs lie in the directory. Unless its members
// are orphans, they are to end with this process.
func NewFamily(logs string, orphans bool) (*Family, error) {
	f := &Family{Logs: logs, orphans: orphans, lost: make(chan *Process, 1)}
	if orphans {
		return f, nil
	}
	var err error
	if f.lifeline, f.held, err = os.Pipe(); err != nil {
		return nil, fmt.Errorf("make the lifeline: %w", err)
	}
	return f, nil
}

// Start runs argv as a process called name, which belongs to the family.
func (f *Family) Start(name string, environment []string, argv ...string) (*Process, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, fmt.Errorf("start %s: the demo is ending", name)
	}
	log, err := os.OpenFile(filepath.Join(f.Logs, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", name, err)
	}
	defer log.Close() // the child has its own
	command := exec.Command(argv[0], argv[1:]...)
	command.Env = append(os.Environ(), environment...)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = attributes(!f.orphans)
	if f.lifeline != nil { // a nil *os.File must not become an io.Reader
		command.Stdin = f.lifeline
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{Name: name, PID: command.Process.Pid, Log: log.Name(), command: command, done: make(chan struct{})}
	f.members = append(f.members, p)
	go f.await(p)
	return p, nil
}

func (f *Family) await(p *Process) {
	p.err = p.command.Wait()
	close(p.done)
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.lostOne.Do(func() { f.lost <- p })
	}
}

// Lost yields the first process that ended although nobody asked it to.
func (f *Family) Lost() <-chan *Process { return f.lost }

// IDs lists the processes that still run, the youngest first.
func (f *Family) IDs() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ids []int
	for i := len(f.members) - 1; i >= 0; i-- {
		select {
		case <-f.members[i].done:
		default:
			ids = append(ids, f.members[i].PID)
		}
	}
	return ids
}

// End ends all processes, the youngest first, and waits for each.
func (f *Family) End() {
	f.mu.Lock()
	f.closed = true
	members := f.members
	f.mu.Unlock()
	for i := len(members) - 1; i >= 0; i-- {
		members[i].end()
	}
	if f.held != nil {
		_ = f.held.Close() // only ever held
		_ = f.lifeline.Close()
	}
}

// Run runs argv to its end and returns what it wrote to standard output. An
// error holds what it wrote to standard error.
func Run(ctx context.Context, environment []string, argv ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, argv[0], argv[1:]...)
	command.Env = append(os.Environ(), environment...)
	command.SysProcAttr = attributes(true)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = grace
	var said strings.Builder
	command.Stderr = &said
	out, err := command.Output()
	if err != nil {
		return out, &Failure{Argv: argv, Said: strings.TrimSpace(said.String()), Err: errors.Join(ctx.Err(), err)}
	}
	return out, nil
}

// Failure is a command that did not succeed.
type Failure struct {
	Argv []string
	Said string // on standard error
	Err  error
}

func (e *Failure) Error() string {
	return fmt.Sprintf("%s: %v\n%s", strings.Join(append([]string{filepath.Base(e.Argv[0])}, e.Argv[1:]...), " "), e.Err, e.Said)
}

func (e *Failure) Unwrap() error { return e.Err }

// tail is the last lines of a file, or what stood in the way of reading them.
func tail(path string, lines int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(content)), "\n")
	return "  " + strings.Join(all[max(0, len(all)-lines):], "\n  ")
}

// Bound is how a helper of the demo is started that must not outlive it.
func Bound() *syscall.SysProcAttr { return attributes(true) }
