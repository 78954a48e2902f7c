package rootchange

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/internal/loopback"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// limit bounds every wait: far above what anything takes.
const limit = 90 * time.Second

// domain is a trust domain whose server and agents are processes.
type domain struct {
	t       *testing.T
	binary  string
	dir     string // for everybody to enter
	listen  [4]string
	server  *process
	agents  map[string]*process // by host
	targets map[string]map[string]any
	// commands of agent.yaml, by host.
	commands map[string]map[string]any
}

// process is one of the product's, which can be killed and started again.
type process struct {
	argv []string
	log  string

	mu      sync.Mutex
	command *exec.Cmd
	ended   chan struct{}
}

// found builds the product and makes a trust domain with a running server.
func found(t *testing.T) *domain {
	t.Helper()
	d := &domain{t: t, dir: targettest.Dir(t, "rootchange-"), agents: map[string]*process{}, targets: map[string]map[string]any{}, commands: map[string]map[string]any{}}
	d.binary = filepath.Join(d.dir, "rotunda")
	build := exec.Command("go", "build", "-o", d.binary, "./cmd/rotunda")
	build.Dir = "../.."
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	for i := range d.listen {
		address, err := loopback.Reserve()
		if err != nil {
			t.Fatal(err)
		}
		d.listen[i] = address
	}
	d.rotunda("init", "--state", d.path("state"), "--trust-domain", "lab.test", "--name", "localhost,127.0.0.1", "--permit-dns", "localhost",
		"--listen-agents", d.listen[0], "--listen-operators", d.listen[1], "--listen-public", d.listen[2], "--listen-metrics", "")
	d.server = &process{argv: []string{d.binary, "server", "--state", d.path("state")}, log: d.path("server.log")}
	t.Cleanup(func() { d.server.kill() })
	d.serve()
	return d
}

func (d *domain) path(name string) string { return filepath.Join(d.dir, name) }

// serve starts the server and waits until it answers.
func (d *domain) serve() {
	d.t.Helper()
	if err := d.server.start(); err != nil {
		d.t.Fatal(err)
	}
	d.until("the server answers", func() error {
		_, err := d.try("get", "authorities")
		return err
	})
}

// try runs one command and returns what it printed.
func (d *domain) try(arguments ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	command := exec.CommandContext(ctx, d.binary, arguments...)
	command.Env = append(os.Environ(), "ROTUNDA_CREDENTIALS="+d.path("state/admin"))
	command.Dir = d.dir
	var out, said bytes.Buffer
	command.Stdout, command.Stderr = &out, &said
	if err := command.Run(); err != nil {
		return out.String(), fmt.Errorf("rotunda %s: %w: %s", strings.Join(arguments, " "), err, said.String())
	}
	return out.String(), nil
}

// rotunda is try that must succeed.
func (d *domain) rotunda(arguments ...string) string {
	d.t.Helper()
	out, err := d.try(arguments...)
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

// apply declares documents.
func (d *domain) apply(documents string) {
	d.t.Helper()
	path := d.path("fleet.yaml")
	targettest.Write(d.t, path, documents, 0o600, "")
	d.rotunda("apply", "-f", path)
}

// enrol starts an agent on a host of that name.
func (d *domain) enrol(host string) {
	d.t.Helper()
	d.configure(host)
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(d.rotunda("token", "create", "--label", "host="+host, "-o", "json")), &made); err != nil {
		d.t.Fatal(err)
	}
	token := d.path(host + ".token")
	targettest.Write(d.t, token, made.Token+"\n", 0o600, "")
	p := &process{argv: []string{d.binary, "agent", "--config", d.path(host + ".yaml"), "--token-file", token}, log: d.path(host + ".log")}
	d.agents[host] = p
	d.t.Cleanup(func() { p.kill() })
	if err := p.start(); err != nil {
		d.t.Fatal(err)
	}
}

// configure writes agent.yaml of a host.
func (d *domain) configure(host string) {
	d.t.Helper()
	targets := d.targets[host]
	if targets == nil {
		targets = map[string]any{}
	}
	commands := d.commands[host]
	if commands == nil {
		commands = map[string]any{}
	}
	text, err := json.Marshal(map[string]any{ // JSON is YAML
		"servers": []string{d.listen[0]}, "state": d.path(host + "-state"), "targets": targets, "commands": commands,
		"allow": map[string]any{"directories": []string{d.dir}, "users": []string{"redis", "postgres"}},
	})
	if err != nil {
		d.t.Fatal(err)
	}
	targettest.Write(d.t, d.path(host+".yaml"), string(text), 0o600, "")
}

// until asks again until there is no error.
func (d *domain) until(what string, ask func() error) {
	d.t.Helper()
	end := time.Now().Add(limit)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			d.t.Fatalf("never: %s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond) // the pace of asking
	}
}

func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.Command(p.argv[0], p.argv[1:]...)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { _ = command.Wait(); close(ended) }()
	p.command, p.ended = command, ended
	return nil
}

// kill ends the process at once, and waits until it has.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.command != nil {
		_ = p.command.Process.Kill()
		<-p.ended
		p.command = nil
	}
}

// change is a change of trust as the command line shows it.
type change struct {
	ID      string     `json:"id"`
	Phase   string     `json:"phase"`
	EndedAt *time.Time `json:"endedAt"`
	Old     struct{ Root, Issuing string }
	New     struct{ Root, Issuing string }
	Waits   []struct{ Who, Reason, Remedy string }
}

func (c change) waits() string {
	var all []string
	for _, wait := range c.Waits {
		all = append(all, strings.TrimSpace(wait.Who+" "+wait.Reason)+" | "+wait.Remedy)
	}
	return strings.Join(all, "\n")
}

// rotate begins to replace the root whose key is in a directory.
func (d *domain) rotate(old, next string) string {
	d.t.Helper()
	var begun struct{ Change change }
	text := d.rotunda("trust", "rotate", "root", "--root-key", filepath.Join(old, "key.pem"), "--new-root", d.path(next),
		"--reason", "drill", "--through", "done", "--per-minute", "600", "-o", "json")
	if err := json.Unmarshal([]byte(text), &begun); err != nil {
		d.t.Fatal(err)
	}
	return begun.Change.ID
}

// status is how a change stands; the server may be away.
func (d *domain) status(id string) (change, error) {
	text, err := d.try("trust", "status", id, "-o", "json")
	if err != nil {
		return change{}, err
	}
	var list struct{ Changes []change }
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list.Changes) != 1 {
		return change{}, fmt.Errorf("trust status prints %s: %w", text, err)
	}
	return list.Changes[0], nil
}

// follow looks at a change until it has ended. entered is called at each phase
// when it is first seen.
func (d *domain) follow(id string, entered func(change)) (phases []string) {
	d.t.Helper()
	end := time.Now().Add(3 * limit)
	for {
		now, err := d.status(id)
		if err == nil && (len(phases) == 0 || phases[len(phases)-1] != now.Phase) {
			phases = append(phases, now.Phase)
			if entered != nil {
				entered(now)
			}
		}
		if err == nil && now.EndedAt != nil {
			return phases
		}
		if err == nil && now.Phase == "drain" {
			if _, err := d.try("operator", "renew"); err != nil {
				d.t.Logf("operator renew: %v", err)
			}
		}
		if time.Now().After(end) {
			placements, _ := d.try("status")
			d.t.Fatalf("after %v the change is at %s and waits for:\n%s\n%v\n%s\n%s", phases, now.Phase, now.waits(), err, placements, tail(d.server.log))
		}
		time.Sleep(100 * time.Millisecond) // the pace of looking
	}
}

func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4000):])
}
