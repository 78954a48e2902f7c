package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/rotunda-pki/rotunda/api"
)

func TestRelative(t *testing.T) {
	now := time.Date(2026, 3, 1, 14, 2, 0, 0, time.UTC)
	for away, want := range map[time.Duration]string{
		0: "now", 400 * time.Millisecond: "now", time.Second: "in 1s", -59 * time.Second: "59s ago",
		-time.Minute: "1m ago", 59*time.Minute + 59*time.Second: "in 1h", 90 * time.Minute: "in 1h30m",
		24*time.Hour - time.Second: "in 24h", 71 * time.Hour: "in 71h", 30 * 24 * time.Hour: "in 30d",
		-25 * time.Hour: "25h ago", 9*time.Hour + 59*time.Minute: "in 9h59m", 11*time.Hour + 59*time.Minute: "in 11h",
	} {
		if got := relative(now, timestamppb.New(now.Add(away))); got != want {
			t.Errorf("%v away: %q, want %q", away, got, want)
		}
	}
	if relative(now, nil) != "" || since(now, nil) != "" || exact(now, nil) != "" || short(nil) != "" {
		t.Error("a time that is not set is not empty")
	}
}

func TestSince(t *testing.T) {
	zone := time.FixedZone("east", 2*60*60)
	now := time.Date(2026, 3, 1, 1, 0, 0, 0, zone) // still yesterday in UTC
	for at, want := range map[time.Time]string{
		now.Add(-30 * time.Minute): "since 00:30",
		now.Add(-2 * time.Hour):    "since Feb 28 23:00",
		now.AddDate(-1, 0, 0):      "since 2025-03-01",
	} {
		if got := since(now, timestamppb.New(at)); got != want {
			t.Errorf("%v: %q, want %q", at, got, want)
		}
	}
}

func TestShort(t *testing.T) {
	for took, want := range map[time.Duration]string{
		214499 * time.Microsecond: "214ms", 1349 * time.Millisecond: "1.3s", 61400 * time.Millisecond: "1m1s",
	} {
		if got := short(durationpb.New(took)); got != want {
			t.Errorf("%v: %q, want %q", took, got, want)
		}
	}
}

func TestTableFitsTheTerminal(t *testing.T) {
	table := newTable("NAME", "REASON")
	table.row("ünï", cell{"a reason that is longer than the terminal is wide", bad})
	table.row("", "short\nand \x1b[2J steering")
	lines := table.lines(&ui{width: 30})
	want := []string{"NAME  REASON", "ünï   a reason that is longer…", "-     short and �[2J steering"}
	if strings.Join(lines, "|") != strings.Join(want, "|") {
		t.Errorf("on a terminal:\n%s", strings.Join(lines, "\n"))
	}
	if lines = table.lines(&ui{}); !strings.HasSuffix(lines[1], "terminal is wide") {
		t.Errorf("in a pipe it is cut: %s", lines[1])
	}
	lines = table.lines(&ui{width: 30, colour: true})
	if want := "ünï   \x1b[31ma reason that is longer…\x1b[0m"; lines[1] != want {
		t.Errorf("in colour: %q, want %q", lines[1], want)
	}
}

func TestScreenFits(t *testing.T) {
	v := &screen{ui: &ui{width: 80, height: 10, now: time.Unix(0, 0)}}
	if frame := v.frame(); len(frame) != 2 || !strings.HasPrefix(frame[0], "waiting for the server") {
		t.Errorf("before anything is known: %q", frame)
	}
	v.heard = true
	var placements []*api.PlacementStatus
	for range 30 {
		placements = append(placements, &api.PlacementStatus{Intent: "orders", State: api.State_STATE_STEADY, Reason: strings.Repeat("long ", 50)})
	}
	v.shown = placementScene(placements)
	frame := v.frame()
	if len(frame) != 9 || !strings.HasPrefix(frame[8], "… and 25 more") {
		t.Errorf("%d lines on a screen of 10, the last one %q", len(frame), frame[len(frame)-1])
	}
	v.trouble = "the server closed the stream; connecting again"
	if got := v.frame()[0]; got != v.trouble {
		t.Errorf("headline %q, want the trouble", got)
	}
}

func TestCutRemedy(t *testing.T) {
	for text, want := range map[string][2]string{
		"the name is taken (choose another)":       {"the name is taken", "choose another"},
		"f(x) is wrong (say f(y) (or nothing))":    {"f(x) is wrong", "say f(y) (or nothing)"},
		"no brackets":                              {"no brackets", ""},
		"unbalanced) here)":                        {"unbalanced) here)", ""},
		"(all of it)":                              {"(all of it)", ""},
		"call f()":                                 {"call f()", ""},
		"dial: refused (a) and so on (try (b) it)": {"dial: refused (a) and so on", "try (b) it"},
	} {
		if what, remedy := cutRemedy(text); what != want[0] || remedy != want[1] {
			t.Errorf("%q: %q, %q", text, what, remedy)
		}
	}
}

// Whatever strings a message carries, its JSON and its YAML are well formed
// and say the same.
func TestEncodeLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		agent := &api.AgentInfo{
			Id:     rapid.String().Draw(t, "id"),
			Alarm:  rapid.SampledFrom([]string{"", "yes", "012", "1:30", "null", "a\nb", "- x", "# y", "<&>", "\u2028"}).Draw(t, "alarm"),
			Boot:   rapid.Uint64Range(0, 1<<53).Draw(t, "boot"),
			Labels: rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "labels"),
			SeenAt: timestamppb.New(time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "seen"))),
		}
		var fromJSON, fromYAML struct {
			ID     string            `yaml:"id"`
			Alarm  string            `yaml:"alarm"`
			Boot   uint64            `yaml:"boot"`
			Labels map[string]string `yaml:"labels"`
		}
		asJSON, err := encode(formatJSON, agent)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(asJSON, &fromJSON); err != nil {
			t.Fatalf("%v in %s", err, asJSON)
		}
		asYAML, err := encode(formatYAML, agent)
		if err != nil {
			t.Fatalf("%v for %s", err, asJSON)
		}
		if err := yaml.Unmarshal(asYAML, &fromYAML); err != nil {
			t.Fatalf("%v in %s", err, asYAML)
		}
		if fromJSON.ID != agent.Id || fromJSON.Boot != agent.Boot || len(fromJSON.Labels) != len(agent.Labels) {
			t.Fatalf("JSON says otherwise: %s", asJSON)
		}
		if fromYAML.ID != agent.Id || fromYAML.Alarm != agent.Alarm || fromYAML.Boot != agent.Boot {
			t.Fatalf("YAML says otherwise: %s", asYAML)
		}
		for key, value := range agent.Labels {
			if fromJSON.Labels[key] != value || fromYAML.Labels[key] != value {
				t.Fatalf("label %q is lost: %s%s", key, asJSON, asYAML)
			}
		}
	})
}

func TestExpiredCredentialsAreNamed(t *testing.T) {
	domain, dir := newDomain(t), t.TempDir()
	if err := domain.credentials(dir, "https://127.0.0.1:1", time.Now().Add(-3*time.Hour)); err != nil {
		t.Fatal(err)
	}
	code, _, errs := rotunda("status", "--credentials", dir)
	if code != exitError || !strings.Contains(errs, "expired 3h ago") || !strings.Contains(errs, "hint: on the server's machine: rotunda operator create") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

// What stands beside a certificate is described with how far it was shown, and with
// why it is not there.
func TestListsAndStapleInUse(t *testing.T) {
	now := time.Date(2026, 3, 1, 14, 2, 0, 0, time.UTC)
	until := timestamppb.New(now.Add(48 * time.Hour))
	wanted := &api.DesiredPlacement{CrlDigest: "new", CrlUntil: until, StapleDigest: "ocsp", StapleUntil: until}
	for name, c := range map[string]struct {
		status         *api.PlacementStatus
		desired        *api.DesiredPlacement
		lists, stapled string
	}{
		"none are wanted":  {&api.PlacementStatus{}, &api.DesiredPlacement{}, "", ""},
		"none yet":         {&api.PlacementStatus{}, wanted, "none yet; one is wanted", "none yet; one is wanted"},
		"the newest":       {&api.PlacementStatus{CrlDigest: "new", CrlLevel: api.Level_LEVEL_PROVEN, StapleDigest: "ocsp"}, wanted, "proven, good until 2026-03-03T14:02:00Z (in 48h): new", "in use, good until 2026-03-03T14:02:00Z (in 48h): ocsp"},
		"an older one":     {&api.PlacementStatus{CrlDigest: "old", CrlLevel: api.Level_LEVEL_LOADED}, wanted, "loaded, and a newer one is wanted: old", "none yet; one is wanted"},
		"taken away":       {&api.PlacementStatus{CrlAside: "set aside"}, wanted, "none: set aside", "none yet; one is wanted"},
		"wanted no longer": {&api.PlacementStatus{CrlDigest: "old", CrlLevel: api.Level_LEVEL_LOADED, StapleDigest: "ocsp"}, nil, "loaded, and not wanted any more: old", "in use, and not wanted any more: ocsp"},
	} {
		sheet := revocationSheet(&ui{now: now}, c.status, c.desired)
		if sheet[0].value != c.lists || sheet[1].value != c.stapled {
			t.Errorf("%s: %q", name, sheet)
		}
	}
}

// Progress on a terminal is ended before the last word, and once more by whoever
// deferred that.
func TestProgressEndsOnce(t *testing.T) {
	var errs strings.Builder
	shown, end := (&ui{loud: true, errs: &errs}).counter("waiting")
	defer end()
	shown("waiting for the last one")
	end()
	if errs.Len() != 0 {
		t.Errorf("within a second it said %q", errs.String())
	}
}

// An alarm of a witness stays, and does not hide why it does not cosign now.
func TestWitnessFailsBesideItsAlarm(t *testing.T) {
	now := time.Date(2026, 3, 1, 14, 2, 0, 0, time.UTC)
	at := func(ago time.Duration) *timestamppb.Timestamp { return timestamppb.New(now.Add(-ago)) }
	one := &api.AuditWitness{Alarm: "it has forgotten", AlarmAt: at(time.Hour)}
	for _, c := range []struct{ failure, want string }{
		{"", "since 1h ago: it has forgotten"},
		{"it has forgotten", "since 1h ago: it has forgotten"},
		{"it answered 500", "since 1h ago: it has forgotten; now failing, since 1m ago, 2 failed attempts: it answered 500"},
	} {
		if c.failure != "" {
			one.FailingSince, one.Tries, one.LastError = at(time.Minute), 2, c.failure
		}
		if got := witnessWhat(&ui{now: now}, one); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
