package agent

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

func wantFault(t *testing.T, err error, code fault.Code, words ...string) {
	t.Helper()
	if err == nil || fault.CodeOf(err) != code {
		t.Fatalf("error %v, want one of kind %s", err, code)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
}

func TestEnrolAndSync(t *testing.T) {
	p := newPlane(t)
	address, stop := p.serve(t, "127.0.0.1:0")
	config := configFor(t.TempDir(), address)
	token := p.token("")
	a := start(t, config, token)
	a.isReady(t)
	hello := p.report(t, "with hello", func(r *api.AgentReport) bool { return r.Hello != nil })
	if hello.Hello.Facts["hostname"] == "" || !hello.Full || hello.AgentTime == nil || len(hello.Checkpoint) == 0 {
		t.Errorf("first report is %v", hello)
	}
	if now := uint64(time.Now().Unix()); hello.Hello.Boot < now-60 || hello.Hello.Boot > now+60 {
		t.Errorf("boot counter %d does not begin at the time of enrolment", hello.Hello.Boot)
	}
	p.push(func(d *api.DesiredState) { d.RenewIdentityAt = timestamppb.New(time.Now().Add(30 * time.Minute)) })
	p.report(t, "of the newest state", func(r *api.AgentReport) bool { return r.DesiredSeq == 2 })
	id := a.Identity()
	if err := a.stop(t); !isCanceled(err) {
		t.Fatalf("Run: %v", err)
	}
	stop()

	// The same token is harmless later, and no server is needed.
	again := start(t, config, token)
	again.isReady(t)
	if again.Identity().AgentID != id.AgentID || again.syncer.seq() != 2 || again.syncer.newest.Load().RenewIdentityAt == nil {
		t.Errorf("after a restart without a server: agent %s, state %v", again.Identity().AgentID, again.syncer.newest.Load())
	}
	p.set(func() {
		if p.enrolled != 1 {
			t.Errorf("enrolled %d times", p.enrolled)
		}
	})
	// It finds the server when that comes back.
	p.serve(t, address)
	p.report(t, "after the server came back", func(r *api.AgentReport) bool { return r.Hello != nil })
}

func TestEnrolmentNeedsAToken(t *testing.T) {
	a := start(t, configFor(t.TempDir(), "127.0.0.1:1"), "")
	wantFault(t, a.ended(t), fault.Invalid, "rotunda token create")
}

func TestWrongPinIsRefusedBeforeAnythingIsSent(t *testing.T) {
	p, other := newPlane(t), newPlane(t)
	address, _ := p.serve(t, "127.0.0.1:0")
	a := start(t, configFor(t.TempDir(), address), other.token(""))
	wantFault(t, a.ended(t), fault.Forbidden, "pinned root", address)
	p.set(func() {
		if p.enrolled != 0 {
			t.Error("the token was shown to a server that is not believed")
		}
	})
}

// A root that is shown, but does not vouch for the server: whoever stands
// between can copy the root's certificate from the wire.
func TestShownRootMustVouch(t *testing.T) {
	p, other := newPlane(t), newPlane(t)
	other.root = p.root // other's chain, p's root beside it
	address, _ := other.serve(t, "127.0.0.1:0")
	a := start(t, configFor(t.TempDir(), address), p.token(""))
	wantFault(t, a.ended(t), fault.Forbidden, "not valid here")
	other.set(func() {
		if other.enrolled != 0 {
			t.Error("the token was shown to a server that is not believed")
		}
	})
}

func TestServerMustBeAServerOfTheDomain(t *testing.T) {
	p := newPlane(t)
	address, _ := p.serve(t, "127.0.0.1:0")
	t.Run("another domain under the same root", func(t *testing.T) {
		other := spiffeid.RequireTrustDomainFromString("example.com")
		link, err := dial(address, trust{other, anchored(p.trusted), time.Now}, nil, "test")
		check(t, err)
		defer link.close()
		_, err = link.Enrol(t.Context(), &api.EnrolRequest{})
		wantFault(t, link.explain(err), fault.Forbidden, "not a server of trust domain example.com")
	})
	t.Run("an agent's certificate", func(t *testing.T) {
		tr := trust{p.domain, anchored(p.trusted), time.Now}
		key := mustKey(t)
		id := mustAgentID(t, p, "a1")
		shown := parseAll(t, p.issue(t, key.Public(), id, x509.ExtKeyUsageServerAuth, time.Hour))
		if err := tr.verify(shown); err == nil || !strings.Contains(err.Error(), "not a server") {
			t.Errorf("an agent passed for a server: %v", err)
		}
	})
}

func TestEnrolmentIsRepeatedWithTheSameKey(t *testing.T) {
	p := newPlane(t)
	address, _ := p.serve(t, "127.0.0.1:0")
	p.lose = once(errLost)
	a := start(t, configFor(t.TempDir(), address), p.token(""))
	a.isReady(t)
	p.set(func() {
		if p.enrolled != 2 {
			t.Errorf("asked %d times, want 2", p.enrolled)
		}
		for _, token := range p.tokens {
			if token.agent != a.Identity().AgentID {
				t.Errorf("enrolled as %s, the token made %s", a.Identity().AgentID, token.agent)
			}
		}
	})
}

// The answer is lost and the agent is gone; the next one on the directory has
// the key and gets the same agent.
func TestEnrolmentSurvivesTheAgent(t *testing.T) {
	p := newPlane(t)
	address, _ := p.serve(t, "127.0.0.1:0")
	config, token := configFor(t.TempDir(), address), p.token("")
	p.lose = func(string) error { return errLost }
	first := start(t, config, token)
	waitFor(t, "an enrolment", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.enrolled > 0
	})
	first.stop(t)
	p.set(func() { p.lose = nil })
	second := start(t, config, token)
	second.isReady(t)
	if _, err := os.Stat(filepath.Join(config.State, identityDir, enrolmentFile)); !os.IsNotExist(err) {
		t.Errorf("the key of the enrolment is still there: %v", err)
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	p := newPlane(t)
	address, _ := p.serve(t, "127.0.0.1:0")
	token := p.token("")
	start(t, configFor(t.TempDir(), address), token).isReady(t)
	parts := strings.Split(token, ".")
	guessed := strings.Replace(token, parts[2], base64.RawURLEncoding.EncodeToString(make([]byte, 24)), 1)
	for name, c := range map[string]struct{ token, says string }{
		"used":    {token, "was used by agent"},
		"guessed": {guessed, "secret is wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			a := start(t, configFor(t.TempDir(), address), c.token)
			wantFault(t, a.ended(t), fault.Forbidden, c.says)
		})
	}
}

func TestEnrolmentTriesAllServers(t *testing.T) {
	p, stranger := newPlane(t), newPlane(t)
	address, _ := p.serve(t, "127.0.0.1:0")
	foreign, _ := stranger.serve(t, "127.0.0.1:0")
	a := start(t, configFor(t.TempDir(), "127.0.0.1:1", foreign, address), p.token(""))
	a.isReady(t)
}

func TestEnrolmentChecksTheAnswer(t *testing.T) {
	p, other := newPlane(t), newPlane(t)
	token, err := ParseToken(p.token(""))
	check(t, err)
	key := mustKey(t)
	good := func() *api.EnrolResponse {
		chain, err := p.identity(key.Public(), "a1")
		check(t, err)
		return &api.EnrolResponse{AgentId: "a1", Chain: chain, Anchors: p.trusted.DER(), LogKey: p.logKey}
	}
	foreign, err := other.identity(key.Public(), "a1")
	check(t, err)
	foreignKey, err := p.identity(mustKey(t).Public(), "a1")
	check(t, err)
	cases := map[string]func(*api.EnrolResponse){
		"":                   func(*api.EnrolResponse) {},
		"another agent's":    func(r *api.EnrolResponse) { r.AgentId = "a2" },
		"no chain":           func(r *api.EnrolResponse) { r.Chain = nil },
		"another key":        func(r *api.EnrolResponse) { r.Chain = foreignKey },
		"foreign chain":      func(r *api.EnrolResponse) { r.Chain = foreign },
		"no anchors":         func(r *api.EnrolResponse) { r.Anchors = nil },
		"foreign anchors":    func(r *api.EnrolResponse) { r.Anchors = other.trusted.DER() },
		"without the pinned": func(r *api.EnrolResponse) { r.Chain, r.Anchors = foreign, other.trusted.DER() },
		"another log":        func(r *api.EnrolResponse) { r.LogKey = other.logKey },
	}
	for name, spoil := range cases {
		r := good()
		spoil(r)
		e := &enrolment{token: token, now: time.Now}
		identity := &Identity{TrustDomain: p.domain, Token: token.ID, LogKey: token.LogKey, Key: key}
		if err := e.fill(identity, r); (err == nil) != (name == "") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestStateOfAnotherDomain(t *testing.T) {
	p, other := newPlane(t), newPlaneOf(t, "example.com")
	address, _ := p.serve(t, "127.0.0.1:0")
	config := configFor(t.TempDir(), address)
	a := start(t, config, p.token(""))
	a.isReady(t)
	a.stop(t)
	_, err := tryStart(t, config, other.token(""))
	wantFault(t, err, fault.Conflict, "example.org", "example.com", "--state")
	config.TrustDomain = "example.com"
	_, err = tryStart(t, config, "")
	wantFault(t, err, fault.Conflict, "example.org", "example.com")
}

func TestTokenMustAgreeWithConfig(t *testing.T) {
	p, other := newPlane(t), newPlaneOf(t, "example.com")
	config := configFor(t.TempDir(), "127.0.0.1:1")
	config.TrustDomain, config.CAPin, config.LogKey = "example.com", fmt.Sprintf("%x", sha256.Sum256(other.root.Raw)), other.logKey
	_, err := tryStart(t, config, p.token(""))
	wantFault(t, err, fault.Conflict, "trustDomain", "caPin", "logKey")
}

func TestAnotherAgentsTokenOnOneDirectory(t *testing.T) {
	p := newPlane(t)
	address, _ := p.serve(t, "127.0.0.1:0")
	config := configFor(t.TempDir(), address)
	a := start(t, config, p.token(""))
	a.isReady(t)
	id := a.Identity().AgentID
	a.stop(t)
	b := start(t, config, p.token(""))
	wantFault(t, b.ended(t), fault.Conflict, "rotunda agent rejoin "+id)
	b.stop(t)
	c := start(t, config, "") // and what was there works on
	c.isReady(t)
	if c.Identity().AgentID != id {
		t.Errorf("the directory is of %s now", c.Identity().AgentID)
	}
}

func TestCorruptedIdentity(t *testing.T) {
	p := newPlane(t)
	address, _ := p.serve(t, "127.0.0.1:0")
	config := configFor(t.TempDir(), address)
	a := start(t, config, p.token(""))
	a.isReady(t)
	p.stream(t)
	id := a.Identity().AgentID
	a.stop(t)
	p.set(func() { p.boots[id] -= 10 }) // it was some time ago
	path := filepath.Join(config.State, identityDir, currentFile)
	content, err := os.ReadFile(path)
	check(t, err)
	for name, spoilt := range map[string][]byte{
		"empty": nil, "cut off": content[:len(content)/2], "one bit": bytes.Replace(content, []byte(`\nMI`), []byte(`\nMJ`), 1),
	} {
		check(t, os.WriteFile(path, spoilt, 0o600))
		_, err := tryStart(t, config, "")
		if err == nil {
			t.Fatalf("%s: started", name)
		}
		wantFault(t, err, fault.Conflict, "rotunda agent rejoin")
	}
	b := start(t, config, p.token(id)) // the remedy
	b.isReady(t)
	if b.Identity().AgentID != id {
		t.Errorf("rejoined as %s, not as %s", b.Identity().AgentID, id)
	}
	p.stream(t)
}

func TestTwoAgentsOnOneDirectory(t *testing.T) {
	p := newPlane(t)
	address, _ := p.serve(t, "127.0.0.1:0")
	config := configFor(t.TempDir(), address)
	start(t, config, p.token("")).isReady(t)
	_, err := tryStart(t, config, "")
	wantFault(t, err, fault.Conflict, "in use by another agent", fmt.Sprint(os.Getpid()))
}

func TestStateDirectoryMustBeOurs(t *testing.T) {
	config := configFor(t.TempDir(), "127.0.0.1:1")
	check(t, os.Mkdir(config.State, 0o700))
	check(t, os.Chmod(config.State, 0o777))
	_, err := tryStart(t, config, "")
	wantFault(t, err, fault.Invalid, "chmod go-w")
}

// A host that lost its directory comes back as the same agent: the boot counter
// begins above all that the server has seen of it.
func TestRejoinWithAnEmptyDirectory(t *testing.T) {
	p := newPlane(t)
	address, _ := p.serve(t, "127.0.0.1:0")
	a := start(t, configFor(t.TempDir(), address), p.token(""))
	a.isReady(t)
	p.stream(t)
	id := a.Identity().AgentID
	a.stop(t)
	p.set(func() { p.boots[id] -= 10 }) // it was some time ago
	b := start(t, configFor(t.TempDir(), address), p.token(id))
	b.isReady(t)
	p.stream(t)
}

// A copy of the state directory on another host: one of the two is refused,
// says why, stays down over restarts, and a rejoin brings it back.
func TestCloneIsRefused(t *testing.T) {
	p := newPlane(t)
	address, _ := p.serve(t, "127.0.0.1:0")
	dir := t.TempDir()
	config := configFor(dir, address)
	a := start(t, config, p.token(""))
	a.isReady(t)
	p.stream(t)
	id := a.Identity().AgentID
	a.stop(t)
	clone := configFor(t.TempDir(), address)
	if out, err := exec.Command("cp", "-a", config.State, clone.State).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	a = start(t, config, "")
	p.stream(t)

	b := start(t, clone, "")
	err := b.ended(t)
	if !errors.Is(err, errRefused) {
		t.Fatalf("the copy ended with %v", err)
	}
	wantFault(t, err, fault.Conflict, "boot counter")
	b.stop(t)
	for range 3 { // each start would raise the counter
		_, err := tryStart(t, clone, "")
		wantFault(t, err, fault.Conflict, "boot counter", "rotunda agent rejoin "+id)
	}
	select {
	case err := <-a.done:
		t.Fatalf("the genuine agent ended: %v", err)
	default:
	}
	a.stop(t)
	p.set(func() { p.boots[id] -= 10 })
	c := start(t, clone, p.token(id))
	c.isReady(t)
	p.stream(t)
}

func TestParseToken(t *testing.T) {
	p := newPlane(t)
	text := p.token("")
	token, err := ParseToken(" " + text + "\n")
	check(t, err)
	if token.ID != "t1" || token.Pin != sha256.Sum256(p.root.Raw) || token.LogKey != p.logKey || token.TrustDomain != p.domain {
		t.Errorf("parsed as %+v", token)
	}
	parts := strings.SplitN(text, ".", 6)
	for i, bad := range []string{"rt2", "../x", "short", "abcd", "!!", "Not A Domain"} {
		spoilt := append([]string(nil), parts...)
		spoilt[i] = bad
		_, err := ParseToken(strings.Join(spoilt, "."))
		if err == nil {
			t.Errorf("part %d as %q was accepted", i, bad)
		} else if strings.Contains(err.Error(), parts[2]) {
			t.Errorf("the error quotes the secret: %v", err)
		}
	}
	for _, bad := range []string{"", "rt1", strings.Join(parts[:5], "."), strings.Replace(text, "example.org", "example.com", 1), text + strings.Repeat("x", maxToken)} {
		if _, err := ParseToken(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(newPlane(f).token(""))
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err == nil && (token.ID == "" || token.Secret == "" || token.TrustDomain.IsZero()) {
			t.Fatalf("%q parsed as %+v", text, token)
		}
	})
}

func FuzzDecodeIdentity(f *testing.F) {
	p := newPlane(f)
	key := mustKey(f)
	chain, err := p.identity(key.Public(), "a1")
	check(f, err)
	identity := &Identity{AgentID: "a1", TrustDomain: p.domain, LogKey: p.logKey, Key: key, Anchors: p.trusted}
	identity.Chain = mustChain(f, chain)
	data, err := identity.encode()
	check(f, err)
	if again, err := decodeIdentity(data); err != nil || again.AgentID != "a1" {
		f.Fatalf("decoded as %+v, %v", again, err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		identity, err := decodeIdentity(data)
		if err == nil {
			check(t, identity.belongsTogether())
		}
	})
}
