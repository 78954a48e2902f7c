package agent

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/internal/command"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/rotation"
	"github.com/rotunda-pki/rotunda/target"
)

func commandRules(commands map[string]command.Config) *HostRules {
	return (&Config{Commands: commands}).HostRules()
}

func TestCommandIsKilledWithItsChildren(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	h := commandRules(map[string]command.Config{"hang": {
		Argv: []string{"/bin/sh", "-c", "sleep 60 & echo $! >" + pidFile + "; echo begun; wait"}, Timeout: command.Duration(300 * time.Millisecond)}})
	began := time.Now()
	output, err := h.runCommand(t.Context(), "hang")
	if err == nil || !strings.Contains(err.Error(), "its time limit") || !strings.Contains(output, "begun") {
		t.Fatalf("%q, %v", output, err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("killing took %s", took)
	}
	text, err := os.ReadFile(pidFile)
	check(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	check(t, err)
	waitFor(t, "the command's child to be killed", func() bool {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ") || syscall.Kill(pid, 0) != nil
	})
}

func TestCommandEnds(t *testing.T) {
	h := commandRules(map[string]command.Config{
		"good":   {Argv: []string{"/bin/sh", "-c", "echo fine; env"}, Timeout: command.Duration(10 * time.Second)},
		"bad":    {Argv: []string{"/bin/sh", "-c", "echo why >&2; exit 7"}, Timeout: command.Duration(10 * time.Second)},
		"none":   {Argv: []string{"/no/such/program"}, Timeout: command.Duration(10 * time.Second)},
		"nobody": {Argv: []string{"/bin/true"}, User: "no-such-user", Timeout: command.Duration(10 * time.Second)},
		"long":   {Argv: []string{"/bin/sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"}, Timeout: command.Duration(30 * time.Second)},
		"leaves": {Argv: []string{"/bin/sh", "-c", "setsid sleep 30 & echo left"}, Timeout: command.Duration(20 * time.Second)},
	})
	t.Setenv("SECRET_OF_THE_AGENT", "token")
	output, err := h.runCommand(t.Context(), "good")
	if err != nil || !strings.Contains(output, "fine") || strings.Contains(output, "SECRET_OF_THE_AGENT") {
		t.Errorf("good: %q, %v", output, err)
	}
	if output, err := h.runCommand(t.Context(), "bad"); err == nil || !strings.Contains(err.Error(), "status 7") || !strings.Contains(output, "why") {
		t.Errorf("bad: %q, %v", output, err)
	}
	if _, err := h.runCommand(t.Context(), "none"); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("none: %v", err)
	}
	if _, err := h.runCommand(t.Context(), "nobody"); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("nobody: %v", err)
	}
	if _, err := h.runCommand(t.Context(), "undeclared"); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("undeclared: %v", err)
	}
	if output, err := h.runCommand(t.Context(), "long"); err != nil || len(output) > command.MaxOutput || !strings.HasSuffix(output, "line 19999\n") {
		t.Errorf("long: %d bytes, %v", len(output), err)
	}
	began := time.Now()
	if output, err := h.runCommand(t.Context(), "leaves"); err != nil || !strings.Contains(output, "left") || time.Since(began) > 15*time.Second {
		t.Errorf("leaves: %q, %v after %s", output, err, time.Since(began))
	}
}

func TestCommandRunsAsItsUser(t *testing.T) {
	needRoot(t, "running as another user")
	account, err := user.Lookup("daemon")
	check(t, err)
	h := commandRules(map[string]command.Config{"who": {Argv: []string{"/usr/bin/id"}, User: "daemon", Timeout: command.Duration(10 * time.Second)}})
	output, err := h.runCommand(t.Context(), "who")
	if err != nil || !strings.Contains(output, "uid="+account.Uid+"(daemon)") || strings.Contains(output, "groups=0") || strings.Contains(output, "root") {
		t.Errorf("%q, %v", output, err)
	}
}

// What starts a program has that program's time, beside the proof's own.
func TestProgramsHaveTheirOwnTime(t *testing.T) {
	p := &placement{e: &Executor{ExecutorOptions: ExecutorOptions{Host: commandRules(map[string]command.Config{"restart": {Timeout: command.Duration(time.Minute)}})}}}
	w := &wish{}
	w.proof.timeout = 3 * time.Second
	control := func(program string) target.Target { return target.Target{Control: &target.Control{Program: program}} }
	for name, c := range map[string]struct {
		act   target.Act
		limit time.Duration
		looks time.Duration
	}{
		"no control path": {target.Act{}, 3 * time.Second, 10 * time.Second},
		"a socket":        {target.Act{Target: control("")}, 3 * time.Second, 10 * time.Second},
		"rabbitmqctl":     {target.Act{Target: control("/usr/sbin/rabbitmqctl")}, 33 * time.Second, 30 * time.Second},
		"a command":       {target.Act{Command: "restart", Target: control("/usr/sbin/rabbitmqctl")}, 63 * time.Second, 30 * time.Second},
	} {
		if limit, err := p.limit(w, c.act); err != nil || limit != c.limit {
			t.Errorf("%s: %s, %v", name, limit, err)
		}
		if looks := patience(c.act.Target); looks != c.looks {
			t.Errorf("%s: looks for %s", name, looks)
		}
	}
	if _, err := p.limit(w, target.Act{Command: "unknown"}); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("a command that agent.yaml does not name: %v", err)
	}
}

// However much a command prints, a report stays one that the control plane takes.
func TestReportsAreClipped(t *testing.T) {
	p := newPlacement(&Executor{ExecutorOptions: ExecutorOptions{Now: time.Now}, version: make(chan struct{}), changed: make(chan struct{}, 1)}, "p1")
	long := strings.Repeat("é", 100<<10)
	p.contact.product = long
	p.record.Failure = &failure{Step: "check", Reason: long, At: time.Now()}
	p.record.Pending = long
	publish := map[string]func(){
		"published": func() {
			p.publish(&wished{wish: &wish{}}, rotation.Facts{}, rotation.Step{Action: rotation.Wait, Reason: long})
		},
		"wrong": func() {
			p.contact.err = errors.New(long)
			p.publish(&wished{wish: &wish{}}, rotation.Facts{}, rotation.Step{Action: rotation.Wait})
		},
		"blocked": func() { p.publishBlocked(errors.New(long)) },
	}
	for name, do := range publish {
		do()
		report := p.shown.Load()
		if size := proto.Size(report); size > 4<<10 {
			t.Errorf("%s: %d bytes", name, size)
		}
		if _, err := proto.Marshal(report); err != nil { // a letter is not cut in two
			t.Errorf("%s: %v", name, err)
		}
		if !strings.HasPrefix(report.GetReason(), "éé") || !strings.HasSuffix(report.GetReason(), "…") {
			t.Errorf("%s: reason of %d bytes", name, len(report.GetReason()))
		}
	}
	if r := p.record.Failure.Reason; r != long {
		t.Error("the record is clipped")
	}
}
