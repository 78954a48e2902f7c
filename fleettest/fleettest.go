// Package fleettest runs a control plane and any number of agents in one
// process, for tests: real listeners, real TLS, real files, the real store.
package fleettest

import (
	"context"
	"crypto"
	"crypto/x509"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/agent"
	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/archive"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/internal/loopback"
	"github.com/rotunda-pki/rotunda/keys"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/server"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/store/storetest"
)

// Patience bounds every wait: far above what anything takes, so that only what
// never happens fails a test.
const Patience = 30 * time.Second

// TrustDomain is the name of every plane's trust domain.
const TrustDomain = "fleet.example"

// Operator is a caller for verbs that are called directly.
var Operator = control.Caller{Kind: control.Operator, ID: "tester"}

// Plane is a trust domain with a control plane that can be stopped and started.
type Plane struct {
	*control.Control
	Dir    string
	Config server.Config
	Now    func() time.Time // of the next Start

	t    testing.TB
	kek  *keys.KEK
	db   *store.DB
	stop func()

	// FirstRoot is the root that the trust domain was founded with, and
	// FirstKey its key.
	FirstRoot *x509.Certificate
	FirstKey  crypto.Signer

	identityLife time.Duration // of agents; 0: as usual
}

// IssuingNow is the authority that signs now.
func (p *Plane) IssuingNow() *ca.Authority {
	p.t.Helper()
	issuing, err := p.Issuer(p.t.Context())
	p.must(err)
	return issuing
}

// NewPlane founds a trust domain and starts its control plane on free ports.
func NewPlane(t testing.TB) *Plane {
	t.Helper()
	return newPlane(t, 0)
}

func newPlane(t testing.TB, identityLife time.Duration) *Plane {
	t.Helper()
	return newPlaneAt(t, storetest.Place(t), identityLife)
}

// NewPlaneAt is a plane whose store is to be made at a place.
func NewPlaneAt(t testing.TB, place string) *Plane {
	t.Helper()
	return newPlaneAt(t, place, 0)
}

func newPlaneAt(t testing.TB, place string, identityLife time.Duration) *Plane {
	t.Helper()
	p := &Plane{t: t, Dir: t.TempDir(), Now: time.Now, identityLife: identityLife}
	p.listen()
	p.Config.Store, p.Config.KEK = place, server.KEK{File: filepath.Join(p.Dir, "kek")}
	p.found()
	p.Start()
	t.Cleanup(func() { p.Stop() })
	return p
}

// listen gives the plane addresses of its own.
func (p *Plane) listen() {
	p.Config.Listen = server.Listen{Agents: free(p.t), Operators: free(p.t), Public: free(p.t), Metrics: free(p.t)}
	p.Config.Names, p.Config.AdminSocket = []string{"localhost", "127.0.0.1"}, filepath.Join(p.Dir, "admin.sock")
	p.Config.PublicURL, p.Config.AgentAddress = "http://"+p.Config.Listen.Public, p.Config.Listen.Agents
}

// Another starts one more server of the same store.
func (p *Plane) Another() *Plane {
	p.t.Helper()
	another := p.another()
	another.Start()
	p.t.Cleanup(func() { another.Stop() })
	return another
}

// another is one more server of the same store, that does not run yet.
func (p *Plane) another() *Plane {
	p.t.Helper()
	another := &Plane{t: p.t, Dir: p.t.TempDir(), Now: p.Now, Config: p.Config, kek: p.kek, identityLife: p.identityLife}
	another.FirstRoot, another.FirstKey = p.FirstRoot, p.FirstKey
	another.listen()
	return another
}

func (p *Plane) found() {
	p.t.Helper()
	p.must(keys.NewKEKFile(p.Config.KEK.File))
	var err error
	p.kek, err = keys.OpenKEK(keys.Source{File: p.Config.KEK.File})
	p.must(err)
	td := spiffeid.RequireTrustDomainFromString(TrustDomain)
	root, key, err := ca.CreateRoot(time.Now(), ca.RootOrder{TrustDomain: td, Name: "root", Algorithm: pki.ECDSAP256, Lifetime: 24 * 3650 * time.Hour})
	p.must(err)
	p.FirstRoot, p.FirstKey = root, key
	db := storetest.Make(p.t, p.Place(time.Now))
	defer db.Close()
	p.must(control.Found(p.t.Context(), db, control.Founding{
		TrustDomain: td, Root: root, RootKey: key, Algorithm: pki.ECDSAP256, IssuingLifetime: 24 * 1000 * time.Hour,
		PermittedDNS: []string{TrustDomain, "localhost"}, PermittedIPs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		PublicURL: p.Config.PublicURL, KEK: p.kek, Caller: Operator,
	}))
}

// Place is how the plane's store is opened.
func (p *Plane) Place(now func() time.Time) store.Options {
	o := store.Locate(p.Config.Store)
	o.Now = now
	return o
}

// Start starts a stopped control plane and returns when it is ready.
func (p *Plane) Start() {
	p.t.Helper()
	log := Log(p.t, "server")
	ctx, cancel := context.WithCancel(context.Background())
	var err error
	p.db, err = store.Open(ctx, p.Place(p.Now))
	p.must(err)
	p.Control, err = control.Open(ctx, control.Options{
		DB: p.db, KEK: p.kek, PublicURL: p.Config.PublicURL, AgentAddress: p.Config.AgentAddress, NotifyURL: p.Config.Notices.URL,
		Commands: p.Config.CommandNames(), Witnesses: p.Config.Witnesses, IdentityLife: p.identityLife, Now: p.Now, Log: log,
		Retention: p.Config.Retention.Keep(), Archive: archive.Dir(p.Config.Retention.Archive),
		Spooling: p.Config.Spooling(),
	})
	p.must(err)
	s, err := server.New(ctx, server.Options{Config: p.Config, Control: p.Control, Now: p.Now, Log: log})
	p.must(err)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- s.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-ended:
		p.t.Fatalf("the server ended: %v", err)
	case <-time.After(Patience):
		p.t.Fatal("the server is not ready")
	}
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			p.t.Errorf("the server ended: %v", err)
		}
		if err := p.db.Close(); err != nil {
			p.t.Errorf("close the store: %v", err)
		}
	})
}

// Stop stops the control plane gracefully.
func (p *Plane) Stop() { p.stop() }

// CloseStore takes the store away from the running control plane.
func (p *Plane) CloseStore() error { return p.db.Close() }

// Behind commits what nobody tells this server of, as another one would that was
// killed before it could.
func (p *Plane) Behind(fn func(*store.Tx) error) {
	p.t.Helper()
	p.must(p.db.Write(p.t.Context(), fn))
}

// Apply applies documents, and fails the test on any error among the findings.
func (p *Plane) Apply(content string) {
	p.t.Helper()
	response, err := p.Control.Apply(p.t.Context(), Operator, &api.ApplyRequest{
		Files: []*api.SourceFile{{Path: "fleet.yaml", Content: []byte(content)}},
	})
	p.must(err)
	for _, finding := range response.Findings {
		if finding.Severity == api.Finding_ERROR {
			p.t.Fatalf("apply: %v", finding)
		}
	}
}

// Token makes an enrolment token.
func (p *Plane) Token(labels map[string]string) string {
	p.t.Helper()
	created, err := p.CreateToken(p.t.Context(), Operator, &api.CreateTokenRequest{Labels: labels})
	p.must(err)
	return created.Token
}

// Placements lists what the control plane knows of all placements.
func (p *Plane) Placements() []*api.PlacementStatus {
	p.t.Helper()
	list, err := p.ListPlacements(p.t.Context(), Operator, &api.ListPlacementsRequest{})
	p.must(err)
	return list.Placements
}

// Await waits until the placements are as the condition has them.
func (p *Plane) Await(what string, condition func([]*api.PlacementStatus) bool) []*api.PlacementStatus {
	p.t.Helper()
	wake, stop := p.Watch()
	defer stop()
	deadline := time.After(Patience)
	for {
		now := p.Placements()
		if condition(now) {
			return now
		}
		select {
		case <-wake:
		case <-deadline:
			p.t.Fatalf("not within %s: %s; placements: %v", Patience, what, now)
		}
	}
}

// Steady is a condition: n placements, all in place at the generation or above.
func Steady(n int, generation uint64) func([]*api.PlacementStatus) bool {
	return func(placements []*api.PlacementStatus) bool {
		steady := 0
		for _, placement := range placements {
			if placement.State == api.State_STATE_STEADY && placement.Generation >= generation {
				steady++
			}
		}
		return steady == n && len(placements) == n
	}
}

func (p *Plane) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// Host is an agent on a directory of its own.
type Host struct {
	Config *agent.Config
	Token  string
	Now    func() time.Time

	t    testing.TB
	stop func()
}

// NewHost prepares a host: nothing runs yet. Certificates may be placed under
// Tree.
func (p *Plane) NewHost(labels map[string]string) *Host {
	p.t.Helper()
	dir := p.t.TempDir()
	config, err := agent.ParseConfig("agent.yaml", []byte(strings.Join([]string{
		"servers: [" + p.Config.Listen.Agents + "]",
		"state: " + filepath.Join(dir, "state"),
		"allow: {directories: [" + filepath.Join(dir, "tree") + "]}",
	}, "\n")))
	p.must(err)
	p.must(os.Mkdir(filepath.Join(dir, "tree"), 0o755))
	return &Host{Config: config, Token: p.Token(labels), Now: time.Now, t: p.t}
}

// Tree is the directory under which certificates may be placed.
func (h *Host) Tree() string { return h.Config.Allow.Directories[0] }

// Start starts the agent and returns when it has enrolled and is at work.
func (h *Host) Start() {
	h.t.Helper()
	running, err := agent.New(agent.Options{Config: h.Config, Token: h.Token, Version: "test", Now: h.Now, Log: Log(h.t, "agent")})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- running.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
		running.Close()
	})
	h.t.Cleanup(h.stop)
	select {
	case <-running.Ready():
	case err := <-ended:
		h.t.Fatalf("the agent ended: %v", err)
	case <-time.After(Patience):
		h.t.Fatal("the agent is not ready")
	}
}

// Stop stops the agent.
func (h *Host) Stop() { h.stop() }

// Log writes what a part logs into the test's output.
func Log(t testing.TB, part string) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})).With("part", part)
}

func free(t testing.TB) string {
	t.Helper()
	address, err := loopback.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	return address
}
