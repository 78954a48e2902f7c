package control

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// foreignWithKey is a root of somebody else's who gave us its key.
func (d *domain) foreignWithKey(name string, life time.Duration) (*x509.Certificate, crypto.Signer) {
	d.t.Helper()
	root, key, err := ca.CreateRoot(d.clock.now(), ca.RootOrder{TrustDomain: d.domain, Name: name, Algorithm: pki.ECDSAP256, Lifetime: life})
	if err != nil {
		d.t.Fatal(err)
	}
	return root, key
}

// canariesUnder is what was signed for canaries under a root, where its key is.
func (d *domain) canariesUnder(root *x509.Certificate, key crypto.Signer) []byte {
	d.t.Helper()
	prepared, err := d.PrepareTrust(d.t.Context(), operator, &api.PrepareTrustRequest{Kind: canaryKind, Root: root.Raw})
	if err != nil {
		d.t.Fatal(err)
	}
	request, err := ca.ParseCeremonyRequest(prepared.Request)
	if err != nil {
		d.t.Fatal(err)
	}
	signed, _, err := ca.HoldCeremony(d.clock.now(), request, ca.CeremonyKeys{Old: key})
	if err != nil {
		d.t.Fatal(err)
	}
	text, err := signed.Encode()
	if err != nil {
		d.t.Fatal(err)
	}
	return text
}

// proven are n hosts whose processes show whom they trust.
func (d *domain) proven(n int) []*party {
	d.t.Helper()
	hosts := d.parties(n)
	d.apply(strings.NewReplacer("{level: loaded}", "{level: proven}", " cluster: c1,", "").Replace(linkedDocuments))
	return hosts
}

// until carries a change on until it is at the phase, or has ended.
func (d *domain) until(phase string, step func()) {
	d.t.Helper()
	for turns := 0; d.change().Phase != phase; turns++ {
		if turns > 60 {
			d.t.Fatalf("it does not come to %s: %v", phase, said(d.change()))
		}
		if !d.act() {
			step()
		}
	}
}

// A root whose key was at hand once is left by proof: its canaries are accepted
// while it is trusted, and who has not refused one afterwards holds the end.
func TestForeignRootIsProvenToBeLeft(t *testing.T) {
	d := found(t)
	host := d.proven(1)[0]
	root, key := d.foreignWithKey("corp", 365*24*time.Hour)
	request := &api.ImportAuthorityRequest{Name: "corp", Root: root.Raw, Trusted: true, Response: d.canariesUnder(root, key), DryRun: true}
	before := len(d.authorities())
	dry, err := d.ImportAuthority(t.Context(), operator, request)
	if err != nil || dry.Canaries != "corp-canaries" || len(dry.Names) != 2 || len(d.authorities()) != before {
		t.Fatalf("a dry run: %v, %v, %d authorities", err, dry, len(d.authorities()))
	}
	if strings.Contains(strings.Join(dry.Warnings, "\n"), "unprovable") {
		t.Errorf("warned that it is unprovable: %q", dry.Warnings)
	}
	request.DryRun = false
	if _, err := d.ImportAuthority(t.Context(), operator, request); err != nil {
		t.Fatal(err)
	}
	var under *x509.Certificate
	for _, one := range d.canariesOf(t, host) {
		if one.Authority == "corp-canaries" {
			under = leafUnder(t, root, one)
		}
	}
	if under == nil {
		t.Fatal("no canary under it")
	}
	if signs := d.issuingNow(); signs.Certificate.CheckSignatureFrom(d.rootNow()) != nil {
		t.Error("leaves are signed by another")
	}

	// Adoption with the anchor wants it accepted, that without it refused.
	host.showsBut("corp-canaries", "")
	if level := d.adopted(t, host); level != "loaded" {
		t.Errorf("without a canary under it: %s", level)
	}
	host.shows("")
	if level := d.adopted(t, host); level != "proven" {
		t.Errorf("with one: %s", level)
	}
	begun, err := d.BeginTrust(t.Context(), operator, &api.BeginTrustRequest{From: "corp", Reason: "migration", Through: "done"})
	if err != nil || !begun.Change.Provable || !strings.Contains(strings.Join(begun.Notes, ""), "will be seen to refuse") {
		t.Fatal(err, begun)
	}
	d.until("refuse", func() { host.shows("") })
	host.showsBut("corp-canaries", "")
	waitsFor(t, d, "refuse", "has only shown that it has let go of corp as loaded since")
	if d.act() || len(d.change().Unprovable) > 0 {
		t.Errorf("it goes on, with %q unprovable", d.change().Unprovable)
	}
	host.shows("")
	for d.act() {
	}
	after := d.ofChange(begun.Change.Id)
	if after.EndedAt == nil || !after.Provable {
		t.Errorf("at %s, provable %v: %s", after.Phase, after.Provable, said(after))
	}
	if d.keyIsHere("corp-canaries") {
		t.Error("the key outlives the change")
	}
	if !strings.Contains(strings.Join(d.entries(), "\n"), `"name":"corp-canaries"`) {
		t.Error("no entry says that it is destroyed")
	}
}

func (d *domain) canariesOf(t *testing.T, p *party) []*api.Canary {
	t.Helper()
	canaries, err := p.canaries(p.placement)
	if err != nil {
		t.Fatal(err)
	}
	return canaries
}

// leafUnder is a canary's certificate, if it is one to who trusts the root.
func leafUnder(t *testing.T, root *x509.Certificate, canary *api.Canary) *x509.Certificate {
	t.Helper()
	chain, err := pki.ParseChainDER(canary.Chain)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := pki.NewBundle([]*x509.Certificate{root})
	if err != nil {
		t.Fatal(err)
	}
	if err := chain.Verify(bundle, x509.ExtKeyUsageClientAuth, chain.Leaf.NotBefore.Add(2*time.Minute)); err != nil {
		t.Errorf("who trusts the root does not take it: %v", err)
	}
	by := chain.Intermediates[0]
	if len(by.PermittedDNSDomains) != 1 || by.PermittedDNSDomains[0] != "invalid" || len(by.PermittedIPRanges) != 1 || !by.MaxPathLenZero {
		t.Errorf("it may sign for %q, %q", by.PermittedDNSDomains, by.PermittedIPRanges)
	}
	return chain.Leaf
}

// adopted is how far a party has come with its bundle.
func (d *domain) adopted(t *testing.T, p *party) (level string) {
	t.Helper()
	err := d.db.Read(t.Context(), func(tx *store.Tx) error {
		all, err := tx.PlacementAdoptions(t.Context(), p.placement)
		if err == nil && len(all) > 0 && all[0].BundleDigest == p.bundle.Digest().String() {
			level = all[0].Level
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return level
}

func (d *domain) keyIsHere(name string) bool {
	d.t.Helper()
	err := d.db.Read(d.t.Context(), func(tx *store.Tx) error {
		record, err := tx.AuthorityByName(d.t.Context(), name)
		if err != nil {
			return err
		}
		_, err = tx.AuthorityKey(d.t.Context(), record.ID)
		return err
	})
	if err != nil && fault.CodeOf(err) != fault.NotFound {
		d.t.Fatal(err)
	}
	return err == nil
}

// The key comes later, and too late where parties have shown their bundles without.
func TestKeyOfForeignRootComesLater(t *testing.T) {
	d := found(t)
	host := d.proven(1)[0]
	root, key := d.foreignWithKey("corp", 365*24*time.Hour)
	other, _ := d.foreignWithKey("other", 365*24*time.Hour)
	for _, one := range []struct {
		name string
		root *x509.Certificate
	}{{"corp", root}, {"other", other}} {
		if _, err := d.ImportAuthority(t.Context(), operator, &api.ImportAuthorityRequest{Name: one.name, Root: one.root.Raw, Trusted: true}); err != nil {
			t.Fatal(err)
		}
	}
	host.shows("")
	if _, err := d.BeginTrust(t.Context(), operator, &api.BeginTrustRequest{From: "corp", Reason: "migration"}); err != nil {
		t.Fatal(err)
	}
	d.until("withdraw", func() { host.shows("") })
	_, err := d.PrepareTrust(t.Context(), operator, &api.PrepareTrustRequest{Kind: canaryKind, Root: other.Raw})
	wantWords(t, err, fault.Conflict, "is under way")
	added, err := d.ImportAuthority(t.Context(), operator, &api.ImportAuthorityRequest{Name: "corp", Root: root.Raw, Response: d.canariesUnder(root, key)})
	if err != nil || len(added.Names) != 1 || added.Canaries != "corp-canaries" {
		t.Fatal(err, added)
	}
	if err := d.decideTrust("advance", "", "asked around"); err != nil {
		t.Fatal(err)
	}
	for d.act() {
	}
	host.showsBut("corp-canaries", "")
	if d.act() || d.change().Phase != "refuse" {
		t.Errorf("at %s without a canary refused", d.change().Phase)
	}
	host.shows("")
	for d.act() {
	}
	if d.change().EndedAt == nil {
		t.Fatalf("it has not ended: %s", said(d.change()))
	}

	begun, err := d.BeginTrust(t.Context(), operator, &api.BeginTrustRequest{From: "other", Reason: "migration", Through: "withdraw"})
	if err != nil || begun.Change.Provable {
		t.Fatal(err, begun)
	}
	d.until("refuse", func() { host.shows("") })
	_, err = d.PrepareTrust(t.Context(), operator, &api.PrepareTrustRequest{Kind: canaryKind, Root: other.Raw})
	wantWords(t, err, fault.Conflict, "it comes too late to prove anything")
	if err := d.decideTrust("advance", "", "on"); err != nil {
		t.Fatal(err)
	}
	host.shows("")
	for d.act() {
	}
	_, err = d.PrepareTrust(t.Context(), operator, &api.PrepareTrustRequest{Kind: canaryKind, Root: other.Raw})
	wantWords(t, err, fault.Conflict, "is withdrawn already")
}

// wantWords wants a refusal of the code, in these words.
func wantWords(t *testing.T, err error, code fault.Code, words string) {
	t.Helper()
	if err == nil || fault.CodeOf(err) != code || !strings.Contains(err.Error(), words) {
		t.Errorf("%v, want %s: %q", err, code, words)
	}
}

// What makes no sense is refused, with the rule, and changes nothing.
func TestForeignKeysThatAreRefused(t *testing.T) {
	d := found(t)
	d.parties(1)
	corp, corpKey := d.foreignWithKey("corp", 365*24*time.Hour)
	other, _ := d.foreignWithKey("other", 365*24*time.Hour)
	_, leaf := csr(t)
	for words, root := range map[string][]byte{
		"the root that canaries are to be under": leaf,
		"is ours":                                d.rootNow().Raw,
		"is not a CA":                            withoutCA(t, d).Raw,
		"expired at":                             ended(t, d).Raw,
		"allows no authority below it":           shallow(t, d, corpKey).Raw,
	} {
		_, err := d.PrepareTrust(t.Context(), operator, &api.PrepareTrustRequest{Kind: canaryKind, Root: root})
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v; want %q", err, words)
		}
	}
	imports := func(req *api.ImportAuthorityRequest, code fault.Code, words string) {
		t.Helper()
		_, err := d.ImportAuthority(t.Context(), operator, req)
		wantWords(t, err, code, words)
	}
	response := d.prepared("issuing")
	imports(&api.ImportAuthorityRequest{Name: "corp", Root: corp.Raw, Response: response}, fault.Conflict, "is not for canaries")
	response = d.canariesUnder(corp, corpKey)
	_, err := d.BeginTrust(t.Context(), operator, &api.BeginTrustRequest{Response: response})
	wantWords(t, err, fault.Conflict, "is for canaries under a root that is not ours")
	_, err = d.CreateAuthority(t.Context(), operator, &api.CreateAuthorityRequest{Response: response})
	wantWords(t, err, fault.Conflict, "is for canaries under a root that is not ours")
	imports(&api.ImportAuthorityRequest{Name: "other", Root: other.Raw, Response: response}, fault.Conflict, "is for the root")
	imports(&api.ImportAuthorityRequest{Name: "corp", Root: corp.Raw, Response: []byte("{}")}, fault.Invalid, "")
	newer := d.canariesUnder(corp, corpKey)
	imports(&api.ImportAuthorityRequest{Name: "corp", Root: corp.Raw, Response: response}, fault.Conflict, "answers the request")
	if n := len(d.authorities()); n != 2 {
		t.Fatalf("%d authorities", n)
	}
	if _, err := d.ImportAuthority(t.Context(), operator, &api.ImportAuthorityRequest{Name: "corp", Root: corp.Raw}); err != nil {
		t.Fatal(err)
	}
	imports(&api.ImportAuthorityRequest{Name: "corp", Root: corp.Raw, Response: newer}, fault.Conflict, "was recorded after the request was prepared")
	response = d.canariesUnder(corp, corpKey)
	imports(&api.ImportAuthorityRequest{Name: "corp-2", Root: corp.Raw, Response: response}, fault.Conflict, "recorded already, as corp")
	imports(&api.ImportAuthorityRequest{Name: "corp", Root: corp.Raw, Response: response, Trusted: true}, fault.Conflict, "leave out --trusted")
	if _, err := d.ImportAuthority(t.Context(), operator, &api.ImportAuthorityRequest{Name: "corp", Root: corp.Raw, Response: response}); err != nil {
		t.Fatal(err)
	}
	_, err = d.PrepareTrust(t.Context(), operator, &api.PrepareTrustRequest{Kind: canaryKind, Root: corp.Raw})
	wantWords(t, err, fault.Conflict, "are signed already, by corp-canaries")
	_, err = d.Revoke(t.Context(), operator, &api.RevokeRequest{Authority: "corp-canaries", Reason: "keyCompromise"})
	wantWords(t, err, fault.Conflict, "for canaries under a root that is not ours")
}

func selfSigned(t *testing.T, d *domain, key crypto.Signer, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	if key == nil {
		key, _ = csr(t)
	}
	now := d.clock.now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, MaxPathLen: -1,
	}
	template.Subject.CommonName = "another's"
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func withoutCA(t *testing.T, d *domain) *x509.Certificate {
	return selfSigned(t, d, nil, func(c *x509.Certificate) { c.IsCA, c.KeyUsage, c.MaxPathLen = false, x509.KeyUsageDigitalSignature, 0 })
}

func ended(t *testing.T, d *domain) *x509.Certificate {
	return selfSigned(t, d, nil, func(c *x509.Certificate) { c.NotAfter = d.clock.now().Add(-time.Minute) })
}

func shallow(t *testing.T, d *domain, key crypto.Signer) *x509.Certificate {
	return selfSigned(t, d, key, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
}

// An authority for canaries that has ended leaves the others' as they are, and wants
// none of its own any more.
func TestLapsedForeignCanariesStopNoOther(t *testing.T) {
	d := found(t)
	host := d.proven(1)[0]
	root, key := d.foreignWithKey("corp", 2*time.Hour)
	if _, err := d.ImportAuthority(t.Context(), operator, &api.ImportAuthorityRequest{Name: "corp", Root: root.Raw, Trusted: true, Response: d.canariesUnder(root, key)}); err != nil {
		t.Fatal(err)
	}
	if n := len(d.canariesOf(t, host)); n != 2 {
		t.Fatalf("%d canaries", n)
	}
	d.clock.turn(2*time.Hour - time.Minute)
	if n := len(d.canariesOf(t, host)); n != 1 {
		t.Errorf("%d canaries after its end", n)
	}
	host.showsBut("corp-canaries", "")
	if level := d.adopted(t, host); level != "proven" {
		t.Errorf("adopted as %s", level)
	}
	if _, err := d.PrepareTrust(t.Context(), operator, &api.PrepareTrustRequest{Kind: canaryKind, Root: root.Raw}); err == nil {
		t.Error("another was prepared under a root that ends in a minute")
	}
	if _, err := d.BeginTrust(t.Context(), operator, &api.BeginTrustRequest{From: "corp", Reason: "it ends", Through: "withdraw"}); err != nil {
		t.Fatal(err)
	}
	d.until("refuse", func() { host.showsBut("corp-canaries", "") })
	if host.showsBut("corp-canaries", ""); d.adopted(t, host) != "proven" || len(host.bundle.Anchors()) != 1 {
		t.Errorf("adopted as %s with %d anchors", d.adopted(t, host), len(host.bundle.Anchors()))
	}
}

// The list of a root that is not ours comes from its owner.
func TestListOfForeignRootIsTaken(t *testing.T) {
	d := found(t)
	root, key := d.foreignWithKey("corp", 365*24*time.Hour)
	if _, err := d.ImportAuthority(t.Context(), operator, &api.ImportAuthorityRequest{Name: "corp", Root: root.Raw, Trusted: true}); err != nil {
		t.Fatal(err)
	}
	_, err := d.PrepareRootList(t.Context(), operator, &api.PrepareRootListRequest{Authority: "corp"})
	wantWords(t, err, fault.Invalid, "its list comes from who holds its key")
	list, err := ca.SignRootCRL(d.clock.now(), root, key, 7, ca.NewEntries(ca.WholeList))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.PutRootList(t.Context(), operator, &api.PutRootListRequest{Authority: "corp", Crl: list}); err != nil {
		t.Error(err)
	}
	_, err = d.PutRootList(t.Context(), operator, &api.PutRootListRequest{Authority: "root", Crl: list})
	wantWords(t, err, fault.Invalid, "it was issued by")
}
