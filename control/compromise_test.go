package control

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

func (d *domain) fallen(req *api.CompromiseRequest) *api.CompromiseResponse {
	d.t.Helper()
	response, err := d.Compromise(d.t.Context(), operator, req)
	if err != nil {
		d.t.Fatal(err)
	}
	return response
}

// lookedAt is a compromise after everything that goes on by itself had its turn.
func (d *domain) lookedAt(id string) *api.Compromise {
	d.t.Helper()
	d.advance()
	d.advanceRevocations()
	if _, err := d.PublishCRLs(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
	if _, err := d.AdvanceCompromises(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
	list, err := d.ListCompromises(d.t.Context(), operator, &api.ListCompromisesRequest{Id: id})
	if err != nil {
		d.t.Fatal(err)
	}
	return list.Compromises[0]
}

// stepsOf are its steps in a line each: "revoked 0 of 2: who reason".
func stepsOf(one *api.Compromise) string {
	var lines []string
	for _, step := range one.Steps {
		line := fmt.Sprintf("%s %d of %d", step.Name, step.Done, step.Of)
		for _, wait := range step.Waits {
			line += fmt.Sprintf("; %s %s | %s", wait.Who, wait.Reason, wait.Remedy)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// frozen is a freeze that holds at all times.
const frozen = `---
apiVersion: rotunda/v1
kind: Window
metadata: {name: year-end}
spec: {days: [mon, tue, wed, thu, fri, sat, sun], from: "00:00", to: "23:59", timezone: UTC, freeze: true}
`

// Who holds a step up by ten certificates is named once.
func TestCompromiseNamesWhoHoldsItUpOnce(t *testing.T) {
	d := found(t)
	d.apply(documents)
	a, _ := d.ordersHost("a")
	for generation := range uint64(3) {
		a.gets(generation + 2)
	}
	for _, step := range d.fallen(&api.CompromiseRequest{Service: "orders", DryRun: true}).Compromise.Steps {
		seen := map[string]bool{}
		for _, wait := range step.Waits {
			if said := wait.Who + " " + wait.Reason; seen[said] {
				t.Errorf("%s: twice: %s", step.Name, said)
			} else {
				seen[said] = true
			}
		}
		if step.Name == "on the lists" && (step.Of != 4 || len(step.Waits) != 2) {
			t.Errorf("%d of %d, held up by %v", step.Done, step.Of, step.Waits)
		}
	}
}

// A service's keys are replaced in waves, through a freeze, each revoked when its
// successor stands; that it is contained and recovered from is dated when it is so
// and not a moment before, whatever restarts meanwhile.
func TestCompromiseOfService(t *testing.T) {
	d := found(t)
	d.apply(documents + frozen)
	a, leafA := d.ordersHost("a")
	b, leafB := d.ordersHost("b")
	dry := d.fallen(&api.CompromiseRequest{Service: "orders", DryRun: true})
	if len(dry.Compromise.Steps) == 0 || dry.AuditId != "" || a.desired().RenewThrough+b.desired().RenewThrough != 0 {
		t.Fatalf("a dry run shows nothing, or did something: %v", dry)
	}
	if list, err := d.ListCompromises(t.Context(), operator, &api.ListCompromisesRequest{}); err != nil || len(list.Compromises) != 0 {
		t.Fatalf("a dry run is on record: %v %v", list, err)
	}
	id := d.fallen(&api.CompromiseRequest{Service: "orders", Note: "seen in a dump"}).Compromise.Id
	again := d.fallen(&api.CompromiseRequest{Service: "orders"})
	if !again.Already || again.Compromise.Id != id || again.AuditId != "" {
		t.Errorf("the second time: %v", again)
	}
	one := d.lookedAt(id)
	if d.onCRL(leafA) || d.onCRL(leafB) || one.ContainedAt != nil || one.RecoveredAt != nil {
		t.Fatalf("something is revoked before its successor, or dated: %s", stepsOf(one))
	}
	first, second, old, last := a, b, leafA, leafB
	if a.desired().RenewThrough == 0 {
		first, second, old, last = b, a, leafB, leafA
	}
	if got := first.desired(); got.RenewThrough != 1 || !got.NewKey || second.desired().RenewThrough != 0 {
		t.Fatalf("the canary is not asked for a new key, or all are: %v", got)
	}
	d.restart()
	d.connect(first.caller)
	d.connect(second.caller)
	first.gets(2)
	one = d.lookedAt(id)
	if !d.onCRL(old) || d.onCRL(last) || one.ContainedAt != nil || one.RecoveredAt != nil || second.desired().RenewThrough != 1 {
		t.Fatalf("after the first: %s", stepsOf(one))
	}
	d.clock.turn(time.Minute)
	second.gets(2)
	one = d.lookedAt(id)
	if !d.onCRL(last) || one.ContainedAt == nil || one.RecoveredAt == nil || one.EndedAt == nil {
		t.Fatalf("in the end: %s", stepsOf(one))
	}
	if took := one.ContainedAt.AsTime().Sub(one.BegunAt.AsTime()); took < time.Minute {
		t.Errorf("contained after %s, before the last was revoked", took)
	}
	if d.rollout(d.lookedAt(id).Rollout).Rollout.Selection != "Service/orders, compromised" {
		t.Errorf("the rollout is over %q", d.rollout(one.Rollout).Rollout.Selection)
	}
	log := strings.Join(d.entries(), "\n")
	for _, verb := range []string{"compromise.begin", "compromise.contained", "compromise.recovered"} {
		if strings.Count(log, `"verb":"`+verb+`"`) != 1 {
			t.Errorf("%s is in the log %d times", verb, strings.Count(log, `"verb":"`+verb+`"`))
		}
	}
}

// With contain-first nothing waits; contained comes before recovered.
func TestCompromiseContainsFirst(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h, leaf := d.ordersHost("a")
	id := d.fallen(&api.CompromiseRequest{Service: "orders", ContainFirst: true}).Compromise.Id
	if n, err := d.AdvanceCompromises(t.Context()); err != nil || n != 0 {
		t.Fatalf("contained before a list says so: %d %v", n, err)
	}
	one := d.lookedAt(id)
	if !d.onCRL(leaf) || one.ContainedAt == nil || one.RecoveredAt != nil || one.EndedAt != nil {
		t.Fatalf("at once: %s", stepsOf(one))
	}
	h.gets(2)
	if one = d.lookedAt(id); one.RecoveredAt == nil || one.EndedAt == nil {
		t.Errorf("in the end: %s", stepsOf(one))
	}
}

// A host in wrong hands is cut off at once, canaries of its agent's too; what its
// placements hold waits for the host to come back, or for the word not to.
func TestCompromiseOfAgent(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h, leaf := d.ordersHost("a")
	_, other := d.ordersHost("b")
	identities := func() (all []store.Certificate) {
		err := d.db.Read(t.Context(), func(tx *store.Tx) (err error) {
			all, err = tx.AgentIdentities(t.Context(), h.id)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	id := d.fallen(&api.CompromiseRequest{Agent: h.id}).Compromise.Id
	if all := identities(); len(all) != 1 || all[0].RevokedAt.IsZero() {
		t.Fatalf("the agent is not cut off: %v", all)
	}
	one := d.lookedAt(id)
	if text := stepsOf(one); d.onCRL(leaf) || d.onCRL(other) || one.ContainedAt != nil || !strings.Contains(text, "rotunda agent rejoin "+h.id) {
		t.Errorf("the leaf of the host: %s", text)
	}
	if _, err := d.RetireAgent(t.Context(), operator, &api.RetireAgentRequest{AgentId: h.id}); err != nil {
		t.Fatal(err)
	}
	one = d.lookedAt(id)
	if !d.onCRL(leaf) || d.onCRL(other) || one.ContainedAt == nil || one.EndedAt == nil {
		t.Errorf("after the host was given up: %s", stepsOf(one))
	}
}

// A key's certificates are revoked wherever they are, and an authority's key gets
// another answer.
func TestCompromiseOfKey(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h, leaf := d.ordersHost("a")
	_, other := d.ordersHost("b")
	spki, err := pki.SPKIHashOf(leaf.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Compromise(t.Context(), operator, &api.CompromiseRequest{Key: spki.String(), Labels: map[string]string{"host": "b"}})
	wantCode(t, err, fault.NotFound)
	id := d.fallen(&api.CompromiseRequest{Key: spki.String(), Within: durationpb.New(time.Hour)}).Compromise.Id
	d.lookedAt(id)
	d.clock.turn(2 * time.Hour)
	if one := d.lookedAt(id); !d.onCRL(leaf) || d.onCRL(other) || one.ContainedAt == nil || one.RecoveredAt != nil {
		t.Errorf("after its time: %s", stepsOf(one))
	}
	if got := h.desired(); got.RenewThrough != 1 || !got.NewKey {
		t.Errorf("no new key is asked for: %v", got)
	}
	issuing, err := pki.SPKIHashOf(d.issuingNow().Certificate.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Compromise(t.Context(), operator, &api.CompromiseRequest{Key: issuing.String()})
	wantCode(t, err, fault.Conflict)
	if !strings.Contains(err.Error(), "that of authority issuing") {
		t.Error(err)
	}
}

// Where an authority fell trust moves to the root that stands by; nobody is cut
// off on the way, and it is contained when nobody trusts what fell.
func TestCompromiseOfAuthority(t *testing.T) {
	d := found(t)
	hosts := d.parties(2)
	d.begin("standby", "")
	d.settle(hosts)
	begun := d.fallen(&api.CompromiseRequest{Authority: "issuing", Note: "its backup was read"})
	if begun.Compromise.TrustChange == "" {
		t.Fatalf("trust does not move: %s", stepsOf(begun.Compromise))
	}
	one := d.lookedAt(begun.Compromise.Id)
	if one.ContainedAt != nil || one.RecoveredAt != nil {
		t.Fatalf("at once: %s", stepsOf(one))
	}
	d.settle(hosts)
	one = d.lookedAt(begun.Compromise.Id)
	if one.ContainedAt == nil || one.RecoveredAt == nil || one.EndedAt == nil {
		t.Fatalf("in the end: %s\n%s", stepsOf(one), said(d.ofChange(one.TrustChange)))
	}
	if anchors := hosts[0].bundle.Anchors(); len(anchors) != 1 || anchors[0].Equal(d.rootNow()) == false {
		t.Errorf("hosts trust %d anchors", len(anchors))
	}
	_, err := d.Compromise(t.Context(), operator, &api.CompromiseRequest{Authority: "root"})
	wantCode(t, err, fault.Conflict)
	if !strings.Contains(err.Error(), "nobody trusts what it signs") {
		t.Error(err)
	}
}

// Without a root to move to it stands on the record, names the ceremony, and goes
// on with the change that an operator begins then.
func TestCompromiseOfAuthorityWithoutStandby(t *testing.T) {
	d := found(t)
	hosts := d.parties(2)
	id := d.fallen(&api.CompromiseRequest{Authority: "root"}).Compromise.Id
	one := d.lookedAt(id)
	if text := stepsOf(one); one.TrustChange != "" || one.ContainedAt != nil || !strings.Contains(text, "no other root was there to move to | rotunda trust rotate root") {
		t.Fatalf("it waits for: %s", text)
	}
	d.begin("root", "done")
	d.settle(hosts)
	if one = d.lookedAt(id); one.TrustChange == "" || one.EndedAt == nil {
		t.Errorf("in the end: %s", stepsOf(one))
	}
}

// A root that only stands by has signed nothing: it is turned back.
func TestCompromiseOfStandby(t *testing.T) {
	d := found(t)
	hosts := d.parties(1)
	d.begin("standby", "")
	d.settle(hosts)
	for _, name := range []string{"root-2", "issuing-2"} {
		_, err := d.Compromise(t.Context(), operator, &api.CompromiseRequest{Authority: name})
		if fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), "stands by") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A rehearsal does it all on a slice, and tells the lists nothing of keys in wrong
// hands.
func TestRehearsal(t *testing.T) {
	d := found(t)
	d.apply(documents)
	a, leafA := d.ordersHost("a")
	b, leafB := d.ordersHost("b")
	slice := map[string]string{"host": "a"}
	id := d.fallen(&api.CompromiseRequest{Service: "orders", Rehearsal: true, Labels: slice, ContainFirst: true}).Compromise.Id
	d.lookedAt(id)
	if !d.onCRL(leafA) || d.onCRL(leafB) || a.desired().RenewThrough != 1 || !a.desired().NewKey || b.desired().RenewThrough != 0 {
		t.Error("the rehearsal is not of the slice")
	}
	one := d.lookedAt(id)
	if reason := d.revocation(one.Revocation).Parts[0].Reason; reason != "unspecified" || !one.Rehearsal {
		t.Errorf("a rehearsal revokes for reason %s", reason)
	}
	a.gets(2)
	if one = d.lookedAt(id); one.EndedAt == nil {
		t.Errorf("in the end: %s", stepsOf(one))
	}
	// Of an authority: what it signed for the slice, and trust stays where it is.
	id = d.fallen(&api.CompromiseRequest{Authority: "issuing", Rehearsal: true, Labels: map[string]string{"host": "b"}}).Compromise.Id
	d.lookedAt(id)
	b.gets(2)
	if one = d.lookedAt(id); one.EndedAt == nil || one.TrustChange != "" || !d.onCRL(leafB) {
		t.Errorf("of an authority: %s", stepsOf(one))
	}
}

// What takes lists has to have the one with the revoked certificates, and sessions
// have to be closed, before it is contained.
func TestContainedWhenListsAreInUse(t *testing.T) {
	d := found(t)
	both := strings.NewReplacer("usages: [serverAuth]}", "usages: [serverAuth, clientAuth], revocation: {crl: true}}", `service == "orders" && `, "").Replace(documents)
	if _, err := d.PublishCRLs(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.apply(both + "---" + takingDocuments)
	server := d.enrolHost(map[string]string{"role": "ledger", "host": "l"})
	_, request := csr(t)
	leafOf(t, server.issue(server.placement(), 1, request))
	d.connect(server.caller)
	old := server.desired().CrlDigest
	using := func(lists string, orders ...*api.OrderReport) {
		t.Helper()
		err := server.report(&api.PlacementReport{
			State: api.State_STATE_STEADY, Generation: 1, LastGeneration: 1, Revision: 1, Level: api.Level_LEVEL_DELIVERED, CrlDigest: lists, CrlLevel: api.Level_LEVEL_LOADED, Orders: orders,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	using(old)
	if shown, err := d.DescribePlacement(t.Context(), operator, &api.DescribePlacementRequest{Id: server.placement()}); err != nil || shown.Status.CrlDigest != old || shown.Status.CrlLevel != api.Level_LEVEL_LOADED {
		t.Errorf("an operator is shown of the lists in use: %v, %v", shown.GetStatus(), err)
	}
	client, _ := d.ordersHost("a")
	id := d.fallen(&api.CompromiseRequest{Agent: client.id, ContainFirst: true}).Compromise.Id
	if text := stepsOf(d.lookedAt(id)); !strings.Contains(text, "lists in use 0 of 1; ledger-db on agent "+server.id+" has an older list in use") {
		t.Fatalf("with the old list in use: %s", text)
	}
	using(server.desired().CrlDigest)
	one := d.lookedAt(id)
	if text := stepsOf(one); one.ContainedAt != nil || !strings.Contains(text, "lists in use 1 of 1") || !strings.Contains(text, "sessions closed 0 of 1") {
		t.Fatalf("before sessions are closed: %s", text)
	}
	d.clock.turn(3 * time.Hour) // the order stands as long as the compromise is open
	d.token(nil)                // a commit, after which everything is read anew
	if text := stepsOf(d.lookedAt(id)); !strings.Contains(text, "sessions closed 0 of 1") {
		t.Fatalf("three hours later: %s", text)
	}
	orders := server.desired().Orders
	if len(orders) != 1 {
		t.Fatalf("ordered: %v", orders)
	}
	using(server.desired().CrlDigest, &api.OrderReport{Id: orders[0].Id, Outcome: api.Outcome_OUTCOME_DONE, Words: "3 sessions", Count: 3, At: stamp(d.clock.now())})
	if one = d.lookedAt(id); one.ContainedAt == nil {
		t.Errorf("in the end: %s", stepsOf(one))
	}
}

// A party that looks at no list is named, with how long it takes what was
// revoked.
func TestWhatRemains(t *testing.T) {
	d := found(t)
	both := strings.NewReplacer("usages: [serverAuth]", "usages: [serverAuth, clientAuth]", `service == "orders" && `, "").Replace(documents)
	d.apply(both + "---" + takingDocuments)
	_, leaf := d.ordersHost("a")
	id := d.fallen(&api.CompromiseRequest{Service: "orders", ContainFirst: true}).Compromise.Id
	one := d.lookedAt(id)
	if text := strings.Join(one.Remains, "\n"); !strings.Contains(text, "ledger-db of service ledger takes it") || !one.RemainsUntil.AsTime().Equal(leaf.NotAfter) {
		t.Errorf("remains until %v: %s", one.RemainsUntil.AsTime(), text)
	}
	d.clock.turn(25 * time.Hour)
	if one = d.lookedAt(id); len(one.Remains) != 0 || one.RemainsUntil != nil {
		t.Errorf("after its end: %v", one.Remains)
	}
}

func TestCompromiseRefusals(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h, _ := d.ordersHost("a")
	slice := map[string]string{"host": "a"}
	for name, c := range map[string]struct {
		req  *api.CompromiseRequest
		code fault.Code
		says string
	}{
		"nothing":                    {&api.CompromiseRequest{}, fault.Invalid, "exactly one"},
		"two things":                 {&api.CompromiseRequest{Service: "orders", Agent: h.id}, fault.Invalid, "exactly one"},
		"labels of an agent":         {&api.CompromiseRequest{Agent: h.id, Labels: slice}, fault.Invalid, "it is one host"},
		"a rehearsal of all":         {&api.CompromiseRequest{Service: "orders", Rehearsal: true}, fault.Invalid, "of a slice"},
		"a slice of an authority":    {&api.CompromiseRequest{Authority: "root", Labels: slice}, fault.Invalid, "no slice"},
		"an authority first":         {&api.CompromiseRequest{Authority: "root", ContainFirst: true}, fault.Invalid, "stop the fleet"},
		"within a year":              {&api.CompromiseRequest{Service: "orders", Within: durationpb.New(9000 * time.Hour)}, fault.Invalid, "at most 90d"},
		"first and within":           {&api.CompromiseRequest{Service: "orders", ContainFirst: true, Within: durationpb.New(time.Hour)}, fault.Invalid, "--contain-first or --within"},
		"an unknown service":         {&api.CompromiseRequest{Service: "nosuch"}, fault.NotFound, "does not exist"},
		"an unknown agent":           {&api.CompromiseRequest{Agent: "nosuch"}, fault.NotFound, "agent"},
		"an unknown authority":       {&api.CompromiseRequest{Authority: "nosuch"}, fault.NotFound, "authority"},
		"an unknown key":             {&api.CompromiseRequest{Key: strings.Repeat("ab", 32)}, fault.NotFound, "no certificate"},
		"half a key":                 {&api.CompromiseRequest{Key: "abcd"}, fault.Invalid, "64 hexadecimal digits"},
		"an empty slice":             {&api.CompromiseRequest{Service: "orders", Labels: map[string]string{"host": "z"}}, fault.NotFound, "no certificate"},
		"an authority's empty slice": {&api.CompromiseRequest{Authority: "issuing", Rehearsal: true, Labels: map[string]string{"host": "z"}}, fault.NotFound, "no live certificate on an agent"},
	} {
		before := len(d.entries())
		_, err := d.Compromise(t.Context(), operator, c.req)
		if fault.CodeOf(err) != c.code || !strings.Contains(fault.Public(err), c.says) {
			t.Errorf("%s: got %v, want %s with %q", name, err, c.code, c.says)
		}
		if len(d.entries()) != before {
			t.Errorf("%s: something was changed", name)
		}
	}
	_, err := d.Compromise(t.Context(), h.caller, &api.CompromiseRequest{Service: "orders"})
	wantCode(t, err, fault.Forbidden)
	id := d.fallen(&api.CompromiseRequest{Service: "orders"}).Compromise.Id
	end := func(reason string) error {
		_, err := d.EndCompromise(t.Context(), operator, &api.EndCompromiseRequest{Id: id, Reason: reason})
		return err
	}
	wantCode(t, end(""), fault.Invalid)
	if err := end("a mistake"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, end("again"), fault.Conflict)
}

// What is collected has each certificate, who signed the evidence, and what to look
// for in the log.
func TestCollectCompromise(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h, leaf := d.ordersHost("a")
	id := d.fallen(&api.CompromiseRequest{Service: "orders", ContainFirst: true}).Compromise.Id
	roles, terms := map[string]int{}, map[string]bool{}
	var agents []string
	err := d.CollectCompromise(t.Context(), operator, &api.CollectCompromiseRequest{Id: id}, func(piece *api.CollectCompromiseResponse) error {
		if one := piece.GetCertificate(); one != nil {
			roles[one.Role]++
		}
		if one := piece.GetAgent(); one != nil {
			agents = append(agents, one.Id)
		}
		terms[piece.GetTerm()] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if roles["affected"] != 1 || roles["authority"] != 2 || roles["observer"] != 1 || len(agents) != 1 || agents[0] != h.id {
		t.Errorf("collected %v of agents %v", roles, agents)
	}
	for _, term := range []string{id, "Service/orders", serialOf(t, leaf), h.placement()} {
		if !terms[term] {
			t.Errorf("nobody looks for %s", term)
		}
	}
	wantCode(t, d.CollectCompromise(t.Context(), h.caller, &api.CollectCompromiseRequest{Id: id}, nil), fault.Forbidden)
	wantCode(t, d.CollectCompromise(t.Context(), operator, &api.CollectCompromiseRequest{Id: "nosuch"}, nil), fault.NotFound)
}
