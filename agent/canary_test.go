package agent

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/probe"
)

// canaries signs one under each root, as a control plane does.
func (l *lab) canaries(_ context.Context, placement string, der []byte, revoked bool) ([]*api.Canary, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return nil, fault.New(fault.Unavailable, "no server answers")
	}
	if l.unsigned > 0 {
		l.unsigned--
		return nil, fault.New(fault.Unavailable, "no server signs now")
	}
	csr, err := pki.ParseCSR(der)
	if err != nil {
		return nil, err
	}
	names, err := pki.ParseNames("", nil, nil, "spiffe://lab.test/rotunda/canary/"+placement)
	if err != nil {
		return nil, err
	}
	var signed []*api.Canary
	signers := l.signers
	if signers == nil {
		signers = []string{"a", "b"}
	}
	life := 10 * time.Minute
	if revoked {
		life = 10 * time.Hour
	}
	for _, name := range signers {
		prepared, err := l.roots[name].authority.Prepare(time.Now(), ca.Request{
			PublicKey: csr.PublicKey, Names: names,
			Terms: ca.Terms{Lifetime: life, Backdate: time.Minute, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
		})
		if err != nil {
			return nil, err
		}
		issued, err := l.roots[name].authority.Issue(prepared)
		if err != nil {
			return nil, err
		}
		if name == "b" && l.bridgedCanary != nil {
			issued.Chain = append(issued.Chain, l.bridgedCanary)
		}
		l.canaried = append(l.canaried, issued.Chain[0])
		if revoked {
			leaf, err := pki.ParseCertificateDER(issued.Chain[0])
			if err != nil {
				return nil, err
			}
			l.doomed = append(l.doomed, leaf)
		}
		signed = append(signed, &api.Canary{Chain: issued.Chain, Anchor: pki.FingerprintOf(l.roots[name].anchor.Raw).String(), Authority: name})
	}
	return signed, nil
}

func observed(t *testing.T, r *api.PlacementReport) probe.Observation {
	t.Helper()
	var seen probe.Observation
	check(t, json.Unmarshal(r.GetEvidence().GetStatement(), &seen))
	return seen
}

func trialsOf(seen probe.Observation) string {
	var all []string
	for _, trial := range seen.Trials {
		all = append(all, trial.Name+"="+string(trial.Accepted))
	}
	return strings.Join(all, " ")
}

// A real Redis is proven to accept whom its bundle names, and nobody else; when
// an anchor comes and when it goes.
func TestTrustIsTried(t *testing.T) {
	l := newLab(t)
	l.running("p1")
	first := l.steady("p1", 1)
	if got := trialsOf(observed(t, first)); got != "authority a=yes authority b=no a throwaway root=no" {
		t.Errorf("trials: %s", got)
	}
	for i, bundle := range [][]string{{"a", "b"}, {"a"}} {
		l.want("p1", func(d *api.DesiredPlacement) { d.BundleDigest = l.bundle(bundle...).Digest().String() })
		report := l.until("p1", "with the bundle", func(r *api.PlacementReport) bool {
			return r.GetState() == api.State_STATE_STEADY && r.GetRevision() == uint64(i+2)
		})
		want := "authority a=yes authority b=" + []string{"yes", "no"}[i] + " a throwaway root=no"
		if got := trialsOf(observed(t, report)); got != want {
			t.Errorf("trials: %s, want %s", got, want)
		}
	}
	l.neverWritten()
	want := []string{pki.FingerprintOf(l.roots["a"].anchor.Raw).String(), pki.FingerprintOf(l.roots["b"].anchor.Raw).String(), probe.Stranger}
	for i, trial := range observed(t, first).Trials {
		if trial.Anchor != want[i] {
			t.Errorf("trial %s names anchor %q, want %s", trial.Name, trial.Anchor, want[i])
		}
	}
}

// A canary that carries the bridge would be taken by whoever knows A alone, and
// is not used.
func TestNoCanaryCarriesTheBridge(t *testing.T) {
	l := newLab(t)
	digest := l.cross("b", "a")
	l.bridgedCanary = l.crossed[digest].Raw
	l.signer = "b"
	r := l.redis("p1")
	l.want("p1", r.wanted, l.bundled("a", "b"), bridged(digest))
	l.run(r.named())
	l.until("p1", "in place", func(report *api.PlacementReport) bool { return report.GetRevision() > 0 })
	r.start()
	seen := observed(t, l.steady("p1", 1))
	if got := trialsOf(seen); got != "a throwaway root=no canaries=" || !strings.Contains(seen.Trials[1].Error, "carries the bridge") {
		t.Errorf("trials: %s, %+v", got, seen.Trials)
	}
	if len(seen.Chain) != 3 {
		t.Errorf("Redis serves %d certificates", len(seen.Chain))
	}
}

// A root that came after the canaries in hand were signed is tried all the same:
// when its anchor comes, and when the one that they were under goes.
func TestTrustInANewRootIsTried(t *testing.T) {
	l := newLab(t)
	l.signers = []string{"a"}
	l.running("p1")
	if got := trialsOf(observed(t, l.steady("p1", 1))); got != "authority a=yes a throwaway root=no" {
		t.Errorf("trials: %s", got)
	}
	l.mu.Lock()
	l.signers = []string{"a", "b"}
	l.mu.Unlock()
	l.want("p1", func(d *api.DesiredPlacement) { d.BundleDigest = l.bundle("a", "b").Digest().String() })
	report := l.until("p1", "with the bundle", func(r *api.PlacementReport) bool {
		return r.GetState() == api.State_STATE_STEADY && r.GetRevision() == 2
	})
	if got := trialsOf(observed(t, report)); got != "authority a=yes authority b=yes a throwaway root=no" {
		t.Errorf("trials: %s", got)
	}
}

// neverWritten holds that no canary is on the disk.
func (l *lab) neverWritten() {
	l.t.Helper()
	if len(l.canaried) == 0 {
		l.t.Error("no canary was ever signed")
	}
	check(l.t, filepath.WalkDir(l.dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, der := range l.canaried {
			if bytes.Contains(text, der) || bytes.Contains(text, pki.EncodeCertificatesPEM(der)) {
				l.t.Errorf("%s holds a canary", path)
			}
		}
		return err
	}))
}

// A Redis that trusts a root which its bundle does not name is not proven.
func TestTrustInTooMany(t *testing.T) {
	l := newLab(t)
	wide := filepath.Join(l.dir, "wide.pem")
	check(t, os.WriteFile(wide, l.bundle("a", "b").PEM(), 0o644))
	r := l.redis("p1", "tls-ca-cert-file "+wide)
	l.want("p1", r.wanted)
	l.run(r.named())
	l.until("p1", "in place", func(report *api.PlacementReport) bool { return report.GetRevision() > 0 })
	r.start()
	report := l.until("p1", "not proven", func(r *api.PlacementReport) bool { return strings.Contains(r.GetFailure().GetReason(), "authority b") })
	if report.GetLevel() == api.Level_LEVEL_PROVEN || !strings.Contains(report.GetFailure().GetReason(), "not in the bundle") {
		t.Errorf("report: %v", report)
	}
}

// Without a control plane the proof goes on with what it has, and says so.
func TestTrustWithoutCanaries(t *testing.T) {
	l := newLab(t)
	r := l.redis("p1")
	l.want("p1", r.wanted)
	stop := l.run(r.named())
	l.until("p1", "in place", func(report *api.PlacementReport) bool { return report.GetRevision() > 0 })
	stop()
	l.down = true
	r.start()
	l.run(r.named())
	seen := observed(t, l.steady("p1", 1))
	if got := trialsOf(seen); got != "a throwaway root=no canaries=" || !strings.Contains(seen.Trials[1].Error, "not tried: ") {
		t.Errorf("trials: %s, %+v", got, seen.Trials)
	}
}

// Canaries could not be had during the only proof of a bundle: whom the process
// trusts is tried later, without anybody's act, and by another process of the
// agent's where the first one was stopped.
func TestTrustIsTriedLater(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart=", restart), func(t *testing.T) {
			l := newLab(t)
			l.unsigned = 1
			if restart {
				l.unsigned = 1 << 20
			}
			r := l.redis("p1")
			l.want("p1", r.wanted)
			stop := l.run(r.named())
			l.until("p1", "in place", func(report *api.PlacementReport) bool { return report.GetRevision() > 0 })
			r.start()
			if restart {
				first := observed(t, l.steady("p1", 1))
				if got := trialsOf(first); got != "a throwaway root=no canaries=" {
					t.Errorf("trials: %s", got)
				}
				stop()
				l.unsigned = 0
				l.run(r.named())
			}
			report := l.until("p1", "with its trust tried", func(report *api.PlacementReport) bool {
				return report.GetState() == api.State_STATE_STEADY && report.GetRevision() == 1 && report.GetEvidence() != nil &&
					trialsOf(observed(t, report)) == "authority a=yes authority b=no a throwaway root=no"
			})
			if report.GetLevel() != api.Level_LEVEL_PROVEN || report.GetRotations() != 1 {
				t.Errorf("report: %v", report)
			}
		})
	}
}

// A stream that opens is waited for no longer than a moment, however long the
// control plane was away.
func TestTrustIsTriedOnReturn(t *testing.T) {
	l := newLab(t)
	l.unsigned = 1 << 20
	r := l.redis("p1")
	l.want("p1", r.wanted)
	l.run(r.named())
	l.until("p1", "in place", func(report *api.PlacementReport) bool { return report.GetRevision() > 0 })
	r.start()
	l.steady("p1", 1)
	l.mu.Lock()
	l.unsigned = 0
	l.mu.Unlock()
	p := l.executor.placements["p1"]
	p.mu.Lock() // as after many tries
	p.retryAt(p.wished.Load().wish)
	p.retrial.tries, p.retrial.again = 20, l.now().Add(time.Hour)
	p.mu.Unlock()
	l.executor.Reachable()
	l.until("p1", "with its trust tried", func(report *api.PlacementReport) bool {
		return report.GetEvidence() != nil && trialsOf(observed(t, report)) == "authority a=yes authority b=no a throwaway root=no"
	})
}

// A trial that came late and went wrong takes the proof back, and reports it.
func TestTrustIsTriedLaterAndWrong(t *testing.T) {
	l := newLab(t)
	wide := filepath.Join(l.dir, "wide.pem")
	check(t, os.WriteFile(wide, l.bundle("a", "b").PEM(), 0o644))
	l.unsigned = 1
	r := l.redis("p1", "tls-ca-cert-file "+wide)
	l.want("p1", r.wanted)
	l.run(r.named())
	l.until("p1", "in place", func(report *api.PlacementReport) bool { return report.GetRevision() > 0 })
	r.start()
	report := l.until("p1", "not proven any more", func(r *api.PlacementReport) bool {
		return r.GetState() == api.State_STATE_FAILED && strings.Contains(r.GetReason(), "authority b")
	})
	if report.GetLevel() == api.Level_LEVEL_PROVEN || report.GetRevision() != 1 {
		t.Errorf("report: %v", report)
	}
}
