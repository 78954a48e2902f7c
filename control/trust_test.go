package control

import (
	"crypto/x509"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// party is a host in a change of trust: what it has in use.
type party struct {
	*host
	placement  string
	leaf       *x509.Certificate
	generation uint64
	bundle     pki.Bundle
}

// parties are n hosts at which everything stands.
func (d *domain) parties(n int) []*party {
	d.t.Helper()
	d.apply(documents)
	var all []*party
	for i := range n {
		h := d.enrolHost(map[string]string{"role": "orders", "host": fmt.Sprint("h", i)})
		p := &party{host: h, placement: h.placement()}
		p.follow()
		all = append(all, p)
	}
	return all
}

func (p *party) must(err error) {
	p.domain.t.Helper()
	if err != nil {
		p.domain.t.Fatal(err)
	}
}

// wants is what is desired of the party now.
func (p *party) wants() *api.DesiredState {
	p.domain.t.Helper()
	state, err := p.domain.Desired(p.domain.t.Context(), p.caller)
	p.must(err)
	return state
}

// adopt takes the bundle that is desired, as a process and as an agent.
func (p *party) adopt() {
	p.domain.t.Helper()
	var err error
	p.bundle, err = pki.ParseBundleDER(p.wants().Anchors)
	p.must(err)
	p.tell()
}

// renew does what is asked of leaf and identity.
func (p *party) renew() {
	p.domain.t.Helper()
	state := p.wants()
	if state.RenewIdentityAt != nil {
		_, request := csr(p.domain.t)
		_, err := p.domain.RenewIdentity(p.domain.t.Context(), p.caller, &api.RenewIdentityRequest{Csr: request})
		p.must(err)
	}
	if desired := state.Placements[0]; p.generation <= desired.RenewThrough {
		p.generation++
		_, request := csr(p.domain.t)
		p.leaf = leafOf(p.domain.t, p.issue(p.placement, p.generation, request))
	}
	p.tell()
}

// follow does all that is desired.
func (p *party) follow() {
	p.domain.t.Helper()
	p.adopt()
	p.renew()
}

// tell reports what is in use.
func (p *party) tell() {
	p.domain.t.Helper()
	p.must(p.domain.Report(p.domain.t.Context(), p.caller, &api.AgentReport{
		AnchorsDigest: p.bundle.Digest().String(),
		Placements: []*api.PlacementReport{{
			PlacementId: p.placement, State: api.State_STATE_STEADY, Generation: p.generation, LastGeneration: p.generation,
			Revision: 1, BundleDigest: p.bundle.Digest().String(), Level: api.Level_LEVEL_DELIVERED,
		}},
	}))
}

// trusted says whether each party trusts what each other serves.
func trusted(t testing.TB, d *domain, parties []*party) {
	t.Helper()
	for _, p := range parties {
		for _, other := range parties {
			if other.leaf == nil {
				continue
			}
			var issuers []*x509.Certificate
			for _, record := range d.authorities() {
				if cert, err := x509.ParseCertificate(record.Der); err == nil && record.Kind == "issuing" && other.leaf.CheckSignatureFrom(cert) == nil {
					issuers = append(issuers, cert)
				}
			}
			if err := (pki.Chain{Leaf: other.leaf, Intermediates: issuers}).Verify(p.bundle, x509.ExtKeyUsageServerAuth, d.clock.now()); err != nil {
				t.Fatalf("%s does not trust what %s serves: %v", p.id, other.id, err)
			}
		}
	}
}

func (d *domain) authorities() []*api.AuthorityInfo {
	d.t.Helper()
	list, err := d.ListAuthorities(d.t.Context(), operator, &api.ListAuthoritiesRequest{})
	if err != nil {
		d.t.Fatal(err)
	}
	return list.Authorities
}

// prepared is a request, and its response by the first root's key.
func (d *domain) prepared(kind string, region ...string) (response []byte) {
	d.t.Helper()
	return d.answered(&api.PrepareTrustRequest{Kind: kind, Region: strings.Join(region, "")})
}

// answered is the response to what is asked for.
func (d *domain) answered(order *api.PrepareTrustRequest) (response []byte) {
	d.t.Helper()
	kind := order.Kind
	prepared, err := d.PrepareTrust(d.t.Context(), operator, order)
	if err != nil {
		d.t.Fatal(err)
	}
	request, err := ca.ParseCeremonyRequest(prepared.Request)
	if err != nil {
		d.t.Fatal(err)
	}
	next, _ := csr(d.t)
	old := d.rootKey
	if kind == "standby" && request.NewRoot == nil {
		old = d.standbyKey
	}
	signed, noBridge, err := ca.HoldCeremony(d.clock.now(), request, ca.CeremonyKeys{Old: old, New: next})
	if err != nil || noBridge != nil {
		d.t.Fatal(err, noBridge)
	}
	switch {
	case kind == "root":
		d.rootKey = next
	case kind == "standby" && request.NewRoot != nil:
		d.standbyKey = next
	}
	if response, err = signed.Encode(); err != nil {
		d.t.Fatal(err)
	}
	return response
}

func (d *domain) begin(kind, through string, region ...string) *api.TrustChange {
	d.t.Helper()
	begun, err := d.BeginTrust(d.t.Context(), operator, &api.BeginTrustRequest{Response: d.prepared(kind, region...), Reason: "drill", Through: through})
	if err != nil {
		d.t.Fatal(err)
	}
	return begun.Change
}

// act carries out what the change may do now; the process that did it is
// another one afterwards.
func (d *domain) act() bool {
	d.t.Helper()
	acted, err := d.AdvanceTrust(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	asked, _, err := d.AdvanceRollouts(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	d.restart()
	return acted+asked > 0
}

func (d *domain) change() *api.TrustChange {
	d.t.Helper()
	list, err := d.ListTrust(d.t.Context(), operator, &api.ListTrustRequest{})
	if err != nil || len(list.Changes) == 0 {
		d.t.Fatal(err, list)
	}
	return list.Changes[0]
}

func (d *domain) decideTrust(decision, through, reason string) error {
	_, err := d.DecideTrust(d.t.Context(), operator, &api.DecideTrustRequest{Decision: decision, Through: through, Reason: reason})
	return err
}

// waitsFor says whether the change is at the phase and waits for somebody in
// these words.
func waitsFor(t *testing.T, d *domain, phase, words string) {
	t.Helper()
	change := d.change()
	var said []string
	for _, wait := range change.Waits {
		said = append(said, strings.TrimSpace(wait.Who+" "+wait.Reason)+" | "+wait.Remedy)
	}
	if change.Phase != phase || !strings.Contains(strings.Join(said, "\n"), words) {
		t.Errorf("at %s it waits for %q; want %s, %q", change.Phase, said, phase, words)
	}
}

// A root is replaced, twice, by processes that end after each act: whatever a
// host does first, all that is served is trusted by all.
func TestRootIsReplaced(t *testing.T) {
	d := found(t)
	hosts := d.parties(3)
	for range 2 {
		first := d.issuingNow()
		begun := d.begin("root", "done")
		if begun.Phase != "distribute" || begun.Bridge != "served" {
			t.Fatalf("begun at %s, bridge %s", begun.Phase, begun.Bridge)
		}
		turns := 0
		for d.change().EndedAt == nil {
			if turns++; turns > 40 {
				t.Fatalf("it does not end: %v", d.change())
			}
			d.act()
			trusted(t, d, hosts)
			p := hosts[turns%len(hosts)] // one host at a time, half a step each
			if turns%2 == 0 {
				p.adopt()
			} else {
				p.renew()
			}
			trusted(t, d, hosts)
		}
		if d.issuingNow().ID == first.ID {
			t.Error("the old authority signs yet")
		}
		for _, p := range hosts {
			p.follow()
			if len(p.bundle.Anchors()) != 1 || !p.bundle.Contains(d.rootNow()) {
				t.Errorf("%d anchors are left", len(p.bundle.Anchors()))
			}
		}
		err := d.db.Read(t.Context(), func(tx *store.Tx) error {
			_, err := tx.AuthorityKey(t.Context(), first.ID)
			return err
		})
		if fault.CodeOf(err) != fault.NotFound {
			t.Errorf("the old authority's key is there yet: %v", err)
		}
		wantKeyGone(t, d, first)
	}
	states := map[string]int{}
	for _, authority := range d.authorities() {
		states[authority.Kind+" "+authority.State]++
	}
	if states["root active"] != 1 || states["issuing active"] != 1 || states["issuing withdrawn"] != 2 {
		t.Errorf("authorities: %v", states)
	}
}

// Before a party has adopted the new anchor nothing is signed under it, however
// often it is asked for; the status says who it is.
func TestNothingIsSignedBeforeAllTrustIt(t *testing.T) {
	d := found(t)
	hosts := d.parties(2)
	old := d.issuingNow()
	d.begin("root", "done")
	for d.act() {
	}
	hosts[0].follow()
	for d.act() {
	}
	waitsFor(t, d, "prove", "orders-tls on agent "+hosts[1].id+" has not shown that it trusts root-2; its agent is not connected | bring the agent back")
	waitsFor(t, d, "prove", "agent "+hosts[1].id+" has not shown")
	hosts[0].generation++
	_, request := csr(t)
	leaf := leafOf(t, hosts[0].issue(hosts[0].placement, hosts[0].generation, request))
	if leaf.CheckSignatureFrom(old.Certificate) != nil {
		t.Error("it was signed by an authority that not all trust")
	}
}

// An exception that is in force lets one party pass, by name; one that has
// ended does not.
func TestExceptionsLetOnePass(t *testing.T) {
	d := found(t)
	hosts := d.parties(2)
	d.begin("root", "drain")
	d.act()
	hosts[0].follow()
	for _, c := range []struct {
		subject, until string
		passes         bool
	}{
		{"agent/" + hosts[0].id, "2099-01-01", false},
		{"agent/" + hosts[1].id, "2020-01-01", false},
		{"agent/" + hosts[1].id, "2099-01-01", true},
	} {
		d.apply(fmt.Sprintf(`
apiVersion: rotunda/v1
kind: Exception
metadata: {name: late}
spec: {rule: trust-adopt, subject: %s, owner: ann, until: %s, reason: in repair}
`, c.subject, c.until))
		if change := d.change(); (change.Action == "activate") != c.passes {
			t.Errorf("%s until %s: next is %q, waits %v", c.subject, c.until, change.Action, change.Waits)
		}
	}
}

// A change can be turned back from every phase before withdraw, and what was
// served until then is trusted all the way.
func TestTrustIsTurnedBack(t *testing.T) {
	for _, at := range []string{"prove", "reissue", "drain", "withdraw"} {
		t.Run(at, func(t *testing.T) {
			d := found(t)
			hosts := d.parties(2)
			first := d.issuingNow()
			d.begin("root", "unbridge")
			for turns := 0; d.change().Phase != at; turns++ {
				if turns > 40 {
					t.Skipf("the change passes %s without standing in it", at)
				}
				if !d.act() {
					hosts[turns%2].follow()
				}
			}
			if err := d.decideTrust("back", "", ""); fault.CodeOf(err) != fault.Invalid {
				t.Errorf("back without a reason: %v", err)
			}
			if err := d.decideTrust("back", "", "a driver can't"); err != nil {
				t.Fatal(err)
			}
			if err := d.decideTrust("back", "", "again"); fault.CodeOf(err) != fault.Conflict {
				t.Errorf("back twice: %v", err)
			}
			for turns := 0; d.change().EndedAt == nil; turns++ {
				if turns > 60 {
					t.Fatalf("it does not end: %v", d.change())
				}
				if !d.act() {
					hosts[turns%2].follow()
				}
				trusted(t, d, hosts)
			}
			if d.issuingNow().ID != first.ID {
				t.Error("the first authority does not sign again")
			}
			for _, p := range hosts {
				p.follow()
				if len(p.bundle.Anchors()) != 1 || p.leaf.CheckSignatureFrom(first.Certificate) != nil {
					t.Errorf("%d anchors, or a leaf of the other authority", len(p.bundle.Anchors()))
				}
			}
		})
	}
}

// The issuing authority alone is replaced: nobody has to adopt anything.
func TestIssuingIsReplaced(t *testing.T) {
	d := found(t)
	hosts := d.parties(2)
	root, first := d.rootNow(), d.issuingNow()
	d.begin("issuing", "done")
	for turns := 0; d.change().EndedAt == nil; turns++ {
		if turns > 30 {
			t.Fatalf("it does not end: %v", d.change())
		}
		if !d.act() {
			hosts[turns%2].follow()
		}
		trusted(t, d, hosts)
	}
	if !d.rootNow().Equal(root) || d.issuingNow().ID == first.ID {
		t.Error("the root changed, or the issuing authority did not")
	}
}

// Documents that name the old anchor, or carry it, follow the change; so do
// those that are applied again while it goes on, and afterwards.
func TestDeclaredBundlesFollow(t *testing.T) {
	d := found(t)
	old := d.rootNow()
	anchor := "  - pem: |\n"
	for _, line := range strings.Split(strings.TrimSpace(string(pki.EncodeCertificatesPEM(old.Raw))), "\n") {
		anchor += "      " + line + "\n"
	}
	declared := "apiVersion: rotunda/v1\nkind: Bundle\nmetadata: {name: partners}\nspec:\n  anchors:\n" + anchor
	d.apply(declared)
	hosts := d.parties(1)
	has := func(roots ...*x509.Certificate) {
		t.Helper()
		for _, again := range []bool{false, true} {
			if again { // another document each time, that says the same
				declared += anchor
				d.apply(declared)
			}
			err := d.db.Read(t.Context(), func(tx *store.Tx) error {
				bundle, err := d.currentBundle(t.Context(), tx, "partners")
				if err == nil && (len(bundle.Anchors()) != len(roots) || slices.ContainsFunc(roots, func(r *x509.Certificate) bool { return !bundle.Contains(r) })) {
					t.Errorf("applied again %v: %d anchors, want %d", again, len(bundle.Anchors()), len(roots))
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	has(old)
	d.begin("root", "done")
	d.act()
	next := d.end("root-2")
	has(old, next)
	for turns := 0; d.change().EndedAt == nil; turns++ {
		if turns > 30 {
			t.Fatalf("it does not end: %v", d.change())
		}
		if !d.act() {
			hosts[0].follow()
		}
	}
	has(next)
}

// end is the certificate of the authority of the name.
func (d *domain) end(name string) *x509.Certificate {
	d.t.Helper()
	for _, authority := range d.authorities() {
		if authority.Name == name {
			cert, err := x509.ParseCertificate(authority.Der)
			if err != nil {
				d.t.Fatal(err)
			}
			return cert
		}
	}
	d.t.Fatalf("no authority %s", name)
	return nil
}

// What is wrong is refused, with the rule, and changes nothing.
func TestTrustRefusals(t *testing.T) {
	d := found(t)
	hosts := d.parties(1)
	before := len(d.authorities())
	refused := func(what string, err error, code fault.Code, words string) {
		t.Helper()
		if fault.CodeOf(err) != code || !strings.Contains(fmt.Sprint(err), words) {
			t.Errorf("%s: %v, want %s: %q", what, err, code, words)
		}
	}
	begin := func(response []byte, change func(*api.BeginTrustRequest)) error {
		request := &api.BeginTrustRequest{Response: response}
		if change != nil {
			change(request)
		}
		_, err := d.BeginTrust(t.Context(), operator, request)
		return err
	}
	_, err := d.PrepareTrust(t.Context(), operator, &api.PrepareTrustRequest{Kind: "leaf"})
	refused("a change of leaves", err, fault.Invalid, "root, issuing or standby")
	_, err = d.PrepareTrust(t.Context(), hosts[0].caller, &api.PrepareTrustRequest{Kind: "root"})
	refused("by an agent", err, fault.Forbidden, "may not")
	refused("garbage", begin([]byte("{}"), nil), fault.Invalid, "")
	refused("nothing prepared", d.decideTrust("advance", "", ""), fault.NotFound, "no change of trust is under way")
	older := d.prepared("issuing")
	good := d.prepared("issuing")
	refused("an answer to an older request", begin(older, nil), fault.Conflict, "")
	refused("a phase that is none", begin(good, func(r *api.BeginTrustRequest) { r.Through = "soon" }), fault.Invalid, "it is one of distribute")
	if _, err := d.BeginTrust(t.Context(), operator, &api.BeginTrustRequest{Response: good, DryRun: true}); err != nil {
		t.Errorf("a dry run: %v", err)
	}
	if after := len(d.authorities()); after != before {
		t.Errorf("%d authorities, %d before all that was refused", after, before)
	}
	if err := begin(good, nil); err != nil {
		t.Fatal(err)
	}
	refused("the same again", begin(good, nil), fault.Conflict, "is under way")
	_, err = d.PrepareTrust(t.Context(), operator, &api.PrepareTrustRequest{Kind: "root"})
	refused("a second change", err, fault.Conflict, "one goes on at a time")
	refused("a decision that is none", d.decideTrust("hurry", "", ""), fault.Invalid, "advance, pause, back or force")
	refused("a pause without a reason", d.decideTrust("pause", "", " "), fault.Invalid, "wants a reason")
	refused("force where nothing holds", d.decideTrust("force", "", "why not"), fault.Conflict, "nothing at prove holds")
	refused("no further than it may", d.decideTrust("advance", "prove", ""), fault.Conflict, "already")
	if err := d.decideTrust("advance", "", ""); err != nil {
		t.Fatal(err)
	}
	for d.act() {
	}
	hosts[0].follow()
	for d.act() {
	}
	if d.change().EndedAt == nil {
		t.Fatalf("it has not ended: %v", d.change())
	}
	_, err = d.DecideTrust(t.Context(), operator, &api.DecideTrustRequest{Id: d.change().Id, Decision: "back", Reason: "late"})
	refused("after the end", err, fault.Conflict, "ended at")
}

// From withdraw on there is no way back; and a party that can't show that it
// refuses the old anchor holds the end up, until that is forced, on record.
func TestForcedEnd(t *testing.T) {
	d := found(t)
	hosts := d.parties(2)
	d.begin("root", "done")
	for turns := 0; d.change().Phase != "refuse"; turns++ {
		if turns > 40 {
			t.Fatalf("it does not withdraw: %v", d.change())
		}
		if !d.act() {
			hosts[turns%2].follow()
		}
	}
	hosts[0].follow()
	waitsFor(t, d, "refuse", "orders-tls on agent "+hosts[1].id+" has not shown that it has let go of root")
	if err := d.decideTrust("back", "", "too late"); fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), "can't be turned back") {
		t.Errorf("back after withdraw: %v", err)
	}
	dry, err := d.DecideTrust(t.Context(), operator, &api.DecideTrustRequest{Decision: "force", Reason: "burnt down", DryRun: true})
	if err != nil || !strings.Contains(strings.Join(dry.Effects, "\n"), "proof, not hope") || !strings.Contains(strings.Join(dry.Effects, "\n"), hosts[1].id) {
		t.Errorf("what it would set aside: %v, %v", dry, err)
	}
	if d.act() {
		t.Error("a dry run had an effect")
	}
	if err := d.decideTrust("force", "", "burnt down"); err != nil {
		t.Fatal(err)
	}
	d.act()
	if change := d.change(); change.EndedAt == nil {
		t.Errorf("it has not ended: %v", change)
	}
	if entries := strings.Join(d.entries(), "\n"); !strings.Contains(entries, "burnt down") || !strings.Contains(entries, "setAside") {
		t.Error("the audit log does not say what was set aside")
	}
}

// A host that is enrolled while a change goes on has the new anchor before any
// leaf; and whoever holds a live certificate of the old authority by hand is
// named until it is gone.
func TestNewcomersAndLeftovers(t *testing.T) {
	d := found(t)
	hosts := d.parties(1)
	_, request := csr(t)
	_, err := d.IssueOperator(t.Context(), operator, &api.IssueOperatorRequest{Name: "ann", Csr: request})
	if err != nil {
		t.Fatal(err)
	}
	d.begin("root", "done")
	for turns := 0; d.change().Phase != "drain"; turns++ {
		if turns > 30 {
			t.Fatalf("it does not drain: %v", d.change())
		}
		if !d.act() {
			hosts[0].follow()
		}
	}
	waitsFor(t, d, "drain", "operator ann")
	waitsFor(t, d, "drain", "rotunda operator renew")
	late := d.enrolHost(map[string]string{"role": "orders", "host": "late"})
	newcomer := &party{host: late, placement: late.placement()}
	newcomer.adopt()
	if len(newcomer.bundle.Anchors()) != 2 {
		t.Errorf("a newcomer has %d anchors", len(newcomer.bundle.Anchors()))
	}
	newcomer.renew()
	trusted(t, d, append(hosts, newcomer))
	d.clock.turn(366 * 24 * time.Hour) // ann's certificate runs out
	if change := d.change(); slices.ContainsFunc(change.Waits, func(w *api.TrustWait) bool { return strings.Contains(w.Who, "ann") }) {
		t.Errorf("it waits for one whose certificate has expired: %v", change.Waits)
	}
}

const linkedDocuments = `
apiVersion: rotunda/v1
kind: Intent
metadata: {name: orders-tls}
spec:
  service: orders
  selector: {role: orders}
  profile: server
  identity: {dnsNames: ["{{ labels.host }}.orders.test.example"]}
  target: {kind: redis, name: cache, cluster: c1, address: "127.0.0.1:1", clientAuth: required}
  files: {directory: /srv/orders/tls}
  proof: {level: loaded}
`

// A member of a cluster whose links were not seen to come back after a phase
// holds the change, and an order that failed is given anew after a rest.
func TestLinksHoldTheChange(t *testing.T) {
	d := found(t)
	hosts := d.parties(1)
	d.apply(linkedDocuments)
	p := hosts[0]
	orders := func() []*api.TargetOrder { return p.wants().Placements[0].Orders }
	tell := func(level api.Level, orders ...*api.OrderReport) {
		t.Helper()
		p.must(d.Report(t.Context(), p.caller, &api.AgentReport{
			AnchorsDigest: p.bundle.Digest().String(),
			Placements: []*api.PlacementReport{{
				PlacementId: p.placement, State: api.State_STATE_STEADY, Generation: p.generation, LastGeneration: p.generation,
				Revision: 1, BundleDigest: p.bundle.Digest().String(), Level: level, Orders: orders,
			}},
		}))
	}
	if len(orders()) > 0 {
		t.Errorf("orders without a change: %v", orders())
	}
	d.begin("root", "done")
	d.act()
	p.adopt()
	tell(api.Level_LEVEL_LOADED)
	asked := orders()
	if len(asked) != 1 || asked[0].Act != api.Act_ACT_RECONNECT_LINKS {
		t.Fatalf("orders: %v", asked)
	}
	for d.act() {
	}
	waitsFor(t, d, "prove", "its links within cluster c1 have not been seen to reconnect")
	failed := &api.OrderReport{Id: asked[0].Id, Outcome: api.Outcome_OUTCOME_FAILED, Words: "the replica is down", At: stamp(d.clock.now())}
	tell(api.Level_LEVEL_LOADED, failed)
	waitsFor(t, d, "prove", "did not come back: the replica is down")
	if again := orders(); again[0].Id != asked[0].Id {
		t.Errorf("given anew at once: %s", again[0].Id)
	}
	d.clock.turn(orderAgain + time.Second)
	again := orders()
	if again[0].Id == asked[0].Id {
		t.Error("never given anew")
	}
	for _, one := range append(asked, again...) {
		if !regexp.MustCompile(`^[A-Za-z0-9][-A-Za-z0-9_.]{0,127}$`).MatchString(one.Id) {
			t.Errorf("no agent takes an order of id %q", one.Id)
		}
	}
	tell(api.Level_LEVEL_LOADED, &api.OrderReport{Id: again[0].Id, Outcome: api.Outcome_OUTCOME_DONE, Words: "1 link", At: stamp(d.clock.now())})
	if change := d.change(); change.Action != "activate" || len(change.Parties[0].Orders) != 1 || !strings.Contains(change.Parties[0].Orders[0], "links.prove: done: 1 link") {
		t.Errorf("next is %q, waits %v, orders %v", change.Action, change.Waits, change.Parties[0].Orders)
	}
}

// Where it was asked for, placements carry the bridge while the new authority
// signs and until it is dropped, and whoever serves it yet is waited for.
func TestBridgeIsCarriedAndDropped(t *testing.T) {
	d := found(t)
	hosts := d.parties(1)
	_, err := d.BeginTrust(t.Context(), operator, &api.BeginTrustRequest{Response: d.prepared("root"), CarryBridge: true, Through: "done"})
	if err != nil {
		t.Fatal(err)
	}
	p := hosts[0]
	carried := func() string { return p.wants().Placements[0].BridgeDigest }
	if carried() != "" {
		t.Error("it is carried before anybody needs it")
	}
	for d.change().Phase != "reissue" {
		if !d.act() {
			p.follow()
		}
	}
	bridge := carried()
	blobs, err := d.FetchBlobs(t.Context(), p.caller, &api.FetchBlobsRequest{Digests: []string{bridge}})
	if err != nil || len(blobs.Blobs) != 1 || len(blobs.Blobs[0].Bridge) == 0 {
		t.Fatalf("the bridge %q: %v, %v", bridge, blobs, err)
	}
	for turns := 0; d.change().Phase != "unbridge"; turns++ {
		if turns > 20 {
			t.Fatalf("it does not drain: %v", d.change())
		}
		if !d.act() {
			p.renew()
			p.must(d.Report(t.Context(), p.caller, &api.AgentReport{Placements: []*api.PlacementReport{{
				PlacementId: p.placement, State: api.State_STATE_STEADY, Generation: p.generation, LastGeneration: p.generation,
				Revision: 2, BundleDigest: p.bundle.Digest().String(), Level: api.Level_LEVEL_DELIVERED, BridgeDigest: bridge,
			}}}))
		}
	}
	for d.act() {
	}
	waitsFor(t, d, "unbridge", "orders-tls on agent "+p.id+" still serves the bridge")
	if carried() != "" {
		t.Error("it is carried on")
	}
	p.tell()
	if d.act(); d.change().Phase != "refuse" {
		t.Errorf("at %s after the bridge is gone", d.change().Phase)
	}
}

// Whoever ends a pause has not said that the change may go further than before:
// past withdraw there is no way back.
func TestEndOfAPauseLetsNothingFurther(t *testing.T) {
	d := found(t)
	hosts := d.parties(2)
	change := d.begin("root", "")
	d.settle(hosts)
	if at := d.ofChange(change.Id); at.Through != "drain" {
		t.Fatalf("let go through %s from the start", at.Through)
	}
	for _, held := range []string{"lunch", "dinner"} {
		if err := d.decideTrust("pause", "", held); err != nil {
			t.Fatal(err)
		}
		d.settle(hosts)
		if at := d.ofChange(change.Id); at.Paused == "" {
			t.Fatalf("not paused: %v", at)
		}
		if err := d.decideTrust("advance", "", ""); err != nil {
			t.Fatal(err)
		}
		d.settle(hosts)
		at := d.ofChange(change.Id)
		if at.Paused != "" || at.Through != "drain" || at.EndedAt != nil || len(hosts[0].bundle.Anchors()) != 2 {
			t.Fatalf("the end of a pause let it go through %s: it is at %s", at.Through, at.Phase)
		}
	}
	if err := d.decideTrust("advance", "", ""); err != nil {
		t.Fatal(err)
	}
	d.settle(hosts)
	if at := d.ofChange(change.Id); at.EndedAt == nil {
		t.Errorf("another word does not let it go on: at %s, %s", at.Phase, said(at))
	}
}
