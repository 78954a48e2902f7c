package capacity_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/capacity"
)

// round are figures that are easy to reckon with.
func round() capacity.Figures {
	figures := capacity.Measured()
	for i, value := range []float64{1000, 2000, 1000, 10, 32, 64, 2000, 500} {
		figures[i].Value = value
	}
	return figures
}

func day(placements int) capacity.Ask {
	return capacity.Ask{
		Placements: placements, Agents: 1000, Servers: 1, Cores: 2, Lifetime: 24 * time.Hour, RenewAt: 0.5,
		Retention: 90 * 24 * time.Hour, Outage: time.Hour,
	}
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-6*math.Abs(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestReckon(t *testing.T) {
	n, err := capacity.Reckon(day(43_200), round())
	if err != nil {
		t.Fatal(err)
	}
	identities := 1000.0 / 57_600
	near(t, "renewals", n.Renewals, 1)
	near(t, "signatures", n.Signatures, 1+identities)
	near(t, "entries", n.Entries, 2+identities)
	near(t, "a day", n.PerDay, 86_400*((1+identities)*2000+(2+identities)*500))
	near(t, "at retention", n.AtRetention, 91*86_400*(1+identities)*2000)
	near(t, "memory", n.Memory, 32<<20+1000*64<<10)
	near(t, "CPU", n.CPU, 0.002+identities*0.002+0.01)
	near(t, "overdue", n.Overdue, 3600)
	near(t, "drain", n.Drain.Seconds(), math.Round((3600*0.002+1000*0.001)/(1.4-n.CPU)*1e9)/1e9)
	if !n.Sufficient || n.Expired != 0 || n.Connections != 1000 {
		t.Errorf("%+v", n)
	}
}

// TestWhatLimits: each thing that gives out is named.
func TestWhatLimits(t *testing.T) {
	for words, change := range map[string]func(*capacity.Ask){
		"nothing; CPU would be first":               func(*capacity.Ask) {},
		"CPU: a server would use":                   func(a *capacity.Ask) { a.Placements = 43_200_000 },
		"certificates end in it, since they have 1": func(a *capacity.Ask) { a.Outage = 13 * time.Hour },
		"CPU after the outage":                      func(a *capacity.Ask) { a.Outage = 12*time.Hour - 10*time.Second },
	} {
		ask := day(43_200)
		change(&ask)
		n, err := capacity.Reckon(ask, round())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(n.Limit, words) || n.Sufficient != strings.HasPrefix(words, "nothing") {
			t.Errorf("%+v: %s, want %q", ask, n.Limit, words)
		}
	}
}

func TestReckonRefusesNonsense(t *testing.T) {
	for words, change := range map[string]func(*capacity.Ask){
		"at least one placement": func(a *capacity.Ask) { a.Placements = 0 },
		"at least one agent":     func(a *capacity.Ask) { a.Agents = -3 },
		"servers":                func(a *capacity.Ask) { a.Servers = 0 },
		"cores":                  func(a *capacity.Ask) { a.Cores = 0 },
		"five minutes":           func(a *capacity.Ask) { a.Lifetime = time.Second },
		"between 0 and 1":        func(a *capacity.Ask) { a.RenewAt = math.NaN() },
		"canaries":               func(a *capacity.Ask) { a.Canaries = -1 },
		"an outage lasts":        func(a *capacity.Ask) { a.Outage = -time.Hour },
		"1,000,000,000":          func(a *capacity.Ask) { a.Placements = 2_000_000_000 },
	} {
		ask := day(43_200)
		change(&ask)
		if _, err := capacity.Reckon(ask, round()); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%+v: %v, want %q", ask, err, words)
		}
	}
}

func TestFiguresOfAReport(t *testing.T) {
	with, err := capacity.Measured().With("mine.json", []byte(`{"host":{"loadBefore":"0.1 0.1 0.1"},"results":[{"key":"cpu.renew","value":700,"unit":"µs"},{"key":"","name":"other","value":1}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range with {
		if one.Key == "cpu.renew" && (one.Value != 700 || one.Source != "mine.json, load 0.1 0.1 0.1") {
			t.Errorf("%+v", one)
		}
	}
	for content, words := range map[string]string{
		"certificates: 3": "is no report",
		`{"results":[]}`:  "none of the figures",
		`{"results":[{"key":"cpu.renew","value":0.7,"unit":"ms"}]}`: "it is a figure in µs",
		`{"results":[{"key":"cpu.renew","value":-1,"unit":"µs"}]}`:  "not negative",
	} {
		if _, err := capacity.Measured().With("bad.json", []byte(content)); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want %q", content, err, words)
		}
	}
}

// TestFiguresAreMeasured: no row of the table is empty.
func TestFiguresAreMeasured(t *testing.T) {
	for _, one := range capacity.Measured() {
		if one.Value <= 0 || one.Source == "" || one.What == "" {
			t.Errorf("%+v", one)
		}
	}
}
