package simulate

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

var noon = time.Date(2030, 3, 4, 12, 0, 0, 0, time.UTC)

// examples are the documents that every kind of server has.
func examples(t testing.TB) fleet.Set {
	t.Helper()
	var files []fleet.File
	for _, pattern := range []string{"../examples/*.yaml", "../examples/*/*.yaml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if strings.Contains(path, "/tests/") {
				continue
			}
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, fleet.File{Path: path, Content: content})
		}
	}
	all, findings := fleet.ParseFiles(files)
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	return fleet.NewSet(all...)
}

func options(t testing.TB, change string, placements int) Options {
	t.Helper()
	o := Defaults()
	var err error
	if o.Change, err = Parse(change); err != nil {
		t.Fatal(err)
	}
	o.Fleet, o.Begin = placements, noon
	return o
}

// BenchmarkRun measures a whole change over a hundred thousand placements.
func BenchmarkRun(b *testing.B) {
	set := examples(b)
	for _, change := range []string{"rotate-root", "rotate-issuing", "rotate:ledger"} {
		b.Run(change, func(b *testing.B) {
			for b.Loop() {
				report, err := Run(context.Background(), set, options(b, change, 100_000))
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(report.Seconds/3600, "simulated-h")
			}
		})
	}
}

// Every change comes to its end under faults, keeps the laws, and is the same
// again under the same seed.
func TestChangesEnd(t *testing.T) {
	set := examples(t)
	for _, change := range []string{"rotate-root", "rotate-issuing", "rotate:ledger"} {
		o := options(t, change, 300)
		o.Rates = Rates{Slow: 0.1, Away: 0.05, Fail: 0.02, Lie: 0.02}
		one, err := Run(t.Context(), set, o)
		if err != nil {
			t.Fatalf("%s: %v", change, err)
		}
		if !one.Done || one.Placements != 300 || one.MostAway != 1 || one.Issued == 0 || len(one.Breakers) == 0 {
			t.Errorf("%s: %+v", change, one)
		}
		again, err := Run(t.Context(), set, o)
		if err != nil || !reflect.DeepEqual(one, again) {
			t.Errorf("%s: the same seed gave another run (%v)", change, err)
		}
		o.Seed++
		if other, err := Run(t.Context(), set, o); err != nil || reflect.DeepEqual(one.Curve, other.Curve) {
			t.Errorf("%s: another seed gave the same run (%v)", change, err)
		}
	}
}

// credulous is a planner that is told what is not so.
type credulous struct {
	*change
	tell func(*change)
}

func (c credulous) look() {
	c.tell(c.change)
	c.change.look()
}

// Each law is broken by a mutant, so the checks can fire: they look at what
// processes do, not at what the planner believes.
func TestMutantsBreakLaws(t *testing.T) {
	for law, mutate := range map[string]func(*world){
		trustBeforeLeaf: func(w *world) { // everybody is taken to have adopted
			w.planner = credulous{w.planner.(*change), func(c *change) {
				for i := range c.t.Parties {
					c.t.Parties[i].Has = c.t.Parties[i].Needs
				}
			}}
		},
		leafBeforeDistrust: func(w *world) { // nobody is taken to live on the old root
			w.planner = credulous{w.planner.(*change), func(c *change) {
				if c.t.Active {
					c.t.Holders, c.t.Through = nil, "done"
					for i := range c.places {
						c.places[i].holder = -1
					}
					c.bridging, c.t.Bridged = 0, false
				}
			}}
		},
		"slots": func(w *world) { w.anyGrant = true },
	} {
		o := options(t, "rotate-root", 300)
		o.mutate = mutate
		_, err := Run(t.Context(), examples(t), o)
		violation, ok := errors.AsType[*Violation](err)
		if !ok || violation.Law != law {
			t.Errorf("the mutant of %s: %v", law, err)
		}
	}
}

// A freeze holds a rollout, and the report says so.
func TestFreezeHoldsRollout(t *testing.T) {
	set := examples(t)
	set.Put(fleet.Document{Kind: fleet.KindWindow, Name: "year-end", Spec: &fleet.Window{From: "11:00", To: "14:00", Timezone: "UTC", Freeze: true}})
	report, err := Run(t.Context(), set, options(t, "rotate:ledger", 300))
	if err != nil {
		t.Fatal(err)
	}
	before, first := report.Steps[0], report.Steps[1]
	if before.Held[0].Why != "freeze year-end holds" || !strings.HasPrefix(first.Name, "wave 1") || !first.Begins.Equal(noon.Add(2*time.Hour)) {
		t.Errorf("the freeze does not hold it: %+v", report.Steps)
	}
}

func TestRefusals(t *testing.T) {
	set := examples(t)
	for want, change := range map[string]func(*Options){
		"a fleet of 0":                     func(o *Options) { o.Fleet = 0 },
		"a fleet of 1000001":               func(o *Options) { o.Fleet = MostPlacements + 1 },
		"a rate --away of 1.5":             func(o *Options) { o.Rates.Away = 1.5 },
		"a rate --lie of -1":               func(o *Options) { o.Rates.Lie = -1 },
		"service nope is not declared":     func(o *Options) { o.Change.Service = "nope" },
		"window nights is not declared":    func(o *Options) { o.Rollout.Windows = []fleet.Name{"nights"} },
		"rollout rotate would never begin": func(o *Options) { o.Rollout.Windows = []fleet.Name{"noon"} },
	} {
		o := options(t, "rotate:ledger", 100)
		change(&o)
		with := fleet.NewSet(set.Documents()...)
		with.Put(fleet.Document{Kind: fleet.KindWindow, Name: "noon", Spec: &fleet.Window{From: "12:00", To: "13:00", Timezone: "UTC"}})
		if strings.Contains(want, "never") {
			with.Put(fleet.Document{Kind: fleet.KindWindow, Name: "always", Spec: &fleet.Window{From: "11:00", To: "14:00", Timezone: "UTC", Freeze: true}})
		}
		_, err := Run(t.Context(), with, o)
		refused, ok := errors.AsType[*fault.Error](err)
		if !ok || !strings.Contains(err.Error(), want) || refused.Remedy == "" {
			t.Errorf("want %q with a remedy, got %v", want, err)
		}
	}
	if _, err := Run(t.Context(), fleet.NewSet(), options(t, "rotate-root", 10)); err == nil || !strings.Contains(err.Error(), "declare no intents") {
		t.Errorf("no documents: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ended, set, options(t, "rotate-root", 10)); !errors.Is(err, context.Canceled) {
		t.Errorf("it went on: %v", err)
	}
}
