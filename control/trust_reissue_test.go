package control

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// reissuing is a change of roots that everybody has adopted and that renews in
// waves of one and the rest.
func reissuing(t *testing.T, n int, spec *api.RolloutSpec) (*domain, []*party) {
	t.Helper()
	d := found(t)
	hosts := d.parties(n)
	_, err := d.BeginTrust(t.Context(), operator, &api.BeginTrustRequest{Response: d.prepared("root"), Reason: "drill", Through: "done", Reissue: spec})
	if err != nil {
		t.Fatal(err)
	}
	for d.act() {
	}
	for _, p := range hosts {
		p.adopt()
	}
	for d.act() {
	}
	return d, hosts
}

// askedOf are the hosts that are asked to renew.
func askedOf(hosts []*party) (which []*party) {
	for _, p := range hosts {
		if desired := p.wants().Placements[0]; desired.RenewThrough > 0 && p.generation <= desired.RenewThrough {
			which = append(which, p)
		}
	}
	return which
}

const reissue = "reissue-issuing-2"

// The renewals of a change go in the waves that it was begun with; who is next
// is the planner's word, and the change waits for it.
func TestReissueGoesInWaves(t *testing.T) {
	d, hosts := reissuing(t, 4, &api.RolloutSpec{Steps: []string{"1", "100%"}, Soak: durationpb.New(time.Hour)})
	first := askedOf(hosts)
	if len(first) != 1 {
		t.Fatalf("%d are asked in a wave of one", len(first))
	}
	waitsFor(t, d, "reissue", "rollout "+reissue+" renews them | rotunda rollout status "+reissue)
	if r := d.rollout(reissue).Rollout; r.Placements != 4 || len(r.Waves) != 2 || r.Selection != "what is under root" {
		t.Errorf("the rollout: %v", r)
	}
	first[0].follow()
	for d.act() {
	}
	if now := askedOf(hosts); len(now) > 0 {
		t.Fatalf("%d are asked while the first one is watched", len(now))
	}
	d.clock.turn(2 * time.Hour)
	for d.act() {
	}
	if now := askedOf(hosts); len(now) != 3 {
		t.Fatalf("%d are asked in the second wave", len(now))
	}
	d.settle(hosts)
	if change := d.change(); change.EndedAt == nil {
		t.Errorf("at %s: %s", change.Phase, said(change))
	}
	d.clock.turn(2 * time.Hour) // its last wave is watched, too
	for d.act() {
	}
	if r := d.rollout(reissue).Rollout; r.EndedAt == nil {
		t.Error("the rollout goes on and on")
	}
}

// A freeze holds the renewals, as those of every rollout.
func TestReissueHoldsInAFreeze(t *testing.T) {
	_, hosts := reissuing(t, 2, nil)
	if len(askedOf(hosts)) != 2 {
		t.Fatal("without a freeze all are asked in one wave")
	}
	d, hosts := reissuing(t, 2, &api.RolloutSpec{PerMinute: 1})
	if len(askedOf(hosts)) != 1 {
		t.Fatal("one a minute")
	}
	now := d.clock.now()
	d.apply(fmt.Sprintf("apiVersion: rotunda/v1\nkind: Window\nmetadata: {name: holidays}\nspec: {from: %q, to: %q, timezone: UTC, freeze: true}\n",
		now.Add(-time.Hour).Format("15:04"), now.Add(3*time.Hour).Format("15:04")))
	d.clock.turn(2 * time.Hour)
	for d.act() {
	}
	if n := len(askedOf(hosts)); n != 1 {
		t.Errorf("%d are asked in a freeze", n)
	}
	d.clock.turn(2 * time.Hour)
	for d.act() {
	}
	if n := len(askedOf(hosts)); n != 2 {
		t.Errorf("%d are asked after it", n)
	}
}

// The rollout stands still with its change, ends when that is turned back, and
// once an operator has ended it begins again at his word alone.
func TestReissueFollowsItsChange(t *testing.T) {
	d, hosts := reissuing(t, 3, &api.RolloutSpec{PerMinute: 1})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(d.decideTrust("pause", "", "a freeze"))
	d.clock.turn(2 * time.Minute)
	for d.act() {
	}
	if n := len(askedOf(hosts)); n != 1 || d.rollout(reissue).Rollout.State != "paused" {
		t.Fatalf("%d are asked while it is paused; the rollout is %s", n, d.rollout(reissue).Rollout.State)
	}
	must(d.decideTrust("advance", "", "over"))
	for d.act() {
	}
	if n := len(askedOf(hosts)); n != 2 {
		t.Fatalf("%d are asked once it goes on", n)
	}

	_, err := d.decide(reissue, "abort")
	must(err)
	d.clock.turn(2 * time.Minute)
	for d.act() {
	}
	waitsFor(t, d, "reissue", "nothing renews what is left under root: rollout "+reissue+" was ended by")
	if n := len(askedOf(hosts)); n != 2 {
		t.Fatalf("%d are asked after an operator ended it", n)
	}
	must(d.decideTrust("advance", "", "go on"))
	for d.act() {
	}
	if r := d.rollout(reissue).Rollout; r.EndedAt != nil || r.Placements != 1 {
		t.Fatalf("no other rollout over the rest: %v", r)
	}

	must(d.decideTrust("back", "", "a driver can't"))
	if r := d.rollout(reissue).Rollout; r.EndedAt == nil {
		t.Error("it goes on though the change is turned back")
	}
	d.clock.turn(5 * time.Minute)
	for range 8 {
		d.settle(hosts)
		d.clock.turn(5 * time.Minute)
	}
	if change := d.change(); change.EndedAt == nil {
		t.Errorf("turned back, at %s: %s", change.Phase, said(change))
	}
}

// A reissue that could never go is refused when the change begins.
func TestReissuesThatAreRefused(t *testing.T) {
	d := found(t)
	d.parties(1)
	response := d.prepared("root")
	for words, request := range map[string]*api.BeginTrustRequest{
		"the last step does not reach all": {Reissue: &api.RolloutSpec{Steps: []string{"1"}}},
		"window nights":                    {Reissue: &api.RolloutSpec{Windows: []string{"nights"}}},
		"say one of them":                  {Over: durationpb.New(time.Hour), Reissue: &api.RolloutSpec{PerMinute: 3}},
	} {
		request.Response = response
		dry := proto.Clone(request).(*api.BeginTrustRequest)
		dry.DryRun = true
		if _, err := d.BeginTrust(t.Context(), operator, dry); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("a dry run: %v; want %q", err, words)
		}
		if _, err := d.BeginTrust(t.Context(), operator, request); fault.CodeOf(err) != fault.Invalid && fault.CodeOf(err) != fault.NotFound || !strings.Contains(err.Error(), words) {
			t.Errorf("%v; want %q", err, words)
		}
	}
	if list, err := d.ListTrust(t.Context(), operator, &api.ListTrustRequest{}); err != nil || len(list.Changes) > 0 {
		t.Errorf("%v, %v", list, err)
	}
}
