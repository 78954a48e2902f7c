package fleettest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// build makes rotunda as operators run it.
func build(t testing.TB, args ...string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "rotunda")
	args = append(append([]string{"build", "-ldflags", "-s -w", "-o", binary}, args...), "../cmd/rotunda")
	if output, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return binary
}

// program is a process of rotunda. It ends with the test at the latest.
type program struct {
	t     testing.TB
	cmd   *exec.Cmd
	log   *programLog
	ended chan struct{}
}

// serve runs the plane's server as a program, and returns when it is ready.
func (p *Plane) serve(binary string) *program {
	p.t.Helper()
	started := p.launch(binary)
	started.awaitReady()
	return started
}

// launch starts the plane's server as a program.
func (p *Plane) launch(binary string) *program {
	p.t.Helper()
	p.writeConfig()
	return launch(p.t, "server", binary, "server", "--state", p.Dir)
}

func (p *Plane) writeConfig() {
	p.t.Helper()
	content, err := yaml.Marshal(p.Config)
	p.must(err)
	p.must(os.WriteFile(filepath.Join(p.Dir, "rotunda.yaml"), content, 0o600))
}

// launch starts the host's agent as a program, with words before its command
// line perhaps.
func (h *Host) launch(binary string, before ...string) *program {
	h.t.Helper()
	content, err := yaml.Marshal(h.Config)
	if err != nil {
		h.t.Fatal(err)
	}
	dir := h.t.TempDir()
	config, token := filepath.Join(dir, "agent.yaml"), filepath.Join(dir, "token")
	for path, content := range map[string][]byte{config: content, token: []byte(h.Token)} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
	return launch(h.t, "agent", append(before, binary, "agent", "--config", config, "--token-file", token)...)
}

func launch(t testing.TB, part string, argv ...string) *program {
	t.Helper()
	p := &program{
		t: t, cmd: exec.Command(argv[0], argv[1:]...), ended: make(chan struct{}),
		log: &programLog{t: t, part: part, ready: make(chan struct{})},
	}
	p.cmd.Stderr, p.cmd.SysProcAttr = p.log, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // ProcessState has it
		close(p.ended)
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *program) awaitReady() {
	p.t.Helper()
	select {
	case <-p.log.ready:
	case <-p.ended:
		p.t.Fatalf("the %s ended: %s", p.log.part, p.log.text())
	case <-time.After(Patience):
		p.t.Fatalf("the %s is not ready: %s", p.log.part, p.log.text())
	}
}

func (p *program) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// stop ends it in order.
func (p *program) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(Patience):
		p.t.Fatalf("the %s does not end", p.log.part)
	}
	if !p.cmd.ProcessState.Success() {
		p.t.Errorf("the %s: %s\n%s", p.log.part, p.cmd.ProcessState, p.log.text())
	}
}

// programLog keeps what a program says, and shows it when the test fails.
type programLog struct {
	t     testing.TB
	part  string
	ready chan struct{} // closed when it says that it is

	mu   sync.Mutex
	said bytes.Buffer
	is   bool
}

func (l *programLog) Write(piece []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said.Write(piece)
	if !l.is && bytes.Contains(l.said.Bytes(), []byte(`"msg":"ready"`)) {
		l.is = true
		close(l.ready)
	}
	return l.t.Output().Write(piece)
}

// text is the last of what it said.
func (l *programLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.said.String()
	return text[max(0, len(text)-4000):]
}
