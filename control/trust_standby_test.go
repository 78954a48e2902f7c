package control

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/trust"
)

// settle lets hosts follow and the changes act until nothing more happens.
func (d *domain) settle(hosts []*party) {
	d.t.Helper()
	for turns := 0; ; turns++ {
		acted := d.act()
		for _, p := range hosts {
			p.follow()
		}
		trusted(d.t, d, hosts)
		if !acted && !d.act() {
			return
		}
		if turns > 40 {
			d.t.Fatal("it goes on and on")
		}
	}
}

// ofChange is how the change of an id stands.
func (d *domain) ofChange(id string) *api.TrustChange {
	d.t.Helper()
	list, err := d.ListTrust(d.t.Context(), operator, &api.ListTrustRequest{Id: id})
	if err != nil {
		d.t.Fatal(err)
	}
	return list.Changes[0]
}

func said(change *api.TrustChange) string {
	var all []string
	for _, wait := range change.Waits {
		all = append(all, wait.Who+" "+wait.Reason+" | "+wait.Remedy)
	}
	return strings.Join(all, "\n")
}

// A root stands by while another takes the place of the first, takes over at
// the word of an operator, and whoever relies on whom trusts him all the way.
func TestStandbyTakesOver(t *testing.T) {
	d := found(t)
	hosts := d.parties(3)
	standby := d.begin("standby", "")
	first := d.issuingNow()
	d.settle(hosts)
	idle := d.ofChange(standby.Id)
	if !idle.Standby || idle.Phase != "prove" || !strings.Contains(said(idle), "every relying party has adopted root-2: it stands by | rotunda trust failover") {
		t.Fatalf("at %s it waits for %s", idle.Phase, said(idle))
	}
	if d.issuingNow().ID != first.ID || len(hosts[0].bundle.Anchors()) != 2 {
		t.Fatalf("%d anchors, and %s signs", len(hosts[0].bundle.Anchors()), d.issuingNow().ID)
	}
	if err := d.decideTrust("advance", "", "go"); fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), "stands by") {
		t.Errorf("advance: %v", err)
	}
	if err := d.decideTrust("force", "", "go"); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("force: %v", err)
	}

	// An ordinary change goes on beside it; its bridge starts at a root that is
	// gone then.
	change := d.begin("root", "done")
	d.settle(hosts)
	if after := d.ofChange(change.Id); after.EndedAt == nil {
		t.Fatalf("the change beside it is at %s: %s", after.Phase, said(after))
	}
	if idle = d.ofChange(standby.Id); idle.Old.Root != "root-3" || idle.EndedAt != nil || idle.Bridge != "withdrawn" {
		t.Errorf("it stands beside %s, bridge %s", idle.Old.Root, idle.Bridge)
	}
	if n := len(hosts[0].bundle.Anchors()); n != 2 {
		t.Errorf("%d anchors after it", n)
	}

	// Documents that name the first root mean what has become of it.
	for _, one := range d.authorities() {
		if one.Name == "root" {
			d.apply("apiVersion: rotunda/v1\nkind: Bundle\nmetadata: {name: partners}\nspec:\n  anchors:\n    - pem: |\n        " +
				strings.ReplaceAll(string(pki.EncodeCertificatesPEM(one.Der)), "\n", "\n        ") + "\n")
		}
	}
	err := d.db.Read(t.Context(), func(tx *store.Tx) error {
		partners, err := d.currentBundle(t.Context(), tx, "partners")
		if err == nil && partners.Digest() != hosts[0].bundle.Digest() {
			t.Errorf("a bundle that names the first root has %d anchors: %v", len(partners.Anchors()), partners.Anchors()[0].Subject)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	over, err := d.BeginTrust(t.Context(), operator, &api.BeginTrustRequest{Failover: true, Reason: "leaked", DryRun: true})
	if err != nil || over.Change.Action != "activate" || d.ofChange(standby.Id).Standby != true {
		t.Fatalf("a dry run: %v, %v", err, over)
	}
	if over, err = d.BeginTrust(t.Context(), operator, &api.BeginTrustRequest{Failover: true, Reason: "leaked", Through: "done"}); err != nil {
		t.Fatal(err)
	}
	if over.Change.Id != standby.Id || over.Change.Standby || over.Change.Action != "activate" {
		t.Errorf("it does not begin with the reissue: %v", over.Change)
	}
	d.settle(hosts)
	if after := d.ofChange(standby.Id); after.EndedAt == nil || d.issuingNow().ID == first.ID {
		t.Fatalf("it is at %s: %s", after.Phase, said(after))
	}
	for _, p := range hosts {
		if len(p.bundle.Anchors()) != 1 || !p.bundle.Contains(d.rootNow()) || p.leaf.CheckSignatureFrom(d.issuingNow().Certificate) != nil {
			t.Error("a host is left behind")
		}
	}
	if _, err := d.BeginTrust(t.Context(), operator, &api.BeginTrustRequest{Failover: true}); fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), "no root stands by") {
		t.Errorf("a failover to nothing: %v", err)
	}
}

// Who has not adopted the root that stands by holds a failover, by name.
func TestFailoverWaitsForTheLate(t *testing.T) {
	d := found(t)
	hosts := d.parties(2)
	d.begin("standby", "")
	for d.act() {
	}
	hosts[0].follow()
	first := d.issuingNow()
	if _, err := d.BeginTrust(t.Context(), operator, &api.BeginTrustRequest{Failover: true, Through: "done"}); err != nil {
		t.Fatal(err)
	}
	for d.act() {
	}
	waitsFor(t, d, "prove", "agent "+hosts[1].id+" has not shown that it trusts root-2")
	if d.issuingNow().ID != first.ID {
		t.Fatal("the other root signs already")
	}
	d.settle(hosts)
	if d.issuingNow().ID == first.ID {
		t.Error("it does not go on")
	}
}

// The root that stands by can be given up, but not while another change goes on
// with the same bundles; and it is asked for once.
func TestStandbyIsGivenUp(t *testing.T) {
	d := found(t)
	hosts := d.parties(2)
	standby := d.begin("standby", "")
	d.settle(hosts)
	other := d.begin("root", "prove")
	back := func(id string) error {
		_, err := d.DecideTrust(t.Context(), operator, &api.DecideTrustRequest{Id: id, Decision: "back", Reason: "no need"})
		return err
	}
	if err := back(standby.Id); fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), "one goes on at a time") {
		t.Fatalf("both at once: %v", err)
	}
	if _, err := d.BeginTrust(t.Context(), operator, &api.BeginTrustRequest{Failover: true}); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("a failover beside another change: %v", err)
	}
	if err := back(other.Id); err != nil {
		t.Fatal(err)
	}
	d.settle(hosts)
	if err := back(standby.Id); err != nil {
		t.Fatal(err)
	}
	if _, err := d.PrepareTrust(t.Context(), operator, &api.PrepareTrustRequest{Kind: "root"}); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("another change while it is given up: %v", err)
	}
	d.settle(hosts)
	if after := d.ofChange(standby.Id); after.EndedAt == nil || len(hosts[0].bundle.Anchors()) != 1 {
		t.Errorf("at %s with %d anchors: %s", after.Phase, len(hosts[0].bundle.Anchors()), said(after))
	}
}

// A standby's issuing authority ages before its root does: another is made under
// the same root, and nobody has to adopt anything.
func TestStandbyIsRenewed(t *testing.T) {
	d := found(t)
	hosts := d.parties(1)
	standby := d.begin("standby", "")
	d.settle(hosts)
	before := d.ofChange(standby.Id)
	if strings.Contains(said(before), "would sign after a failover") {
		t.Error("it is old when it is made")
	}
	d.clock.turn(1 * 365 * 24 * time.Hour)
	d.begin("issuing", "done") // the one that signs is renewed meanwhile
	d.clock.turn(365*24*time.Hour + 24*time.Hour)
	if waits := said(d.ofChange(standby.Id)); !strings.Contains(waits, "would sign after a failover, and ends ") {
		t.Errorf("two of three years are over, and it waits for %q", waits)
	}
	if _, err := d.PrepareTrust(t.Context(), operator, &api.PrepareTrustRequest{Kind: "standby"}); err == nil {
		t.Fatal("while another change goes on")
	}
	for d.ofChange(d.change().Id).EndedAt == nil {
		d.act()
		hosts[0].follow()
		if d.change().Standby {
			break
		}
	}
	after := d.begin("standby", "")
	if after.Id != standby.Id || after.New.Issuing == before.New.Issuing || after.New.Root != before.New.Root || after.Action != "" {
		t.Errorf("renewed: %v", after)
	}
	err := d.db.Read(t.Context(), func(tx *store.Tx) error {
		old, err := tx.AuthorityByName(t.Context(), before.New.Issuing)
		if err != nil {
			return err
		}
		_, err = tx.AuthorityKey(t.Context(), old.ID)
		return err
	})
	if fault.CodeOf(err) != fault.NotFound {
		t.Errorf("the key of the one before: %v", err)
	}
}

// foreignRoot is a root of somebody else's, with an issuing authority.
func (d *domain) foreignRoot(name string) (root, issuing *x509.Certificate) {
	d.t.Helper()
	root, key, err := ca.CreateRoot(d.clock.now(), ca.RootOrder{TrustDomain: d.domain, Name: name, Algorithm: pki.ECDSAP256, Lifetime: 10 * 365 * 24 * time.Hour})
	if err != nil {
		d.t.Fatal(err)
	}
	issuing, _, err = ca.CreateIssuing(d.clock.now(), root, key, ca.IssuingOrder{
		TrustDomain: d.domain, Name: name + " issuing", Algorithm: pki.ECDSAP256, Lifetime: 365 * 24 * time.Hour,
		PermittedDNS: []string{"example.com"},
	}, "http://pki.example.com")
	if err != nil {
		d.t.Fatal(err)
	}
	return root, issuing
}

// A change leads away from a root that is not ours: everybody shows that he
// trusts the one that signs before the foreign one goes, an operator vouches
// for who is not known here, and what can't be proven is said.
func TestForeignRootIsLeft(t *testing.T) {
	d := found(t)
	hosts := d.parties(2)
	root, issuing := d.foreignRoot("corp")
	request := &api.ImportAuthorityRequest{Name: "corp", Root: root.Raw, Issuing: [][]byte{issuing.Raw}, Trusted: true, DryRun: true}
	imported, err := d.ImportAuthority(t.Context(), operator, request)
	if err != nil || len(imported.Warnings) == 0 || len(imported.Names) != 2 || len(d.authorities()) != 2 {
		t.Fatalf("a dry run: %v, %v, %d authorities", err, imported, len(d.authorities()))
	}
	request.DryRun = false
	if _, err := d.ImportAuthority(t.Context(), operator, request); err != nil {
		t.Fatal(err)
	}
	d.settle(hosts)
	signs := d.issuingNow().ID
	if len(hosts[0].bundle.Anchors()) != 2 {
		t.Fatalf("%d anchors", len(hosts[0].bundle.Anchors()))
	}

	begun, err := d.BeginTrust(t.Context(), operator, &api.BeginTrustRequest{From: "corp", Reason: "migration"})
	if err != nil || begun.Change.Old.Root != "corp" || begun.Change.New.Root != "root" {
		t.Fatal(err, begun)
	}
	hosts[1].bundle = pki.Bundle{}
	d.settle(hosts)
	waitsFor(t, d, "withdraw", "who else lives on certificates of corp is not, since they were signed elsewhere | ask the owner of corp")
	if d.issuingNow().ID != signs {
		t.Error("another authority signs")
	}
	if err := d.decideTrust("advance", "", "asked around"); err != nil {
		t.Fatal(err)
	}
	d.settle(hosts)
	if after := d.ofChange(begun.Change.Id); after.EndedAt == nil {
		t.Fatalf("at %s: %s", after.Phase, said(after))
	}
	if after := d.ofChange(begun.Change.Id); !after.Foreign {
		t.Error("at its end it is not known any more that its refusal is unprovable")
	}
	v := &trustView{step: trust.Step{Unprovable: []string{"cache on agent a"}}}
	if v.entry()["unprovable"] == nil {
		t.Error("the audit log does not say of whom it could not be proven")
	}
	states := map[string]string{}
	for _, one := range d.authorities() {
		states[one.Name] = one.State
	}
	if states["corp"] != "withdrawn" || states["corp-issuing"] != "withdrawn" || states["root"] != "active" || states["issuing"] != "active" {
		t.Errorf("authorities: %v", states)
	}
	if len(hosts[0].bundle.Anchors()) != 1 || hosts[0].bundle.Contains(root) {
		t.Error("it is trusted yet")
	}
}

// Given up, the change from a foreign root ends, and both stay trusted.
func TestForeignRootIsKept(t *testing.T) {
	d := found(t)
	hosts := d.parties(1)
	root, _ := d.foreignRoot("corp")
	if _, err := d.ImportAuthority(t.Context(), operator, &api.ImportAuthorityRequest{Name: "corp", Root: root.Raw, Trusted: true}); err != nil {
		t.Fatal(err)
	}
	begun, err := d.BeginTrust(t.Context(), operator, &api.BeginTrustRequest{From: "corp"})
	if err != nil {
		t.Fatal(err)
	}
	d.settle(hosts)
	if err := d.decideTrust("back", "", "not yet"); err != nil {
		t.Fatal(err)
	}
	d.settle(hosts)
	if after := d.ofChange(begun.Change.Id); after.EndedAt == nil || len(hosts[0].bundle.Anchors()) != 2 {
		t.Errorf("at %s with %d anchors", after.Phase, len(hosts[0].bundle.Anchors()))
	}
	if _, err := d.BeginTrust(t.Context(), operator, &api.BeginTrustRequest{From: "corp", Through: "done"}); err != nil {
		t.Fatalf("once more: %v", err)
	}
	d.settle(hosts)
	if len(hosts[0].bundle.Anchors()) != 1 {
		t.Error("it is trusted yet")
	}
}

// What makes no sense is refused, with the rule, and changes nothing.
func TestForeignRootsThatAreRefused(t *testing.T) {
	d := found(t)
	root, issuing := d.foreignRoot("corp")
	other, _ := d.foreignRoot("other")
	if _, err := d.ImportAuthority(t.Context(), operator, &api.ImportAuthorityRequest{Name: "corp", Root: root.Raw}); err != nil {
		t.Fatal(err)
	}
	for words, request := range map[string]*api.ImportAuthorityRequest{
		"is not a name":                {Name: "Corp Root", Root: root.Raw},
		"has the name corp already":    {Name: "corp", Root: other.Raw},
		"has the name root already":    {Name: "root", Root: other.Raw},
		"is recorded already, as corp": {Name: "corp-2", Root: root.Raw},
		"foreign root":                 {Name: "nothing", Root: []byte("x")},
		"foreign issuing authority":    {Name: "other", Root: other.Raw, Issuing: [][]byte{issuing.Raw}},
	} {
		if _, err := d.ImportAuthority(t.Context(), operator, request); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v; want %q", err, words)
		}
	}
	for words, request := range map[string]*api.BeginTrustRequest{
		"is in no bundle":              {From: "corp"},
		"is no root that was imported": {From: "root"},
		"is not recorded here":         {From: "nobody"},
		"it is one of distribute":      {From: "corp", Through: "never"},
		"renews nothing":               {From: "corp", Reissue: &api.RolloutSpec{Steps: []string{"1", "100%"}}},
		"leave out --over":             {From: "corp", Over: durationpb.New(time.Hour)},
	} {
		if _, err := d.BeginTrust(t.Context(), operator, request); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v; want %q", err, words)
		}
	}
	if len(d.authorities()) != 3 {
		t.Errorf("%d authorities", len(d.authorities()))
	}
}
