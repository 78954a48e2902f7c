package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rotunda-pki/rotunda/agent"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/target"
)

func TestTargetsPrintsATableThatFitsAScreen(t *testing.T) {
	code, out, errs := rotunda("targets")
	if code != exitOK || errs != "" {
		t.Fatalf("exit %d: %s", code, errs)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) > 24 {
		t.Errorf("%d lines are more than a screen", len(lines))
	}
	for _, line := range lines {
		if width := utf8.RuneCountInString(line); width > 80 {
			t.Errorf("%d columns: %s", width, line)
		}
	}
	for i, adapter := range target.Adapters() {
		if word, _, _ := strings.Cut(lines[1+i], " "); word != string(adapter.Kind) {
			t.Errorf("line %d is of %q, want %s", 1+i, word, adapter.Kind)
		}
	}
	for _, want := range []string{
		"KIND       LEAF  KEY TYPE  +CA  -CA  CRL  STAPLE  CONNECTIONS  BROKEN PAIR",
		"etcd       ●     ●         ◐    ◐    ●    ·       stay         taken",
		"files      ?     ?         ?    ?    ?    ?       ?            ?",
		"memcached  ●     ◐         ●    ◐    ·    ·       stay         taken",
		"redis      ●     ●         ●    ●    ·    ·       stay         refused",
	} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("this line is missing:\n%s\nfrom:\n%s", want, out)
		}
	}
	code, out, _ = rotunda("targets", "-o", "json")
	var rows []struct{ Kind, AnchorAdd string }
	if err := json.Unmarshal([]byte(out), &rows); err != nil || code != exitOK || len(rows) != len(target.Adapters()) || rows[0].AnchorAdd != "restart" {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
}

// The README shows lines of the table: they are in it.
func TestREADMEShowsTheTable(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, out, _ := rotunda("targets")
	shown := 0
	for line := range strings.Lines(string(readme)) {
		if line = strings.TrimSpace(line); strings.Count(line, "●") > 1 {
			shown++
			if !strings.Contains(out, line+"\n") {
				t.Errorf("the README shows %q, and rotunda targets does not", line)
			}
		}
	}
	if shown < 3 {
		t.Errorf("the README shows %d kinds", shown)
	}
}

func TestTargetsShowsOneKindInFull(t *testing.T) {
	for _, adapter := range target.Adapters() {
		code, out, errs := rotunda("targets", string(adapter.Kind))
		if code != exitOK || errs != "" || !strings.Contains(out, adapter.Title) || !strings.Contains(out, oneLine(adapter.BrokenPair)) {
			t.Errorf("%s: exit %d, %s\n%s", adapter.Kind, code, errs, out)
		}
		_, lines, has := strings.Cut(out, "fitted to the host\n")
		if has != (adapter.Control != "") || has && !strings.Contains(lines, "kind: "+string(adapter.Kind)) {
			t.Errorf("%s: its control path is %q:\n%s", adapter.Kind, adapter.Control, out)
		}
	}
	if code, out, _ := rotunda("targets", "redis", "-o", "json"); code != exitOK || !strings.HasPrefix(out, "{") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if code, _, errs := rotunda("targets", "mongodb"); code != exitError || !strings.Contains(errs, `"mongodb" is unknown`) || !strings.Contains(errs, "hint: use one of etcd, files") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if code, out, _ := rotunda("__complete", "targets", ""); code != exitOK || !strings.Contains(out, "rabbitmq\tRabbitMQ\n") {
		t.Errorf("exit %d:\n%s", code, out)
	}
}

// The lines that are shown for agent.yaml are lines that an agent takes.
func TestControlLinesAreAnAgents(t *testing.T) {
	for _, adapter := range target.Adapters() {
		lines := control.ControlLines(adapter.Kind, "one")
		config, err := agent.ParseConfig("agent.yaml", []byte("servers: [\"control.example.com:7443\"]\n"+strings.Join(lines, "\n")+"\n"))
		if err != nil {
			t.Errorf("%s: %v", adapter.Kind, err)
		} else if len(lines) > 0 && config.Targets["one"].Kind != string(adapter.Kind) {
			t.Errorf("%s: read as %+v", adapter.Kind, config.Targets)
		}
	}
}
