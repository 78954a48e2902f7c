package control

import (
	"crypto"
	"crypto/x509"
	"flag"
	"fmt"
	"regexp"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// machineBudget bounds the walks over random fleets: make soak gives them more.
// machineSteps is the least that they must have done to count as a test, and
// machineAll after how many everything must have happened.
var machineBudget = flag.Duration("machine", 20*time.Second, "how long random fleets walk")

const (
	machineSteps = 60
	machineAll   = 1000
)

// machine is a fleet on a real store that anything may happen to.
type machine struct {
	*domain
	hosts   []*party
	told    []*api.AgentReport // what was reported once, and may come again
	tellers []*party
	done    map[string]int  // acts, by name
	keys    []crypto.Signer // of roots, whichever signs now
}

// Random fleets walk at random through rotations, revocations and changes of
// roots that are begun, paused, turned back; messages come late or twice, and
// the server's process ends between any two acts. Whatever the walk, after each
// step everybody trusts what everybody serves, nothing that is served is
// revoked, no generation is given out twice, each certificate has one entry in
// the log, and two servers read the same state from the store.
func TestRandomFleets(t *testing.T) {
	began, steps, fleets, acts := time.Now(), 0, 0, map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		if time.Since(began) > *machineBudget {
			return
		}
		m := &machine{domain: found(t), done: acts}
		defer m.db.Close()
		m.hosts = m.parties(rapid.IntRange(2, 5).Draw(rt, "hosts"))
		fleets++
		actions := map[string]func(*rapid.T){"": func(*rapid.T) { steps++; m.check(rt) }}
		for name, act := range map[string]func(*rapid.T){
			"adopt": m.adoptOne, "renew": m.renewOne, "late": m.late, "enrol": m.enrolOne, "act": func(*rapid.T) { m.act() },
			"begin": m.beginOne, "decide": m.decideOne, "rotate": m.rotateOne, "revoke": m.revokeOne, "revocations": func(*rapid.T) { acts["revoked"] += m.advanceRevocations() },
			"time": m.pass, "settle": m.settle,
		} {
			actions[name] = func(rt *rapid.T) { act(rt); acts[name]++ }
		}
		rt.Repeat(actions)
		m.checkLog(rt)
	})
	t.Logf("%d steps over %d fleets: %v", steps, fleets, acts)
	if steps < machineSteps {
		t.Errorf("only %d steps in %s: too few to say anything", steps, *machineBudget)
	}
	for _, name := range []string{"begun", "turned back", "ended", "revoked"} {
		if steps >= machineAll && acts[name] == 0 {
			t.Errorf("no walk had anything that was %s", name)
		}
	}
}

func (m *machine) one(rt *rapid.T) *party { return rapid.SampledFrom(m.hosts).Draw(rt, "host") }

func (m *machine) adoptOne(rt *rapid.T) {
	p := m.one(rt)
	p.adopt()
	m.remember(p)
}

func (m *machine) renewOne(rt *rapid.T) {
	p := m.one(rt)
	p.renew()
	m.remember(p)
}

func (m *machine) remember(p *party) {
	m.told = append(m.told, &api.AgentReport{
		AnchorsDigest: p.bundle.Digest().String(),
		Placements: []*api.PlacementReport{{
			PlacementId: p.placement, State: api.State_STATE_STEADY, Generation: p.generation, LastGeneration: p.generation,
			Revision: 1, BundleDigest: p.bundle.Digest().String(), Level: api.Level_LEVEL_DELIVERED,
		}},
	})
	m.tellers = append(m.tellers, p)
}

// late delivers a message once more, and then the one that the host would send
// at its next beat: a stream orders its messages.
func (m *machine) late(rt *rapid.T) {
	if len(m.told) == 0 {
		rt.Skip("nothing was told")
	}
	at := rapid.IntRange(0, len(m.told)-1).Draw(rt, "message")
	p := m.tellers[at]
	p.must(m.Report(m.t.Context(), p.caller, proto.Clone(m.told[at]).(*api.AgentReport)))
	if rapid.Bool().Draw(rt, "acts on it") {
		m.act()
		m.advanceRevocations()
	}
	p.tell()
}

func (m *machine) enrolOne(rt *rapid.T) {
	if len(m.hosts) > 7 {
		rt.Skip("enough")
	}
	h := m.enrolHost(map[string]string{"role": "orders", "host": fmt.Sprint("h", len(m.hosts))})
	p := &party{host: h, placement: h.placement()}
	p.follow()
	m.hosts = append(m.hosts, p)
}

func (m *machine) underWay() (*api.TrustChange, bool) {
	list, err := m.ListTrust(m.t.Context(), operator, &api.ListTrustRequest{})
	if err != nil {
		m.t.Fatal(err)
	}
	if len(list.Changes) > 0 && list.Changes[0].EndedAt == nil {
		return list.Changes[0], true
	}
	return nil, false
}

func (m *machine) beginOne(rt *rapid.T) {
	if _, open := m.underWay(); open {
		_, err := m.PrepareTrust(m.t.Context(), operator, &api.PrepareTrustRequest{Kind: "root"})
		if fault.CodeOf(err) != fault.Conflict {
			rt.Fatalf("a second change is begun: %v", err)
		}
		return
	}
	kind := rapid.SampledFrom([]string{"root", "issuing"}).Draw(rt, "kind")
	m.keys = append(m.keys, m.rootKey)
	for _, key := range m.keys { // a change that was turned back left another one
		if pki.KeyMatches(key, m.rootNow()) {
			m.rootKey = key
		}
	}
	m.clock.turn(time.Second) // roots are named by the second
	m.begin(kind, rapid.SampledFrom([]string{"done", "prove", "reissue"}).Draw(rt, "through"))
	m.done["begun"]++
}

func (m *machine) decideOne(rt *rapid.T) {
	if _, open := m.underWay(); !open {
		rt.Skip("no change is under way")
	}
	decision := rapid.SampledFrom([]string{"pause", "advance", "advance", "back"}).Draw(rt, "decision")
	err := m.decideTrust(decision, "", "drill")
	if err == nil && decision == "back" {
		m.done["turned back"]++
		m.issuingNow() // somebody signs
	}
	if code := fault.CodeOf(err); err != nil && code != fault.Conflict && code != fault.Invalid {
		rt.Fatal(err)
	}
}

func (m *machine) rotateOne(rt *rapid.T) {
	_, err := m.Rotate(m.t.Context(), operator, &api.RotateRequest{Placement: m.one(rt).placement})
	if err != nil {
		rt.Fatal(err)
	}
}

// revokeOne asks for the revocation of what a host has in use, or had.
func (m *machine) revokeOne(rt *rapid.T) {
	p := m.one(rt)
	_, err := m.Revoke(m.t.Context(), operator, &api.RevokeRequest{Placement: p.placement})
	if code := fault.CodeOf(err); err != nil && code != fault.NotFound {
		rt.Fatal(err)
	}
}

func (m *machine) pass(rt *rapid.T) {
	m.clock.turn(time.Duration(rapid.IntRange(1, 90).Draw(rt, "minutes")) * time.Minute)
	for _, p := range m.hosts { // a host renews in time, whatever else it does
		if p.leaf.NotAfter.Sub(m.clock.now()) < 6*time.Hour {
			m.must(m.renewAnyway(p))
		}
	}
}

// settle lets everybody do what is asked of him for a while, one after the other.
func (m *machine) settle(rt *rapid.T) {
	before := m.ended()
	for turn := range rapid.IntRange(1, 24).Draw(rt, "turns") {
		m.must(m.carryOn())
		m.done["revoked"] += m.advanceRevocations()
		m.believed(rt)
		p := m.hosts[turn%len(m.hosts)]
		if turn%2 == 0 {
			p.adopt()
		} else {
			p.follow()
		}
		m.clock.turn(time.Second)
	}
	m.done["ended"] += m.ended() - before
}

// carryOn is act without a process that ends.
func (m *machine) carryOn() error {
	if _, err := m.AdvanceTrust(m.t.Context()); err != nil {
		return err
	}
	_, _, err := m.AdvanceRollouts(m.t.Context())
	return err
}

// believed wants each host to trust what each other serves: laws 2 and 3.
func (m *machine) believed(rt *rapid.T) {
	issuers := map[string]*x509.Certificate{}
	for _, record := range m.authorities() {
		if cert, err := x509.ParseCertificate(record.Der); err == nil && record.Kind == "issuing" {
			issuers[string(cert.SubjectKeyId)] = cert
		}
	}
	bundles := map[pki.BundleDigest]pki.Bundle{}
	for _, p := range m.hosts {
		bundles[p.bundle.Digest()] = p.bundle
	}
	for _, p := range m.hosts {
		chain := pki.Chain{Leaf: p.leaf, Intermediates: []*x509.Certificate{issuers[string(p.leaf.AuthorityKeyId)]}}
		for _, bundle := range bundles {
			if err := chain.Verify(bundle, x509.ExtKeyUsageServerAuth, m.clock.now()); err != nil {
				rt.Fatalf("somebody does not trust what %s serves: %v", p.id, err)
			}
		}
	}
}

func (m *machine) must(err error) {
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) renewAnyway(p *party) error {
	p.adopt()
	p.generation++
	_, request := csr(m.t)
	p.leaf = leafOf(m.t, p.issue(p.placement, p.generation, request))
	p.tell()
	return nil
}

// check holds what the fleet and the store show against the laws.
func (m *machine) check(rt *rapid.T) {
	m.believed(rt)
	other := *m.domain
	other.open()
	first, second := m.state(rt, m.Control), m.state(rt, other.Control)
	if first != second {
		rt.Fatalf("two servers on one store differ:\n%s\n%s", first, second)
	}
	m.must(m.db.Read(m.t.Context(), func(tx *store.Tx) error {
		all, err := tx.Certificates(m.t.Context(), store.CertificateQuery{})
		if err != nil {
			return err
		}
		m.checkRecords(rt, all)
		return nil
	}))
}

func (m *machine) ended() (n int) {
	list, err := m.ListTrust(m.t.Context(), operator, &api.ListTrustRequest{})
	m.must(err)
	for _, change := range list.Changes {
		if change.EndedAt != nil {
			n++
		}
	}
	return n
}

func (m *machine) checkRecords(rt *rapid.T, all []store.Certificate) {
	served := map[string]*party{}
	for _, p := range m.hosts {
		serial, err := pki.SerialOf(p.leaf)
		m.must(err)
		served[serial.String()] = p
	}
	generations := map[string]bool{}
	for _, record := range all {
		if p := served[record.Serial.String()]; p != nil && !record.RevokedAt.IsZero() {
			rt.Fatalf("what %s serves was revoked: generation %d", p.id, record.Generation)
		}
		if record.PlacementID == "" {
			continue
		}
		key := fmt.Sprint(record.PlacementID, record.Generation)
		if generations[key] {
			rt.Fatalf("generation %d of placement %s was given out twice", record.Generation, record.PlacementID)
		}
		generations[key] = true
	}
}

// checkLog wants one entry for each leaf in the store, and no other.
func (m *machine) checkLog(rt *rapid.T) {
	issued := map[string]int{}
	m.must(m.eachEntry(func(content string) {
		if found := issuedSerial.FindStringSubmatch(content); found != nil {
			issued[found[1]]++
		}
	}))
	m.must(m.db.Read(m.t.Context(), func(tx *store.Tx) error {
		all, err := tx.Certificates(m.t.Context(), store.CertificateQuery{Kind: store.KindLeaf})
		for _, record := range all {
			if n := issued[record.Serial.String()]; n != 1 {
				rt.Fatalf("certificate %s has %d entries in the log", record.Serial, n)
			}
			delete(issued, record.Serial.String())
		}
		return err
	}))
	if len(issued) > 0 {
		rt.Fatalf("the log has certificates that the store has not: %v", issued)
	}
}

var issuedSerial = regexp.MustCompile(`"serial":"([0-9a-f]+)".*"verb":"issue"`)

// eachEntry shows the whole log, pending entries too.
func (m *machine) eachEntry(see func(content string)) error {
	if _, err := m.SequenceAudit(m.t.Context()); err != nil {
		return err
	}
	for from := uint64(0); ; {
		page, err := m.ListAuditEntries(m.t.Context(), operator, &api.ListAuditEntriesRequest{From: from})
		if err != nil || len(page.Entries) == 0 {
			return err
		}
		for _, entry := range page.Entries {
			see(string(entry.Content))
			from = entry.Index + 1
		}
	}
}

// state is how far everything has come, as a server reads it from the store.
func (m *machine) state(rt *rapid.T, c *Control) string {
	changes, err := c.ListTrust(m.t.Context(), operator, &api.ListTrustRequest{})
	if err != nil {
		rt.Fatal(err)
	}
	revocations, err := c.ListRevocations(m.t.Context(), operator, &api.ListRevocationsRequest{})
	if err != nil {
		rt.Fatal(err)
	}
	text := ""
	for _, change := range changes.Changes {
		text += fmt.Sprintln(change.Id, change.Phase, change.EndedAt, len(change.Waits))
	}
	for _, one := range revocations.Revocations {
		text += fmt.Sprintln(one.Id, one.EndedAt, one.Parts)
	}
	return text
}
