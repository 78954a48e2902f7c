package control

import (
	"context"
	"crypto"
	"crypto/x509"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/keys"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/store/storetest"
)

// clock is a clock that tests turn. It moves by a microsecond at each look, as
// no two commits share a moment.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(time.Microsecond)
	return c.at
}

func (c *clock) turn(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(by)
}

// domain is a founded trust domain on a real store.
type domain struct {
	*Control
	t     testing.TB
	dir   string
	place string // of the store
	clock *clock
	kek   *keys.KEK
	db    *store.DB

	rootKey    crypto.Signer // of the root that signs
	standbyKey crypto.Signer
}

// issuingNow and rootNow are the authority that signs now and its root.
func (d *domain) issuingNow() *ca.Authority {
	d.t.Helper()
	issuing, err := d.Issuer(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return issuing
}

func (d *domain) rootNow() *x509.Certificate {
	d.t.Helper()
	root, err := d.Root(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return root
}

var operator = Caller{Kind: Operator, ID: "tester"}

func found(t testing.TB) *domain {
	t.Helper()
	dir := t.TempDir()
	d := &domain{t: t, dir: dir, place: storetest.Place(t), clock: &clock{at: time.Now().UTC().Truncate(time.Microsecond)}}
	if err := keys.NewKEKFile(filepath.Join(dir, "kek")); err != nil {
		t.Fatal(err)
	}
	var err error
	if d.kek, err = keys.OpenKEK(keys.Source{File: filepath.Join(dir, "kek")}); err != nil {
		t.Fatal(err)
	}
	td := spiffeid.RequireTrustDomainFromString("test.example")
	root, rootKey, err := ca.CreateRoot(d.clock.now(), ca.RootOrder{TrustDomain: td, Name: "root", Algorithm: pki.ECDSAP256, Lifetime: 10 * 365 * 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	d.rootKey = rootKey
	d.db = storetest.Make(t, d.options())
	err = Found(t.Context(), d.db, Founding{
		TrustDomain: td, Root: root, RootKey: rootKey, Algorithm: pki.ECDSAP256, IssuingLifetime: 3 * 365 * 24 * time.Hour,
		PermittedDNS: []string{"test.example", "localhost"}, PermittedIPs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		PublicURL: "http://localhost", KEK: d.kek, Caller: Caller{Kind: Socket},
	})
	if err != nil {
		t.Fatal(err)
	}
	d.open()
	t.Cleanup(func() { d.db.Close() })
	return d
}

func (d *domain) open() {
	d.t.Helper()
	var err error
	d.Control, err = Open(d.t.Context(), Options{
		DB: d.db, KEK: d.kek, PublicURL: "http://localhost", Now: d.clock.now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// restart closes the store and opens it again, as a new process would.
func (d *domain) restart() {
	d.t.Helper()
	if err := d.db.Close(); err != nil {
		d.t.Fatal(err)
	}
	var err error
	if d.db, err = store.Open(d.t.Context(), d.options()); err != nil {
		d.t.Fatal(err)
	}
	d.open()
}

// options are how the domain's store is opened.
func (d *domain) options() store.Options {
	o := store.Locate(d.place)
	o.Now = d.clock.now
	return o
}

const documents = `
apiVersion: rotunda/v1
kind: Service
metadata: {name: orders}
spec: {owner: {team: shop, contact: shop@test.example, runbook: "https://test.example/orders"}}
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: server}
spec: {lifetime: 24h, usages: [serverAuth]}
---
apiVersion: rotunda/v1
kind: Policy
metadata: {name: names}
spec:
  rules:
    - {name: own, effect: allow, when: 'service == "orders" && names.dnsNames.all(n, n.endsWith(".orders.test.example"))'}
---
apiVersion: rotunda/v1
kind: Intent
metadata: {name: orders-tls}
spec:
  service: orders
  selector: {role: orders}
  profile: server
  identity: {dnsNames: ["{{ labels.host }}.orders.test.example"]}
  files: {directory: /srv/orders/tls}
`

func source(content string) []*api.SourceFile {
	return []*api.SourceFile{{Path: "fleet.yaml", Content: []byte(content)}}
}

// apply applies documents and fails on any error among the findings.
func (d *domain) apply(content string) *api.ApplyResponse {
	d.t.Helper()
	response, err := d.Apply(d.t.Context(), operator, &api.ApplyRequest{Files: source(content)})
	if err != nil {
		d.t.Fatal(err)
	}
	for _, finding := range response.Findings {
		if finding.Severity == api.Finding_ERROR {
			d.t.Fatalf("apply: %v", finding)
		}
	}
	return response
}

// host is an agent as the server sees it: an identity and what it asks for.
type host struct {
	domain *domain
	id     string
	key    crypto.Signer
	caller Caller
}

// token makes a token and returns its id and secret.
func (d *domain) token(labels map[string]string) (id, secret string) {
	d.t.Helper()
	created, err := d.CreateToken(d.t.Context(), operator, &api.CreateTokenRequest{Labels: labels})
	if err != nil {
		d.t.Fatal(err)
	}
	fields := strings.SplitN(created.Token, ".", 6)
	return fields[1], fields[2]
}

func csr(t testing.TB) (crypto.Signer, []byte) {
	t.Helper()
	key, err := pki.ECDSAP256.Generate()
	if err != nil {
		t.Fatal(err)
	}
	der, err := pki.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

func (d *domain) enrolWith(id, secret string, csr []byte) (*api.EnrolResponse, error) {
	return d.Enrol(context.Background(), Caller{Kind: Anonymous, Address: "192.0.2.1:1"}, &api.EnrolRequest{
		TokenId: id, TokenSecret: secret, TrustDomain: "test.example", Csr: csr,
	})
}

func (d *domain) enrolHost(labels map[string]string) *host {
	d.t.Helper()
	id, secret := d.token(labels)
	key, request := csr(d.t)
	response, err := d.enrolWith(id, secret, request)
	if err != nil {
		d.t.Fatal(err)
	}
	return &host{d, response.AgentId, key, Caller{Kind: Agent, ID: response.AgentId}}
}

// identity is the newest certificate of the host's own.
func (h *host) identity() store.Certificate {
	h.domain.t.Helper()
	var held []store.Certificate
	err := h.domain.db.Read(context.Background(), func(tx *store.Tx) (err error) {
		held, err = tx.AgentIdentities(context.Background(), h.id)
		return err
	})
	if err != nil {
		h.domain.t.Fatal(err)
	}
	return held[0]
}

// placement is the id of the host's only placement.
// rejoin gives an agent its identity back, with a new key.
func (d *domain) rejoin(id string) *api.EnrolResponse {
	d.t.Helper()
	created, err := d.CreateToken(d.t.Context(), operator, &api.CreateTokenRequest{RejoinAgentId: id})
	if err != nil {
		d.t.Fatal(err)
	}
	fields := strings.SplitN(created.Token, ".", 6)
	_, request := csr(d.t)
	back, err := d.enrolWith(fields[1], fields[2], request)
	if err != nil {
		d.t.Fatal(err)
	}
	return back
}

func (h *host) placement() string {
	h.domain.t.Helper()
	desired, err := h.domain.Desired(context.Background(), h.caller)
	if err != nil {
		h.domain.t.Fatal(err)
	}
	if len(desired.Placements) != 1 {
		h.domain.t.Fatalf("%d placements, want 1: %v", len(desired.Placements), desired.Placements)
	}
	return desired.Placements[0].PlacementId
}

func (h *host) issue(placement string, generation uint64, csr []byte) *api.IssueResult {
	h.domain.t.Helper()
	response, err := h.domain.Issue(context.Background(), h.caller, &api.IssueRequest{Requests: []*api.PlacementRequest{
		{PlacementId: placement, Generation: generation, Csr: csr},
	}})
	if err != nil {
		h.domain.t.Fatal(err)
	}
	return response.Results[0]
}

// entries are the verbs and outcomes of the audit log, oldest first, pending
// ones too.
func (d *domain) entries() []string {
	d.t.Helper()
	response, err := d.ListAuditEntries(d.t.Context(), operator, &api.ListAuditEntriesRequest{Newest: true})
	if err != nil {
		d.t.Fatal(err)
	}
	var lines []string
	for _, entry := range response.Entries {
		lines = append(lines, string(entry.Content))
	}
	return lines
}

func wantCode(t testing.TB, err error, want fault.Code) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", want)
	}
	if got := fault.CodeOf(err); got != want {
		t.Fatalf("error of code %s, want %s: %v", got, want, err)
	}
}
