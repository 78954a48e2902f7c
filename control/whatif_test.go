package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

func (d *domain) foretold(change string) *api.WhatIfResponse {
	d.t.Helper()
	told, err := d.WhatIf(d.t.Context(), operator, &api.WhatIfRequest{Change: change})
	if err != nil {
		d.t.Fatal(err)
	}
	return told
}

// here says that an agent is connected, and that its process takes what is
// desired.
func (h *host) here(report *api.PlacementReport) {
	h.domain.t.Helper()
	h.domain.presence.join(h.id, 1, "", h.domain.clock.now())
	report.State, report.BundleDigest = api.State_STATE_STEADY, h.desired().BundleDigest
	if err := h.report(report); err != nil {
		h.domain.t.Fatal(err)
	}
}

func namedPhases(told *api.WhatIfResponse) (all []string) {
	for _, phase := range told.Phases {
		all = append(all, phase.Phase)
	}
	return all
}

func stoppers(told *api.WhatIfResponse) (all []string) {
	for _, one := range told.Obstacles {
		all = append(all, one.Phase+" "+one.Who+" "+one.Reason)
	}
	return all
}

// cached is the documents with a memcached that nobody can restart as orders.
var cached = strings.Replace(callers, "  selector: {role: orders}\n", "  selector: {role: orders}\n  target: {kind: memcached, name: cache, address: \"127.0.0.1:1\"}\n", 1)

func TestWhatIfOverTheStore(t *testing.T) {
	d := found(t)
	d.apply(cached)
	orders, web := d.enrolHost(map[string]string{"role": "orders", "host": "a"}), d.enrolHost(map[string]string{"role": "web"})
	leaf := orders.holds(1)
	orders.here(&api.PlacementReport{Generation: 1, Revision: 1, Level: api.Level_LEVEL_PROVEN, Evidence: orders.observed(leaf)})
	web.here(&api.PlacementReport{Revision: 1, Level: api.Level_LEVEL_LOADED})
	before := len(d.entries())

	told := d.foretold("rotate-root")
	if told.Old != "root" || told.New != "root-2" || !told.Bridge.GetPossible() || len(told.Stops) > 0 || len(told.Breaks) > 0 {
		t.Errorf("rotate-root: %v", told)
	}
	cache := "orders-tls on agent " + orders.id
	want := []string{
		"prove outside party bank is an outside party: nobody here sees whom it trusts",
		"refuse " + cache + " memcached takes a removed CA only at a restart, and names no restartCommand",
	}
	if got := stoppers(told); !slices.Equal(got, want) {
		t.Errorf("obstacles\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	all := []string{"prepare", "distribute", "prove", "reissue", "drain", "unbridge", "withdraw", "refuse"}
	if got := namedPhases(told); !slices.Equal(got, slices.DeleteFunc(all, func(p string) bool { return p == "drain" })) { // nobody holds what can't be renewed
		t.Errorf("phases %v", got)
	}
	if prepare := told.Phases[0].Operator; len(prepare) != 1 || !strings.Contains(prepare[0], "the key of root (offline) signs the bridge") {
		t.Errorf("prepare: %v", prepare)
	}
	if prove := told.Phases[2]; prove.Parties.Loaded+prove.Parties.Delivered != 5 || len(prove.Waits) != 1 || prove.Waits[0].Who != "outside party bank" ||
		!strings.Contains(prove.Waits[0].Remedy, "desk@bank.example") {
		t.Errorf("prove: %v", prove)
	}
	if got := fmt.Sprint(told.Phases[3].Renewals); !strings.Contains(got, "placement") || !strings.Contains(got, "agent") {
		t.Errorf("renewals: %v", got)
	}
	if len(told.Ask) != 2 || told.Ask[0].Owner.Team != "bank" || told.Ask[1].Owner.Team != "shop" || told.Takes.AsDuration() <= 0 {
		t.Errorf("ask %v, takes %v", told.Ask, told.Takes.AsDuration())
	}

	// An agent that is not there, and one that can be restarted.
	d.presence.leave(web.id, 1)
	d.apply(strings.Replace(cached, "kind: memcached", "kind: memcached, restartCommand: restart-cache", 1))
	told = d.foretold("rotate-root")
	got := strings.Join(stoppers(told), "\n")
	if !strings.Contains(got, "prove web-trust on agent "+web.id+" its agent is not connected") || strings.Contains(got, "restartCommand") {
		t.Errorf("obstacles\n%s", got)
	}
	if refuse := told.Phases[len(told.Phases)-1]; len(refuse.Restarts) != 1 || refuse.Restarts[0].Members[0] != "cache on agent "+orders.id {
		t.Errorf("refuse: %v", refuse)
	}

	// A withdrawal breaks who serves under it, and is not planned while it signs.
	told = d.foretold("withdraw:root")
	if len(told.Breaks) != 1 || told.Breaks[0].Client != "web" || told.Breaks[0].Reasons[0].Text != "web would not trust root, under which orders would show 1 certificate" ||
		len(told.Phases) > 0 || len(told.Stops) != 2 || !strings.Contains(told.Stops[0], "--change rotate-root") || !strings.Contains(told.Stops[1], "only anchor of default") {
		t.Errorf("withdraw:root: %v", told)
	}
	told = d.foretold("withdraw:issuing")
	if len(told.Breaks) != 2 || len(told.Stops) != 1 {
		t.Errorf("withdraw:issuing: %v", told)
	}
	told = d.foretold("rotate-issuing")
	if got := namedPhases(told); !slices.Equal(got, []string{"prepare", "prove", "reissue", "retire"}) || told.New != "issuing-2" || told.Bridge != nil || len(told.Breaks) > 0 {
		t.Errorf("rotate-issuing: %v, %v", got, told)
	}
	if after := len(d.entries()); after != before+1 { // the apply
		t.Errorf("%d audit entries, and %d before: foretelling is no act", after, before)
	}
}

func TestWhatIfRefuses(t *testing.T) {
	d := found(t)
	root, _, err := ca.CreateRoot(d.clock.now(), ca.RootOrder{TrustDomain: spiffeid.RequireTrustDomainFromString("test.example"), Name: "spare", Algorithm: pki.ECDSAP256, Lifetime: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	err = d.db.Write(t.Context(), func(tx *store.Tx) error {
		for _, one := range []store.Authority{
			{ID: "spare-id", Name: "spare", Kind: store.RootAuthority, State: fleet.AuthorityPrepared, Origin: store.KeyOffline, Certificate: root.Raw},
			{ID: "gone-id", Name: "gone", Kind: store.RootAuthority, State: fleet.AuthorityWithdrawn, Origin: store.KeyOffline, Certificate: root.Raw},
		} {
			if err := tx.InsertAuthority(t.Context(), one); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for change, c := range map[string]struct {
		code fault.Code
		rule string
	}{
		"":               {fault.Invalid, "is no change that can be foretold"},
		"failover":       {fault.Conflict, "no root stands by"},
		"withdraw:":      {fault.Invalid, "withdraw of no authority"},
		"withdraw:nix":   {fault.NotFound, `authority "nix" is not recorded here (rotunda get authorities lists those that are)`},
		"withdraw:spare": {fault.Invalid, "spare is not trusted: no bundle has it"},
		"withdraw:gone":  {fault.Conflict, "gone is withdrawn already"},
	} {
		_, err := d.WhatIf(t.Context(), operator, &api.WhatIfRequest{Change: change})
		if wantCode(t, err, c.code); !strings.Contains(err.Error(), c.rule) {
			t.Errorf("%q: %v", change, err)
		}
	}
	_, err = d.WhatIf(t.Context(), Caller{Kind: Agent, ID: "a"}, &api.WhatIfRequest{Change: "rotate-root"})
	wantCode(t, err, fault.Forbidden)
}

// A failover is foretold from what each party has adopted of the root that
// stands by: who has not would hold it.
func TestWhatIfFailover(t *testing.T) {
	d := found(t)
	hosts := d.parties(2)
	d.begin("standby", "")
	d.settle(hosts)
	told := d.foretold("failover")
	if got := namedPhases(told); got[0] != "prepare" || got[1] != "prove" || len(told.Breaks)+len(told.Stops) > 0 {
		t.Errorf("phases %v, breaks %v, stops %v", got, told.Breaks, told.Stops)
	}
	for _, one := range told.Obstacles {
		if one.Phase == "prove" {
			t.Errorf("everybody has adopted it, and %s %s", one.Who, one.Reason)
		}
	}
	late := d.enrolHost(map[string]string{"role": "orders", "host": "late"})
	told = d.foretold("failover")
	var who []string
	for _, one := range told.Obstacles {
		if one.Phase == "prove" && one.Certain {
			who = append(who, one.Who)
		}
	}
	if !slices.ContainsFunc(who, func(name string) bool { return strings.Contains(name, late.id) }) {
		t.Errorf("in the way: %v; want %s", who, late.id)
	}
}

// In the midst of a change the withdrawal of the old root is its own end: the
// certificates that are still to be renewed break, and the decisions count.
func TestWhatIfTheOldRootWent(t *testing.T) {
	d := found(t)
	d.apply(callers)
	orders, web := d.enrolHost(map[string]string{"role": "orders", "host": "a"}), d.enrolHost(map[string]string{"role": "web"})
	leaf := orders.holds(1)
	orders.here(&api.PlacementReport{Generation: 1, Revision: 1, Level: api.Level_LEVEL_PROVEN, Evidence: orders.observed(leaf)})
	web.here(&api.PlacementReport{Revision: 1, Level: api.Level_LEVEL_LOADED})
	prepared, err := d.PrepareTrust(t.Context(), operator, &api.PrepareTrustRequest{Kind: "root", RootName: "root two"})
	if err != nil {
		t.Fatal(err)
	}
	request, err := ca.ParseCeremonyRequest(prepared.Request)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := csr(t)
	signed, _, err := ca.HoldCeremony(d.clock.now(), request, ca.CeremonyKeys{Old: d.rootKey, New: key})
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.BeginTrust(t.Context(), operator, &api.BeginTrustRequest{Response: text, Through: "done"}); err != nil {
		t.Fatal(err)
	}
	if told := d.foretold("rotate-root"); len(told.Stops) != 1 || !strings.Contains(told.Stops[0], "is under way") {
		t.Errorf("a second rotation: %v", told.Stops)
	}
	if _, err := d.AdvanceTrust(t.Context()); err != nil { // both roots are published
		t.Fatal(err)
	}
	orders.here(&api.PlacementReport{Generation: 1, Revision: 2, Level: api.Level_LEVEL_PROVEN, Evidence: orders.observed(leaf)})
	if _, err := d.DecideTrust(t.Context(), operator, &api.DecideTrustRequest{Decision: "force", Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.AdvanceTrust(t.Context()); err != nil { // the new one signs
		t.Fatal(err)
	}
	told := d.foretold("withdraw:root")
	if len(told.Stops) > 0 || len(told.Breaks) != 1 || told.Breaks[0].Client != "web" {
		t.Errorf("stops %v, breaks %v", told.Stops, told.Breaks)
	}
	got := namedPhases(told)
	if len(got) < 4 || got[0] != "reissue" || got[len(got)-1] != "refuse" {
		t.Errorf("phases %v", got)
	}
	for _, phase := range told.Phases {
		for _, act := range phase.Operator {
			if strings.Contains(act, "trust advance") {
				t.Errorf("it was let go to its end, and %s asks for %s", phase.Phase, act)
			}
		}
	}
}

// What is foretold of the renewals is what their rollout says once the change is
// there, in windows that open tonight; and windows that never open are said.
func TestWhatIfInWindows(t *testing.T) {
	d := found(t)
	hosts := d.parties(3)
	opens := d.clock.now().Add(5 * time.Hour).UTC()
	window := func(name, from, to, more string) string {
		return fmt.Sprintf("---\napiVersion: rotunda/v1\nkind: Window\nmetadata: {name: %s}\nspec: {from: %q, to: %q, timezone: UTC%s}\n", name, from, to, more)
	}
	nights := window("nights", opens.Format("15:04"), opens.Add(3*time.Hour).Format("15:04"), "")
	d.apply(documents + nights)
	spec := &api.RolloutSpec{Steps: []string{"1", "100%"}, Soak: durationpb.New(30 * time.Minute), Windows: []string{"nights"}}
	told, err := d.WhatIf(t.Context(), operator, &api.WhatIfRequest{Change: "rotate-root", Reissue: spec})
	if err != nil || told.Ends == nil || len(told.Stops) > 0 || len(told.Waves) > 0 {
		t.Fatal(err, told)
	}
	var ends time.Time
	for _, phase := range told.Phases {
		if phase.Phase == "reissue" {
			ends = phase.Ends.AsTime()
		}
	}
	if ends.Before(opens.Truncate(time.Minute)) || told.Ends.AsTime().Before(ends) {
		t.Errorf("the renewals are over at %s, all at %s, the window opens at %s", ends, told.Ends.AsTime(), opens)
	}
	for name, c := range map[string]struct {
		req  *api.WhatIfRequest
		code fault.Code
	}{
		"is not declared": {&api.WhatIfRequest{Change: "rotate-root", Reissue: &api.RolloutSpec{Windows: []string{"days"}}}, fault.NotFound},
		"say one of them": {&api.WhatIfRequest{Change: "rotate-root", Over: durationpb.New(time.Hour), Reissue: &api.RolloutSpec{PerMinute: 5}}, fault.Invalid},
		"neither a count": {&api.WhatIfRequest{Change: "rotate-root", Reissue: &api.RolloutSpec{Steps: []string{"some"}}}, fault.Invalid},
	} {
		_, err := d.WhatIf(t.Context(), operator, c.req)
		wantWords(t, err, c.code, name)
	}
	d.apply(documents + nights + window("held", opens.Add(-time.Hour).Format("15:04"), opens.Add(4*time.Hour).Format("15:04"), ", freeze: true"))
	told, err = d.WhatIf(t.Context(), operator, &api.WhatIfRequest{Change: "rotate-root", Reissue: spec})
	if err != nil || told.Ends != nil || !strings.Contains(strings.Join(told.Stops, "\n"), "its renewals would never begin: window nights is closed") {
		t.Errorf("never: %v, ends %v, stops %q", err, told.Ends, told.Stops)
	}
	told = d.foretold("rotate-root")
	if len(told.Waves) != 2 || told.Waves[0].End == nil || told.Waves[1].End != nil || !strings.Contains(told.Waves[1].Why, "no time comes") {
		t.Errorf("by window %v", told.Waves)
	}

	d.apply(documents + nights + window("held", opens.Add(10*time.Hour).Format("15:04"), opens.Add(11*time.Hour).Format("15:04"), ", freeze: true"))
	_, err = d.BeginTrust(t.Context(), operator, &api.BeginTrustRequest{Response: d.prepared("root"), Reason: "drill", Reissue: spec})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for d.act() {
		}
		for _, p := range hosts {
			p.adopt()
		}
	}
	if said := d.rollout(reissue).Rollout.EstimatedEnd.AsTime(); said.Sub(ends).Abs() > time.Minute {
		t.Errorf("foretold for %s, and its rollout says %s", ends, said)
	}
}
