package control

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

func TestEnrolmentIsRepeatableByItsFirstUserOnly(t *testing.T) {
	d := found(t)
	id, secret := d.token(map[string]string{"host": "a"})
	_, mine := csr(t)
	_, theirs := csr(t)

	first, err := d.enrolWith(id, secret, mine)
	if err != nil {
		t.Fatal(err)
	}
	d.restart() // the answer was lost, the server restarted: it is asked again
	again, err := d.enrolWith(id, secret, mine)
	if err != nil {
		t.Fatal(err)
	}
	if first.AgentId != again.AgentId || !bytes.Equal(first.Chain[0], again.Chain[0]) {
		t.Error("the repeated enrolment made something new")
	}
	_, err = d.enrolWith(id, secret, theirs)
	wantCode(t, err, fault.Forbidden)
	if !strings.Contains(err.Error(), "was used") {
		t.Errorf("the refusal does not say why: %v", err)
	}
}

// Of many who race for one token one wins.
func TestTokenIsGoodForOne(t *testing.T) {
	d := found(t)
	id, secret := d.token(nil)
	const n = 16
	var group sync.WaitGroup
	var mu sync.Mutex
	agents := map[string]bool{}
	for range n {
		_, request := csr(t)
		group.Go(func() {
			if response, err := d.enrolWith(id, secret, request); err == nil {
				mu.Lock()
				agents[response.AgentId] = true
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if len(agents) != 1 {
		t.Errorf("%d agents enrolled with one token", len(agents))
	}
}

func TestEnrolmentRefusals(t *testing.T) {
	d := found(t)
	expired, expiredSecret := d.token(nil)
	d.clock.turn(2 * time.Hour)
	open, secret := d.token(nil)
	revoked, revokedSecret := d.token(nil)
	if _, err := d.RevokeToken(t.Context(), operator, &api.RevokeTokenRequest{Id: revoked}); err != nil {
		t.Fatal(err)
	}
	guess := base64.RawURLEncoding.EncodeToString(make([]byte, 24))
	_, request := csr(t)
	for _, c := range []struct{ name, id, secret, domain, says string }{
		{"guessed secret", open, guess, "test.example", "unknown or its secret is wrong"},
		{"guessed id", "nosuchtokn", secret, "test.example", "unknown or its secret is wrong"},
		{"garbage", "\x00\n", "%%%", "test.example", "unknown or its secret is wrong"},
		{"expired", expired, expiredSecret, "test.example", "is expired"},
		{"revoked", revoked, revokedSecret, "test.example", "is revoked"},
		{"another trust domain's", open, secret, "other.example", "trust domain test.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := d.Enrol(context.Background(), Caller{Kind: Anonymous}, &api.EnrolRequest{
				TokenId: c.id, TokenSecret: c.secret, TrustDomain: c.domain, Csr: request,
			})
			wantCode(t, err, fault.Forbidden)
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("refusal %q does not say %q", err, c.says)
			}
			last := lastOf(d.entries())
			if !strings.Contains(last, `"refused"`) || !strings.Contains(last, "agent.enrol") {
				t.Errorf("no audit entry of the refusal; the last is %s", last)
			}
			if strings.Contains(last, c.secret) {
				t.Error("the audit entry holds the secret")
			}
		})
	}
	if _, err := d.enrolWith(open, secret, request); err != nil {
		t.Errorf("the refusals spoilt an open token: %v", err)
	}
}

// Strangers can't fill the audit log.
func TestRefusalsOfStrangersAreBounded(t *testing.T) {
	d := found(t)
	before := len(d.entries())
	_, request := csr(t)
	for range 3 * refusalBurst {
		if _, err := d.enrolWith("nosuchtokn", "AAAA", request); err == nil {
			t.Fatal("enrolled with no token")
		}
	}
	if grown := len(d.entries()) - before; grown > refusalBurst+1 || grown == 0 {
		t.Errorf("%d audit entries of %d refusals, want at most %d and some", grown, 3*refusalBurst, refusalBurst)
	}
}

// An agent's refusals are bounded too, and don't use up those of others.
func TestRefusalsOfAgentsAreBounded(t *testing.T) {
	d := found(t)
	d.apply(documents)
	a := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	b := d.enrolHost(map[string]string{"role": "orders", "host": "b"})
	placement, own := a.placement(), b.placement()
	_, request := csr(t)
	before := len(d.entries())
	for range 2 * refusalBurst {
		b.issue(placement, 1, request)
	}
	if grown := len(d.entries()) - before; grown > refusalBurst+1 || grown < refusalBurst {
		t.Errorf("%d audit entries of %d refusals, want %d", grown, 2*refusalBurst, refusalBurst)
	}
	before = len(d.entries())
	a.issue(own, 1, request)
	if len(d.entries()) != before+1 {
		t.Error("another agent's refusal is not recorded")
	}
}

// Who enrolled is in the log: the token, which an operator made.
func TestEnrolmentIsTheTokens(t *testing.T) {
	d := found(t)
	id, secret := d.token(nil)
	_, request := csr(t)
	if _, err := d.enrolWith(id, secret, request); err != nil {
		t.Fatal(err)
	}
	entry, err := audit.Decode([]byte(lastOf(d.entries())))
	if err != nil {
		t.Fatal(err)
	}
	if entry.Verb != "agent.enrol" || entry.Actor.Kind != "token" || entry.Actor.ID != id || entry.Actor.Address != "192.0.2.1:1" {
		t.Errorf("entry %+v", entry)
	}
}

func TestCloneIsRefused(t *testing.T) {
	d := found(t)
	h := d.enrolHost(nil)
	connect := func(boot uint64) error {
		connection, err := d.Connect(t.Context(), h.caller, &api.Hello{Boot: boot})
		if err == nil {
			defer connection.Leave()
		}
		return err
	}
	if err := connect(7); err != nil {
		t.Fatal(err)
	}
	for _, boot := range []uint64{7, 6, 0} {
		err := connect(boot)
		wantCode(t, err, fault.Conflict)
		if last := lastOf(d.entries()); !strings.Contains(last, "agent.connect") || !strings.Contains(last, `"refused"`) {
			t.Errorf("boot %d: the refusal has no audit entry; the last is %s", boot, last)
		}
	}
	if err := connect(8); err != nil {
		t.Errorf("a higher boot counter is refused: %v", err)
	}
	alarm := func() string {
		t.Helper()
		agents, err := d.ListAgents(t.Context(), operator, &api.ListAgentsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return agents.Agents[0].Alarm
	}
	if !strings.Contains(alarm(), "runs twice") {
		t.Errorf("operators see no alarm of the copy: %q", alarm())
	}
	d.rejoin(h.id)
	if alarm() != "" {
		t.Errorf("the alarm outlives the rejoin: %q", alarm())
	}
}

// Who holds a certificate is decided by its record: revoked, retired, or of a
// kind that opens nothing, a valid chain does not help.
func TestIdentifyByRecord(t *testing.T) {
	d := found(t)
	id, secret := d.token(nil)
	_, request := csr(t)
	enrolled, err := d.enrolWith(id, secret, request)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(enrolled.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	caller, err := d.Identify(t.Context(), cert, "192.0.2.1:1")
	if err != nil || caller.Kind != Agent || caller.ID != enrolled.AgentId {
		t.Fatalf("identified as %v, %v", caller, err)
	}

	other := found(t) // a chain of another domain, or a serial nobody issued
	_, err = other.Identify(t.Context(), cert, "")
	wantCode(t, err, fault.Forbidden)

	key, _ := csr(t)
	server, err := d.ServerIdentity(t.Context(), "s", key.Public(), []string{"localhost"}, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	serverCert, err := x509.ParseCertificate(server[0])
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Identify(t.Context(), serverCert, "")
	wantCode(t, err, fault.Forbidden)

	forged := *cert // the serial of a record, other bytes
	forged.Raw = append([]byte{}, cert.Raw...)
	forged.Raw[len(forged.Raw)-1] ^= 1
	_, err = d.Identify(t.Context(), &forged, "")
	wantCode(t, err, fault.Forbidden)

	if _, err := d.RetireAgent(t.Context(), operator, &api.RetireAgentRequest{AgentId: enrolled.AgentId}); err != nil {
		t.Fatal(err)
	}
	_, err = d.Identify(t.Context(), cert, "")
	wantCode(t, err, fault.Forbidden)
}

// A connection that outlives its certificate opens nothing.
func TestIdentityExpires(t *testing.T) {
	d := found(t)
	id, secret := d.token(nil)
	_, request := csr(t)
	enrolled, err := d.enrolWith(id, secret, request)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(enrolled.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	d.clock.turn(identityLife + time.Minute)
	_, err = d.Identify(t.Context(), cert, "")
	wantCode(t, err, fault.Forbidden)
}

// Documents that change leave alone what a retired agent held; when it is back it
// holds what an agent does that was there all along.
func TestRetiredAndDocuments(t *testing.T) {
	d := found(t)
	d.apply(documents)
	gone, stayed := d.enrolHost(map[string]string{"role": "orders", "host": "a"}), d.enrolHost(map[string]string{"role": "orders", "host": "b"})
	held := func(h *host) (all []store.Placement) {
		err := d.db.Read(t.Context(), func(tx *store.Tx) (err error) {
			all, err = tx.AgentPlacements(t.Context(), h.id)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if _, err := d.RetireAgent(t.Context(), operator, &api.RetireAgentRequest{AgentId: gone.id}); err != nil {
		t.Fatal(err)
	}
	before := held(gone)
	d.apply(strings.Replace(documents, "  files: {directory: /srv/orders/tls}", "  files: {directory: '/srv/orders/{{ instance }}'}\n  instances: [main, second]\n  target: {kind: files, name: 'moved-{{ instance }}'}", 1))
	if after := held(gone); len(after) != 1 || !after[0].Orphan || after[0].Target != before[0].Target {
		t.Errorf("a retired agent holds %+v, held %+v", after, before)
	}
	d.rejoin(gone.id)
	was, is := held(stayed), held(gone)
	if len(was) != 2 || len(is) != 2 {
		t.Fatalf("%d and %d placements, want 2 each", len(was), len(is))
	}
	for i := range was {
		if is[i].Orphan || is[i].Instance != was[i].Instance || is[i].Target != was[i].Target || !strings.HasPrefix(is[i].Target, "moved-") {
			t.Errorf("who came back holds %+v, who stayed %+v", is[i], was[i])
		}
	}
}

// A retired agent comes back by a rejoin token, under its own id, and what it
// held before stays revoked.
func TestRejoin(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	placement := h.placement()
	if _, err := d.RetireAgent(t.Context(), operator, &api.RetireAgentRequest{AgentId: h.id}); err != nil {
		t.Fatal(err)
	}
	back := d.rejoin(h.id)
	if back.AgentId != h.id {
		t.Errorf("came back as %s, was %s", back.AgentId, h.id)
	}
	if got := h.placement(); got != placement {
		t.Errorf("placement %s, was %s: generations would begin anew", got, placement)
	}
	crl := 0
	for shard := range 128 {
		published, err := d.CRL(t.Context(), d.issuingNow().ID, shard)
		if err != nil {
			t.Fatal(err)
		}
		list, err := x509.ParseRevocationList(published.DER())
		if err != nil {
			t.Fatal(err)
		}
		crl += len(list.RevokedCertificateEntries)
	}
	if crl != 1 {
		t.Errorf("%d revoked certificates in all CRLs, want the old identity", crl)
	}
}
