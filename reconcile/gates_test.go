package reconcile_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/fleettest"
	"github.com/rotunda-pki/rotunda/internal/command"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/reconcile"
)

// waiting is a plane with one placement and a rollout over it that begins in no
// time that a test waits for.
func waiting(t *testing.T, gates ...*api.RolloutGate) (*fleettest.Plane, *api.StartRolloutResponse) {
	t.Helper()
	p := fleettest.NewPlane(t)
	root := t.TempDir()
	host := p.NewHost(map[string]string{"role": "cache", "host": "h"})
	host.Config.Allow.Directories = []string{root}
	host.Start()
	p.Apply(strings.ReplaceAll(cluster, "TREE", root))
	p.Await("first issuance", fleettest.Steady(1, 1))
	started, err := p.StartRollout(t.Context(), fleettest.Operator, &api.StartRolloutRequest{All: true, Spec: &api.RolloutSpec{Gates: gates}})
	if err != nil {
		t.Fatal(err)
	}
	return p, started
}

// Whatever a gate's command does, it is an answer in words, in its time, and
// nothing of it is left behind.
func TestGatesByCommand(t *testing.T) {
	dir := t.TempDir()
	children := filepath.Join(dir, "children")
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	shell := func(script string, limit time.Duration) command.Config {
		return command.Config{Argv: []string{"/bin/sh", "-c", script}, Timeout: command.Duration(limit)}
	}
	tests := map[string]struct {
		config command.Config
		passed bool
		words  string
	}{
		"passes":  {shell(`echo looked; grep -q '"wave":1' && echo "errors are at 0.1%"`, time.Minute), true, "errors are at 0.1%"},
		"silent":  {shell(`exit 0`, time.Minute), true, "it ended with status 0"},
		"facts":   {shell(`tr , '\n' | grep wellBefore`, time.Minute), true, "7"},
		"refuses": {shell(`echo begun; echo "latency is up" >&2; echo; exit 3`, time.Minute), false, "latency is up"},
		"mute":    {shell(`exit 3`, time.Minute), false, "exit status 3"},
		"dies":    {shell(`echo here; kill -9 $$`, time.Minute), false, "signal: killed: here"},
		"hangs": {shell(`setsid sleep 40 & sleep 600 & echo $! $$ >`+children+`; echo "still looking"; wait`, 300*time.Millisecond), false,
			"killed after 300ms, its time limit: still looking"},
		"talks":      {shell(`yes 'line of a log' | head -c 10485760; echo; echo "the end"; exit 1`, time.Minute), false, "the end"},
		"missing":    {command.Config{Argv: []string{"/no/such/check"}}, false, "no such file or directory"},
		"plain":      {command.Config{Argv: []string{plain}}, false, "permission denied"},
		"no-user":    {command.Config{Argv: []string{"/bin/true"}, User: "no-such-user"}, false, "unknown user"},
		"not-utf-8":  {shell(`printf 'a\377b\n'; exit 1`, time.Minute), false, "ab"},
		"undeclared": {command.Config{}, false, "this server has no command undeclared"},
	}
	var gates []*api.RolloutGate
	runs := &reconcile.Gates{Client: http.DefaultClient, Commands: map[string]command.Command{}}
	for name, test := range tests {
		gates = append(gates, &api.RolloutGate{Name: name})
		if name != "undeclared" {
			runs.Commands[name] = test.config.Command(name, "rotunda.yaml")
		}
	}
	p, started := waiting(t, gates...)
	var asks []control.GateAsk
	for name := range tests {
		// More than a pipe holds, for those that read nothing.
		facts := fmt.Sprintf(`{"wellBefore":7,"filling":%q}`, strings.Repeat("x", 1<<20))
		asks = append(asks, control.GateAsk{Rollout: started.Rollout.Id, Name: "all", Wave: 1, Gate: name, Command: name, Facts: []byte(facts)})
	}
	began := time.Now()
	runs.Ask(t.Context(), p.Control, asks, slog.New(slog.DiscardHandler))
	runs.Ask(t.Context(), p.Control, asks, slog.New(slog.DiscardHandler)) // they are under way
	runs.Wait()
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("they took %s", took)
	}
	rollout, err := p.DescribeRollout(t.Context(), fleettest.Operator, &api.DescribeRolloutRequest{Rollout: "all"})
	if err != nil {
		t.Fatal(err)
	}
	if len(rollout.Answers) != len(tests) {
		t.Errorf("%d answers of %d gates", len(rollout.Answers), len(tests))
	}
	for _, a := range rollout.Answers {
		if test := tests[a.Gate]; a.Passed != test.passed || !strings.Contains(a.Words, test.words) {
			t.Errorf("gate %s: passed %v, %q; want %v, %q", a.Gate, a.Passed, a.Words, test.passed, test.words)
		}
	}
	content, err := os.ReadFile(children)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range strings.Fields(string(content)) {
		pid, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		p.Await("the command's children are killed", func([]*api.PlacementStatus) bool { return !alive(pid) })
	}
}

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ") && syscall.Kill(pid, 0) == nil
}

// A server that stops kills what it asked, and what that would have said is no
// answer: it is asked again.
func TestStopIsNoAnswer(t *testing.T) {
	p, started := waiting(t, &api.RolloutGate{Name: "slow"})
	begun := filepath.Join(t.TempDir(), "begun")
	if err := syscall.Mkfifo(begun, 0o600); err != nil {
		t.Fatal(err)
	}
	runs := &reconcile.Gates{Commands: map[string]command.Command{
		"slow": command.Config{Argv: []string{"/bin/sh", "-c", "echo $$ >" + begun + "; sleep 600"}}.Command("slow", "rotunda.yaml"),
	}}
	ctx, stop := context.WithCancel(t.Context())
	runs.Ask(ctx, p.Control, []control.GateAsk{{Rollout: started.Rollout.Id, Name: "all", Wave: 1, Gate: "slow", Command: "slow", Facts: []byte("{}")}}, slog.New(slog.DiscardHandler))
	text, err := os.ReadFile(begun) // blocks until it runs
	if err != nil {
		t.Fatal(err)
	}
	stop()
	runs.Wait()
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || alive(pid) {
		t.Errorf("%q runs yet: %v", text, err)
	}
	rollout, err := p.DescribeRollout(t.Context(), fleettest.Operator, &api.DescribeRolloutRequest{Rollout: "all"})
	if err != nil || len(rollout.Answers) != 0 {
		t.Errorf("answers %v, %v", rollout.GetAnswers(), err)
	}
}

// The server asks by the commands of its own configuration, and by no others; a
// command that hangs holds its own rollout and nothing else.
func TestServerAsksByCommand(t *testing.T) {
	p := fleettest.NewPlane(t)
	p.Stop()
	p.Config.Commands = map[string]command.Config{
		"check": {Argv: []string{"/bin/sh", "-c", `grep -q '"rollout":"good"' && echo fine`}},
		"hang":  {Argv: []string{"/bin/sleep", "600"}, Timeout: command.Duration(20 * time.Minute)},
	}
	p.Start()
	root := t.TempDir()
	host := p.NewHost(map[string]string{"role": "cache", "host": "h"})
	host.Config.Allow.Directories = []string{root}
	host.Start()
	p.Apply(strings.ReplaceAll(cluster, "TREE", root))
	p.Await("first issuance", fleettest.Steady(1, 1))
	start := func(name string, gate *api.RolloutGate) error {
		_, err := p.StartRollout(t.Context(), fleettest.Operator, &api.StartRolloutRequest{
			Name: name, Intent: "cache", Spec: &api.RolloutSpec{PerMinute: 1000, Steps: []string{"100%"}, Gates: []*api.RolloutGate{gate}},
		})
		return err
	}
	for _, gate := range []*api.RolloutGate{{Name: "g", Command: "rm"}, {Name: "g", Command: "/bin/true"}, {Name: "g", Command: "check", Webhook: "https://x.example/"}} {
		if err := start("refused", gate); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("gate %v: %v", gate, err)
		}
	}
	if err := start("stuck", &api.RolloutGate{Name: "g", Command: "hang"}); err != nil {
		t.Fatal(err)
	}
	p.Await("the first one rotated", fleettest.Steady(1, 2))
	if err := start("good", &api.RolloutGate{Name: "g", Command: "check"}); err != nil {
		t.Fatal(err)
	}
	var good *api.DescribeRolloutResponse
	p.Await("the second rollout is done", func([]*api.PlacementStatus) bool {
		var err error
		good, err = p.DescribeRollout(t.Context(), fleettest.Operator, &api.DescribeRolloutRequest{Rollout: "good"})
		return err == nil && good.Rollout.State == "done"
	})
	if len(good.Answers) != 1 || good.Answers[0].Words != "fine" || good.Answers[0].By != "server" {
		t.Errorf("answers %v", good.Answers)
	}
	stuck, err := p.DescribeRollout(t.Context(), fleettest.Operator, &api.DescribeRolloutRequest{Rollout: "stuck"})
	if err != nil || stuck.Rollout.State != "running" {
		t.Errorf("%v, %v", stuck.GetRollout().GetState(), err)
	}
}
