package agent

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/command"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// lab is a host, two authorities that issue for it and TLS servers on it. All
// of it lies in one directory, so that a process that was killed leaves it to
// the next one.
type lab struct {
	t   testing.TB
	dir string
	log logText

	mu            sync.Mutex
	desired       *api.DesiredState
	roots         map[string]*labRoot // "a" and "b"
	signer        string              // which root issues
	ahead         time.Duration       // of this host's clock
	skew          time.Duration       // of the control plane's
	down          bool                // no control plane answers
	refusal       *api.IssueResult
	twist         func(*ca.Request, *[][]byte) // of what is issued
	requests      int
	calls         int
	unsigned      int                          // so many requests for canaries fail
	canaried      [][]byte                     // signed, DER
	doomed        []*x509.Certificate          // canaries that are revoked, in the order in which they were signed
	lists         map[string]pki.CRLs          // by digest
	staples       map[string][]byte            // by digest
	signers       []string                     // roots that sign canaries; nil: all
	bridgedCanary []byte                       // a bridge that they carry
	gone          map[string]bool              // bundles and bridges that can't be had
	crossed       map[string]*x509.Certificate // bridges, by digest

	executor *Executor
	crash    func(point string)
}

type labRoot struct {
	anchor    *x509.Certificate
	key       crypto.Signer // the root's own
	authority *ca.Authority
}

var labDomain = spiffeid.RequireTrustDomainFromString("lab.test")

func newLab(t testing.TB) *lab { return openLab(t, t.TempDir()) }

// openLab opens a lab, or makes it where the directory is empty.
func openLab(t testing.TB, dir string) *lab {
	t.Helper()
	l := &lab{t: t, dir: dir, roots: map[string]*labRoot{}, signer: "a", gone: map[string]bool{}, crossed: map[string]*x509.Certificate{}}
	for _, sub := range []string{"state", "srv", "ca", "issued"} {
		check(t, os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	for _, name := range []string{"a", "b"} {
		l.roots[name] = l.openRoot(name)
	}
	l.desired = &api.DesiredState{Epoch: 1}
	return l
}

func (l *lab) openRoot(name string) *labRoot {
	at := func(file string) string { return filepath.Join(l.dir, "ca", name+"-"+file) }
	if _, err := os.Stat(at("issuing-key.pem")); err != nil {
		root, rootKey, err := ca.CreateRoot(time.Now(), ca.RootOrder{TrustDomain: labDomain, Name: "root " + name, Algorithm: pki.ECDSAP256, Lifetime: 24 * time.Hour})
		check(l.t, err)
		issuing, key, err := ca.CreateIssuing(time.Now(), root, rootKey, ca.IssuingOrder{TrustDomain: labDomain, Name: "issuing " + name, Algorithm: pki.ECDSAP256, Lifetime: 20 * time.Hour}, "http://lab.test")
		check(l.t, err)
		text, err := pki.EncodeKeyPEM(rootKey)
		check(l.t, err)
		check(l.t, os.WriteFile(at("root-key.pem"), text, 0o600))
		text, err = pki.EncodeKeyPEM(key)
		check(l.t, err)
		check(l.t, os.WriteFile(at("chain.pem"), pki.EncodeCertificatesPEM(issuing.Raw, root.Raw), 0o600))
		check(l.t, os.WriteFile(at("issuing-key.pem"), text, 0o600))
	}
	text, err := os.ReadFile(at("chain.pem"))
	check(l.t, err)
	chain, err := pki.ParseCertificatesPEM(text)
	check(l.t, err)
	text, err = os.ReadFile(at("issuing-key.pem"))
	check(l.t, err)
	key, err := pki.ParseKeyPEM(text)
	check(l.t, err)
	authority, err := ca.NewAuthority(name, chain[0], chain[:1], key, "http://lab.test")
	check(l.t, err)
	text, err = os.ReadFile(at("root-key.pem"))
	check(l.t, err)
	rootKey, err := pki.ParseKeyPEM(text)
	check(l.t, err)
	return &labRoot{chain[1], rootKey, authority}
}

// bundle is the bundle of the named roots.
func (l *lab) bundle(names ...string) pki.Bundle {
	var anchors []*x509.Certificate
	for _, name := range names {
		anchors = append(anchors, l.roots[name].anchor)
	}
	b, err := pki.NewBundle(anchors)
	check(l.t, err)
	return b
}

// path is where a placement's files go.
func (l *lab) path(placement string) string { return filepath.Join(l.dir, "srv", placement) }

// want desires a placement, changed from a plain one: a server certificate,
// delivered, of a target that nothing listens for.
func (l *lab) want(id string, changes ...func(*api.DesiredPlacement)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.desired.Placements, func(d *api.DesiredPlacement) bool { return d.GetPlacementId() == id })
	if i < 0 {
		l.desired.Placements = append(l.desired.Placements, &api.DesiredPlacement{
			PlacementId: id, Intent: "intent-" + id, Service: "orders", Instance: "main",
			Identity:     &api.Identity{DnsNames: []string{"orders.lab.test"}, IpAddresses: []string{"127.0.0.1"}},
			Profile:      &api.ProfileTerms{Algorithm: "ecdsa-p256", Usages: []string{"serverAuth"}, Lifetime: durationpb.New(12 * time.Hour), RideOut: durationpb.New(10 * time.Minute), Grace: durationpb.New(time.Hour), RepairDrift: true},
			BundleDigest: l.bundle("a").Digest().String(),
			Target:       &api.TargetSpec{Kind: "files", Name: id},
			Files:        &api.FilesSpec{Directory: l.path(id), Mode: "0640"},
			Proof:        &api.ProofSpec{Level: api.Level_LEVEL_DELIVERED, Observe: durationpb.New(40 * time.Millisecond), Timeout: durationpb.New(time.Second)},
		})
		i = len(l.desired.Placements) - 1
	}
	changed := proto.CloneOf(l.desired.Placements[i])
	for _, change := range changes {
		change(changed)
	}
	l.desired = proto.CloneOf(l.desired)
	l.desired.Placements[i] = changed
	l.desired.Seq++
	if l.executor != nil {
		l.executor.SetDesired(l.desired)
	}
}

// config allows what the lab needs.
func (l *lab) config() *Config {
	return &Config{
		Allow: Allow{Directories: []string{filepath.Join(l.dir, "srv")}},
		Commands: map[string]command.Config{
			"reload": {Argv: []string{"/usr/bin/touch", filepath.Join(l.dir, "reloaded")}, Timeout: command.Duration(10 * time.Second)},
			"fail":   {Argv: []string{"/bin/sh", "-c", "echo no such service >&2; exit 3"}, Timeout: command.Duration(10 * time.Second)},
		},
		Passwords: map[string]PasswordConfig{"keystore": {File: filepath.Join(l.dir, "password")}},
	}
}

// options are an executor's on this lab.
func (l *lab) options(change ...func(*Config)) ExecutorOptions {
	root, err := os.OpenRoot(filepath.Join(l.dir, "state"))
	check(l.t, err)
	l.t.Cleanup(func() { root.Close() })
	c := l.config()
	for _, f := range change {
		f(c)
	}
	return ExecutorOptions{
		Host: c.HostRules(), State: root, AgentID: "agent-1",
		Canaries: l.canaries, CRLs: l.findCRLs, Staple: l.findStaple,
		Issue: l.issue, Bundles: l.bundles, Bridge: l.bridge, Sign: labSign,
		Now: l.now, Log: slog.New(slog.NewTextHandler(io.MultiWriter(labLog{l.t}, &l.log), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

type labLog struct{ t testing.TB }

func (w labLog) Write(line []byte) (int, error) {
	if os.Getenv("LAB_LOG") != "" {
		fmt.Fprintf(os.Stderr, "%s", line)
	}
	return len(line), nil
}

func labSign(statement []byte) (*api.Evidence, error) {
	sum := sha256.Sum256(statement)
	return &api.Evidence{Statement: statement, Signature: sum[:], Observer: "agent-1"}, nil
}

func (l *lab) now() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Add(l.ahead)
}

// run starts an executor, and stops it with the test or by the function.
func (l *lab) run(change ...func(*Config)) (stop func()) {
	l.t.Helper()
	e, err := NewExecutor(l.options(change...))
	check(l.t, err)
	e.Reached = l.crash
	l.mu.Lock()
	l.executor = e
	l.mu.Unlock()
	e.SetDesired(l.desired)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				l.t.Error(err)
			}
		})
	}
	l.t.Cleanup(stop)
	return stop
}

// until waits for a report that fits.
func (l *lab) until(id, what string, fits func(*api.PlacementReport) bool) *api.PlacementReport {
	l.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		next := l.executor.next()
		var last *api.PlacementReport
		for _, report := range l.executor.Reports() {
			if report.GetPlacementId() == id {
				last = report
			}
		}
		if last != nil && fits(last) {
			return last
		}
		select {
		case <-next:
		case <-deadline:
			l.t.Fatalf("placement %s: never %s; last report: %v", id, what, last)
		}
	}
}

func (l *lab) steady(id string, generation uint64) *api.PlacementReport {
	l.t.Helper()
	return l.until(id, fmt.Sprintf("steady with generation %d", generation), func(r *api.PlacementReport) bool {
		return r.GetState() == api.State_STATE_STEADY && r.GetGeneration() == generation
	})
}

// pass lets this host's clock jump ahead and wakes all workers.
func (l *lab) pass(d time.Duration) {
	l.mu.Lock()
	l.ahead += d
	desired := l.desired
	l.mu.Unlock()
	l.executor.SetDesired(desired)
}

func (l *lab) issue(_ context.Context, requests []*api.PlacementRequest) ([]*api.IssueResult, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	l.requests += len(requests)
	if l.down {
		return nil, fault.New(fault.Unavailable, "no server answers")
	}
	var results []*api.IssueResult
	for _, request := range requests {
		if l.refusal != nil {
			results = append(results, l.refusal)
			continue
		}
		chain, err := l.sign(request)
		if err != nil {
			results = append(results, &api.IssueResult{ErrorCode: string(fault.CodeOf(err)), Error: err.Error()})
			continue
		}
		results = append(results, &api.IssueResult{Chain: chain})
	}
	return results, nil
}

type labIssued struct {
	SPKI  string
	Chain [][]byte
}

// sign answers as a server does: one key for each number, the same answer to
// the same request.
func (l *lab) sign(request *api.PlacementRequest) ([][]byte, error) {
	csr, err := pki.ParseCSR(request.GetCsr())
	if err != nil {
		return nil, err
	}
	spki, err := pki.SPKIHashOf(csr.PublicKey)
	if err != nil {
		return nil, err
	}
	at := filepath.Join(l.dir, "issued", fmt.Sprintf("%s-%06d", request.GetPlacementId(), request.GetGeneration()))
	if text, err := os.ReadFile(at); err == nil {
		var known labIssued
		check(l.t, json.Unmarshal(text, &known))
		if known.SPKI != spki.String() {
			return nil, fault.New(fault.Conflict, "generation %d was issued for another key", request.GetGeneration())
		}
		return known.Chain, nil
	}
	d := l.desired.Placements[slices.IndexFunc(l.desired.Placements, func(d *api.DesiredPlacement) bool { return d.GetPlacementId() == request.GetPlacementId() })]
	names, err := pki.ParseNames(d.Identity.GetCommonName(), d.Identity.GetDnsNames(), d.Identity.GetIpAddresses(), d.Identity.GetSpiffeId())
	if err != nil {
		return nil, err
	}
	r := ca.Request{PublicKey: csr.PublicKey, Names: names, Terms: ca.Terms{Lifetime: d.Profile.Lifetime.AsDuration(), Backdate: time.Minute}}
	for _, usage := range d.Profile.Usages {
		r.Terms.Usages = append(r.Terms.Usages, map[string]x509.ExtKeyUsage{"serverAuth": x509.ExtKeyUsageServerAuth, "clientAuth": x509.ExtKeyUsageClientAuth}[usage])
	}
	var none [][]byte
	if l.twist != nil {
		l.twist(&r, &none)
	}
	prepared, err := l.roots[l.signer].authority.Prepare(time.Now().Add(l.ahead+l.skew), r)
	if err != nil {
		return nil, err
	}
	issued, err := l.roots[l.signer].authority.Issue(prepared)
	if err != nil {
		return nil, err
	}
	known := labIssued{spki.String(), issued.Chain}
	if l.twist != nil {
		l.twist(nil, &known.Chain)
	}
	text, err := json.Marshal(known)
	check(l.t, err)
	check(l.t, os.WriteFile(at, text, 0o600))
	return known.Chain, nil
}

func (l *lab) bundles(_ context.Context, digests []string) (map[string]pki.Bundle, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := map[string]pki.Bundle{}
	for _, names := range [][]string{{"a"}, {"b"}, {"a", "b"}} {
		b := l.bundle(names...)
		if slices.Contains(digests, b.Digest().String()) && !l.gone[b.Digest().String()] {
			found[b.Digest().String()] = b
		}
	}
	if len(found) < len(digests) {
		return nil, fault.New(fault.Unavailable, "no server answers")
	}
	return found, nil
}

// server is a running TLS server. It reads its files at each handshake, or
// when the reload command was run, or never again.
type server struct {
	address string
	lying   atomic.Bool // says that it reloads, and does not
	mu      sync.Mutex
	pair    *tls.Certificate
	read    time.Time
	serials []string // served, each once
	broken  []string // files that could not be used
}

func (l *lab) serve(placement string, each bool) *server {
	l.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(l.t, err)
	l.t.Cleanup(func() { listener.Close() })
	s := &server{address: listener.Addr().String()}
	load := func() {
		pair, err := loadPair(l.path(placement))
		if err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				s.broken = append(s.broken, err.Error())
			}
			return
		}
		s.pair, s.read = pair, time.Now()
	}
	config := &tls.Config{SessionTicketsDisabled: true, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		info, err := os.Stat(filepath.Join(l.dir, "reloaded"))
		reloaded := err == nil && info.ModTime().After(s.read) && !s.lying.Load()
		if each || s.pair == nil || reloaded {
			load()
		}
		if s.pair == nil {
			return nil, errors.New("no certificate")
		}
		serial, err := pki.SerialOf(s.pair.Leaf)
		if err == nil && (len(s.serials) == 0 || s.serials[len(s.serials)-1] != serial.String()) {
			s.serials = append(s.serials, serial.String())
		}
		return s.pair, nil
	}}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				session := tls.Server(conn, config)
				_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
				if session.Handshake() == nil {
					_, _ = session.Read(make([]byte, 1))
				}
			}()
		}
	}()
	return s
}

// loadPair reads a placement as a process would, at one moment.
func loadPair(dir string) (*tls.Certificate, error) {
	revision, err := filepath.EvalSymlinks(filepath.Join(dir, "current"))
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(revision, "chain.pem"), filepath.Join(revision, "key.pem"))
	return &pair, err
}

// proven asks for a proof at the server's address.
func (s *server) proven(d *api.DesiredPlacement) {
	d.Target.Address = s.address
	d.Target.ServerName = "orders.lab.test"
	d.Proof.Level = api.Level_LEVEL_PROVEN
}

func etcdLike(d *api.DesiredPlacement) { d.Target.Kind = "etcd" }

func reloading(d *api.DesiredPlacement) { d.Target.ReloadCommand = "reload" }

func renewThrough(n uint64) func(*api.DesiredPlacement) {
	return func(d *api.DesiredPlacement) { d.RenewThrough = n }
}

// sound holds what must be true of a placement's directory at any moment: what
// the link leads to is a certificate with its own key.
func (l *lab) sound(id string) *x509.Certificate {
	l.t.Helper()
	pair, err := loadPair(l.path(id))
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Lstat(filepath.Join(l.path(id), "current")); err == nil {
			l.t.Fatalf("%s/current leads nowhere", id)
		}
		return nil
	}
	if err != nil {
		l.t.Fatalf("a process could not use what is in use: %v", err)
	}
	return pair.Leaf
}

// recorded is what the agent's state says of a placement.
func (l *lab) recorded(id string) record {
	l.t.Helper()
	text, err := os.ReadFile(filepath.Join(l.dir, "state", placementsDir, id, recordFile))
	check(l.t, err)
	var r record
	check(l.t, json.Unmarshal(text, &r))
	return r
}

// advanceAll does what workers do, in this goroutine, until all placements
// wait. A crash that the lab was told of ends it, as if the process were
// killed there.
func (l *lab) advanceAll() (crashed string) {
	l.t.Helper()
	options := l.options()
	e, err := NewExecutor(options)
	check(l.t, err)
	l.executor, e.Reached = e, l.crash
	e.SetDesired(l.desired)
	ctx, cancel := context.WithCancel(context.Background())
	issuing := make(chan struct{})
	go func() { e.issueAll(ctx); close(issuing) }()
	defer func() {
		cancel()
		<-issuing
		if caught := recover(); caught != nil {
			point, ok := caught.(labCrash)
			if !ok {
				panic(caught)
			}
			crashed = string(point)
		}
	}()
	for range 3 { // a change of desires within is seen at the next turn
		for _, group := range e.byTarget() {
			for _, p := range group {
				p.advance(ctx)
			}
		}
	}
	return ""
}

type labCrash string

// crashAt makes the lab crash at the n-th point; it counts the points.
func (l *lab) crashAt(n int) *int {
	count := 0
	l.crash = func(point string) {
		count++
		if count == n {
			panic(labCrash(point))
		}
	}
	return &count
}
