package control

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// ownAuthority gives a region an authority of its own.
func (d *domain) ownAuthority(region string, life time.Duration) *api.AuthorityInfo {
	d.t.Helper()
	order := &api.PrepareTrustRequest{Kind: regionKind, Region: region}
	if life > 0 {
		order.IssuingLifetime = durationpb.New(life)
	}
	made, err := d.CreateAuthority(d.t.Context(), operator, &api.CreateAuthorityRequest{Response: d.answered(order)})
	if err != nil {
		d.t.Fatal(err)
	}
	return made.Authority
}

func (d *domain) useAuthority(name string, stop bool, reason string) (*api.DecideAuthorityResponse, error) {
	return d.DecideAuthority(d.t.Context(), operator, &api.DecideAuthorityRequest{Name: name, Stop: stop, Reason: reason})
}

// issuerOf is the name of the authority that signed a certificate.
func (d *domain) issuerOf(leaf *x509.Certificate) string {
	d.t.Helper()
	for _, one := range d.authorities() {
		cert, err := x509.ParseCertificate(one.Der)
		if err != nil {
			d.t.Fatal(err)
		}
		if one.Kind == "issuing" && leaf.CheckSignatureFrom(cert) == nil {
			return one.Name
		}
	}
	d.t.Fatal("nobody here signed it")
	return ""
}

// nextBy is who signs the host's next certificate.
func (h *host) nextBy(generation uint64) string {
	h.domain.t.Helper()
	_, request := csr(h.domain.t)
	return h.domain.issuerOf(leafOf(h.domain.t, h.issue(h.placement(), generation, request)))
}

func (d *domain) emergencies() string {
	d.t.Helper()
	list, err := d.ListPlacements(d.t.Context(), operator, &api.ListPlacementsRequest{})
	if err != nil {
		d.t.Fatal(err)
	}
	return strings.Join(list.Emergencies, "\n")
}

// keyOf takes the sealed key of an authority away, and returns what puts it back.
func (d *domain) keyOf(name string, broken bool) (undo func()) {
	d.t.Helper()
	var kept store.AuthorityKey
	err := d.db.Read(d.t.Context(), func(tx *store.Tx) error {
		record, err := tx.AuthorityByName(d.t.Context(), name)
		if err != nil {
			return err
		}
		kept, err = tx.AuthorityKey(d.t.Context(), record.ID)
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	put := func(key store.AuthorityKey) {
		d.write(func(tx *store.Tx) error { return tx.PutAuthorityKey(d.t.Context(), key) })
	}
	if broken {
		other := kept
		other.Sealed = append([]byte{}, kept.Sealed...)
		other.Sealed[len(other.Sealed)-1] ^= 1
		put(other)
	}
	return func() { put(kept) }
}

// Of each region its own authority signs, of the others the one of no region; and
// the next certificate at once, though the decision on the one before was kept.
func TestRegionsHaveTheirOwnAuthority(t *testing.T) {
	d := found(t)
	d.apply(documents + twoRegions)
	eu, us := d.hostIn("eu"), d.hostIn("us")
	if by := eu.nextBy(1) + " " + us.nextBy(1); by != "issuing issuing" {
		t.Fatalf("before there is one: %s", by)
	}
	dry, err := d.CreateAuthority(t.Context(), operator, &api.CreateAuthorityRequest{Response: d.prepared(regionKind, "eu"), DryRun: true})
	if err != nil || dry.Authority.Name != "issuing-eu" || dry.AuditId != "" || len(d.authorities()) != 2 {
		t.Fatalf("dry run: %v %v", dry, err)
	}
	if by := eu.nextBy(2); by != "issuing" {
		t.Fatalf("after a dry run: %s", by)
	}
	if made := d.ownAuthority("eu", 0); made.State != "active" || made.Region != "eu" || !strings.Contains(made.Subject, "issuing eu") {
		t.Errorf("made: %v", made)
	}
	if by := eu.nextBy(3) + " " + us.nextBy(2); by != "issuing-eu issuing" {
		t.Errorf("with one: %s", by)
	}
	d.restart()
	if by := eu.nextBy(4) + " " + us.nextBy(3); by != "issuing-eu issuing" {
		t.Errorf("after a restart: %s", by)
	}
	if words := d.emergencies(); words != "" {
		t.Errorf("status says %s", words)
	}
	if r := d.regions(); r["eu"].Signer != "issuing-eu" || r["us"].Signer != "issuing" || r["us"].Away != "" || r["eu"].Away != "" {
		t.Errorf("regions: %v", r)
	}
	if entries := d.entriesOf(t, "authority.create", "Authority/issuing-eu"); len(entries) != 1 {
		t.Errorf("%d entries", len(entries))
	}
}

// What can't be is refused, and leaves nothing.
func TestRegionalAuthorityRefused(t *testing.T) {
	d := found(t)
	d.ownAuthority("eu", 0)
	prepare := func(kind, region string) error {
		_, err := d.PrepareTrust(t.Context(), operator, &api.PrepareTrustRequest{Kind: kind, Region: region})
		return err
	}
	for _, c := range []struct {
		kind, region, words string
		code                fault.Code
	}{
		{regionKind, "eu", "region eu has an issuing authority: issuing-eu", fault.Conflict},
		{regionKind, "", "", fault.Invalid},
		{regionKind, "E U", "", fault.Invalid},
		{"issuing", "us", "region us has no issuing authority of its own", fault.NotFound},
		{"root", "eu", "a change of \"root\" is for all regions", fault.Invalid},
		{"standby", "eu", "a change of \"standby\" is for all regions", fault.Invalid},
	} {
		if err := prepare(c.kind, c.region); fault.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s of %q: %v", c.kind, c.region, err)
		}
	}
	response := d.prepared(regionKind, "us")
	_, err := d.BeginTrust(t.Context(), operator, &api.BeginTrustRequest{Response: response})
	wantCode(t, err, fault.Conflict)
	_, err = d.CreateAuthority(t.Context(), operator, &api.CreateAuthorityRequest{Response: d.prepared("issuing")})
	wantCode(t, err, fault.Conflict)
	_, err = d.CreateAuthority(t.Context(), operator, &api.CreateAuthorityRequest{Response: response}) // to an older request
	if err == nil {
		t.Error("the answer to an older request was taken")
	}
	if len(d.authorities()) != 3 {
		t.Errorf("authorities: %v", d.authorities())
	}
	d.begin("issuing", "prove")
	wantCode(t, prepare(regionKind, "us"), fault.Conflict) // a change is under way

	for _, c := range []struct{ name, reason, words string }{
		{"root", "x", "it signs nothing that could be stopped"},
		{"issuing-2", "x", "it signs nothing that could be stopped"},
		{"issuing-eu", " ", "is stopped for a reason"},
		{"nobody", "x", "does not exist"},
	} {
		if _, err := d.useAuthority(c.name, true, c.reason); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("stop %s: %v", c.name, err)
		}
	}
	_, err = d.useAuthority("issuing-eu", false, "")
	wantCode(t, err, fault.Conflict)
}

// A region whose authority does not sign is served by another, for whichever
// reason, and status and record say so; it goes home when its own is back.
func TestRegionIsServedByAnother(t *testing.T) {
	const life = 90 * 24 * time.Hour
	for name, c := range map[string]struct {
		words       string
		break_, fix func(d *domain)
	}{
		"stopped": {"stopped by operator/tester at ", func(d *domain) {
			if _, err := d.useAuthority("issuing-eu", true, "flood"); err != nil {
				d.t.Fatal(err)
			}
		}, func(d *domain) {
			if _, err := d.useAuthority("issuing-eu", false, ""); err != nil {
				d.t.Fatal(err)
			}
		}},
		"its key can't be opened": {"this server can't open its key", func(d *domain) { d.keyOf("issuing-eu", true); d.restart() }, nil},
		"expired":                 {"expired at ", func(d *domain) { d.clock.turn(life + time.Hour) }, func(d *domain) { d.begin("issuing", "drain", "eu"); d.act() }},
	} {
		t.Run(name, func(t *testing.T) {
			d := found(t)
			d.apply(documents + twoRegions)
			d.ownAuthority("eu", life)
			eu, us := d.hostIn("eu"), d.hostIn("us")
			if by := eu.nextBy(1); by != "issuing-eu" {
				t.Fatalf("at first %s", by)
			}
			fix := c.fix
			if fix == nil {
				undo := d.keyOf("issuing-eu", false)
				fix = func(d *domain) { undo(); d.clock.turn(unableFor + time.Second) }
			}
			c.break_(d)
			if by := eu.nextBy(2) + " " + us.nextBy(1); by != "issuing issuing" {
				t.Fatalf("meanwhile %s", by)
			}
			for _, words := range []string{"region eu is served by authority issuing: its own, issuing-eu, ", c.words} {
				if said := d.emergencies(); !strings.Contains(said, words) {
					t.Errorf("status says %q, not %q", said, words)
				}
			}
			r := d.regions()
			if r["eu"].Signer != "issuing" || !strings.Contains(r["eu"].Away, c.words) || r["us"].Away != "" || !strings.Contains(strings.Join(r["eu"].Troubles, "\n"), "authority issuing of what is of no region signs for it: its own is issuing-eu, ") {
				t.Errorf("regions: %v", r)
			}
			if said := inPlaceOf(d, eu.placement(), 2); said != "issuing-eu" {
				t.Errorf("its record says %q", said)
			}
			fix(d)
			if by := eu.nextBy(3); !strings.HasPrefix(by, "issuing-eu") {
				t.Errorf("afterwards %s", by)
			}
			if said := inPlaceOf(d, eu.placement(), 3); said != "" || d.emergencies() != "" {
				t.Errorf("afterwards %q, %s", said, d.emergencies())
			}
		})
	}
}

// inPlaceOf is what the audit entry of a certificate says of who should have signed.
func inPlaceOf(d *domain, placement string, generation int) string {
	d.t.Helper()
	for _, entry := range d.entriesOf(d.t, "issue", "Placement/"+placement) {
		if fmt.Sprint(entry.Detail["generation"]) == fmt.Sprint(generation) {
			said, _ := entry.Detail["inPlaceOf"].(string)
			return said
		}
	}
	d.t.Fatalf("no entry of generation %d", generation)
	return ""
}

// Who is left to sign can't be stopped; and with the one of no region stopped the
// first by name signs what is its.
func TestSomebodySigns(t *testing.T) {
	d := found(t)
	d.apply(documents + twoRegions)
	if _, err := d.useAuthority("issuing", true, "x"); fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), "nothing else can sign") {
		t.Errorf("the only one: %v", err)
	}
	d.ownAuthority("us", 0)
	d.ownAuthority("eu", 0)
	stopped, err := d.useAuthority("issuing", true, "x")
	if err != nil || stopped.Signer != "issuing-eu" {
		t.Fatalf("%v %v", stopped, err)
	}
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	if by := h.nextBy(1); by != "issuing-eu" {
		t.Errorf("of no region: %s", by)
	}
	if _, err := d.useAuthority("issuing-eu", true, "x"); err != nil {
		t.Error(err)
	}
	if _, err := d.useAuthority("issuing-us", true, "x"); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("the last: %v", err)
	}
	if by := h.nextBy(2); by != "issuing-us" {
		t.Errorf("of no region: %s", by)
	}
}

// regional are hosts in both regions, with two authorities of regions.
func (d *domain) regional() (hosts []*party) {
	d.t.Helper()
	d.apply(documents + twoRegions)
	d.ownAuthority("eu", 0)
	d.ownAuthority("us", 0)
	for _, region := range []string{"eu", "us"} {
		h := d.hostIn(region)
		p := &party{host: h, placement: h.placement()}
		p.follow()
		hosts = append(hosts, p)
	}
	return hosts
}

// states are what the issuing authorities are, by name.
func (d *domain) states() string {
	d.t.Helper()
	var words []string
	for _, one := range d.authorities() {
		if one.Kind == "issuing" {
			words = append(words, one.Name+"="+one.State)
		}
	}
	return strings.Join(words, " ")
}

// A region's authority is replaced alone: nothing of another region is renewed.
func TestRegionsAuthorityIsReplacedAlone(t *testing.T) {
	d := found(t)
	hosts := d.regional()
	if change := d.begin("issuing", "done", "eu"); change.Old.Issuing != "issuing-eu" || change.New.Issuing != "issuing-eu-2" {
		t.Errorf("the change is %v", change)
	}
	for turns := 0; d.change().EndedAt == nil; turns++ {
		if turns > 20 {
			t.Fatalf("it does not end: %v", d.change())
		}
		d.act()
		trusted(t, d, hosts)
		hosts[turns%2].follow()
	}
	if states := d.states(); states != "issuing=active issuing-eu=withdrawn issuing-us=active issuing-eu-2=active" {
		t.Errorf("authorities: %s", states)
	}
	if hosts[0].generation != 2 || hosts[1].generation != 1 || d.issuerOf(hosts[0].leaf) != "issuing-eu-2" {
		t.Errorf("generations %d and %d", hosts[0].generation, hosts[1].generation)
	}
}

// A new root takes the place of all that signed under the old one: nobody's
// certificate, whichever region's authority signed it, outlives its anchor; their
// keys are destroyed; and a region gets its own again.
func TestRootAboveRegionsIsReplaced(t *testing.T) {
	d := found(t)
	hosts := d.regional()
	d.begin("root", "done")
	for turns := 0; d.change().EndedAt == nil; turns++ {
		if turns > 40 {
			t.Fatalf("it does not end: %v", d.change())
		}
		d.act()
		trusted(t, d, hosts)
		if p := hosts[turns/2%2]; turns%2 == 0 {
			p.adopt()
		} else {
			p.renew()
		}
		trusted(t, d, hosts)
	}
	if states := d.states(); states != "issuing=withdrawn issuing-eu=withdrawn issuing-us=withdrawn issuing-2=active" {
		t.Errorf("authorities: %s", states)
	}
	for _, one := range d.authorities() {
		if gone := len(d.entriesOf(t, verbAuthorityKeyGone, "Authority/"+one.Id)); one.Kind == "issuing" && (gone == 1) != (one.State == "withdrawn") {
			t.Errorf("the key of %s, %s, was destroyed %d times", one.Name, one.State, gone)
		}
	}
	d.ownAuthority("eu", 0)
	if by := hosts[0].nextBy(hosts[0].generation + 1); by != "issuing-eu-2" {
		t.Errorf("eu is served by %s", by)
	}
}

// Turned back, all that signed before sign again, and the new root's does not.
func TestRootAboveRegionsIsTurnedBack(t *testing.T) {
	for _, at := range []string{"prove", "reissue", "withdraw"} {
		t.Run(at, func(t *testing.T) {
			d := found(t)
			hosts := d.regional()
			d.begin("root", "unbridge")
			for turns := 0; d.change().Phase != at; turns++ {
				if turns > 40 {
					t.Fatalf("it does not come to %s: %v", at, d.change())
				}
				d.act()
				for _, p := range hosts {
					if at != "reissue" || turns < 3 {
						p.follow()
					}
				}
			}
			if err := d.decideTrust("back", "", "drill"); err != nil {
				t.Fatal(err)
			}
			for turns := 0; d.change().EndedAt == nil; turns++ {
				if turns > 40 {
					t.Fatalf("it does not end: %v", d.change())
				}
				d.act()
				trusted(t, d, hosts)
				hosts[turns%2].follow()
				trusted(t, d, hosts)
			}
			if states := d.states(); states != "issuing=active issuing-eu=active issuing-us=active issuing-2=withdrawn" {
				t.Errorf("authorities: %s", states)
			}
			if by := hosts[0].nextBy(hosts[0].generation+1) + " " + hosts[1].nextBy(hosts[1].generation+1); by != "issuing-eu issuing-us" {
				t.Errorf("served by %s", by)
			}
		})
	}
}

// What is foretold of a region's authority is of its certificates alone.
func TestForetoldOfARegion(t *testing.T) {
	d := found(t)
	d.regional()
	told := d.foretold("rotate-issuing:eu")
	text := told.String()
	if !strings.Contains(text, "rotunda trust rotate issuing --of-region eu") || !strings.Contains(text, "issuing-eu-2") {
		t.Errorf("foretold: %s", text)
	}
	if told = d.foretold("withdraw:issuing-us"); !strings.Contains(told.String(), "rotunda trust rotate issuing --of-region us (rotunda plan --change rotate-issuing:us)") {
		t.Errorf("foretold: %s", told)
	}
}

// The lists of a region's authority are signed, also while it is stopped, and what
// it signed can be revoked.
func TestListsOfAStoppedAuthority(t *testing.T) {
	d := found(t)
	hosts := d.regional()
	if _, err := d.useAuthority("issuing-eu", true, "flood"); err != nil {
		t.Fatal(err)
	}
	d.revoke(&api.RevokeRequest{Serial: serialOf(t, hosts[0].leaf), Reason: "keyCompromise", Now: true})
	if _, err := d.PublishCRLs(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, one := range d.authorities() {
		if one.Kind == "issuing" && d.onCRLOf(one.Id, hosts[0].leaf) != (one.Name == "issuing-eu") {
			t.Errorf("the list of %s is wrong", one.Name)
		}
	}
}
