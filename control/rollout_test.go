package control

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// rolled is a fleet of hosts that hold generation 1, by placement.
func rolled(t *testing.T, n int) (*domain, map[string]*host) {
	t.Helper()
	d := found(t)
	d.apply(documents + "---\napiVersion: rotunda/v1\nkind: Window\nmetadata: {name: nights}\nspec: {from: \"22:00\", to: \"23:00\", timezone: UTC}\n")
	hosts := map[string]*host{}
	for i := range n {
		h := d.enrolHost(map[string]string{"role": "orders", "host": fmt.Sprint("h", i), "shard": fmt.Sprint(i % 2)})
		h.gets(1)
		hosts[h.placement()] = h
	}
	return d, hosts
}

// gets issues a generation and reports it as in use.
func (h *host) gets(generation uint64) {
	h.domain.t.Helper()
	_, request := csr(h.domain.t)
	leafOf(h.domain.t, h.issue(h.placement(), generation, request))
	err := h.report(&api.PlacementReport{
		Generation: generation, Revision: generation, State: api.State_STATE_STEADY, Level: api.Level_LEVEL_DELIVERED,
		CommittedAt: timestamppb.New(h.domain.clock.now()),
	})
	if err != nil {
		h.domain.t.Fatal(err)
	}
}

func (d *domain) start(req *api.StartRolloutRequest) *api.StartRolloutResponse {
	d.t.Helper()
	response, err := d.StartRollout(d.t.Context(), operator, req)
	if err != nil {
		d.t.Fatal(err)
	}
	return response
}

func (d *domain) advance() int {
	d.t.Helper()
	did, _, err := d.AdvanceRollouts(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return did
}

func (d *domain) rollout(name string) *api.DescribeRolloutResponse {
	d.t.Helper()
	response, err := d.DescribeRollout(d.t.Context(), operator, &api.DescribeRolloutRequest{Rollout: name})
	if err != nil {
		d.t.Fatal(err)
	}
	return response
}

func (d *domain) decide(name, act string) (*api.DecideRolloutResponse, error) {
	return d.DecideRollout(d.t.Context(), operator, &api.DecideRolloutRequest{Rollout: name, Act: act, Reason: "drill"})
}

// asked are the hosts whose rotation is desired and has not come about.
func asked(hosts map[string]*host) (ids []string) {
	for id, h := range hosts {
		if p := h.desired(); p.RenewThrough > 0 && p.WindowGeneration <= p.RenewThrough {
			ids = append(ids, id)
		}
	}
	return ids
}

// A rollout asks its canary, waits for it, soaks, and asks the rest; each step
// follows from the store, also after a restart, and is done once.
func TestRolloutGoesInWaves(t *testing.T) {
	d, hosts := rolled(t, 4)
	spec := &api.RolloutSpec{Steps: []string{"1", "100%"}, Soak: durationpb.New(10 * time.Minute)}
	dry := d.start(&api.StartRolloutRequest{Intent: "orders-tls", Spec: spec, DryRun: true})
	if len(dry.Members) != 4 || len(dry.Rollout.Waves) != 2 || dry.AuditId != "" {
		t.Fatalf("dry run: %v", dry)
	}
	if list, err := d.ListRollouts(t.Context(), operator, &api.ListRolloutsRequest{Ended: true}); err != nil || len(list.Rollouts) != 0 {
		t.Fatalf("a dry run has begun something: %v, %v", list, err)
	}
	begun := d.start(&api.StartRolloutRequest{Intent: "orders-tls", Spec: spec, Reason: "drill"})
	if begun.Rollout.WellBefore != 4 || begun.Members[0].Placement != dry.Members[0].Placement {
		t.Errorf("begun %v, dry run %v", begun, dry)
	}
	if n := len(asked(hosts)); n != 0 {
		t.Errorf("%d are asked before a pass", n)
	}
	d.advance()
	canary := begun.Members[0].Placement
	if ids := asked(hosts); len(ids) != 1 || ids[0] != canary {
		t.Fatalf("asked %v, the canary is %s", ids, canary)
	}
	for range 3 {
		if did := d.advance(); did != 0 {
			t.Fatalf("%d more is done", did)
		}
	}
	now := d.rollout("orders-tls")
	if text := now.Rollout.Reasons[0].Text; !strings.Contains(text, "orders-tls wave 1 waits: 1 of 1 placements is unproven since") {
		t.Errorf("reason %q", text)
	}
	hosts[canary].gets(2)
	d.restart()
	d.advance()
	if ids := asked(hosts); len(ids) != 0 || d.rollout("orders-tls").Members[0].SettledAt == nil {
		t.Fatalf("asked %v while the canary soaks", ids)
	}
	d.clock.turn(11 * time.Minute)
	d.advance()
	if ids := asked(hosts); len(ids) != 3 {
		t.Fatalf("asked %v, want three", ids)
	}
	for id, h := range hosts {
		if id != canary {
			h.gets(2)
		}
	}
	d.advance()
	d.clock.turn(11 * time.Minute)
	d.advance()
	over := d.rollout(begun.Rollout.Id).Rollout
	if over.State != "done" || over.EndedAt == nil || over.WellNow != 4 || len(over.Reasons) != 0 {
		t.Errorf("at the end %v", over)
	}
	if log := strings.Join(d.entries(), "\n"); strings.Count(log, `"rollout.advance"`) != 2 || strings.Count(log, `"rollout.end"`) != 1 || strings.Count(log, `"rollout.start"`) != 1 {
		t.Errorf("audit log\n%s", log)
	}
}

// A crash between asking a placement and dating it leaves neither; two passes at
// once do it once.
func TestRolloutPassIsWhole(t *testing.T) {
	d, hosts := rolled(t, 2)
	d.start(&api.StartRolloutRequest{All: true, Spec: &api.RolloutSpec{Steps: []string{"100%"}}})
	plan := func() (planned *due) {
		err := d.db.Read(t.Context(), func(tx *store.Tx) (err error) {
			planned, err = d.dueInRollouts(t.Context(), tx)
			return err
		})
		if err != nil || len(planned.actions) != 2 {
			t.Fatalf("planned %v, %v", planned, err)
		}
		return planned
	}
	carry := func(planned *due) error {
		return d.db.Write(t.Context(), func(tx *store.Tx) error {
			_, _, err := d.advanceAll(t.Context(), tx, planned)
			return err
		})
	}
	half := plan()
	err := d.db.Write(t.Context(), func(tx *store.Tx) error {
		a := half.actions[0]
		if _, err := d.Control.advance(t.Context(), tx, half, half.placements[a.Placement.String()], a); err != nil {
			return err
		}
		return fault.New(fault.Unavailable, "killed")
	})
	wantCode(t, err, fault.Unavailable)
	if n := len(asked(hosts)); n != 0 {
		t.Fatalf("%d are asked by half a pass", n)
	}
	stale := plan()
	for _, act := range []string{"pause", "resume"} { // an operator decides between the plan and its pass
		if _, err := d.decide("all", act); err != nil {
			t.Fatal(err)
		}
		wantCode(t, carry(stale), fault.Conflict)
	}
	if n := len(asked(hosts)); n != 0 {
		t.Fatalf("%d are asked by a plan that is void", n)
	}
	results := make(chan int, 4)
	for range cap(results) {
		go func() {
			did, _, err := d.AdvanceRollouts(t.Context())
			if err != nil {
				t.Error(err)
			}
			results <- did
		}()
	}
	total := 0
	for range cap(results) {
		total += <-results
	}
	if total != 2 || len(asked(hosts)) != 2 {
		t.Errorf("%d done by four passes, %d asked", total, len(asked(hosts)))
	}
}

func TestRolloutDecisions(t *testing.T) {
	d, hosts := rolled(t, 4)
	d.start(&api.StartRolloutRequest{Service: "orders", Spec: &api.RolloutSpec{Steps: []string{"1", "100%"}}})
	_, err := d.decide("orders", "resume")
	wantCode(t, err, fault.Conflict)
	paused, err := d.decide("orders", "pause")
	if err != nil || paused.Rollout.State != "paused" || paused.Rollout.DecidedBy != operator.String() {
		t.Fatalf("%v, %v", paused, err)
	}
	d.advance()
	if n := len(asked(hosts)); n != 0 {
		t.Errorf("%d asked during a pause", n)
	}
	if _, err := d.decide("orders", "resume"); err != nil {
		t.Fatal(err)
	}
	d.advance()
	canary := asked(hosts)[0]
	hosts[canary].gets(2)
	back, err := d.decide("orders", "rollback")
	if err != nil || back.Rollout.State != "rolled back" || back.Rollback.Placements != 1 || back.Rollback.Undoes != back.Rollout.Id {
		t.Fatalf("%v, %v", back, err)
	}
	d.advance()
	if ids := asked(hosts); len(ids) != 1 || ids[0] != canary || hosts[canary].desired().RenewThrough != 2 {
		t.Errorf("the rollback asks %v", ids)
	}
	for _, act := range []string{"pause", "abort", "rollback"} {
		_, err := d.decide(back.Rollout.Id, act)
		wantCode(t, err, fault.Conflict)
	}
	hosts[canary].gets(3)
	d.advance()
	d.advance()
	_, err = d.decide("orders-rollback", "abort")
	wantCode(t, err, fault.Conflict)
	if !strings.Contains(err.Error(), "is done") {
		t.Errorf("abort after done: %v", err)
	}
	_, err = d.decide("nosuch", "abort")
	wantCode(t, err, fault.NotFound)
}

func TestRolloutGate(t *testing.T) {
	d, hosts := rolled(t, 2)
	d.start(&api.StartRolloutRequest{All: true, Spec: &api.RolloutSpec{
		Steps: []string{"1", "100%"}, Gates: []*api.RolloutGate{{Name: "errors", Webhook: "https://gate.example/errors"}, {Name: "people"}},
	}})
	d.advance()
	canary := asked(hosts)[0]
	hosts[canary].gets(2)
	d.advance()
	_, asks, err := d.AdvanceRollouts(t.Context())
	if err != nil || len(asks) != 1 || asks[0].Wave != 1 || asks[0].Webhook != "https://gate.example/errors" {
		t.Fatalf("asks %v, %v", asks, err)
	}
	say := func(gate string, passed bool) {
		t.Helper()
		_, err := d.AnswerRolloutGate(t.Context(), Caller{Kind: Server}, &api.AnswerRolloutGateRequest{Rollout: "all", Wave: 1, Gate: gate, Passed: passed, Words: "rate 3%"})
		if err != nil {
			t.Fatal(err)
		}
	}
	say("errors", false)
	say("people", true)
	if _, asks, _ := d.AdvanceRollouts(t.Context()); len(asks) != 0 || len(asked(hosts)) != 0 {
		t.Errorf("a gate that refused is asked again at once: %v", asks)
	}
	if text := d.rollout("all").Rollout.Reasons[0].Text; !strings.Contains(text, "gate errors refused it at") || !strings.HasSuffix(text, "rate 3%") {
		t.Errorf("reason %q", text)
	}
	say("errors", true)
	d.advance()
	if len(asked(hosts)) != 1 {
		t.Error("the gates passed, and nobody is asked")
	}
	_, err = d.AnswerRolloutGate(t.Context(), operator, &api.AnswerRolloutGateRequest{Rollout: "all", Wave: 1, Gate: "nosuch"})
	wantCode(t, err, fault.NotFound)
}

func TestRolloutRefusals(t *testing.T) {
	d, _ := rolled(t, 2)
	freeze := "apiVersion: rotunda/v1\nkind: Window\nmetadata: {name: frozen}\nspec: {from: \"21:00\", to: \"23:30\", timezone: UTC, freeze: true}\n"
	d.apply(freeze)
	before := len(d.entries())
	for name, c := range map[string]struct {
		req  *api.StartRolloutRequest
		code fault.Code
		says string
	}{
		"nothing chosen": {&api.StartRolloutRequest{}, fault.Invalid, "exactly one"},
		"two chosen":     {&api.StartRolloutRequest{All: true, Intent: "orders-tls"}, fault.Invalid, "exactly one"},
		"no intent":      {&api.StartRolloutRequest{Intent: "nosuch"}, fault.NotFound, "rotunda get intents"},
		"no service":     {&api.StartRolloutRequest{Service: "nosuch"}, fault.NotFound, "does not exist"},
		"over nothing":   {&api.StartRolloutRequest{Selector: map[string]string{"role": "x"}}, fault.NotFound, "over nothing"},
		"no window":      {&api.StartRolloutRequest{All: true, Spec: &api.RolloutSpec{Windows: []string{"days"}}}, fault.NotFound, "not declared"},
		"a freeze":       {&api.StartRolloutRequest{All: true, Spec: &api.RolloutSpec{Windows: []string{"frozen"}}}, fault.Invalid, "is a freeze"},
		"never opens":    {&api.StartRolloutRequest{All: true, Spec: &api.RolloutSpec{Windows: []string{"nights"}}}, fault.Invalid, "never begin"},
		"empty wave":     {&api.StartRolloutRequest{All: true, Spec: &api.RolloutSpec{Steps: []string{"5", "5", "100%"}}}, fault.Invalid, "would be empty"},
		"no region":      {&api.StartRolloutRequest{All: true, Spec: &api.RolloutSpec{ByRegion: true, Regions: []string{"mars"}}}, fault.Invalid, "leave it out"},
		"level":          {&api.StartRolloutRequest{All: true, Spec: &api.RolloutSpec{Level: "sure"}}, fault.Invalid, "delivered, loaded or proven"},
		"a step":         {&api.StartRolloutRequest{All: true, Spec: &api.RolloutSpec{Steps: []string{"many"}}}, fault.Invalid, "neither a count"},
		"a webhook":      {&api.StartRolloutRequest{All: true, Spec: &api.RolloutSpec{Gates: []*api.RolloutGate{{Name: "g", Webhook: "gate"}}}}, fault.Invalid, "URL"},
	} {
		for _, dry := range []bool{true, false} {
			c.req.DryRun = dry
			_, err := d.StartRollout(t.Context(), operator, c.req)
			wantCode(t, err, c.code)
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	_, err := d.StartRollout(t.Context(), Caller{Kind: Agent, ID: "a"}, &api.StartRolloutRequest{All: true})
	wantCode(t, err, fault.Forbidden)
	d.start(&api.StartRolloutRequest{Selector: map[string]string{"shard": "1"}, Name: "all"})
	_, err = d.StartRollout(t.Context(), operator, &api.StartRolloutRequest{All: true})
	wantCode(t, err, fault.Conflict)
	list, err := d.ListRollouts(t.Context(), operator, &api.ListRolloutsRequest{Ended: true})
	if err != nil || len(list.Rollouts) != 1 || list.Rollouts[0].Placements != 1 || len(d.entries()) != before+1 {
		t.Errorf("after refusals: %v, %v", list, err)
	}
}

// A rotation that was asked for by itself holds its cluster against a rollout.
func TestRolloutKeepsOffOthers(t *testing.T) {
	d := found(t)
	d.apply(strings.Replace(documents, "  files:", "  target: {kind: files, cluster: c1}\n  files:", 1))
	hosts := map[string]*host{}
	for _, name := range []string{"a", "b"} {
		h := d.enrolHost(map[string]string{"role": "orders", "host": name})
		h.gets(1)
		hosts[h.placement()] = h
	}
	begun := d.start(&api.StartRolloutRequest{All: true, Spec: &api.RolloutSpec{Steps: []string{"1", "100%"}}})
	other := begun.Members[1].Placement
	if _, err := d.Rotate(t.Context(), operator, &api.RotateRequest{Placement: other}); err != nil {
		t.Fatal(err)
	}
	d.advance()
	if ids := asked(hosts); len(ids) != 1 || ids[0] != other {
		t.Fatalf("asked %v", ids)
	}
	if text := d.rollout("all").Rollout.Reasons[0].Text; !strings.Contains(text, "a rotation that was asked for by itself holds c1") {
		t.Errorf("reason %q", text)
	}
	hosts[other].gets(2)
	d.advance()
	if ids := asked(hosts); len(ids) != 1 || ids[0] == other {
		t.Errorf("asked %v", ids)
	}
}
