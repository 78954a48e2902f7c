package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/rotation"
)

// cross makes a bridge: one root signed by another, changed as a test wants.
func (l *lab) cross(of, by string, change ...func(*x509.Certificate)) string {
	l.t.Helper()
	serial, err := pki.NewSerial(l.now(), rand.Reader)
	check(l.t, err)
	older, newer := l.roots[by], l.roots[of]
	template := &x509.Certificate{
		SerialNumber: serial.Big(), RawSubject: newer.anchor.RawSubject, SubjectKeyId: newer.anchor.SubjectKeyId,
		NotBefore: older.anchor.NotBefore, NotAfter: older.anchor.NotAfter, BasicConstraintsValid: true, IsCA: true, KeyUsage: newer.anchor.KeyUsage,
	}
	for _, f := range change {
		f(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, older.anchor, newer.key.Public(), older.key)
	check(l.t, err)
	bridge, err := x509.ParseCertificate(der)
	check(l.t, err)
	return l.offer(bridge)
}

func (l *lab) offer(bridge *x509.Certificate) string {
	digest := pki.FingerprintOf(bridge.Raw).String()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.crossed[digest] = bridge
	return digest
}

func (l *lab) bridge(_ context.Context, digest string) (*x509.Certificate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bridge := l.crossed[digest]; bridge != nil && !l.gone[digest] {
		return bridge, nil
	}
	return nil, fault.New(fault.Unavailable, "no server answers")
}

func bridged(digest string) func(*api.DesiredPlacement) {
	return func(d *api.DesiredPlacement) { d.BridgeDigest = digest }
}

func (l *lab) bundled(names ...string) func(*api.DesiredPlacement) {
	return func(d *api.DesiredPlacement) { d.BundleDigest = l.bundle(names...).Digest().String() }
}

// chainIn is the chain that each file of the placement holds.
func (l *lab) chainIn(id, password string) []*x509.Certificate {
	l.t.Helper()
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(l.path(id), "current", name))
		check(l.t, err)
		return text
	}
	chain, err := pki.ParseCertificatesPEM(read("chain.pem"))
	check(l.t, err)
	var ders [][]byte
	for _, cert := range chain {
		ders = append(ders, cert.Raw)
	}
	same := func(name string, i int, der []byte) {
		if i >= len(ders) || !bytes.Equal(der, ders[i]) {
			l.t.Errorf("%s: certificate %d is not that of chain.pem", name, i)
		}
	}
	if combined := read("combined.pem"); !bytes.HasSuffix(combined, read("chain.pem")) {
		l.t.Error("combined.pem does not end with chain.pem")
	}
	_, leaf, rest, err := pkcs12.DecodeChain(read("keystore.p12"), password)
	check(l.t, err)
	for i, cert := range append([]*x509.Certificate{leaf}, rest...) {
		same("keystore.p12", i, cert.Raw)
	}
	ks := keystore.New()
	check(l.t, ks.Load(bytes.NewReader(read("keystore.jks")), []byte(password)))
	entry, err := ks.GetPrivateKeyEntry(keystoreAlias, []byte(password))
	check(l.t, err)
	for i, cert := range entry.CertificateChain {
		same("keystore.jks", i, cert.Content)
	}
	if len(rest)+1 != len(chain) || len(entry.CertificateChain) != len(chain) {
		l.t.Errorf("keystores hold %d and %d certificates, chain.pem %d", len(rest)+1, len(entry.CertificateChain), len(chain))
	}
	return chain
}

// A bridge goes into each file and is proven there, for what it leads on from
// alone; it goes again without a new certificate.
func TestBridgeComesAndGoes(t *testing.T) {
	l := newLab(t)
	const password = "for keystores"
	check(t, os.WriteFile(filepath.Join(l.dir, "password"), []byte(password), 0o600))
	s := l.serve("p1", true)
	l.want("p1", s.proven, etcdLike, func(d *api.DesiredPlacement) {
		d.Files.Formats, d.Files.Password = []string{"pem", "combined", "pkcs12", "jks"}, "keystore"
	})
	l.run()
	l.steady("p1", 1)
	at := func(revision uint64) *api.PlacementReport {
		t.Helper()
		return l.until("p1", "steady with the next revision", func(r *api.PlacementReport) bool {
			return r.GetRevision() == revision && r.GetState() == api.State_STATE_STEADY
		})
	}
	digest := l.cross("b", "a")
	l.want("p1", bridged(digest), l.bundled("a", "b"))
	if r := at(2); r.GetBridgeDigest() != "" || len(l.chainIn("p1", password)) != 2 {
		t.Errorf("a leaf under A carries the bridge: %v", r)
	}
	l.signer = "b"
	// A peer that knows A alone is helped by the bridge.
	l.want("p1", renewThrough(1), func(d *api.DesiredPlacement) { d.PeerBundleDigests = []string{l.bundle("a").Digest().String()} })
	report := at(3)
	chain := l.chainIn("p1", password)
	if report.GetBridgeDigest() != digest || report.GetGeneration() != 2 || len(chain) != 3 || pki.FingerprintOf(chain[2].Raw).String() != digest {
		t.Fatalf("under B: %d certificates, %v", len(chain), report)
	}
	if seen := observed(t, report); len(seen.Chain) != 3 || seen.Chain[2] != digest {
		t.Errorf("proven with chain %v", seen.Chain)
	}
	asked := l.requests
	l.want("p1", bridged(""), func(d *api.DesiredPlacement) { d.PeerBundleDigests = nil })
	report = at(4)
	if report.GetBridgeDigest() != "" || report.GetGeneration() != 2 || l.requests != asked || len(observed(t, report).Chain) != 2 || len(l.chainIn("p1", password)) != 2 {
		t.Errorf("after the bridge: %v, and %d requests", report, l.requests-asked)
	}
}

// Without a bridge, a peer that knows A alone keeps a leaf under B out; with
// one that OpenSSL would not take, too.
func TestBridgeIsChecked(t *testing.T) {
	for name, c := range map[string]struct {
		bridge func(l *lab) string
		says   string
	}{
		"none":     {func(*lab) string { return "" }, "does not validate against a declared peer's bundle"},
		"the root": {func(l *lab) string { return l.offer(l.roots["b"].anchor) }, "a root must not be in a chain"},
		"another key identifier": {func(l *lab) string {
			return l.cross("b", "a", func(c *x509.Certificate) { c.SubjectKeyId = []byte{1, 2, 3} })
		}, "key identifier"},
		"run out": {func(l *lab) string {
			return l.cross("b", "a", func(c *x509.Certificate) { c.NotAfter = l.now().Add(-1e9) })
		}, "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.want("p1")
			l.run()
			l.steady("p1", 1)
			l.signer = "b"
			l.want("p1", renewThrough(1), l.bundled("a", "b"), bridged(c.bridge(l)), func(d *api.DesiredPlacement) {
				d.PeerBundleDigests = []string{l.bundle("a").Digest().String()}
			})
			r := l.until("p1", "refused", func(r *api.PlacementReport) bool { return r.GetFailure().GetStep() == "check" })
			if !strings.Contains(r.GetFailure().GetReason(), c.says) || r.GetGeneration() != 1 {
				t.Errorf("report: %v", r)
			}
		})
	}
}

// What a revision holds is put back with no server to ask, bridge and all. One
// that can't be had is said, and what stands goes on.
func TestBridgeOutlivesTheServer(t *testing.T) {
	l := newLab(t)
	l.signer = "b"
	digest := l.cross("b", "a")
	l.want("p1", l.bundled("b"), bridged(digest))
	stop := l.run()
	l.steady("p1", 1)
	stop()
	other := l.cross("b", "a")
	l.gone[digest], l.gone[other] = true, true
	chain := filepath.Join(l.path("p1"), "current", "chain.pem")
	check(t, os.Remove(chain))
	l.run()
	r := l.until("p1", "repaired", func(r *api.PlacementReport) bool {
		return r.GetRevision() == 2 && r.GetState() == api.State_STATE_STEADY
	})
	if text, err := os.ReadFile(chain); r.GetBridgeDigest() != digest || strings.Count(string(text), "BEGIN CERTIFICATE") != 3 {
		t.Errorf("report: %v; %v", r, err)
	}
	l.want("p1", bridged(other))
	l.until("p1", "without it", func(r *api.PlacementReport) bool {
		return r.GetRevision() == 2 && strings.Contains(r.GetReason(), "bridge "+other+" is not to be had")
	})
}

// A record without a bridge says nothing of one, as those from before do.
func TestRecordWithoutABridge(t *testing.T) {
	l := newLab(t)
	l.want("p1")
	l.run()
	l.steady("p1", 1)
	text, err := os.ReadFile(filepath.Join(l.dir, "state", placementsDir, "p1", recordFile))
	check(t, err)
	if strings.Contains(string(text), "bridge") {
		t.Errorf("record: %s", text)
	}
}

func TestBridgesAreBelievedByDigest(t *testing.T) {
	l := newLab(t)
	digest, other := l.cross("b", "a"), l.cross("b", "a")
	dir, fetched := t.TempDir(), 0
	answer := &api.Blob{Digest: digest, Bridge: l.crossed[digest].Raw}
	b := &blobs{dir: mustRoot(t, dir), fetch: func(context.Context, []string) ([]*api.Blob, error) { fetched++; return []*api.Blob{answer}, nil }}
	for range 2 {
		bridge, err := b.bridge(t.Context(), digest)
		check(t, err)
		if !bridge.Equal(l.crossed[digest]) || fetched != 1 {
			t.Errorf("another bridge, or fetched %d times", fetched)
		}
	}
	answer.Digest = other // a lie
	_, err := b.bridge(t.Context(), other)
	wantFault(t, err, fault.NotFound)
	_, err = b.bridge(t.Context(), "../../etc/passwd")
	wantFault(t, err, fault.Invalid)
	check(t, b.prune(&api.DesiredState{Placements: []*api.DesiredPlacement{{BridgeDigest: digest}}}))
	if _, err := os.Stat(filepath.Join(dir, digest)); err != nil {
		t.Errorf("a bridge in use was pruned: %v", err)
	}
	check(t, os.WriteFile(filepath.Join(dir, digest), pki.EncodeCertificatesPEM(l.crossed[other].Raw), 0o600)) // damaged
	answer.Digest = digest
	if bridge, err := b.bridge(t.Context(), digest); err != nil || !bridge.Equal(l.crossed[digest]) {
		t.Errorf("a damaged copy: %v", err)
	}
}

// A bridge that comes together with a bundle is a change of what is served, too.
func TestBridgeChangesWhatIsServed(t *testing.T) {
	l := newLab(t)
	e, err := NewExecutor(l.options())
	check(t, err)
	p := newPlacement(e, "p1")
	p.record.Revisions = []rotation.Revision{{Number: 1, Generation: 1, ActivatedAt: l.now(), CommittedAt: l.now()}}
	next := rotation.Revision{Number: 2, Generation: 1, Bundle: l.bundle("a").Digest()}
	for bridge, served := range map[pki.Fingerprint]bool{{}: false, {1}: true} {
		next.Bridge = bridge
		if change, err := p.difference(nil, next); err != nil || change.Leaf != served || !change.Bundle() {
			t.Errorf("bridge %v: %+v, %v", bridge, change, err)
		}
	}
}
