package probe

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// guard is a TLS server that asks for client certificates, knows the ones of
// the play by name, and keeps a list of who came: "" came without one, and
// "old" or "1.2" offered nothing newer.
type guard struct {
	address string
	mu      sync.Mutex
	came    []string
}

// newGuard lets in whom admit lets in. It is told the name, and how many of
// that name came before.
func newGuard(t *testing.T, leaf tls.Certificate, names map[string]*tls.Certificate, admit func(name string, before int) bool) *guard {
	t.Helper()
	g := &guard{}
	note := func(name string) (before int) {
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, other := range g.came {
			if other == name {
				before++
			}
		}
		g.came = append(g.came, name)
		return before
	}
	verify := func(state tls.ConnectionState) error {
		name := ""
		for known, certificate := range names {
			if len(state.PeerCertificates) > 0 && hexOf(state.PeerCertificates[0].Raw) == hexOf(certificate.Certificate[0]) {
				name = known
			}
		}
		if state.Version == tls.VersionTLS13 && !admit(name, note(name)) {
			return errors.New("not on the list")
		}
		return nil
	}
	config := &tls.Config{Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequestClientCert, VerifyConnection: verify}
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		switch newest := slices.Max(hello.SupportedVersions); {
		case newest < tls.VersionTLS12:
			note("old")
		case newest == tls.VersionTLS12:
			note("1.2")
		}
		return nil, nil
	}
	g.address = serveTLS(t, config)
	return g
}

func (g *guard) visitors() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.came)
}

func (g *guard) count(name string) (n int) {
	for _, other := range g.visitors() {
		if other == name {
			n++
		}
	}
	return n
}

// court is who takes part in a proof of trust: the server's own client A, which
// is in the bundle, B, which was withdrawn from it, and T, a throwaway root.
type court struct {
	ca            authority
	leaf, a, b, t tls.Certificate
}

func newCourt(t *testing.T) *court {
	ca := newAuthority(t, "A")
	return &court{ca, ca.leaf(t), ca.leaf(t), newAuthority(t, "B").leaf(t), newAuthority(t, "T").leaf(t)}
}

func (c *court) guard(t *testing.T, admit func(name string, before int) bool) *guard {
	t.Helper()
	return newGuard(t, c.leaf, map[string]*tls.Certificate{"A": &c.a, "B": &c.b, "T": &c.t}, admit)
}

func (c *court) expect(address string) Expectation {
	e := expect(c.ca, address, c.leaf, c.leaf)
	e.ClientAuth = ClientAuthRequired
	e.Trials = []Trial{{Name: "root A", Certificate: &c.a, Accept: true, Anchor: "aa"}, {Name: "root B", Certificate: &c.b, Anchor: "bb"}, {Name: "the throwaway root", Certificate: &c.t, Anchor: Stranger}}
	return e
}

func only(names ...string) func(string, int) bool {
	return func(name string, _ int) bool { return slices.Contains(names, name) }
}

// everybodyBut lets the proof's ordinary handshakes in, which bring nothing.
func everybodyBut(names ...string) func(string, int) bool {
	return func(name string, _ int) bool { return !slices.Contains(names, name) }
}

func TestTrialsAreEachOthersControls(t *testing.T) {
	const (
		// Without the verb: on a machine that is busy its word comes late.
		trustsB    = " a client certificate under root B, which is not in the bundle"
		trustsT    = " a client certificate under the throwaway root, which is not in the bundle"
		rejectsA   = "rejects a client certificate under root A"
		nothingIn  = "a control failed: no certificate known good is accepted, so the refusal of "
		nothingOut = "a control failed: nothing is refused, so the acceptance of root A shows nothing"
	)
	for name, c := range map[string]struct {
		admit  func(string, int) bool
		auth   ClientAuth
		change func(*court, *Expectation)
		cause  Cause
		words  []string
		absent string
	}{
		"the withdrawn root too": {admit: only("A", "B"), cause: CauseTrusts, words: []string{trustsB}, absent: "control"},
		"everybody": {admit: everybodyBut(), auth: ClientAuthOptional, cause: CauseTrusts,
			words: []string{trustsB, ", and ", trustsT, nothingOut}},
		"nobody":                      {admit: only(), cause: CauseRejected, words: []string{rejectsA, nothingIn + "root B, the throwaway root shows nothing"}},
		"those whom it should refuse": {admit: only("B", "T"), cause: CauseRejected, words: []string{rejectsA, trustsB, trustsT}, absent: "control"},
		"the throwaway root alone":    {admit: only("T"), cause: CauseRejected, words: []string{rejectsA, trustsT, nothingIn + "root B shows nothing"}},
		"another known good": {admit: only("B"), cause: CauseRejected, words: []string{rejectsA}, absent: "control",
			change: func(c *court, e *Expectation) {
				e.MustAccept, e.Spec.Certificate = true, &c.b
				e.Trials = []Trial{{Name: "root A", Certificate: &c.a, Accept: true}, {Name: "the throwaway root", Certificate: &c.t}}
			}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			court := newCourt(t)
			expected := court.expect(court.guard(t, c.admit).address)
			if c.auth != "" {
				expected.ClientAuth = c.auth
			}
			if c.change != nil {
				c.change(court, &expected)
			}
			verdict, seen := Prove(context.Background(), expected)
			if verdict.Proven || verdict.Cause != c.cause {
				t.Fatalf("want %q: %+v", c.cause, verdict)
			}
			for _, word := range c.words {
				if !strings.Contains(verdict.Reason, word) {
					t.Errorf("%q is missing from: %s", word, verdict.Reason)
				}
			}
			if c.absent != "" && strings.Contains(verdict.Reason, c.absent) {
				t.Errorf("%q has no business in: %s", c.absent, verdict.Reason)
			}
			if last := seen[len(seen)-1]; len(last.Trials) != len(expected.Trials) {
				t.Errorf("the last observation has %d trials", len(last.Trials))
			}
		})
	}
}

// TestOneStatementHoldsTheVerdictWithItsControls: what an agent signs is the
// last observation alone.
func TestOneStatementHoldsTheVerdictWithItsControls(t *testing.T) {
	court := newCourt(t)
	verdict, seen := Prove(context.Background(), patient(court.expect(court.guard(t, only("A")).address)))
	if !verdict.Proven {
		t.Fatalf("%+v", verdict)
	}
	last := seen[len(seen)-1]
	last.Says = "its own word"
	statement, err := last.Statement()
	if err != nil {
		t.Fatal(err)
	}
	var back Observation
	if err := json.Unmarshal(statement, &back); err != nil {
		t.Fatal(err)
	}
	if back.Outcome != Served || back.Leaf.Fingerprint != hexOf(court.leaf.Certificate[0]) || back.Says != "its own word" ||
		back.WithoutCertificate != Rejected || !slices.Equal(back.RefusedProtocols, []string{"TLS 1.0", "TLS 1.1"}) {
		t.Errorf("%s", statement)
	}
	want := []TrialResult{
		{Name: "root A", Anchor: "aa", Sent: hexOf(court.a.Certificate[0]), Expected: true, Accepted: Accepted},
		{Name: "root B", Anchor: "bb", Sent: hexOf(court.b.Certificate[0]), Accepted: Rejected},
		{Name: "the throwaway root", Anchor: Stranger, Sent: hexOf(court.t.Certificate[0]), Accepted: Rejected},
	}
	for i := range back.Trials {
		if i > 0 && !strings.Contains(back.Trials[i].Error, "certificate") {
			t.Errorf("%s is refused with %q", back.Trials[i].Name, back.Trials[i].Error)
		}
		back.Trials[i].Error = ""
	}
	if !slices.Equal(back.Trials, want) {
		t.Errorf("trials %+v\nwant %+v", back.Trials, want)
	}
	for _, other := range seen[:len(seen)-1] {
		if len(other.Trials) > 0 {
			t.Error("an observation that is not the last speaks for the proof")
		}
	}
}

// TestSilenceIsNoRefusal: a server that takes what should be refused need not
// say so.
func TestSilenceIsNoRefusal(t *testing.T) {
	t.Parallel()
	court := newCourt(t)
	address := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{court.leaf}, ClientAuth: tls.RequestClientCert, SessionTicketsDisabled: true})
	expected := court.expect(address)
	expected.ClientAuth, expected.Timeout = ClientAuthOptional, 3*time.Second
	verdict, seen := Prove(context.Background(), expected)
	if verdict.Proven || verdict.Cause != CauseTrusts || !strings.Contains(verdict.Reason, "does not refuse a client certificate under root B") {
		t.Errorf("%+v", verdict)
	}
	if last := seen[len(seen)-1]; len(last.Trials) != 3 || last.Trials[1].Accepted != Silent {
		t.Errorf("%+v", last.Trials)
	}
}

// TestNobodyIsTriedWhereNobodyIsAsked: a certificate that was never sent was
// never refused.
func TestNobodyIsTriedWhereNobodyIsAsked(t *testing.T) {
	t.Parallel()
	court := newCourt(t)
	expected := court.expect(newLiar(t, always(court.leaf)).address)
	expected.ClientAuth = ClientAuthUnchecked
	verdict, _ := Prove(context.Background(), expected)
	if verdict.Proven || verdict.Cause != CauseClientAuth || !strings.Contains(verdict.Reason, "does not ask clients for a certificate") {
		t.Errorf("%+v", verdict)
	}
}

// TestTrustMayComeLate: workers that linger on the old bundle are waited for,
// and the window is whole afterwards.
func TestTrustMayComeLate(t *testing.T) {
	t.Parallel()
	court := newCourt(t)
	server := court.guard(t, func(name string, before int) bool { return name == "A" || name == "B" && before < 3 })
	verdict, _ := Prove(context.Background(), patient(court.expect(server.address)))
	if !verdict.Proven || server.count("B") != 3+passesPerWindow {
		t.Errorf("B was tried %d times: %+v", server.count("B"), verdict)
	}
}

// TestTrustMustLast: what is refused early in the window and accepted late is
// not proven, and what begins anew begins with everything.
func TestTrustMustLast(t *testing.T) {
	t.Parallel()
	court := newCourt(t)
	flips := court.guard(t, func(name string, before int) bool { return name == "A" || name == "T" && before%2 == 1 })
	verdict, _ := Prove(context.Background(), court.expect(flips.address))
	if verdict.Proven || verdict.Cause != CauseTrusts || !strings.Contains(verdict.Reason, "it flips") {
		t.Errorf("%+v", verdict)
	}
	once := court.guard(t, func(name string, before int) bool { return name == "A" || name == "T" && before == 1 })
	verdict, _ = Prove(context.Background(), patient(court.expect(once.address)))
	for _, name := range []string{"A", "B", "T", "old", "1.2"} {
		if got := once.count(name); got != 2*passesPerWindow {
			t.Errorf("%s came %d times: %v", name, got, once.visitors())
		}
	}
	if !verdict.Proven {
		t.Errorf("%+v", verdict)
	}
}

// TestTrialsWithoutControlsAreRefused before a single handshake.
func TestTrialsWithoutControlsAreRefused(t *testing.T) {
	court := newCourt(t)
	server := court.guard(t, only("A"))
	a, b := Trial{Name: "root A", Certificate: &court.a, Accept: true}, Trial{Name: "root B", Certificate: &court.b}
	for name, c := range map[string]struct {
		trials []Trial
		must   bool
		fits   bool
	}{
		"none":                    {nil, false, true},
		"one of each":             {[]Trial{b, a}, false, true},
		"nothing to accept":       {[]Trial{b}, false, false},
		"the server's own client": {[]Trial{b}, true, true},
		"nothing to refuse":       {[]Trial{a}, false, false},
		"nor beside its own":      {[]Trial{a}, true, false},
		"no certificate":          {[]Trial{a, {Name: "root B"}}, false, false},
		"an empty certificate":    {[]Trial{a, {Name: "root B", Certificate: &tls.Certificate{}}}, false, false},
	} {
		e := court.expect(server.address)
		e.Trials, e.MustAccept, e.Spec.Certificate = c.trials, c.must, &court.a
		if err := e.check(); (err == nil) != c.fits || err != nil && fault.CodeOf(err) != fault.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	if verdict, _ := Prove(context.Background(), Expectation{}); verdict.Proven || len(server.visitors()) > 0 {
		t.Errorf("%+v", verdict)
	}
}
