package target

import (
	"slices"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// TestTableIsComplete: no kind is without a word on any of its capabilities,
// and each kind that an intent may name has its adapter.
func TestTableIsComplete(t *testing.T) {
	moments := []When{AtHandshake, AtReload, AtRestart, Never, Unknown}
	answers := []Answer{Yes, No, NotCertain}
	for _, kind := range []fleet.TargetKind{
		fleet.TargetEtcd, fleet.TargetFiles, fleet.TargetHAProxy, fleet.TargetMariaDB, fleet.TargetMemcached, fleet.TargetMosquitto,
		fleet.TargetNATS, fleet.TargetNginx, fleet.TargetPostgres, fleet.TargetRabbitMQ, fleet.TargetRedis,
	} {
		adapter, err := Lookup(kind)
		if err != nil {
			t.Fatal(err)
		}
		c := adapter.Capabilities
		for _, when := range []When{c.Leaf, c.KeyType, c.AnchorAdd, c.AnchorRemove, c.CRL, c.Staple} {
			if !slices.Contains(moments, when) {
				t.Errorf("%s: %q is no moment", kind, when)
			}
		}
		for _, answer := range []Answer{c.ClosesConnections, c.Validates} {
			if !slices.Contains(answers, answer) {
				t.Errorf("%s: %q is no answer", kind, answer)
			}
		}
		if c.Title == "" || c.Reload == "" || c.BrokenPair == "" || c.CloseSessionsBy == "" || len(c.Formats) == 0 ||
			(c.Layout != LayoutSymlink && c.Layout != LayoutFiles) {
			t.Errorf("%s: its row has gaps: %+v", kind, c)
		}
		if adapter.Proof.Immediate != (c.Leaf == AtHandshake) {
			t.Errorf("%s: a proof is immediate exactly where the leaf is read at each handshake", kind)
		}
	}
	if n := len(Adapters()); n != 11 {
		t.Errorf("%d adapters: name the new kind in this test", n)
	}
}

func TestLookupNamesWhatThereIs(t *testing.T) {
	_, err := Lookup("oracle")
	if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "etcd, files") {
		t.Errorf("%v", err)
	}
}

func TestPlan(t *testing.T) {
	both := Target{Name: "db", ReloadCommand: "hup", RestartCommand: "bounce"}
	none := Target{Name: "db"}
	restarts := Target{Name: "db", RestartCommand: "bounce"}
	leaf := Change{Leaf: true}
	everything := Change{Leaf: true, KeyType: true, AnchorsAdded: true, AnchorsRemoved: true, CRL: true}
	for _, c := range []struct {
		kind    fleet.TargetKind
		target  Target
		change  Change
		want    ActKind
		command string
	}{
		{fleet.TargetEtcd, both, leaf, ActNothing, ""},
		{fleet.TargetEtcd, both, Change{Leaf: true, KeyType: true}, ActNothing, ""},
		{fleet.TargetEtcd, both, Change{CRL: true}, ActNothing, ""},
		{fleet.TargetEtcd, both, Change{AnchorsAdded: true}, ActRestart, "bounce"},
		{fleet.TargetEtcd, both, Change{AnchorsRemoved: true}, ActRestart, "bounce"},
		{fleet.TargetEtcd, both, everything, ActRestart, "bounce"},
		{fleet.TargetEtcd, none, everything, ActPending, ""},
		{fleet.TargetEtcd, both, Change{First: true, Leaf: true, AnchorsAdded: true}, ActNothing, ""},
		{fleet.TargetEtcd, both, Change{}, ActNothing, ""},
		{fleet.TargetFiles, both, leaf, ActReload, "hup"},
		{fleet.TargetFiles, both, Change{AnchorsAdded: true}, ActReload, "hup"},
		{fleet.TargetFiles, restarts, leaf, ActRestart, "bounce"},
		{fleet.TargetFiles, none, everything, ActNothing, ""},
		{fleet.TargetFiles, both, Change{First: true, Leaf: true}, ActNothing, ""},
		{fleet.TargetFiles, both, Change{}, ActNothing, ""},
	} {
		adapter, err := Lookup(c.kind)
		if err != nil {
			t.Fatal(err)
		}
		acts := adapter.Plan(c.target, c.change)
		if len(acts) != 1 || acts[0].Kind != c.want || acts[0].Command != c.command || acts[0].Reason == "" {
			t.Errorf("%s %+v: %+v, want %s %q", c.kind, c.change, acts, c.want, c.command)
		}
		if acts[0].Disrupts() != (c.want == ActRestart) {
			t.Errorf("%s disrupts: %t", c.want, acts[0].Disrupts())
		}
	}
}

// TestPlanKeepsToTheTable: what the table calls live never needs a restart,
// and what it calls at restart is never passed over in silence.
func TestPlanKeepsToTheTable(t *testing.T) {
	for _, adapter := range Adapters() {
		for _, c := range []struct {
			when   When
			change Change
		}{
			{adapter.Leaf, Change{Leaf: true}},
			{adapter.KeyType, Change{KeyType: true}},
			{adapter.AnchorAdd, Change{AnchorsAdded: true}},
			{adapter.AnchorRemove, Change{AnchorsRemoved: true}},
			{adapter.CRL, Change{CRL: true}},
		} {
			for _, restart := range []string{"", "bounce"} {
				acts := adapter.Plan(Target{RestartCommand: restart, ReloadCommand: "hup"}, c.change)
				does := func(kind ActKind) bool { return slices.ContainsFunc(acts, func(a Act) bool { return a.Kind == kind }) }
				if c.when.Live() && does(ActRestart) {
					t.Errorf("%s: %+v is live, and restarts", adapter.Kind, c.change)
				}
				if c.when == AtRestart && !does(ActRestart) && !does(ActPending) {
					t.Errorf("%s: %+v needs a restart, and gets %+v", adapter.Kind, c.change, acts)
				}
				if c.when == AtReload && !does(ActReload) {
					t.Errorf("%s: %+v needs a reload, and gets %+v", adapter.Kind, c.change, acts)
				}
			}
		}
	}
}

// TestFirstFilesAreAllNew: a server that runs already may run with anything, so
// that the first files are loaded as if all of them differed.
func TestFirstFilesAreAllNew(t *testing.T) {
	for _, adapter := range Adapters() {
		for _, change := range []Change{{First: true, Leaf: true}, {Unknown: true}} {
			for _, act := range adapter.Plan(Target{Control: &Control{}, RestartCommand: "bounce"}, change) {
				if act.Kind == ActReload && adapter.AnchorAdd.Live() && !act.Change.AnchorsAdded {
					t.Errorf("%s: reloads only %+v for %+v", adapter.Kind, act.Change, change)
				}
				if act.Kind == ActRestart && adapter.Kind != fleet.TargetFiles {
					t.Errorf("%s: restarts for %+v", adapter.Kind, change)
				}
			}
		}
	}
}
