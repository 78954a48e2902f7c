package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/probe"
)

func TestFirstIssuanceAndRenewal(t *testing.T) {
	l := newLab(t)
	s := l.serve("p1", true)
	l.want("p1", s.proven, etcdLike)
	l.run()
	first := l.steady("p1", 1)
	if first.GetLevel() != api.Level_LEVEL_PROVEN || first.GetRevision() != 1 || first.GetSerial() == "" || first.GetRotations() != 1 ||
		first.GetBundleDigest() != l.bundle("a").Digest().String() || first.GetTook().AsDuration() <= 0 || first.GetLastGeneration() != 1 {
		t.Errorf("report: %v", first)
	}
	var seen probe.Observation
	check(t, json.Unmarshal(first.GetEvidence().GetStatement(), &seen))
	if sum := sha256.Sum256(first.GetEvidence().GetStatement()); !bytes.Equal(sum[:], first.GetEvidence().GetSignature()) || seen.Leaf.Serial != first.GetSerial() || seen.Observer != "agent-1" {
		t.Errorf("evidence: %s", first.GetEvidence().GetStatement())
	}

	l.want("p1", renewThrough(1))
	second := l.steady("p1", 2)
	if second.GetSerial() == first.GetSerial() || second.GetRevision() != 2 || second.GetRotations() != 2 {
		t.Errorf("report: %v", second)
	}
	if leaf := l.sound("p1"); leaf == nil {
		t.Error("nothing is in use")
	}
	for name, mode := range map[string]os.FileMode{"cert.pem": 0o644, "key.pem": 0o640, "chain.pem": 0o644, "bundle.pem": 0o644} {
		info, err := os.Stat(filepath.Join(l.path("p1"), "current", name))
		check(t, err)
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	// The bundle did not change: it is one file in both revisions.
	if a, b := inode(t, l, "rev-000001/bundle.pem"), inode(t, l, "rev-000002/bundle.pem"); a != b {
		t.Error("the unchanged bundle was written anew")
	}
	if a, b := inode(t, l, "rev-000001/key.pem"), inode(t, l, "rev-000002/key.pem"); a == b {
		t.Error("two generations share a key file")
	}

	// After the grace the old revision and its key go.
	l.pass(time.Hour)
	waitFor(t, "the old revision removed", func() bool {
		_, err := os.Stat(filepath.Join(l.path("p1"), "rev-000001"))
		return os.IsNotExist(err)
	})
	waitFor(t, "the old key destroyed", func() bool {
		_, err := os.Stat(filepath.Join(l.dir, "state", placementsDir, "p1", keyName(1)))
		return os.IsNotExist(err)
	})
	l.until("p1", "a report that it is destroyed", func(r *api.PlacementReport) bool {
		return len(r.Destroyed) == 1 && r.Destroyed[0].Generation == 1
	})
	if len(s.broken) > 0 {
		t.Errorf("the server could not use its files: %v", s.broken)
	}
}

func inode(t *testing.T, l *lab, name string) uint64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(l.path("p1"), name))
	check(t, err)
	return info.Sys().(*syscall.Stat_t).Ino
}

func TestLyingReloadIsRestored(t *testing.T) {
	l := newLab(t)
	s := l.serve("p1", false)
	l.want("p1", s.proven, reloading)
	l.run()
	first := l.steady("p1", 1)
	s.lying.Store(true)
	l.want("p1", renewThrough(1))
	report := l.until("p1", "restored", func(r *api.PlacementReport) bool { return r.GetFailure().GetRestored() })
	if report.GetGeneration() != 1 || report.GetSerial() != first.GetSerial() || report.GetState() == api.State_STATE_STEADY || report.GetRestores() != 1 {
		t.Errorf("report: %v", report)
	}
	if f := report.GetFailure(); f.GetStep() != "prove" || f.GetGeneration() != 2 || !strings.Contains(f.GetReason(), "generation 1") {
		t.Errorf("failure: %v", f)
	}
	serial, err := pki.SerialOf(l.sound("p1"))
	check(t, err)
	if serial.String() != first.GetSerial() {
		t.Error("the link does not lead to the old certificate")
	}
	// Told to try again, it does so with the same generation: nothing was wrong
	// with that.
	s.lying.Store(false)
	time.Sleep(10 * time.Millisecond) // the clock of the file system is coarse, and the server compares with it
	l.want("p1", func(d *api.DesiredPlacement) { d.Attempt = 1 })
	if second := l.steady("p1", 2); second.GetFailure() != nil || second.GetLevel() != api.Level_LEVEL_PROVEN {
		t.Errorf("report: %v", second)
	}
}

func TestFailingReloadIsRestored(t *testing.T) {
	l := newLab(t)
	l.want("p1", reloading)
	l.run()
	l.steady("p1", 1)
	l.want("p1", renewThrough(1), func(d *api.DesiredPlacement) { d.Target.ReloadCommand = "fail" })
	report := l.until("p1", "failed", func(r *api.PlacementReport) bool { return r.GetFailure() != nil && r.GetGeneration() == 1 })
	if f := report.GetFailure(); f.GetStep() != "activate" || !strings.Contains(f.GetReason(), "no such service") {
		t.Errorf("failure: %v", f)
	}
	l.want("p1", func(d *api.DesiredPlacement) { d.Target.ReloadCommand = "reload"; d.Attempt = 1 })
	l.steady("p1", 2)
}

// What the check catches is never switched to, and what is in use stays.
func TestCheckCatches(t *testing.T) {
	cases := map[string]struct {
		prepare func(l *lab)
		want    func(d *api.DesiredPlacement)
		says    string
		next    uint64 // the generation in use once the trouble is over
	}{
		"an issuer that the bundle does not know": {func(l *lab) { l.signer = "b" }, nil, "does not validate against the bundle that is delivered", 2},
		"an issuer that a peer does not know": {nil, func(d *api.DesiredPlacement) {
			d.PeerBundleDigests = []string{d.GetBundleDigest()}
		}, "", 2},
		"other names": {func(l *lab) {
			l.twist = func(r *ca.Request, _ *[][]byte) {
				if r != nil {
					r.Names.DNS = []string{"other.lab.test"}
				}
			}
		}, nil, "the intent wants", 3},
		"no usage that is wanted": {func(l *lab) {
			l.twist = func(r *ca.Request, _ *[][]byte) {
				if r != nil {
					r.Terms.Usages = append(r.Terms.Usages[:0:0], 2) // clientAuth
				}
			}
		}, nil, "is not for", 3},
		"a chain without its intermediate": {func(l *lab) {
			l.twist = func(_ *ca.Request, chain *[][]byte) {
				if len(*chain) > 1 {
					*chain = (*chain)[:1]
				}
			}
		}, nil, "does not validate", 3},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.want("p1")
			l.run()
			first := l.steady("p1", 1)
			l.mu.Lock()
			if c.prepare != nil {
				c.prepare(l)
			}
			l.mu.Unlock()
			if c.says == "" { // the peer's bundle holds another root only
				c.says = "a declared peer's bundle"
				peer := l.bundle("b").Digest().String()
				c.want = func(d *api.DesiredPlacement) { d.PeerBundleDigests = []string{peer} }
			}
			changes := []func(*api.DesiredPlacement){renewThrough(1)}
			if c.want != nil {
				changes = append(changes, c.want)
			}
			l.want("p1", changes...)
			report := l.until("p1", "failed at check", func(r *api.PlacementReport) bool { return r.GetState() == api.State_STATE_FAILED })
			if report.GetGeneration() != 1 || report.GetSerial() != first.GetSerial() || report.GetLevel() == api.Level_LEVEL_UNSPECIFIED {
				t.Errorf("what was in use is not any more: %v", report)
			}
			if f := report.GetFailure(); f.GetStep() != "check" || !strings.Contains(f.GetReason(), c.says) {
				t.Errorf("failure: %v, want %q", f, c.says)
			}
			l.mu.Lock()
			l.signer, l.twist = "a", nil
			l.mu.Unlock()
			l.want("p1", func(d *api.DesiredPlacement) {
				d.Attempt, d.PeerBundleDigests = 1, nil
				if c.next == 2 && strings.Contains(name, "bundle does not know") {
					d.BundleDigest = l.bundle("a", "b").Digest().String()
				}
				if strings.Contains(name, "without its intermediate") {
					d.RenewThrough = 2
				}
			})
			if last := l.steady("p1", c.next); last.GetFailure() != nil {
				t.Errorf("report: %v", last)
			}
		})
	}
}

func TestIssueTroubles(t *testing.T) {
	l := newLab(t)
	l.want("p1")
	l.run()
	first := l.steady("p1", 1)

	l.mu.Lock()
	l.down = true
	l.mu.Unlock()
	l.want("p1", renewThrough(1))
	report := l.until("p1", "waiting for a server", func(r *api.PlacementReport) bool { return strings.Contains(r.GetReason(), "no server answers") })
	if report.GetSerial() != first.GetSerial() || report.GetFailure() != nil || report.GetState() != api.State_STATE_WAITING {
		t.Errorf("report: %v", report)
	}

	l.mu.Lock()
	l.down, l.refusal = false, &api.IssueResult{ErrorCode: string(fault.Forbidden), Error: "policy default deny"}
	l.mu.Unlock()
	l.want("p1", func(d *api.DesiredPlacement) { d.Attempt = 1 })
	report = l.until("p1", "refused", func(r *api.PlacementReport) bool { return r.GetFailure() != nil })
	if f := report.GetFailure(); f.GetStep() != "request" || !strings.Contains(f.GetReason(), "default deny") || report.GetGeneration() != 1 {
		t.Errorf("report: %v", report)
	}

	// The number was used with another key, as after a restored copy of this
	// host: the next number is asked for.
	l.mu.Lock()
	l.refusal = nil
	text, err := json.Marshal(labIssued{SPKI: "another"})
	check(t, err)
	check(t, os.WriteFile(filepath.Join(l.dir, "issued", "p1-000002"), text, 0o600))
	l.mu.Unlock()
	l.want("p1", func(d *api.DesiredPlacement) { d.Attempt = 2 })
	l.until("p1", "in conflict", func(r *api.PlacementReport) bool { return strings.Contains(r.GetFailure().GetReason(), "another key") })
	l.want("p1", func(d *api.DesiredPlacement) { d.Attempt = 3 })
	l.steady("p1", 3)
}

// A server that has too much to do says when to come back: not before, and
// then without the pause that grows with each failure.
func TestBusyServerIsAskedAgainWhenItSays(t *testing.T) {
	const pause = 700 * time.Millisecond
	l := newLab(t)
	l.want("p1")
	l.run()
	l.steady("p1", 1)
	asked := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.requests
	}
	l.mu.Lock()
	l.refusal = &api.IssueResult{ErrorCode: string(fault.Unavailable), Error: "too much to do", RetryAfter: durationpb.New(pause)}
	before := l.requests
	l.mu.Unlock()
	l.want("p1", renewThrough(1))
	waitFor(t, "the first request", func() bool { return asked() > before })
	began := time.Now()
	for n := 2; n <= 4; n++ {
		waitFor(t, "another request", func() bool { return asked() >= before+n })
		took := time.Since(began)
		if shortest := time.Duration(n-1) * pause; took < shortest-100*time.Millisecond || took > shortest+3*time.Second {
			t.Errorf("request %d comes %s after the first", n, took)
		}
	}
	l.mu.Lock()
	l.refusal = nil
	l.mu.Unlock()
	if report := l.steady("p1", 2); report.GetFailure() != nil {
		t.Errorf("report: %v", report)
	}
}

// A server that signs what ran out already, by a wrong clock, is not asked
// again and again: each of those is a failure, and the pause grows.
func TestSignedThePast(t *testing.T) {
	l := newLab(t)
	l.want("p1")
	l.run()
	first := l.steady("p1", 1)
	l.mu.Lock()
	l.skew, l.twist = -4*time.Minute, func(r *ca.Request, _ *[][]byte) {
		if r != nil {
			r.Terms.Lifetime = 2 * time.Minute
		}
	}
	before := l.requests
	l.mu.Unlock()
	l.want("p1", renewThrough(1))
	report := l.until("p1", "failed", func(r *api.PlacementReport) bool { return r.GetState() == api.State_STATE_FAILED })
	if f := report.GetFailure(); f.GetStep() != "request" || !strings.Contains(f.GetReason(), "ran out") || report.GetSerial() != first.GetSerial() {
		t.Errorf("report: %v", report)
	}
	l.mu.Lock()
	if l.requests != before+1 {
		t.Errorf("%d requests", l.requests-before)
	}
	l.skew, l.twist = 0, nil
	l.mu.Unlock()
	l.want("p1", func(d *api.DesiredPlacement) { d.Attempt = 1 })
	l.steady("p1", 3)
}

// Requests that come while a call is under way go together in the next.
func TestRequestsGoTogether(t *testing.T) {
	l := newLab(t)
	for i := range 40 {
		l.want(fmt.Sprintf("p%d", i))
	}
	l.run()
	for i := range 40 {
		l.steady(fmt.Sprintf("p%d", i), 1)
	}
	if l.requests != 40 || l.calls >= 40 {
		t.Errorf("%d requests in %d calls", l.requests, l.calls)
	}
}

func TestBundleAlone(t *testing.T) {
	l := newLab(t)
	l.want("p1", func(d *api.DesiredPlacement) { d.Identity, d.Profile = nil, nil })
	l.run()
	l.steady("p1", 0)
	l.want("p1", func(d *api.DesiredPlacement) { d.BundleDigest = l.bundle("a", "b").Digest().String() })
	report := l.until("p1", "with the new bundle", func(r *api.PlacementReport) bool {
		return r.GetState() == api.State_STATE_STEADY && r.GetBundleDigest() == l.bundle("a", "b").Digest().String()
	})
	if report.GetRevision() != 2 || report.GetLevel() != api.Level_LEVEL_DELIVERED {
		t.Errorf("report: %v", report)
	}
	text, err := os.ReadFile(filepath.Join(l.path("p1"), "current", "bundle.pem"))
	check(t, err)
	if !bytes.Equal(text, l.bundle("a", "b").PEM()) {
		t.Error("the file holds another bundle")
	}
	entries, err := os.ReadDir(filepath.Join(l.path("p1"), "current"))
	check(t, err)
	if len(entries) != 1 || l.requests != 0 {
		t.Errorf("more than a bundle: %v, %d requests", entries, l.requests)
	}
}

func TestBundleChangeKeepsTheCertificate(t *testing.T) {
	l := newLab(t)
	s := l.serve("p1", true)
	l.want("p1", s.proven, etcdLike)
	l.run()
	first := l.steady("p1", 1)
	l.want("p1", func(d *api.DesiredPlacement) { d.BundleDigest = l.bundle("a", "b").Digest().String() })
	report := l.until("p1", "with the new bundle", func(r *api.PlacementReport) bool {
		return r.GetRevision() == 2 && r.GetState() == api.State_STATE_STEADY
	})
	if report.GetSerial() != first.GetSerial() {
		t.Errorf("report: %v", report)
	}
	// etcd reads CA files at its start only, and no command restarts it: that
	// the new bundle is in use was not shown.
	if report.GetLevel() != api.Level_LEVEL_DELIVERED || !strings.Contains(report.GetReason(), "restart") {
		t.Errorf("report: %v", report)
	}
}

func TestOrphansStay(t *testing.T) {
	l := newLab(t)
	l.want("p1")
	l.want("p2")
	l.run()
	l.steady("p1", 1)
	l.steady("p2", 1)
	l.want("p1", func(d *api.DesiredPlacement) { d.Orphan, d.RenewThrough = true, 9 })
	l.until("p1", "an orphan", func(r *api.PlacementReport) bool { return r.GetState() == api.State_STATE_ORPHAN })
	l.mu.Lock()
	l.desired.Placements = l.desired.Placements[:1]
	l.mu.Unlock()
	l.executor.SetDesired(l.desired)
	l.until("p2", "an orphan", func(r *api.PlacementReport) bool { return r.GetState() == api.State_STATE_ORPHAN })
	if l.sound("p1") == nil || l.sound("p2") == nil || l.requests != 2 {
		t.Error("an orphan was touched")
	}
}

func TestHoldOfTheAgent(t *testing.T) {
	l := newLab(t)
	l.want("p1")
	l.run()
	l.steady("p1", 1)
	l.executor.SetHold("clock 3600 s ahead")
	l.want("p1", renewThrough(1))
	l.until("p1", "held", func(r *api.PlacementReport) bool { return strings.Contains(r.GetReason(), "clock 3600 s ahead") })
	l.executor.SetHold("")
	l.steady("p1", 2)
}

func TestWishesThatCannotBe(t *testing.T) {
	cases := map[string]func(*api.DesiredPlacement){
		"must be octal":            func(d *api.DesiredPlacement) { d.Files.Mode = "0666" },
		"is unknown":               func(d *api.DesiredPlacement) { d.Target.Kind = "abacus" },
		"need a password":          func(d *api.DesiredPlacement) { d.Files.Formats = []string{"jks"} },
		"needs an identity and an": func(d *api.DesiredPlacement) { d.Proof.Level = api.Level_LEVEL_PROVEN },
		"does not allow it":        func(d *api.DesiredPlacement) { d.Files.Directory = "/etc/elsewhere" },
		"does not allow files":     func(d *api.DesiredPlacement) { d.Files.Owner = "daemon" },
		"bundle of placement":      func(d *api.DesiredPlacement) { d.BundleDigest = "xyz" },
		"identity of placement":    func(d *api.DesiredPlacement) { d.Identity.DnsNames = []string{"-"} },
		"usage \"codeSigning\" is": func(d *api.DesiredPlacement) { d.Profile.Usages = []string{"codeSigning"} },
		"absolute":                 func(d *api.DesiredPlacement) { d.Files.Directory = "relative/dir" },
	}
	for says, change := range cases {
		t.Run(says, func(t *testing.T) {
			l := newLab(t)
			l.want("p1", change)
			l.run()
			l.until("p1", "failed with "+says, func(r *api.PlacementReport) bool {
				return r.GetState() == api.State_STATE_FAILED && strings.Contains(r.GetReason(), says)
			})
			l.want("p2") // one bad wish holds up no other
			l.steady("p2", 1)
		})
	}
	l := newLab(t)
	l.want("../../etc")
	l.run()
	l.until("../../etc", "refused", func(r *api.PlacementReport) bool { return strings.Contains(r.GetReason(), "placement id") })
	if _, err := os.Stat(filepath.Join(l.dir, "etc")); err == nil {
		t.Error("a placement's id led out of the state directory")
	}
}

// An undeclared command is refused on the host before anything is switched.
func TestUndeclaredCommand(t *testing.T) {
	l := newLab(t)
	l.want("p1")
	l.run()
	first := l.steady("p1", 1)
	l.want("p1", renewThrough(1), func(d *api.DesiredPlacement) { d.Target.ReloadCommand = "rm-rf" })
	report := l.until("p1", "failed", func(r *api.PlacementReport) bool { return r.GetFailure() != nil && r.GetGeneration() == 1 })
	if !strings.Contains(report.GetFailure().GetReason(), "has none of that name") || report.GetFailure().GetStep() != "check" || report.GetSerial() != first.GetSerial() {
		t.Errorf("report: %v", report)
	}
}
