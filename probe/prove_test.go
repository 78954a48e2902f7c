package probe

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// liar is a TLS server whose certificate is chosen anew for each connection.
type liar struct {
	address string
	shown   atomic.Int64 // handshakes so far
}

func newLiar(t *testing.T, choose func(n int64, since time.Duration) tls.Certificate, change ...func(*tls.Config)) *liar {
	t.Helper()
	l := &liar{}
	var first atomic.Pointer[time.Time]
	config := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		now := time.Now()
		first.CompareAndSwap(nil, &now)
		chosen := choose(l.shown.Add(1), now.Sub(*first.Load()))
		return &chosen, nil
	}}
	for _, f := range change {
		f(config)
	}
	l.address = serveTLS(t, config)
	return l
}

func always(c tls.Certificate) func(int64, time.Duration) tls.Certificate {
	return func(int64, time.Duration) tls.Certificate { return c }
}

// expect is what a server at address should show after its rotation from old
// to new.
func expect(ca authority, address string, old, new tls.Certificate) Expectation {
	return Expectation{
		Spec:  Spec{Address: address, ServerName: "db.example", Roots: ca.bundle, Timeout: time.Second, Now: time.Now},
		Chain: fingerprints(new),
		Known: map[pki.Fingerprint]string{
			pki.FingerprintOf(old.Certificate[0]): "generation 4",
			pki.FingerprintOf(new.Certificate[0]): "generation 5",
		},
		MinProtocol: tls.VersionTLS12,
		Observe:     200 * time.Millisecond,
		Timeout:     1500 * time.Millisecond,
	}
}

// patient gives a proof that should succeed all the time that a loaded
// machine may need.
func patient(e Expectation) Expectation {
	e.Timeout, e.Spec.Timeout = 20*time.Second, 5*time.Second
	return e
}

func TestProveTakesAsLongAsItShould(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "A")
	old, new := ca.leaf(t), ca.leaf(t)
	server := newLiar(t, always(new))
	verdict, seen := Prove(context.Background(), patient(expect(ca, server.address, old, new)))
	if !verdict.Proven || verdict.Cause != Fits || verdict.Reason != "" {
		t.Fatalf("%+v", verdict)
	}
	if verdict.Took < 200*time.Millisecond || verdict.Handshakes < 5 || verdict.Fitting != verdict.Handshakes {
		t.Errorf("%+v", verdict)
	}
	// In each pass one offers too old a protocol, and gets no certificate.
	if shown := server.shown.Load(); shown != int64(verdict.Handshakes-passesPerWindow) {
		t.Errorf("%d handshakes were shown, %d counted", shown, verdict.Handshakes)
	}
	if last := seen[len(seen)-1]; last.Outcome != Served || last.Trust != Trusted {
		t.Errorf("evidence: %+v", last)
	}
}

func TestProveSaysWhatWasServedInstead(t *testing.T) {
	ca, stranger := newAuthority(t, "A"), newAuthority(t, "B")
	old, new, unknown := ca.leaf(t), ca.leaf(t), ca.leaf(t)
	dead := ca.leaf(t, expired)
	foreign := stranger.leaf(t)
	longer, shorter := new, new
	longer.Certificate = append(slices.Clone(new.Certificate), ca.root.Raw)
	shorter.Certificate = new.Certificate[:1]
	brief := func(c tls.Certificate) string { return hexOf(c.Certificate[0])[:12] }
	flips := func(n int64, _ time.Duration) tls.Certificate {
		if n%4 == 0 {
			return old
		}
		return new
	}
	// The window is honest but for its very end.
	back := func(_ int64, since time.Duration) tls.Certificate {
		if since > 150*time.Millisecond {
			return old
		}
		return new
	}
	for name, c := range map[string]struct {
		choose func(int64, time.Duration) tls.Certificate
		expect tls.Certificate
		server func(*tls.Config)
		change func(*Expectation)
		cause  Cause
		words  []string
	}{
		"the old leaf": {choose: always(old), expect: new, cause: CauseLeaf, words: []string{
			"served generation 4's certificate " + brief(old), "expires " + old.Leaf.NotAfter.UTC().Format(time.RFC3339),
			"expected generation 5's certificate " + brief(new), "still so after"}},
		"a leaf of nobody knows whose": {choose: always(unknown), expect: new, cause: CauseLeaf, words: []string{
			"served certificate " + brief(unknown)}},
		"the same names from another root": {choose: always(foreign), expect: new, cause: CauseLeaf, words: []string{brief(foreign)}},
		"one in four is the old one":       {choose: flips, expect: new, cause: CauseLeaf, words: []string{"generation 4", "it flips"}},
		"it goes back":                     {choose: back, expect: new, cause: CauseLeaf, words: []string{"generation 4", "it flips"}},
		"a root too many":                  {choose: always(longer), expect: new, cause: CauseChain, words: []string{"with the chain", "expected"}},
		"an intermediate too few":          {choose: always(shorter), expect: new, cause: CauseChain, words: []string{"with the chain"}},
		"expected, and expired":            {choose: always(dead), expect: dead, cause: CauseTrust, words: []string{"expired"}},
		"expected, and of another root":    {choose: always(foreign), expect: foreign, cause: CauseTrust, words: []string{"does not trust"}},
		"expected, for another name": {choose: always(new), expect: new, cause: CauseTrust, words: []string{"other.example"},
			change: func(e *Expectation) { e.Spec.ServerName = "other.example" }},
		"too old a protocol": {choose: always(new), expect: new, cause: CauseProtocol, words: []string{"TLS 1.2", "TLS 1.3 or newer"},
			server: func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 },
			change: func(e *Expectation) { e.MinProtocol = tls.VersionTLS13 }},
		"another group": {choose: always(new), expect: new, cause: CauseGroup, words: []string{"CurveP256", "X25519MLKEM768"},
			server: func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP256} },
			change: func(e *Expectation) { e.Groups = []string{"X25519MLKEM768", "X25519"} }},
		"refuses the client certificate": {choose: always(new), expect: new, cause: CauseRejected, words: []string{"rejected the client certificate " + brief(foreign)},
			server: func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, ca.bundle.Pool() },
			change: func(e *Expectation) { e.MustAccept, e.Spec.Certificate = true, &foreign }},
		"demands nothing, and should": {choose: always(new), expect: new, cause: CauseClientAuth, words: []string{"does not ask", "expected clientAuth required"},
			change: func(e *Expectation) { e.ClientAuth = ClientAuthRequired }},
		"asks, and should demand": {choose: always(new), expect: new, cause: CauseClientAuth, words: []string{"serves clients without one"},
			server: func(c *tls.Config) { c.ClientAuth = tls.VerifyClientCertIfGiven },
			change: func(e *Expectation) { e.ClientAuth = ClientAuthRequired }},
		"demands, and should but ask": {choose: always(new), expect: new, cause: CauseClientAuth, words: []string{"refuses clients without"},
			server: func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert },
			change: func(e *Expectation) { e.ClientAuth = ClientAuthOptional }},
		"asks, and should not": {choose: always(new), expect: new, cause: CauseClientAuth, words: []string{"expected clientAuth none"},
			server: func(c *tls.Config) { c.ClientAuth = tls.RequestClientCert },
			change: func(e *Expectation) { e.ClientAuth = ClientAuthNone }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var changes []func(*tls.Config)
			if c.server != nil {
				changes = append(changes, c.server)
			}
			server := newLiar(t, c.choose, changes...)
			expected := expect(ca, server.address, old, c.expect)
			expected.Known[pki.FingerprintOf(new.Certificate[0])] = "generation 5"
			if c.change != nil {
				c.change(&expected)
			}
			verdict, seen := Prove(context.Background(), expected)
			if verdict.Proven || verdict.Cause != c.cause {
				t.Fatalf("cause %q: %+v", c.cause, verdict)
			}
			for _, word := range c.words {
				if !strings.Contains(verdict.Reason, word) {
					t.Errorf("%q is missing from: %s", word, verdict.Reason)
				}
			}
			if len(seen) == 0 || len(seen) > maxObservations {
				t.Errorf("%d observations", len(seen))
			}
			if verdict.Took > 4*time.Second {
				t.Errorf("took %s", verdict.Took)
			}
		})
	}
}

// TestOlderProtocolIsLookedAtToo: a server that shows TLS 1.2 clients the old
// leaf still is not proven.
func TestOlderProtocolIsLookedAtToo(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "A")
	old, new := ca.leaf(t), ca.leaf(t)
	address := serveTLS(t, &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if slices.Contains(hello.SupportedVersions, tls.VersionTLS13) {
			return &new, nil
		}
		return &old, nil
	}})
	verdict, _ := Prove(context.Background(), expect(ca, address, old, new))
	if verdict.Proven || verdict.Cause != CauseLeaf || !strings.Contains(verdict.Reason, "over TLS 1.2: served generation 4") {
		t.Errorf("%+v", verdict)
	}
	modern := newLiar(t, always(new), func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 })
	if verdict, _ := Prove(context.Background(), patient(expect(ca, modern.address, old, new))); !verdict.Proven {
		t.Errorf("a server without TLS 1.2: %+v", verdict)
	}
}

// TestProveWaitsForAReload: the old leaf at first is a reload under way,
// unless the kind of server has none.
func TestProveWaitsForAReload(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "A")
	old, new := ca.leaf(t), ca.leaf(t)
	late := func(n int64, _ time.Duration) tls.Certificate {
		if n <= 5 {
			return old
		}
		return new
	}
	verdict, seen := Prove(context.Background(), patient(expect(ca, newLiar(t, late).address, old, new)))
	if !verdict.Proven || verdict.Handshakes-verdict.Fitting != 5 {
		t.Errorf("%+v", verdict)
	}
	if len(seen) < 3 || seen[0].Leaf.Fingerprint != hexOf(old.Certificate[0]) || seen[len(seen)-1].Leaf.Fingerprint != hexOf(new.Certificate[0]) {
		t.Errorf("%d observations tell another story", len(seen))
	}
	immediate := expect(ca, newLiar(t, late).address, old, new)
	immediate.Immediate = true
	verdict, _ = Prove(context.Background(), immediate)
	if verdict.Proven || verdict.Handshakes != 1 || verdict.Cause != CauseLeaf {
		t.Errorf("%+v", verdict)
	}
}

// TestMutualTLSIsProvenWithoutACertificate: the server's own is seen before
// it refuses the client.
func TestMutualTLSIsProvenWithoutACertificate(t *testing.T) {
	ca := newAuthority(t, "A")
	old, new := ca.leaf(t), ca.leaf(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, sent := range []*tls.Certificate{nil, &new} {
			t.Run(tls.VersionName(version), func(t *testing.T) {
				t.Parallel()
				server := newLiar(t, always(new), func(c *tls.Config) {
					c.ClientAuth, c.ClientCAs, c.MaxVersion = tls.RequireAndVerifyClientCert, ca.bundle.Pool(), version
				})
				expected := patient(expect(ca, server.address, old, new))
				expected.Spec.Certificate, expected.MustAccept = sent, sent != nil
				expected.ClientAuth = ClientAuthRequired
				verdict, seen := Prove(context.Background(), expected)
				if !verdict.Proven {
					t.Errorf("%+v", verdict)
				}
				if last := seen[len(seen)-1]; last.Outcome != Served || last.WithoutCertificate != Rejected || (last.Sent != "") != (sent != nil) {
					t.Errorf("the last look closes the window and tells what became of a client without a certificate: %+v", last)
				}
			})
		}
	}
}

func TestProveTellsABlockedPathFromAFailure(t *testing.T) {
	ca := newAuthority(t, "A")
	old, new := ca.leaf(t), ca.leaf(t)
	swapped := tls.Certificate{Certificate: new.Certificate, PrivateKey: old.PrivateKey}
	for name, c := range map[string]struct {
		address string
		cause   Cause
		word    string
	}{
		"nothing listens":  {closedPort(t), CausePath, "refused"},
		"frozen":           {serve(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }), CausePath, "timeout at handshake"},
		"hangs up":         {serve(t, func(net.Conn) {}), CauseTLS, "closed"},
		"not TLS":          {serve(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "hello\r\n") }), CauseTLS, "not_tls"},
		"a pair unmatched": {newLiar(t, always(swapped)).address, CauseTLS, "without holding its key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expected := expect(ca, c.address, old, new)
			expected.Spec.Timeout = 300 * time.Millisecond
			verdict, seen := Prove(context.Background(), expected)
			if verdict.Proven || verdict.Cause != c.cause || !strings.Contains(verdict.Reason, c.word) || len(seen) == 0 {
				t.Errorf("%+v, %d observations", verdict, len(seen))
			}
			if verdict.Took > 4*time.Second {
				t.Errorf("took %s", verdict.Took)
			}
		})
	}
}

// TestProveRecoversFromARestart: a target that is down at first is proven
// once it is up.
func TestProveRecoversFromARestart(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "A")
	new := ca.leaf(t)
	address := closedPort(t)
	expected := patient(expect(ca, address, new, new))
	expected.Immediate = true
	expected.Spec.Now = startAfter(t, 3, address, new)
	if verdict, _ := Prove(context.Background(), expected); !verdict.Proven || verdict.Fitting == verdict.Handshakes {
		t.Errorf("%+v", verdict)
	}
}

// startAfter is a clock that starts a server at address when it was read n
// times: after some handshakes, whatever they took.
func startAfter(t *testing.T, n int64, address string, leaf tls.Certificate) func() time.Time {
	var reads atomic.Int64
	return func() time.Time {
		if reads.Add(1) == n {
			listener, err := net.Listen("tcp", address)
			if err != nil {
				t.Error(err)
				return time.Now()
			}
			t.Cleanup(func() { _ = listener.Close() })
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					go func() {
						defer func() { _ = conn.Close() }()
						_, _ = io.Copy(io.Discard, tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{leaf}}))
					}()
				}
			}()
		}
		return time.Now()
	}
}

func TestProveStopsWithItsCaller(t *testing.T) {
	ca := newAuthority(t, "A")
	new := ca.leaf(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	verdict, _ := Prove(ctx, expect(ca, newLiar(t, always(new)).address, new, new))
	if verdict.Proven || verdict.Took > time.Second {
		t.Errorf("%+v", verdict)
	}
}

func TestProveRefusesExpectationsWithoutSense(t *testing.T) {
	ca := newAuthority(t, "A")
	good := expect(ca, "127.0.0.1:1", ca.leaf(t), ca.leaf(t))
	for name, change := range map[string]func(*Expectation){
		"no chain":           func(e *Expectation) { e.Chain = nil },
		"no clock":           func(e *Expectation) { e.Spec.Now = nil },
		"no port":            func(e *Expectation) { e.Spec.Address = "db.example" },
		"window over limit":  func(e *Expectation) { e.Observe = e.Timeout },
		"unknown clientAuth": func(e *Expectation) { e.ClientAuth = "maybe" },
	} {
		bad := good
		change(&bad)
		if verdict, _ := Prove(context.Background(), bad); verdict.Proven || verdict.Handshakes > 0 || verdict.Reason == "" {
			t.Errorf("%s: %+v", name, verdict)
		}
	}
}

// TestSlowServersAreSeenMoreThanOnce: one handshake that outlasts the window
// is no window.
func TestSlowServersAreSeenMoreThanOnce(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "A")
	new := ca.leaf(t)
	server := newLiar(t, func(int64, time.Duration) tls.Certificate {
		time.Sleep(150 * time.Millisecond) // the fault that is being tested
		return new
	}, func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 })
	expected := patient(expect(ca, server.address, new, new))
	expected.Observe, expected.MinProtocol = 100*time.Millisecond, tls.VersionTLS13
	if verdict, _ := Prove(context.Background(), expected); !verdict.Proven || verdict.Handshakes < minHandshakes {
		t.Errorf("%+v", verdict)
	}
}
