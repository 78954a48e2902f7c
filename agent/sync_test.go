package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// enrolled is an agent with an open stream.
func enrolled(t *testing.T, p *plane, change ...func(*Options)) (*running, *Config) {
	t.Helper()
	address, _ := p.serve(t, "127.0.0.1:0")
	config := configFor(t.TempDir(), address)
	a := start(t, config, p.token(""), change...)
	a.isReady(t)
	p.stream(t)
	return a, config
}

func TestFailover(t *testing.T) {
	p := newPlane(t)
	one, stopOne := p.serve(t, "127.0.0.1:0")
	two, stopTwo := p.serve(t, "127.0.0.1:0")
	a := start(t, configFor(t.TempDir(), one, two), p.token(""))
	a.isReady(t)
	for i, stop := range []func(){stopOne, stopTwo} {
		p.stream(t)
		waitFor(t, "the link", func() bool { return a.syncer.link.Load() != nil })
		if got := a.syncer.link.Load().server; got != []string{one, two}[i] {
			t.Fatalf("stream %d is to %s", i, got)
		}
		stop()
	}
	p.serve(t, one)
	p.stream(t)
}

func TestOlderDesiredStateIsIgnored(t *testing.T) {
	w := &wishes{root: mustRoot(t, t.TempDir())}
	check(t, w.take(&api.DesiredState{Epoch: 2, Seq: 10}))
	for _, c := range []struct {
		epoch, seq uint64
		older      bool
	}{{2, 10, false}, {2, 11, false}, {3, 1, false}, {2, 9, true}, {1, 99, true}} {
		if got := w.older(&api.DesiredState{Epoch: c.epoch, Seq: c.seq}); got != c.older {
			t.Errorf("epoch %d, seq %d: older is %v", c.epoch, c.seq, got)
		}
	}
}

func TestOlderDesiredStateOnTheWire(t *testing.T) {
	p := newPlane(t)
	a, _ := enrolled(t, p)
	mark := func(minutes int) *timestamppb.Timestamp {
		return timestamppb.New(time.Now().Add(time.Duration(minutes) * time.Minute))
	}
	p.push(func(d *api.DesiredState) { d.Epoch, d.Seq, d.RenewIdentityAt = 1, 100, mark(10) })
	p.report(t, "of 100", func(r *api.AgentReport) bool { return r.DesiredSeq == 100 })
	taken := a.syncer.newest.Load()
	for _, older := range [][2]uint64{{0, 200}, {1, 50}} { // the first is a store restored from a copy
		p.push(func(d *api.DesiredState) { d.Epoch, d.Seq, d.RenewIdentityAt = older[0], older[1], mark(20) })
		// Each state comes with a time: when that is known, the state was seen.
		p.set(func() { p.skew += time.Second })
		p.push(func(d *api.DesiredState) { d.Seq = older[1] })
		waitFor(t, "the older state", func() bool {
			offset, _ := a.syncer.clock.offset()
			return (offset + p.skew).Abs() < 500*time.Millisecond
		})
		if a.syncer.newest.Load() != taken {
			t.Errorf("an older state was taken: epoch %d, seq %d", older[0], older[1])
		}
	}
	p.push(func(d *api.DesiredState) { d.Epoch, d.Seq, d.RenewIdentityAt = 1, 101, mark(40) })
	p.report(t, "of 101", func(r *api.AgentReport) bool { return r.DesiredSeq == 101 })
}

func TestDesiredStateOnDisk(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	w, err := openWishes(mustRoot(t, dir), log)
	check(t, err)
	if w.current != nil {
		t.Fatal("there is something in the beginning")
	}
	state := &api.DesiredState{Epoch: 1, Seq: 7, Placements: []*api.DesiredPlacement{{PlacementId: "p1"}}, ServerTime: timestamppb.Now()}
	check(t, w.take(state))
	again, err := openWishes(w.root, log)
	check(t, err)
	if !proto.Equal(again.current, state) {
		t.Errorf("read back %v", again.current)
	}
	// What only counts on is not written again; what asks for more is.
	path := filepath.Join(dir, desiredFile)
	check(t, os.Remove(path))
	check(t, again.take(&api.DesiredState{Epoch: 1, Seq: 8, Placements: state.Placements, Checkpoint: []byte("x")}))
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("an fsync for nothing")
	}
	check(t, again.take(&api.DesiredState{Epoch: 1, Seq: 9}))
	content, err := os.ReadFile(path)
	check(t, err)
	for i := range content {
		spoilt := append([]byte(nil), content...)
		spoilt[i] ^= 1
		check(t, os.WriteFile(path, spoilt, 0o600))
		damaged, err := openWishes(w.root, log)
		if err != nil || damaged.current != nil {
			t.Fatalf("byte %d was spoilt: %v, %v", i, damaged.current, err)
		}
	}
	// A full disk does not lose the newest state while the agent runs.
	again.root.Close()
	if err := again.take(state); err == nil || again.current != state {
		t.Errorf("without a disk: %v, %v", again.current, err)
	}
}

func TestClockTrouble(t *testing.T) {
	p := newPlane(t)
	a, _ := enrolled(t, p)
	p.set(func() { p.skew = -time.Hour })
	p.push(func(*api.DesiredState) {})
	p.report(t, "of a fast clock", func(r *api.AgentReport) bool { return strings.Contains(r.Alarm, "clock 3600 s ahead") })
	if held := a.executor.held(); !strings.Contains(held, "clock 3600 s ahead") {
		t.Errorf("the executor is held by %q", held)
	}
	p.set(func() { p.skew = time.Hour })
	p.push(func(*api.DesiredState) {})
	p.report(t, "of a slow clock", func(r *api.AgentReport) bool { return strings.Contains(r.Alarm, "clock 3600 s behind") })
	p.set(func() { p.skew = 50 * time.Second })
	p.push(func(*api.DesiredState) {})
	p.report(t, "of a good clock", func(r *api.AgentReport) bool { return r.Alarm == "" })
	if held := a.executor.held(); held != "" {
		t.Errorf("the executor is held by %q", held)
	}
}

// The clock is set an hour forward between two messages of the server.
func TestClockIsWatchedWithoutTheServer(t *testing.T) {
	now, elapsed := time.Unix(1_800_000_000, 0), time.Duration(0)
	c := &serverClock{now: func() time.Time { return now }, elapsed: func() time.Duration { return elapsed }}
	if trouble := c.trouble(); trouble != "" {
		t.Errorf("before the first message: %q", trouble)
	}
	c.observe(now)
	for range 10 {
		now, elapsed = now.Add(time.Hour), elapsed+time.Hour
		if trouble := c.trouble(); trouble != "" {
			t.Errorf("time passed: %q", trouble)
		}
	}
	now = now.Add(time.Hour)
	if trouble := c.trouble(); !strings.Contains(trouble, "3600 s ahead") {
		t.Errorf("the clock was set forward: %q", trouble)
	}
	now = now.Add(-time.Hour - 61*time.Second)
	if trouble := c.trouble(); !strings.Contains(trouble, "behind") {
		t.Errorf("the clock was set back: %q", trouble)
	}
}

func TestIdentityRenewsItself(t *testing.T) {
	p := newPlane(t)
	a, config := enrolled(t, p)
	before := a.Identity()
	p.push(func(d *api.DesiredState) { d.RenewIdentityAt = timestamppb.New(time.Now()) })
	serial := p.stream(t) // opened anew under the new one
	after := a.Identity()
	if serial != after.Chain.Leaf.SerialNumber.String() || before.Chain.Leaf.Equal(after.Chain.Leaf) {
		t.Errorf("the stream is under %s", serial)
	}
	if pki.KeyMatches(before.Key, after.Chain.Leaf) || after.AgentID != before.AgentID || after.NotAfter().Before(before.NotAfter()) {
		t.Error("the new identity is not a younger one with a new key")
	}
	p.report(t, "under the new identity", func(r *api.AgentReport) bool { return r.Hello != nil })
	waitFor(t, "the old identity to go", func() bool { return a.ids.fallback() == nil })
	for _, name := range []string{previousFile, renewalFile} {
		waitFor(t, name+" to go", func() bool {
			_, err := os.Stat(filepath.Join(config.State, identityDir, name))
			return os.IsNotExist(err)
		})
	}
	if p.renewed != 1 {
		t.Errorf("renewed %d times", p.renewed)
	}
}

func TestRenewalIsRepeatedWithTheSameKey(t *testing.T) {
	p := newPlane(t)
	a, config := enrolled(t, p)
	var keys []string
	p.set(func() {
		failures := 2
		p.lose = func(string) error { // under p.mu
			key, err := os.ReadFile(filepath.Join(config.State, identityDir, renewalFile))
			if err != nil {
				t.Errorf("the key was shown before it was kept: %v", err)
			}
			keys = append(keys, string(key))
			if failures--; failures < 0 {
				return nil
			}
			p.desired.RenewIdentityAt = timestamppb.New(time.Now())
			return errLost
		}
	})
	p.push(func(d *api.DesiredState) { d.RenewIdentityAt = timestamppb.New(time.Now()) })
	p.stream(t)
	p.set(func() {
		if len(keys) != 3 || keys[0] != keys[1] || keys[1] != keys[2] {
			t.Errorf("asked %d times, with changing keys", len(keys))
		}
	})
	a.stop(t)
}

// The server takes the new identity back before it has worked: the agent goes
// on with the one before it.
func TestRefusedRenewalFallsBack(t *testing.T) {
	p := newPlane(t)
	a, _ := enrolled(t, p)
	before := a.Identity()
	p.set(func() {
		p.fault = func(method string) error {
			if method == "Sync" && !a.Identity().Chain.Leaf.Equal(before.Chain.Leaf) {
				return status.Error(codes.PermissionDenied, "the certificate was revoked")
			}
			return nil
		}
	})
	p.push(func(d *api.DesiredState) { d.RenewIdentityAt = timestamppb.New(time.Now()) })
	waitFor(t, "the renewal", func() bool { return !a.Identity().Chain.Leaf.Equal(before.Chain.Leaf) })
	p.set(func() {
		serial := a.Identity().Chain.Leaf.SerialNumber.String()
		p.revoked[serial] = true
		p.fault = nil
	})
	if serial := p.stream(t); serial != before.Chain.Leaf.SerialNumber.String() {
		t.Errorf("the stream is under %s", serial)
	}
	waitFor(t, "the old identity", func() bool { return a.Identity().Chain.Leaf.Equal(before.Chain.Leaf) })
}

func TestRenewedIdentityIsChecked(t *testing.T) {
	p, other := newPlane(t), newPlane(t)
	a, _ := enrolled(t, p)
	waitFor(t, "the link", func() bool { return a.syncer.link.Load() != nil })
	key := mustKey(t)
	old := a.Identity()
	good, err := p.identity(key.Public(), old.AgentID)
	check(t, err)
	foreign, err := other.identity(key.Public(), old.AgentID)
	check(t, err)
	anothers, err := p.identity(key.Public(), "a2")
	check(t, err)
	for name, response := range map[string]*api.RenewIdentityResponse{
		"":                {Chain: good, Anchors: p.trusted.DER()},
		"empty":           {},
		"no anchors":      {Chain: good},
		"foreign anchors": {Chain: foreign, Anchors: other.trusted.DER()}, // consistent, but the server itself is not under them
		"foreign chain":   {Chain: foreign, Anchors: p.trusted.DER()},
		"another agent's": {Chain: anothers, Anchors: p.trusted.DER()},
		"no issuer":       {Chain: good[:1], Anchors: p.trusted.DER()},
	} {
		next := *old
		next.Key = key
		link, err := a.syncer.online()
		check(t, err)
		if err := (renewer{a.syncer}).fill(&next, response, link); (err == nil) != (name == "") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestRenewalIsDueAfterTwoThirds(t *testing.T) {
	p := newPlane(t)
	key := mustKey(t)
	chain, err := p.identity(key.Public(), "a1")
	check(t, err)
	r := renewer{&syncer{ids: &identities{}}}
	identity := &Identity{AgentID: "a1", Chain: mustChain(t, chain), Obtained: time.Now()}
	r.ids.current.Store(identity)
	leaf := identity.Chain.Leaf
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	if due := r.due().Sub(leaf.NotBefore); due < life*2/3 || due > life*2/3+life/20 {
		t.Errorf("due after %s of %s", due, life)
	}
	for at, want := range map[time.Time]bool{
		identity.Obtained.Add(time.Minute): true, identity.Obtained.Add(-time.Second): false, leaf.NotAfter.Add(time.Minute): false,
	} {
		r.newest.Store(&api.DesiredState{RenewIdentityAt: timestamppb.New(at)})
		if got := r.due().Equal(at); got != want {
			t.Errorf("the server's %s counts: %v", at, got)
		}
	}
}

// What a crash leaves between any two writes of a renewal is an identity.
func TestIdentitiesAfterACrash(t *testing.T) {
	p := newPlane(t)
	make := func() *Identity {
		key := mustKey(t)
		chain, err := p.identity(key.Public(), "a1")
		check(t, err)
		return &Identity{AgentID: "a1", TrustDomain: p.domain, LogKey: p.logKey, Key: key, Chain: mustChain(t, chain), Anchors: p.trusted}
	}
	old, next := make(), make()
	is := func(got, want *Identity) bool { return got != nil && got.Chain.Leaf.Equal(want.Chain.Leaf) }
	for name, c := range map[string]struct {
		current, previous *Identity
		want, fallback    *Identity
	}{
		"before":                 {old, nil, old, nil},
		"previous kept":          {old, old, old, nil},
		"replaced":               {next, old, next, old},
		"confirmed":              {next, nil, next, nil},
		"current can't be read":  {nil, old, old, nil},
		"reverted, not yet gone": {old, old, old, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := &identities{dir: mustRoot(t, dir)}
			if c.current != nil {
				check(t, s.write(currentFile, c.current))
			} else {
				check(t, os.WriteFile(filepath.Join(dir, currentFile), []byte("{"), 0o600))
			}
			if c.previous != nil {
				check(t, s.write(previousFile, c.previous))
			}
			s, err := openIdentities(s.dir)
			check(t, err)
			if !is(s.current.Load(), c.want) {
				t.Error("the wrong identity is current")
			}
			if (c.fallback == nil) != (s.fallback() == nil) || c.fallback != nil && !is(s.fallback(), c.fallback) {
				t.Errorf("fallback is %v", s.fallback())
			}
		})
	}
}

// The disk is full: the identity in use stays, whole, in memory and on disk.
func TestIdentityOnAFullDisk(t *testing.T) {
	p := newPlane(t)
	key := mustKey(t)
	chain, err := p.identity(key.Public(), "a1")
	check(t, err)
	old := &Identity{AgentID: "a1", TrustDomain: p.domain, LogKey: p.logKey, Key: key, Chain: mustChain(t, chain), Anchors: p.trusted}
	s := &identities{dir: mustRoot(t, t.TempDir()), replaced: make(chan struct{}, 1)}
	check(t, s.replace(old))
	s.dir.Close()
	if err := s.replace(old.withAnchors(p.trusted)); err == nil || s.current.Load() != old || s.fallback() != nil {
		t.Errorf("without a disk: %v", err)
	}
	if _, err := s.pendingKey(renewalFile, "a1"); err == nil {
		t.Error("a key that is not on disk was given out")
	}
}

func TestRetiredAgentSaysSo(t *testing.T) {
	p := newPlane(t)
	a, _ := enrolled(t, p)
	p.set(func() {
		p.revoked[a.Identity().Chain.Leaf.SerialNumber.String()] = true
	})
	p.push(func(*api.DesiredState) {})
	waitFor(t, "the link", func() bool { return a.syncer.link.Load() != nil })
	a.syncer.link.Load().close()
	waitFor(t, "the alarm", func() bool { return strings.Contains(a.alarms.text(), "revoked") })
	select {
	case err := <-a.done:
		t.Fatalf("the agent ended: %v", err)
	default: // it goes on with what it has
	}
	p.set(func() { clear(p.revoked) })
	p.report(t, "without the alarm", func(r *api.AgentReport) bool { return r.Alarm == "" })
}

func TestNewAnchors(t *testing.T) {
	p, other := newPlane(t), newPlane(t)
	a, config := enrolled(t, p)
	both, err := pki.NewBundle([]*x509.Certificate{p.root, other.root})
	check(t, err)
	p.push(func(d *api.DesiredState) { d.Anchors = both.DER() })
	waitFor(t, "both anchors", func() bool { return a.Identity().Anchors.Digest() == both.Digest() })
	// A bundle without the server's own root would lock the agent out.
	p.push(func(d *api.DesiredState) { d.Anchors = other.trusted.DER() })
	p.report(t, "after the second bundle", func(r *api.AgentReport) bool { return r.DesiredSeq == 3 })
	if a.Identity().Anchors.Digest() != both.Digest() {
		t.Error("the agent took anchors that its server is not under")
	}
	a.stop(t)
	b := start(t, config, "")
	b.isReady(t)
	if b.Identity().Anchors.Digest() != both.Digest() {
		t.Error("the anchors were not kept")
	}
	p.stream(t)
}

func TestForkIsAnAlarmThatStays(t *testing.T) {
	p := newPlane(t)
	a, config := enrolled(t, p)
	p.set(func() { p.log.grow(t, "one", "two", "three") })
	p.push(func(*api.DesiredState) {})
	waitFor(t, "the witness", func() bool { return a.syncer.witness.seen.Size() == 4 })
	p.set(func() { // the log is rewritten, and longer than before
		p.log = newPlaneLog()
		p.log.grow(t, "init", "one", "TWO", "three", "four", "five")
	})
	p.push(func(*api.DesiredState) {})
	p.report(t, "of the fork", func(r *api.AgentReport) bool { return strings.Contains(r.Alarm, "audit log forked") })
	a.stop(t)
	content, err := os.ReadFile(filepath.Join(config.State, witnessFile+".fork"))
	if err != nil || !strings.Contains(string(content), "size 4 to 6") {
		t.Errorf("on disk: %s, %v", content, err)
	}
	b := start(t, config, "")
	b.isReady(t)
	p.report(t, "of the fork after a restart", func(r *api.AgentReport) bool { return strings.Contains(r.Alarm, "audit log forked") })
}

// Whatever is done to what the agent has seen, it raises an alarm: at the size
// that it saw, as another server would show it, and after the log has grown.
func TestWitnessNoticesEachRewriting(t *testing.T) {
	seen := []string{"init", "one", "two", "three", "four", "five"}
	for name, c := range map[string]struct {
		entries []string
		alarm   string
	}{
		"a byte, at the same size": {[]string{"init", "one", "twO", "three", "four", "five"}, "audit log forked"},
		"a byte, grown since":      {[]string{"init", "one", "twO", "three", "four", "five", "six"}, "audit log forked"},
		"removed":                  {[]string{"init", "one", "three", "four", "five", "six"}, "audit log forked"},
		"removed, grown since":     {[]string{"init", "one", "three", "four", "five", "six", "seven", "eight"}, "audit log forked"},
		"exchanged":                {[]string{"init", "two", "one", "three", "four", "five"}, "audit log forked"},
		"another server's":         {[]string{"init", "1", "2", "3", "4", "5"}, "audit log forked"},
		"the tail cut":             {seen[:4], "has not proven"},
		"the tail cut, and others": {[]string{"init", "one", "two", "FOUR"}, "has not proven"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlane(t)
			a, _ := enrolled(t, p)
			p.set(func() { p.log.grow(t, seen[1:]...) })
			p.push(func(*api.DesiredState) {})
			waitFor(t, "the witness", func() bool { return a.syncer.witness.seen.Size() == uint64(len(seen)) })
			p.set(func() {
				p.log = newPlaneLog()
				p.log.grow(t, c.entries...)
			})
			p.push(func(*api.DesiredState) {})
			p.report(t, "of the rewriting", func(r *api.AgentReport) bool { return strings.Contains(r.Alarm, c.alarm) })
			if size := a.syncer.witness.seen.Size(); size != uint64(len(seen)) {
				t.Errorf("the witness moved to %d", size)
			}
		})
	}
}

// A server that never proves its log can't keep the witness quiet.
func TestUnprovenLogIsAnAlarm(t *testing.T) {
	p := newPlane(t)
	a, _ := enrolled(t, p)
	p.set(func() {
		p.fault = func(method string) error {
			if method == "ProveConsistency" {
				return status.Error(codes.Unavailable, "try again later")
			}
			return nil
		}
		p.log.grow(t, "one")
	})
	p.push(func(*api.DesiredState) {})
	p.report(t, "of the missing proof", func(r *api.AgentReport) bool { return strings.Contains(r.Alarm, "has not proven") })
	p.set(func() { p.fault = nil })
	p.report(t, "without alarm", func(r *api.AgentReport) bool { return r.Alarm == "" })
	if size := a.syncer.witness.seen.Size(); size != 2 {
		t.Errorf("the witness stands at %d", size)
	}
}

func TestWitnessTakesTheNewestCheckpoint(t *testing.T) {
	w := &logWitness{offered: make(chan checkpoints, 1)}
	for _, checkpoint := range []string{"1", "2", "", "3"} {
		w.offer(checkpoints{newest: []byte(checkpoint)})
	}
	if got := <-w.offered; string(got.newest) != "3" {
		t.Errorf("offered %q", got)
	}
}

func mustWitness(t *testing.T, p *plane) *audit.Witness {
	w, err := openWitness(mustRoot(t, t.TempDir()), p.logKey, audit.Origin(p.domain.Name()))
	check(t, err)
	return w
}

func mustRoot(t testing.TB, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	check(t, err)
	t.Cleanup(func() { root.Close() })
	return root
}

func TestBundlesAreBelievedByDigest(t *testing.T) {
	p, other := newPlane(t), newPlane(t)
	dir := t.TempDir()
	digest := p.trusted.Digest().String()
	fetched := 0
	answer := []*api.Blob{{Digest: digest, Anchors: p.trusted.DER()}}
	b := &blobs{dir: mustRoot(t, dir), fetch: func(context.Context, []string) ([]*api.Blob, error) { fetched++; return answer, nil }}
	for range 2 {
		found, err := b.bundles(t.Context(), []string{digest})
		check(t, err)
		if found[digest].Digest() != p.trusted.Digest() {
			t.Error("another bundle came out")
		}
	}
	if fetched != 1 {
		t.Errorf("fetched %d times", fetched)
	}
	check(t, os.WriteFile(filepath.Join(dir, digest), other.trusted.PEM(), 0o600)) // damaged: fetched again
	_, err := b.bundles(t.Context(), []string{digest})
	check(t, err)
	if fetched != 2 {
		t.Errorf("fetched %d times", fetched)
	}
	answer = []*api.Blob{{Digest: other.trusted.Digest().String(), Anchors: p.trusted.DER()}} // a lie
	_, err = b.bundles(t.Context(), []string{other.trusted.Digest().String()})
	wantFault(t, err, fault.NotFound)
	_, err = b.bundles(t.Context(), []string{"../../etc/passwd"})
	wantFault(t, err, fault.Invalid)
	check(t, b.prune(&api.DesiredState{Placements: []*api.DesiredPlacement{{PeerBundleDigests: []string{digest}}}}))
	if _, err := b.read(digest); err != nil {
		t.Errorf("a bundle in use was pruned: %v", err)
	}
	check(t, b.prune(nil))
	if _, err := b.read(digest); err == nil {
		t.Error("a bundle that nobody names stays")
	}
}

func TestCallsWithoutAServer(t *testing.T) {
	p := newPlane(t)
	address, stop := p.serve(t, "127.0.0.1:0")
	a := start(t, configFor(t.TempDir(), address), p.token(""))
	a.isReady(t)
	p.stream(t)
	stop()
	waitFor(t, "the end of the link", func() bool { return a.syncer.link.Load() == nil })
	_, err := a.syncer.issue(t.Context(), nil)
	wantFault(t, err, fault.Unavailable)
}

func TestCallsUnderWayOutliveARenewal(t *testing.T) {
	p := newPlane(t)
	a, _ := enrolled(t, p)
	waitFor(t, "the link", func() bool { return a.syncer.link.Load() != nil })
	begun, finish := make(chan struct{}), make(chan struct{})
	p.set(func() {
		p.fault = func(method string) error {
			if method == "FetchBlobs" {
				close(begun)
				<-finish
			}
			return nil
		}
	})
	answered := make(chan error, 1)
	go func() {
		_, err := a.syncer.fetchBlobs(context.Background(), nil)
		answered <- err
	}()
	<-begun
	p.push(func(d *api.DesiredState) { d.RenewIdentityAt = timestamppb.New(time.Now()) })
	waitFor(t, "the renewal", func() bool { return a.ids.fallback() != nil })
	close(finish)
	if err := <-answered; err != nil {
		t.Errorf("the call was cut off: %v", err)
	}
	p.stream(t)
}

func TestMetrics(t *testing.T) {
	p := newPlane(t)
	address := silent(t)
	enrolled(t, p, func(o *Options) { o.Config.Metrics = address })
	var body string
	waitFor(t, "metrics", func() bool {
		response, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		content, err := io.ReadAll(response.Body)
		body = string(content)
		// The stream is open a moment before the first state that comes by it.
		return err == nil && strings.Contains(body, "\nrotunda_agent_connected 1") && strings.Contains(body, "\nrotunda_agent_clock_offset_seconds")
	})
	for _, want := range []string{"rotunda_agent_clock_offset_seconds", "rotunda_agent_identity_not_after_seconds", "rotunda_agent_sessions_total 1"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
}

func TestMetricsAddressInUse(t *testing.T) {
	p := newPlane(t)
	address, _ := p.serve(t, "127.0.0.1:0")
	a := start(t, configFor(t.TempDir(), address), p.token(""), func(o *Options) { o.Config.Metrics = address })
	wantFault(t, a.ended(t), fault.Invalid, "metrics")
}

func TestSaysNo(t *testing.T) {
	for err, want := range map[error]bool{
		fault.New(fault.Forbidden, "retired"):                                        true,
		errors.New("transport: remote error: tls: bad certificate"):                  true,
		fault.New(fault.Unavailable, "connection refused"):                           false,
		fault.New(fault.Unavailable, "read: remote error: tls: expired certificate"): true,
	} {
		if saysNo(err) != want {
			t.Errorf("%v: %v", err, !want)
		}
	}
	if saysNo(nil) {
		t.Error("nil says no")
	}
}
