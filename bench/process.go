package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rotunda-pki/rotunda/internal/loopback"
	"github.com/rotunda-pki/rotunda/internal/measure"
)

// process is a child of the bench. It ends with it.
type process struct {
	command *exec.Cmd
	lines   chan string // of stderr
}

func start(ctx context.Context, binary string, args ...string) (*process, error) {
	command := exec.CommandContext(ctx, binary, args...)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := command.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	p := &process{command, make(chan string, 1024)}
	go func() {
		defer close(p.lines)
		for scanner := bufio.NewScanner(stderr); scanner.Scan(); {
			select {
			case p.lines <- scanner.Text():
			default:
			}
		}
	}()
	return p, nil
}

func (p *process) stop() error {
	p.command.Process.Signal(syscall.SIGTERM)
	return p.command.Wait()
}

func (p *process) number() measure.Process { return measure.Process(p.command.Process.Pid) }

// bench is a trust domain of its own in a temporary directory.
type bench struct {
	binary, dir             string
	agents, operators, http string // addresses
}

func newBench(ctx context.Context, binary string) (*bench, error) {
	path, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "rotunda-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{binary: path, dir: dir}
	for _, address := range []*string{&b.agents, &b.operators, &b.http} {
		if *address, err = loopback.Reserve(); err != nil {
			return nil, err
		}
	}
	return b, b.rotunda(ctx, "init", "--state", b.state(), "--trust-domain", "bench.example", "--name", "localhost,127.0.0.1",
		"--listen-agents", b.agents, "--listen-operators", b.operators, "--listen-public", b.http, "--listen-metrics", "")
}

func (b *bench) state() string { return filepath.Join(b.dir, "server") }

// delivery is where the bench's intent has its files put.
func (b *bench) delivery() string { return filepath.Join(b.dir, "tls") }

func (b *bench) close() { os.RemoveAll(b.dir) }

// rotunda runs one command of the binary to its end.
func (b *bench) rotunda(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, b.binary, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("rotunda %s: %w\n%s", args[0], err, out)
	}
	return nil
}

// token makes an enrolment token for a host of that name.
func (b *bench) token(ctx context.Context, host string) (string, error) {
	out, err := exec.CommandContext(ctx, b.binary, "token", "create", "--state", b.state(), "--label", "host="+host, "-o", "json").Output()
	return string(out), err
}

// server starts the control plane and waits until it is ready.
func (b *bench) server(ctx context.Context) (*process, error) {
	p, err := start(ctx, b.binary, "server", "--state", b.state())
	if err != nil {
		return nil, err
	}
	for line := range p.lines {
		if strings.Contains(line, `"msg":"ready"`) {
			return p, nil
		}
	}
	return nil, fmt.Errorf("the server ended before it was ready: %w", p.command.Wait())
}

// timeToReady starts the server many times and takes the median from exec to
// the first good answer of /readyz.
func (b *bench) timeToReady(ctx context.Context, starts int) ([]Result, error) {
	var times []float64
	for range starts {
		began := time.Now()
		p, err := b.server(ctx)
		if err != nil {
			return nil, err
		}
		response, err := http.Get("http://" + b.http + "/readyz")
		if err != nil {
			return nil, err
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("/readyz says %s", response.Status)
		}
		times = append(times, float64(time.Since(began).Microseconds())/1000)
		if err := p.stop(); err != nil {
			return nil, fmt.Errorf("stop the server: %w", err)
		}
	}
	return []Result{{Name: "server: start to ready", Value: measure.Median(times), Unit: "ms", Target: "≤ 150"}}, nil
}
