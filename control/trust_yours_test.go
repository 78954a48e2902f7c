package control

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
)

var subjectOf = regexp.MustCompile(`an Exception of rule (trust-\w+), subject: (\S+), with an owner and an end`)

// excuse applies the exception that the remedy of a wait asks for, as it is printed.
func (d *domain) excuse(t *testing.T, wait *api.TrustWait) {
	t.Helper()
	found := subjectOf.FindStringSubmatch(wait.Remedy)
	if found == nil {
		t.Fatalf("the remedy of %q names no subject: %s", wait.Who, wait.Remedy)
	}
	d.apply(strings.NewReplacer("asked", fmt.Sprint("x", len(d.entries())), "trust-adopt", found[1], "service/bank", found[2]).Replace(askedBank))
}

func waitOf(t *testing.T, change *api.TrustChange, who string) *api.TrustWait {
	t.Helper()
	i := slices.IndexFunc(change.Waits, func(w *api.TrustWait) bool { return strings.HasPrefix(w.Who, who) })
	if i < 0 {
		t.Fatalf("it does not wait for %s: %v", who, change.Waits)
	}
	return change.Waits[i]
}

// What a remedy prints, pasted into a document, lets the change go on: for a host that
// is away and all that it has, an outside party, an operator.
func TestSubjectsOfRemediesExcuse(t *testing.T) {
	d := found(t)
	hosts := d.parties(2)
	d.apply(anOutsider)
	_, request := csr(t)
	if _, err := d.IssueOperator(t.Context(), operator, &api.IssueOperatorRequest{Name: "ann", Csr: request}); err != nil {
		t.Fatal(err)
	}
	d.begin("root", "done")
	for d.act() {
	}
	hosts[0].follow()
	for d.act() {
	}
	d.excuse(t, waitOf(t, d.change(), "outside party bank"))
	away := waitOf(t, d.change(), "agent "+hosts[1].id)
	if waitOf(t, d.change(), "orders-tls on agent "+hosts[1].id).Remedy != away.Remedy {
		t.Errorf("a host that is away wants two exceptions")
	}
	d.excuse(t, away)
	for turns := 0; d.change().Phase != "reissue"; turns++ {
		if turns > 20 {
			t.Fatalf("nobody is excused: %s", said(d.change()))
		}
		d.act()
	}
	d.until("drain", func() { hosts[0].follow(); hosts[1].follow() })
	d.excuse(t, waitOf(t, d.change(), "operator ann"))
	for d.act() {
	}
	if phase := d.change().Phase; phase == "drain" {
		t.Errorf("the operator is not excused: %s", said(d.change()))
	}
}

// Who asks what a change waits for is told where that is he himself.
func TestWhatWaitsForTheCaller(t *testing.T) {
	d := found(t)
	hosts := d.parties(1)
	ann, an := Caller{Kind: Operator, ID: "ann"}, Caller{Kind: Operator, ID: "an"}
	_, request := csr(t)
	if _, err := d.IssueOperator(t.Context(), operator, &api.IssueOperatorRequest{Name: "ann", Csr: request}); err != nil {
		t.Fatal(err)
	}
	told, err := d.WhatIf(t.Context(), ann, &api.WhatIfRequest{Change: "rotate-root"})
	if err != nil || !strings.Contains(told.String(), "), that is you") {
		t.Errorf("foretold to ann: %v, %v", told.GetPhases(), err)
	}
	if told, _ := d.WhatIf(t.Context(), an, &api.WhatIfRequest{Change: "rotate-root"}); strings.Contains(told.String(), "that is you") {
		t.Errorf("foretold to another: %v", told.Phases)
	}
	d.begin("root", "done")
	d.until("drain", hosts[0].follow)
	for caller, yours := range map[Caller]bool{ann: true, an: false, {Kind: Socket}: false, {Kind: Socket, ID: "ann"}: false} {
		list, err := d.ListTrust(t.Context(), caller, &api.ListTrustRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if wait := waitOf(t, list.Changes[0], "operator ann"); wait.Yours != yours {
			t.Errorf("to %s: yours %v", caller, wait.Yours)
		}
		forced, err := d.DecideTrust(t.Context(), caller, &api.DecideTrustRequest{Decision: "force", Reason: "late", DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		if effects := strings.Join(forced.Effects, "\n"); strings.Contains(effects, "…), that is you, has a live certificate") != yours {
			t.Errorf("%s forces: %s", caller, effects)
		}
	}
	if got := ann.asked("ask ann; then apply"); got != "ask ann (that is you); then apply" {
		t.Errorf("asked %q", got)
	}
}
