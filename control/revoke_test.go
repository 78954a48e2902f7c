package control

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// serialOf is a certificate's serial as operators write it.
func serialOf(t testing.TB, cert *x509.Certificate) string {
	t.Helper()
	serial, err := pki.SerialOf(cert)
	if err != nil {
		t.Fatal(err)
	}
	return serial.String()
}

func (d *domain) revoke(req *api.RevokeRequest) *api.RevokeResponse {
	d.t.Helper()
	response, err := d.Revoke(d.t.Context(), operator, req)
	if err != nil {
		d.t.Fatal(err)
	}
	return response
}

func (d *domain) advanceRevocations() int {
	d.t.Helper()
	n, err := d.AdvanceRevocations(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

func (d *domain) revocation(id string) *api.Revocation {
	d.t.Helper()
	list, err := d.ListRevocations(d.t.Context(), operator, &api.ListRevocationsRequest{Id: id})
	if err != nil {
		d.t.Fatal(err)
	}
	return list.Revocations[0]
}

// steady has the host report that it uses a generation and that it stands.
func (h *host) steady(generation uint64) {
	h.domain.t.Helper()
	err := h.report(&api.PlacementReport{
		State: api.State_STATE_STEADY, Generation: generation, LastGeneration: generation, Revision: generation, Level: api.Level_LEVEL_DELIVERED,
	})
	if err != nil {
		h.domain.t.Fatal(err)
	}
}

// ordersHost is a host with its first certificate in use.
func (d *domain) ordersHost(name string) (*host, *x509.Certificate) {
	d.t.Helper()
	h := d.enrolHost(map[string]string{"role": "orders", "host": name})
	_, request := csr(d.t)
	leaf := leafOf(d.t, h.issue(h.placement(), 1, request))
	d.connect(h.caller)
	h.steady(1)
	return h, leaf
}

// What is in use is revoked when its successor stands and not a moment before,
// whatever crashes meanwhile; what is not in use at once.
func TestRevocationWaitsForTheSuccessor(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h, first := d.ordersHost("a")
	done := d.revoke(&api.RevokeRequest{Serial: serialOf(t, first), Reason: "keyCompromise", Note: "seen in a dump"})
	if done.Revocation.EndedAt != nil || done.Revocation.Parts[0].RevokedAt != nil || !strings.Contains(done.Revocation.Parts[0].WaitsFor, "generation 2 is not proven yet") {
		t.Fatalf("what is in use does not wait: %v", done.Revocation)
	}
	if got := h.desired(); got.RenewThrough != 1 || !got.NewKey {
		t.Errorf("no successor with a new key is asked for: %v", got)
	}
	_, request := csr(t)
	second := leafOf(t, h.issue(h.placement(), 2, request))
	for name, report := range map[string]*api.PlacementReport{
		"staged":  {State: api.State_STATE_ROTATING, Generation: 1, LastGeneration: 2, Revision: 1},
		"serving": {State: api.State_STATE_ROTATING, Generation: 2, LastGeneration: 2, Revision: 2},
		"failed":  {State: api.State_STATE_FAILED, Generation: 1, LastGeneration: 2, Revision: 1, Failure: &api.Failure{Step: "prove", Generation: 2}},
	} {
		if err := h.report(report); err != nil {
			t.Fatal(err)
		}
		if d.advanceRevocations() != 0 || d.onCRL(first) {
			t.Errorf("revoked while the successor is %s", name)
		}
	}
	d.restart()
	d.connect(h.caller)
	h.steady(2)
	if d.advanceRevocations() != 1 || !d.onCRL(first) || d.onCRL(second) {
		t.Error("the old one is not revoked although its successor stands")
	}
	over := d.revocation(done.Revocation.Id)
	if over.EndedAt == nil || over.Parts[0].RevokedAt == nil || over.Parts[0].Reason != "keyCompromise" || !over.Parts[0].Listed {
		t.Errorf("afterwards: %v", over)
	}
	if got := h.desired(); len(got.RevokedGenerations) != 1 || got.RevokedGenerations[0] != 1 {
		t.Errorf("the host is told of revoked generations %v", got.RevokedGenerations)
	}
	if d.advanceRevocations() != 0 {
		t.Error("revoked twice")
	}
	_, err := d.Revoke(t.Context(), operator, &api.RevokeRequest{Serial: serialOf(t, first)})
	wantCode(t, err, fault.Conflict)

	// An older generation is used by nobody.
	third := leafOf(t, h.issue(h.placement(), 3, func() []byte { _, request := csr(t); return request }()))
	h.steady(3)
	if done := d.revoke(&api.RevokeRequest{Serial: serialOf(t, second)}); done.Revocation.EndedAt == nil || !d.onCRL(second) || d.onCRL(third) {
		t.Errorf("what nobody uses waits: %v", done.Revocation)
	}
}

func TestRevokeNowAndWithin(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h, now := d.ordersHost("a")
	dry := d.revoke(&api.RevokeRequest{Serial: serialOf(t, now), Now: true, DryRun: true})
	if d.onCRL(now) || h.desired().RenewThrough != 0 || dry.AuditId != "" {
		t.Fatal("a dry run did something")
	}
	if text := strings.Join(dry.Warnings, "\n"); !strings.Contains(text, "no other valid certificate") {
		t.Errorf("nobody is warned that it is the last one: %s", text)
	}
	done := d.revoke(&api.RevokeRequest{Placement: h.placement(), Now: true})
	if !d.onCRL(now) || done.Revocation.EndedAt == nil || h.desired().RenewThrough != 1 || h.desired().NewKey {
		t.Errorf("now: %v, desired %v", done.Revocation, h.desired())
	}
	// The same generation is never given out again.
	_, request := csr(t)
	if got := h.issue(h.placement(), 1, request); got.ErrorCode != "conflict" {
		t.Errorf("a revoked generation is issued anew: %v", got)
	}
	_, later := d.ordersHost("b")
	d.revoke(&api.RevokeRequest{Serial: serialOf(t, later), Within: durationpb.New(time.Hour)})
	d.clock.turn(time.Hour - time.Second)
	if d.advanceRevocations() != 0 || d.onCRL(later) {
		t.Error("forced before its time")
	}
	d.clock.turn(2 * time.Second)
	if d.advanceRevocations() != 1 || !d.onCRL(later) {
		t.Error("not forced when its time was up")
	}
}

func TestHold(t *testing.T) {
	d := found(t)
	d.apply(documents)
	_, leaf := d.ordersHost("a")
	serial := serialOf(t, leaf)
	_, err := d.Revoke(t.Context(), operator, &api.RevokeRequest{Serial: serial, Lift: true})
	wantCode(t, err, fault.Conflict)
	d.revoke(&api.RevokeRequest{Serial: serial, Reason: store.OnHold, Now: true})
	if !d.onCRL(leaf) {
		t.Error("what is on hold is on no list")
	}
	d.revoke(&api.RevokeRequest{Serial: serial, Lift: true})
	if d.onCRL(leaf) {
		t.Error("what was taken off hold is on the list")
	}
	d.revoke(&api.RevokeRequest{Serial: serial, Reason: store.OnHold, Now: true})
	d.revoke(&api.RevokeRequest{Serial: serial, Reason: "keyCompromise", Now: true})
	_, err = d.Revoke(t.Context(), operator, &api.RevokeRequest{Serial: serial, Lift: true})
	wantCode(t, err, fault.Conflict)
	if !d.onCRL(leaf) {
		t.Error("what was revoked for good is off the list")
	}
}

// An agent's identity is revoked once it has called by another; what its host
// holds goes with it.
func TestRevokeAgent(t *testing.T) {
	d := found(t)
	d.apply(documents)
	id, identity := d.enrolled()
	caller := Caller{Kind: Agent, ID: id, Serial: serialOf(t, identity)}
	d.connect(caller)
	state := func() *api.DesiredState {
		t.Helper()
		desired, err := d.Desired(t.Context(), caller)
		if err != nil {
			t.Fatal(err)
		}
		return desired
	}
	if state().RenewIdentityAt != nil {
		t.Fatal("it is to renew before anybody asked")
	}
	done := d.revoke(&api.RevokeRequest{Agent: id, Reason: "keyCompromise"})
	if done.Revocation.EndedAt != nil || state().RenewIdentityAt == nil {
		t.Fatalf("the connected agent is cut off, or not asked to renew: %v", done.Revocation)
	}
	_, request := csr(t)
	renewed, err := d.RenewIdentity(t.Context(), caller, &api.RenewIdentityRequest{Csr: request})
	if err != nil {
		t.Fatal(err)
	}
	if d.advanceRevocations() != 0 {
		t.Error("revoked before the agent has called by its new identity")
	}
	old := caller
	successor, err := x509.ParseCertificate(renewed.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	caller.Serial = serialOf(t, successor)
	d.clock.turn(time.Second)
	d.connect(caller)
	if d.advanceRevocations() != 1 || !d.onCRL(identity) || d.onCRL(successor) {
		t.Error("the old identity is not revoked")
	}
	if state().RenewIdentityAt != nil {
		t.Error("it is to renew again and again")
	}
	wantCode(t, d.StillHolds(t.Context(), old), fault.Forbidden)
	d.revoke(&api.RevokeRequest{Agent: id, Now: true})
	wantCode(t, d.StillHolds(t.Context(), caller), fault.Forbidden)
}

// A server renews when its certificate is to be revoked, and is not cut off.
func TestRevokeServer(t *testing.T) {
	d := found(t)
	identity := func() *x509.Certificate {
		key, _ := csr(t)
		chain, err := d.ServerIdentity(t.Context(), "s1", key.Public(), []string{"localhost"}, nil, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(chain[0])
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	state := func() string {
		text, err := d.TrustState(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	first, before := identity(), state()
	d.revoke(&api.RevokeRequest{Serial: serialOf(t, first)})
	if d.onCRL(first) || state() == before {
		t.Error("revoked under it, or not told to renew")
	}
	d.clock.turn(time.Second)
	second := identity()
	if d.advanceRevocations() != 1 || !d.onCRL(first) || d.onCRL(second) {
		t.Error("the old one is not revoked")
	}
}

func TestRevokeRefusals(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h, leaf := d.ordersHost("a")
	serial := serialOf(t, leaf)
	for name, c := range map[string]struct {
		req  *api.RevokeRequest
		code fault.Code
		says string
	}{
		"nothing":             {&api.RevokeRequest{}, fault.Invalid, "exactly one"},
		"two things":          {&api.RevokeRequest{Serial: serial, Service: "orders"}, fault.Invalid, "exactly one"},
		"a reason of its own": {&api.RevokeRequest{Serial: serial, Reason: "badKarma"}, fault.Invalid, "none of RFC 5280"},
		"now and within":      {&api.RevokeRequest{Serial: serial, Now: true, Within: durationpb.New(time.Hour)}, fault.Invalid, "either now or within"},
		"within a year":       {&api.RevokeRequest{Serial: serial, Within: durationpb.New(9000 * time.Hour)}, fault.Invalid, "at most 90d"},
		"no hex":              {&api.RevokeRequest{Serial: "xyz"}, fault.Invalid, "serial"},
		"unknown serial":      {&api.RevokeRequest{Serial: strings.Repeat("01", 16)}, fault.NotFound, "does not exist"},
		"a short key":         {&api.RevokeRequest{Key: "abcd"}, fault.Invalid, "64 hexadecimal digits"},
		"unknown key":         {&api.RevokeRequest{Key: strings.Repeat("ab", 32)}, fault.NotFound, "has no certificate"},
		"unknown fingerprint": {&api.RevokeRequest{Fingerprint: strings.Repeat("ab", 32)}, fault.NotFound, "was issued here"},
		"unknown service":     {&api.RevokeRequest{Service: "nosuch"}, fault.NotFound, "does not exist"},
		"unknown agent":       {&api.RevokeRequest{Agent: "nosuch"}, fault.NotFound, "agent"},
		"unknown placement":   {&api.RevokeRequest{Placement: "nosuch"}, fault.NotFound, "placement"},
		"unknown operator":    {&api.RevokeRequest{Operator: "nosuch"}, fault.NotFound, "has no certificate"},
		"an empty slice":      {&api.RevokeRequest{Service: "orders", Labels: map[string]string{"host": "z"}}, fault.NotFound, "has no certificate"},
		"labels of an agent":  {&api.RevokeRequest{Agent: h.id, Labels: map[string]string{"host": "z"}}, fault.Invalid, "labels narrow a service"},
		"unknown authority":   {&api.RevokeRequest{Authority: "nosuch"}, fault.NotFound, "authority"},
		"who signs now":       {&api.RevokeRequest{Authority: "issuing"}, fault.Conflict, "rotunda trust rotate issuing"},
		"a root":              {&api.RevokeRequest{Authority: "root"}, fault.Conflict, "stop trusting it"},
		"lift a service":      {&api.RevokeRequest{Service: "orders", Lift: true}, fault.Invalid, "one certificate"},
	} {
		before := len(d.entries())
		_, err := d.Revoke(t.Context(), operator, c.req)
		if fault.CodeOf(err) != c.code || !strings.Contains(fault.Public(err), c.says) {
			t.Errorf("%s: got %v, want %s with %q", name, err, c.code, c.says)
		}
		if len(d.entries()) != before || d.onCRL(leaf) {
			t.Errorf("%s: something was changed", name)
		}
	}
	_, err := d.Revoke(t.Context(), h.caller, &api.RevokeRequest{Serial: serial})
	wantCode(t, err, fault.Forbidden)
	me := Caller{Kind: Operator, ID: "tester", Serial: serial}
	_, err = d.Revoke(t.Context(), me, &api.RevokeRequest{Serial: serial})
	wantCode(t, err, fault.Conflict)
	spki := pki.SPKIHash{}
	if spki, err = pki.SPKIHashOf(leaf.PublicKey); err != nil {
		t.Fatal(err)
	}
	if done := d.revoke(&api.RevokeRequest{Key: spki.String(), DryRun: true}); len(done.Revocation.Parts) != 1 {
		t.Errorf("by its key: %v", done.Revocation)
	}
	d.clock.turn(48 * time.Hour)
	_, err = d.Revoke(t.Context(), operator, &api.RevokeRequest{Serial: serial})
	wantCode(t, err, fault.Conflict)
}

// Two servers that publish at once make one list each time; the number and the
// date only grow, also on a server whose clock went back.
func TestTwoServersPublish(t *testing.T) {
	d := found(t)
	d.apply(documents)
	_, leaf := d.ordersHost("a")
	serial, err := pki.SerialOf(leaf)
	if err != nil {
		t.Fatal(err)
	}
	head := func(shard int) store.CRLHead {
		list, err := d.CRL(t.Context(), d.issuingNow().ID, shard)
		if err != nil {
			t.Fatal(err)
		}
		return list.CRLHead
	}
	publish := func() {
		other := *d
		other.open()
		var wait sync.WaitGroup
		for _, c := range []*Control{d.Control, other.Control} {
			wait.Go(func() {
				if _, err := c.PublishCRLs(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
	}
	publish()
	first, whole := head(int(serial.Shard())), head(ca.WholeList)
	d.revoke(&api.RevokeRequest{Serial: serial.String(), Now: true})
	publish()
	second := head(int(serial.Shard()))
	if second.Number <= first.Number || second.Count != 1 || head(ca.WholeList).Number <= whole.Number || head(ca.WholeList).Count != 1 {
		t.Errorf("shard %+v after %+v, whole %+v after %+v", second, first, head(ca.WholeList), whole)
	}
	lists := 0
	for _, entry := range d.entries() {
		lists += strings.Count(entry, `"shard":`)
	}
	if want := 2 * (ca.Shards + 1); lists > want+1 || lists < ca.Shards+1+2 {
		t.Errorf("%d lists entered", lists)
	}
	d.clock.turn(-4 * time.Second) // as far as the store lets it
	_, other := d.ordersHost("b")
	for pkiShard(t, other) != serial.Shard() {
		_, other = d.ordersHost("b" + serialOf(t, other)[28:])
	}
	d.revoke(&api.RevokeRequest{Serial: serialOf(t, other), Now: true})
	publish()
	third := head(int(serial.Shard()))
	if third.Number <= second.Number || third.ThisUpdate.Before(second.ThisUpdate) || third.Count != 2 {
		t.Errorf("after the clock went back: %+v after %+v", third, second)
	}
}

// A crash after a revocation and before its list is signed loses nothing: the
// note that the list is behind was committed with it.
func TestCrashBeforeTheListIsSigned(t *testing.T) {
	d := found(t)
	d.apply(documents)
	_, leaf := d.ordersHost("a")
	d.revoke(&api.RevokeRequest{Serial: serialOf(t, leaf), Now: true})
	d.restart()
	behind, err := d.CRLsBehind(t.Context())
	if err != nil || !behind {
		t.Fatalf("nobody knows that a list is behind: %v", err)
	}
	if _, err := d.PublishCRLs(t.Context()); err != nil {
		t.Fatal(err)
	}
	if behind, err = d.CRLsBehind(t.Context()); err != nil || behind || !d.onCRL(leaf) {
		t.Errorf("behind %v, listed %v, %v", behind, d.onCRL(leaf), err)
	}
}

func pkiShard(t testing.TB, cert *x509.Certificate) byte {
	t.Helper()
	serial, err := pki.SerialOf(cert)
	if err != nil {
		t.Fatal(err)
	}
	return serial.Shard()
}

// What a host gets beside its bundle is what OpenSSL wants for each certificate
// of a chain; a revocation gives it another within the commit.
func TestListsThatGoToHosts(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h, leaf := d.ordersHost("a")
	if got := h.desired().CrlDigest; got != "" {
		t.Fatalf("a list is delivered that no profile asks for: %s", got)
	}
	response := d.apply(strings.Replace(documents, "usages: [serverAuth]}", "usages: [serverAuth], revocation: {crl: true}}", 1))
	if text := fmt.Sprint(response.Findings); !strings.Contains(text, "authority issuing has no CRL") {
		t.Errorf("nobody is told that there is no list yet: %s", text)
	}
	if got := h.desired().CrlDigest; got != "" {
		t.Errorf("delivered although the signing authority has no list yet: %s", got)
	}
	publish := func() {
		t.Helper()
		if _, err := d.PublishCRLs(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	publish()
	before := h.desired()
	if before.CrlDigest == "" || before.Profile.StaleCrl != "closed" || before.CrlUntil.AsTime().Before(d.clock.now().Add(fleet.CRLLife-fleet.CRLPeriod)) {
		t.Fatalf("lists %q until %v, stale %q", before.CrlDigest, before.CrlUntil.AsTime(), before.Profile.StaleCrl)
	}
	if out := d.verifyWith(h, before, leaf); !strings.Contains(out, ": OK") {
		t.Errorf("openssl: %s", out)
	}
	d.revoke(&api.RevokeRequest{Serial: serialOf(t, leaf), Now: true})
	woken, stop := d.WatchAgent(h.id)
	defer stop()
	publish()
	select {
	case <-woken:
	default:
		t.Error("the host's stream is not told that there are other lists")
	}
	after := h.desired()
	if after.CrlDigest == before.CrlDigest {
		t.Error("the same lists after a revocation")
	}
	if out := d.verifyWith(h, after, leaf); !strings.Contains(out, "certificate revoked") {
		t.Errorf("openssl: %s", out)
	}
	_, err := d.FetchBlobs(t.Context(), h.caller, &api.FetchBlobsRequest{Digests: []string{hex.EncodeToString(make([]byte, 32))}})
	wantCode(t, err, fault.NotFound)
}

// verifyWith checks a leaf with OpenSSL and the lists that the host gets.
func (d *domain) verifyWith(h *host, desired *api.DesiredPlacement, leaf *x509.Certificate) string {
	d.t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		d.t.Fatal("openssl is not installed; run: make deps")
	}
	fetched, err := d.FetchBlobs(d.t.Context(), h.caller, &api.FetchBlobsRequest{Digests: []string{desired.CrlDigest}})
	if err != nil {
		d.t.Fatal(err)
	}
	dir := d.t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			d.t.Fatal(err)
		}
		return path
	}
	out, _ := exec.Command("openssl", "verify", "-crl_check_all", "-no-CApath", "-no-CAstore",
		"-CAfile", write("root.pem", pki.EncodeCertificatesPEM(d.rootNow().Raw)),
		"-untrusted", write("issuing.pem", pki.EncodeCertificatesPEM(d.issuingNow().Certificate.Raw)),
		"-CRLfile", write("crl.pem", pki.EncodeCRLPEM(fetched.Blobs[0].Crls...)), write("leaf.pem", pki.EncodeCertificatesPEM(leaf.Raw))).CombinedOutput()
	return string(out)
}

// An authority that does not sign any more is revoked by its root's list, which
// is signed where the root's key is, and nowhere else.
func TestRootList(t *testing.T) {
	d := found(t)
	order, err := d.PrepareRootList(t.Context(), operator, &api.PrepareRootListRequest{Authority: "root"})
	if err != nil {
		t.Fatal(err)
	}
	if order.NextUpdate.AsTime().Before(d.clock.now().Add(300*24*time.Hour)) || len(order.Entries) != 0 {
		t.Fatalf("the first list: %v", order)
	}
	put := func(der []byte) error {
		_, err := d.PutRootList(t.Context(), operator, &api.PutRootListRequest{Authority: "root", Crl: der})
		return err
	}
	sign := func(number int64, at time.Time, entries *ca.Entries) []byte {
		t.Helper()
		der, err := ca.SignRootCRL(at, d.rootNow(), d.rootKey, number, entries)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	shard, err := d.CRL(t.Context(), d.issuingNow().ID, 3)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		der  []byte
		says string
	}{
		"no CRL":            {[]byte("x"), "CRL of root"},
		"another's":         {shard.DER(), "was issued by"},
		"a lower number":    {sign(1, d.clock.now(), ca.NewEntries(ca.WholeList)), "is not above"},
		"of next week":      {sign(order.Number, d.clock.now().Add(7*24*time.Hour), ca.NewEntries(ca.WholeList)), "in the future"},
		"of two years back": {sign(order.Number, d.clock.now().Add(-2*ca.RootCRLLife), ca.NewEntries(ca.WholeList)), "ended at"},
	} {
		if err := put(c.der); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %q", name, err, c.says)
		}
	}
	if err := put(sign(order.Number, d.clock.now(), ca.NewEntries(ca.WholeList))); err != nil {
		t.Fatal(err)
	}
}

const takingDocuments = `
apiVersion: rotunda/v1
kind: Service
metadata: {name: ledger}
spec: {owner: {team: shop, contact: shop@test.example, runbook: "https://test.example/ledger"}, clients: [orders]}
---
apiVersion: rotunda/v1
kind: Intent
metadata: {name: ledger-db}
spec:
  service: ledger
  selector: {role: ledger}
  profile: server
  identity: {dnsNames: ["{{ labels.host }}.orders.test.example"]}
  target: {kind: postgres, name: db, address: "127.0.0.1:1", clientAuth: required}
  files: {directory: /srv/ledger/tls, owner: postgres, mode: "0600"}
`

// Once a client's certificate is revoked and on its lists, the servers that take
// it are told to close what was opened with it, and say what came of it.
func TestSessionsOfWhatWasRevokedAreClosed(t *testing.T) {
	d := found(t)
	both := strings.NewReplacer("usages: [serverAuth]", "usages: [serverAuth, clientAuth]", `service == "orders" && `, "").Replace(documents)
	d.apply(both + "---" + takingDocuments)
	server := d.enrolHost(map[string]string{"role": "ledger", "host": "l"})
	leafOf(t, server.issue(server.placement(), 1, func() []byte { _, request := csr(t); return request }()))
	server.steady(1)
	orders := func() []*api.TargetOrder { return server.desired().Orders }
	_, old := d.ordersHost("a")
	d.revoke(&api.RevokeRequest{Serial: serialOf(t, old), Reason: "superseded", Now: true})
	_, stolen := d.ordersHost("b")
	done := d.revoke(&api.RevokeRequest{Serial: serialOf(t, stolen), Reason: "keyCompromise", Now: true})
	if len(orders()) != 0 {
		t.Errorf("sessions are closed before a list says why: they come back: %v", orders())
	}
	if _, err := d.PublishCRLs(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := orders()
	if len(got) != 1 || got[0].Act != api.Act_ACT_CLOSE_SESSIONS || !slices.Equal(got[0].Serials, []string{serialOf(t, stolen)}) || len(got[0].IssuerCerts) != 1 {
		t.Fatalf("ordered: %v", got)
	}
	if shown := d.revocation(done.Revocation.Id).Sessions; len(shown) != 1 || shown[0].Service != "ledger" || shown[0].Outcome != api.Outcome_OUTCOME_UNSPECIFIED {
		t.Errorf("before it was carried out: %v", shown)
	}
	err := server.report(&api.PlacementReport{
		State: api.State_STATE_STEADY, Generation: 1, LastGeneration: 1, Revision: 1, Level: api.Level_LEVEL_DELIVERED,
		Orders: []*api.OrderReport{{Id: got[0].Id, Outcome: api.Outcome_OUTCOME_DONE, Words: "3 sessions", Count: 3, At: stamp(d.clock.now())}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if shown := d.revocation(done.Revocation.Id).Sessions; len(shown) != 1 || shown[0].Outcome != api.Outcome_OUTCOME_DONE || shown[0].Count != 3 {
		t.Errorf("afterwards: %v", shown)
	}
	d.clock.turn(2 * time.Hour)
	server.steady(1)
	if len(orders()) != 0 {
		t.Error("the order stands for ever")
	}
}
