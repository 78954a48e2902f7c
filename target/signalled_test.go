package target_test

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// stand is a real server with two authorities, of which it trusts the first.
type stand struct {
	t *testing.T
	*targettest.Delivery
	*targettest.Server
	a, b    *targettest.Authority
	adapter target.Adapter
	leaf    *targettest.Credential // the one that is delivered
	// late says that a reload's end is no promise: what it does comes soon.
	late bool
}

func newStand(t *testing.T, kind fleet.TargetKind, account string, start func(*targettest.Delivery) *targettest.Server) *stand {
	t.Helper()
	adapter, err := target.Lookup(kind)
	if err != nil {
		t.Fatal(err)
	}
	s := &stand{t: t, a: targettest.NewAuthority(t, "A"), b: targettest.NewAuthority(t, "B"), adapter: adapter}
	s.Delivery = targettest.NewDelivery(t, account)
	s.deliver(s.a.Issue(t, targettest.Order{}), s.a.Root)
	s.Server = start(s.Delivery)
	s.serves(s.leaf)
	return s
}

func (s *stand) deliver(leaf *targettest.Credential, anchors ...*x509.Certificate) {
	s.t.Helper()
	s.leaf = leaf
	s.Switch(leaf, anchors...)
}

// reload reloads within a deadline that only a fault of the adapter's exceeds.
func (s *stand) reload(change target.Change) (target.Loaded, error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), targettest.Patience)
	defer cancel()
	return s.adapter.Load(ctx, targettest.Host(nil), target.Act{Kind: target.ActReload, Target: s.Target, Change: change})
}

// loads reloads and wants the level.
func (s *stand) loads(change target.Change, level fleet.Level) {
	s.t.Helper()
	loaded, err := s.reload(change)
	if err != nil || loaded.Level != level {
		s.t.Fatalf("reload: %+v, %v, want %s\n%s", loaded, err, level, s.Log())
	}
}

func (s *stand) look(with *targettest.Credential) probe.Observation {
	s.t.Helper()
	spec := probe.Spec{Address: s.Target.Address, ServerName: "localhost", Preamble: s.Target.Preamble, ReadAcceptance: true, Now: time.Now}
	if with != nil {
		spec.Certificate = with.TLS()
	}
	seen, err := probe.Handshake(s.t.Context(), spec)
	if err != nil {
		s.t.Fatal(err)
	}
	return seen
}

// serves wants this leaf in the next handshake.
func (s *stand) serves(leaf *targettest.Credential) {
	s.t.Helper()
	want := leaf.Fingerprints()[0]
	s.sees(nil, "leaf "+hex.EncodeToString(want[:]), func(seen probe.Observation) bool {
		return seen.Outcome == probe.Served && seen.Leaf.Fingerprint == hex.EncodeToString(want[:])
	})
}

func (s *stand) accepts(client *targettest.Credential) {
	s.t.Helper()
	s.judges(client, probe.Accepted)
}
func (s *stand) refuses(client *targettest.Credential) {
	s.t.Helper()
	s.judges(client, probe.Rejected)
}

func (s *stand) judges(client *targettest.Credential, want probe.Acceptance) {
	s.t.Helper()
	s.sees(client, string(want), func(seen probe.Observation) bool { return seen.Accepted == want })
}

// sees wants it in the next handshake, or soon where the reload is no promise.
func (s *stand) sees(with *targettest.Credential, want string, so func(probe.Observation) bool) {
	s.t.Helper()
	deadline := time.Now().Add(targettest.Patience)
	for {
		seen := s.look(with)
		if so(seen) {
			return
		}
		if !s.late || time.Now().After(deadline) {
			s.t.Fatalf("%s %s at %s %s (leaf %+v, accepted %s), want %s\n%s", s.Target.Name, seen.Outcome, seen.Stage, seen.Error, seen.Leaf, seen.Accepted, want, s.Log())
		}
		time.Sleep(5 * time.Millisecond) // between two looks at what happens out of sight
	}
}

// renews takes leaves with the same key, another, and one of another type.
func (s *stand) renews(level fleet.Level) {
	s.t.Helper()
	for range 2 {
		s.deliver(s.a.Issue(s.t, targettest.Order{Key: s.leaf.Key}), s.a.Root)
		s.loads(target.Change{Leaf: true}, level)
		s.serves(s.leaf)
	}
	for range 2 {
		s.deliver(s.a.Issue(s.t, targettest.Order{}), s.a.Root)
		s.loads(target.Change{Leaf: true}, level)
		s.serves(s.leaf)
	}
	for _, key := range []targettest.Order{{Key: targettest.RSAKey(s.t)}, {}} {
		s.deliver(s.a.Issue(s.t, key), s.a.Root)
		s.loads(target.Change{Leaf: true, KeyType: true}, level)
		s.serves(s.leaf)
	}
}

// changesAnchors goes from {A} over {A,B} to {B}.
func (s *stand) changesAnchors(level fleet.Level) {
	s.t.Helper()
	underA, underB := s.a.Issue(s.t, targettest.Order{}), s.b.Issue(s.t, targettest.Order{})
	s.accepts(underA)
	s.refuses(underB)
	s.deliver(s.leaf, s.a.Root, s.b.Root)
	s.loads(target.Change{AnchorsAdded: true}, level)
	s.accepts(underB)
	s.accepts(underA)
	s.deliver(s.b.Issue(s.t, targettest.Order{}), s.a.Root, s.b.Root)
	s.loads(target.Change{Leaf: true}, level)
	s.serves(s.leaf)
	s.deliver(s.leaf, s.b.Root)
	s.loads(target.Change{AnchorsRemoved: true}, level)
	s.refuses(underA)
	s.accepts(underB)
	s.deliver(s.a.Issue(s.t, targettest.Order{}), s.a.Root)
	s.loads(target.Change{Leaf: true, AnchorsAdded: true, AnchorsRemoved: true}, level)
	s.serves(s.leaf)
}

// breaks delivers a chain with another's key.
func (s *stand) breaks() (before *targettest.Credential) {
	s.t.Helper()
	before = s.leaf
	s.deliver(s.a.Issue(s.t, targettest.Order{}), s.a.Root)
	s.Switch(&targettest.Credential{Leaf: s.leaf.Leaf, Chain: s.leaf.Chain, Key: before.Key}, s.a.Root)
	return before
}

// contacts wants the contact's text.
func (s *stand) contacts(want string) {
	s.t.Helper()
	contact, err := s.adapter.Contact(s.t.Context(), targettest.Host(nil), s.Target)
	if err != nil || contact.String() != want {
		s.t.Fatalf("contact: %q, %v, want %q", contact, err, want)
	}
	if err := s.adapter.Health(s.t.Context(), targettest.Host(nil), s.Target, s.spec()); err != nil {
		s.t.Fatalf("health: %v", err)
	}
}

func (s *stand) spec() probe.Spec {
	return probe.Spec{Address: s.Target.Address, ServerName: "localhost", Preamble: s.Target.Preamble, Now: time.Now, Timeout: time.Second}
}

// unreachable wants contact and reload to fail alike.
func (s *stand) unreachable(at target.Target, code fault.Code, words ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), targettest.Patience)
	defer cancel()
	_, contact := s.adapter.Contact(ctx, targettest.Host(nil), at)
	_, reload := s.adapter.Load(ctx, targettest.Host(nil), target.Act{Kind: target.ActReload, Target: at, Change: target.Change{Leaf: true}})
	for verb, err := range map[string]error{"contact": contact, "reload": reload} {
		s.fails(verb, err, code, words...)
	}
}

func (s *stand) fails(verb string, err error, code fault.Code, words ...string) {
	s.t.Helper()
	if err == nil || fault.CodeOf(err) != code {
		s.t.Errorf("%s: %v (%s), want %s", verb, err, fault.CodeOf(err), code)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			s.t.Errorf("%s: %v: nothing of %q", verb, err, word)
		}
	}
}

// wrongPIDFiles tries every pid file that leads elsewhere.
func (s *stand) wrongPIDFiles() {
	s.t.Helper()
	with := func(path string) target.Target {
		at, control := s.Target, *s.Target.Control
		control.PIDFile = path
		at.Control = &control
		return at
	}
	write := func(pid int) string {
		path := filepath.Join(s.t.TempDir(), "pid")
		targettest.Write(s.t, path, fmt.Sprintln(pid), 0o644, "")
		return path
	}
	remedy := "targets." + s.Target.Name + ".pidFile"
	s.unreachable(with(write(os.Getpid())), fault.Invalid, "and not ", remedy)
	s.unreachable(with(filepath.Join(s.t.TempDir(), "none")), fault.Invalid, "does not exist", s.Target.Address, remedy)
	s.unreachable(with(write(1<<31-1)), fault.Invalid, "has ended", remedy)
	s.unreachable(with(s.File("chain.pem")), fault.Invalid, "number of a process", remedy)
}

// away stops the server: nothing is wrong with how it is reached. The first
// files of a server are delivered before it starts.
func (s *stand) away() {
	s.t.Helper()
	s.Stop()
	s.unreachable(s.Target, fault.Unavailable)
	if loaded, err := s.reload(target.Change{First: true, Leaf: true}); err != nil || loaded.Level != fleet.Delivered {
		s.t.Errorf("the first files: %+v, %v", loaded, err)
	}
	s.Start()
	s.serves(s.leaf)
}

// frozen holds the server still: whatever is asked of it ends with the
// deadline, and it is well again afterwards.
func (s *stand) frozen(level fleet.Level) {
	s.t.Helper()
	s.Freeze()
	ctx, cancel := context.WithTimeout(s.t.Context(), 300*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := s.adapter.Load(ctx, targettest.Host(nil), target.Act{Kind: target.ActReload, Target: s.Target, Change: target.Change{Leaf: true}})
		done <- err
	}()
	select {
	case err := <-done:
		if level == fleet.Loaded {
			s.fails("reload of a frozen one", err, fault.Unavailable)
		} else if err != nil {
			s.t.Errorf("reload of a frozen one: %v", err) // the signal waits for it
		}
	case <-time.After(targettest.Patience):
		s.t.Error("the deadline passed and nothing came of it")
	}
	if err := s.adapter.Health(s.t.Context(), targettest.Host(nil), s.Target, s.spec()); fault.CodeOf(err) != fault.Unavailable {
		s.t.Errorf("a frozen one is called healthy: %v", err)
	}
	s.Thaw()
	s.serves(s.leaf)
}

// without is a target whose control path lacks something.
func (s *stand) without(change func(*target.Control)) target.Target {
	at, control := s.Target, *s.Target.Control
	control.Arguments = slices.Clone(control.Arguments)
	change(&control)
	at.Control = &control
	return at
}
