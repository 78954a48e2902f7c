package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/audit"
)

const origin = "test.example/audit"

// testLog is a log that signs whatever size a test asks for.
type testLog struct {
	*audit.Tree
	t      testing.TB
	signer note.Signer
	key    string
}

func newTestLog(t testing.TB, size int) *testLog {
	t.Helper()
	skey, vkey, err := audit.NewLogKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	l := &testLog{audit.NewTree(), t, signer, vkey}
	l.grow(size, "entry")
	return l
}

// fork is a log of the same key with other entries.
func (l *testLog) fork(size int) *testLog {
	other := &testLog{audit.NewTree(), l.t, l.signer, l.key}
	other.grow(size, "forged")
	return other
}

func (l *testLog) grow(n int, what string) {
	l.t.Helper()
	for range n {
		if err := l.Append(audit.LeafHash(fmt.Appendf(nil, "%s %d", what, l.Size()))); err != nil {
			l.t.Fatal(err)
		}
	}
}

func (l *testLog) sign(size uint64) []byte {
	l.t.Helper()
	root, err := l.RootAt(size)
	if err != nil {
		l.t.Fatal(err)
	}
	signed, err := audit.Checkpoint{Origin: origin, Size: size, Root: root}.Sign(l.signer)
	if err != nil {
		l.t.Fatal(err)
	}
	return signed
}

func (l *testLog) request(from, to uint64) audit.AddCheckpoint {
	l.t.Helper()
	proof, err := audit.ProveConsistency(from, to, audit.TileReader(l.ReadTile))
	if err != nil {
		l.t.Fatal(err)
	}
	return audit.AddCheckpoint{Old: from, Proof: proof, Signed: l.sign(to)}
}

func (l *testLog) verifier() note.Verifier {
	l.t.Helper()
	v, err := note.NewVerifier(l.key)
	if err != nil {
		l.t.Fatal(err)
	}
	return v
}

func directory(t testing.TB) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	if _, err := CreateKey(root, "witness.example/w1"); err != nil {
		t.Fatal(err)
	}
	return root
}

func open(t testing.TB, root *os.Root, logKeys ...string) *State {
	t.Helper()
	s, err := Open(root, logKeys, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func client(t testing.TB, s *State, url string) *Client {
	t.Helper()
	c, err := NewClient(Peer{Name: "w1", Key: s.Cosigner().VerifierKey(), URL: url}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// A witness cosigns what goes on from what it cosigned last, over a restart too,
// and answers all else as C2SP tlog-witness has it.
func TestWitness(t *testing.T) {
	l, root := newTestLog(t, 300), directory(t)
	s := open(t, root, l.key)
	serve := func() *Client {
		server := httptest.NewServer(s.Handler())
		t.Cleanup(server.Close)
		return client(t, s, server.URL+"/")
	}
	c := serve()
	add := func(request audit.AddCheckpoint) error {
		t.Helper()
		_, err := c.Add(t.Context(), request)
		return err
	}
	if _, _, _, err := c.Newest(t.Context(), l.verifier()); err == nil {
		t.Error("a checkpoint before the first")
	}
	cosignature, err := c.Add(t.Context(), l.request(0, 117))
	if err != nil || time.Since(cosignature.At) > time.Minute {
		t.Fatalf("%+v, %v", cosignature, err)
	}
	if err := add(l.request(117, 117)); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, root, l.key)
	c = serve()
	forged, bad := l.fork(300), l.request(117, 250)
	bad.Proof[0][3] ^= 1
	stranger := newTestLog(t, 200)
	for name, c := range map[string]struct {
		request audit.AddCheckpoint
		want    string
	}{
		"from the start":       {l.request(0, 250), "117 entries last"},
		"from another size":    {l.request(100, 250), "117 entries last"},
		"a size before":        {l.request(90, 90), "117 entries last"},
		"a fork of that size":  {forged.request(117, 117), "117 entries last"},
		"a fork beyond":        {forged.request(117, 250), "does not begin with"},
		"a proof that is none": {bad, "does not begin with"},
		"another key's":        {stranger.request(117, 200), "403"},
	} {
		if err := add(c.request); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	signed, cp, at, err := c.Newest(t.Context(), l.verifier())
	if err != nil || cp.Size != 117 || time.Since(at) > time.Minute || !bytes.HasPrefix(signed, l.sign(117)) {
		t.Errorf("newest %+v at %s, %v", cp, at, err)
	}
	if err := add(l.request(117, 300)); err != nil {
		t.Errorf("what goes on: %v", err)
	}
}

// What can't be kept is not cosigned: who got the line could be shown a fork
// after the next start.
func TestNothingIsCosignedThatIsNotKept(t *testing.T) {
	l, root := newTestLog(t, 50), directory(t)
	s := open(t, root, l.key)
	defer s.Close()
	if _, err := s.Add(l.request(0, 20)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(root.Name(), s.logs[origin].file)
	kept, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(file, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if line, err := s.Add(l.request(20, 50)); err == nil || line != nil {
		t.Errorf("%q, %v", line, err)
	}
	if !bytes.Equal(s.Newest(origin), kept) {
		t.Error("it remembers what it could not keep")
	}
}

// Requests at the same time never bring the witness back: of those that go on
// from one size, one is cosigned.
func TestRequestsAtOnce(t *testing.T) {
	l, root := newTestLog(t, 64), directory(t)
	s := open(t, root, l.key)
	defer s.Close()
	const each = 8
	for from := uint64(0); from < 64; from += each {
		begin := make(chan struct{})
		var group sync.WaitGroup
		var cosigned atomic.Int64
		for to := from + 1; to <= from+each; to++ {
			request := l.request(from, to)
			group.Go(func() {
				<-begin
				if _, err := s.Add(request); err == nil {
					cosigned.Add(1)
				}
			})
		}
		close(begin)
		group.Wait()
		if cosigned.Load() != 1 {
			t.Fatalf("%d of %d checkpoints that all go on from %d were cosigned", cosigned.Load(), each, from)
		}
		at := s.logs[origin].newest.Size
		if at < from+each {
			if _, err := s.Add(l.request(at, from+each)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestOneProcessPerDirectory(t *testing.T) {
	l, root := newTestLog(t, 1), directory(t)
	s := open(t, root, l.key)
	if _, err := Open(root, []string{l.key}, time.Now, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("two witnesses in one directory")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateKey(root, "witness.example/w1"); err == nil {
		t.Error("a second key in one directory")
	}
	if _, err := s.Add(l.request(0, 1)); err != nil {
		t.Fatal(err)
	}
	if err := root.WriteFile(s.logs[origin].file, []byte("garbage\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(root, []string{l.key}, time.Now, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a witness whose memory can't be read starts over")
	}
}

// Whatever comes but the witness's own fresh cosignature of this checkpoint is
// an error, in time, and says what it is.
func TestClientBelievesNothing(t *testing.T) {
	l := newTestLog(t, 40)
	key, err := audit.NewCosigningKey("witness.example/w1")
	if err != nil {
		t.Fatal(err)
	}
	impostor, err := audit.NewCosigningKey("witness.example/w1")
	if err != nil {
		t.Fatal(err)
	}
	at := func(size uint64) audit.Checkpoint {
		root, err := l.RootAt(size)
		if err != nil {
			t.Fatal(err)
		}
		return audit.Checkpoint{Origin: origin, Size: size, Root: root}
	}
	now := time.Now()
	text := func(body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }
	}
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code); _, _ = io.WriteString(w, body) }
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"the wrong key":      {text(impostor.Cosign(at(40), now)), "no cosignature by its key"},
		"an older size":      {text(key.Cosign(at(30), now)), "not one of this checkpoint"},
		"another root":       {text(key.Cosign(audit.Checkpoint{Origin: origin, Size: 40, Root: at(30).Root}, now)), "not one of this checkpoint"},
		"an old time":        {text(key.Cosign(at(40), now.Add(-time.Hour))), "clocks"},
		"a time to come":     {text(key.Cosign(at(40), now.Add(time.Hour))), "clocks"},
		"garbage":            {text([]byte("<html>hello")), "not lines of signatures"},
		"nothing":            {text(nil), "not lines of signatures"},
		"a bare checkpoint":  {text(l.sign(40)), "not lines of signatures"},
		"another's cosigned": {text(append(l.sign(40), impostor.Cosign(at(40), now)...)), "not lines of signatures"},
		"a huge body":        {text(bytes.Repeat(key.Cosign(at(40), now), 1000)), "longer than"},
		"403":                {status(403, ""), "another key"},
		"404":                {status(404, ""), "does not know the log"},
		"500":                {status(500, ""), "500"},
		"201":                {status(201, string(key.Cosign(at(40), now))), "201"},
		"409 and no size":    {status(409, "no"), "no size"},
		"409 and a form":     {status(409, "017\n"), "no size"},
		"a redirect":         {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusTemporaryRedirect) }, "307"},
		"silence":            {func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() }, "deadline"},
		"a body that ends":   {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(c.answer)
			defer server.Close()
			client, err := NewClient(Peer{Key: key.Cosigner().VerifierKey(), URL: server.URL}, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if got, err := client.Add(ctx, l.request(0, 40)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q, %v, want %q", got.Line, err, c.want)
			}
			if _, _, _, err := client.Newest(ctx, l.verifier()); err == nil {
				t.Error("it is taken for the newest checkpoint")
			}
		})
	}
}

func TestConfig(t *testing.T) {
	key := func(name string) string {
		k, err := audit.NewCosigningKey(name)
		if err != nil {
			t.Fatal(err)
		}
		return k.Cosigner().VerifierKey()
	}
	k1, k2 := key("witness.example/w1"), key("witness.example/w2")
	good := Peer{Name: "w1", Key: k1, URL: "https://witness.example/w1"}
	with := func(change func(*Peer)) Config {
		p := good
		change(&p)
		return Config{Ask: []Peer{p}}
	}
	if err := (Config{Required: 2, Ask: []Peer{good, {Name: "w2", Key: k2, URL: "http://[::1]:8080/"}}}).Validate(); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]Config{
		"more than there are": {Required: 2, Ask: []Peer{good}}, "fewer than none": {Required: -1, Ask: []Peer{good}},
		"a name twice": {Ask: []Peer{good, {Name: "w1", Key: k2, URL: good.URL}}}, "a key twice": {Ask: []Peer{good, {Name: "w2", Key: k1, URL: good.URL}}},
		"no name": with(func(p *Peer) { p.Name = "" }), "a log's key": with(func(p *Peer) { p.Key = newTestLog(t, 0).key }),
		"no URL": with(func(p *Peer) { p.URL = "witness.example" }), "a user": with(func(p *Peer) { p.URL = "https://u:p@witness.example" }),
		"a query": with(func(p *Peer) { p.URL = "https://witness.example/?a" }), "too many": {Ask: make([]Peer, 17)},
	} {
		if err := c.Validate(); err == nil {
			t.Errorf("%s is allowed", name)
		}
	}
}

// No body makes the witness go back, or cosign what the log did not sign.
func FuzzAddCheckpoint(f *testing.F) {
	l, root := newTestLog(f, 9), directory(f)
	s := open(f, root, l.key)
	if _, err := s.Add(l.request(0, 5)); err != nil {
		f.Fatal(err)
	}
	verifier := l.verifier()
	f.Add(l.request(5, 9).Encode())
	f.Add(l.request(5, 5).Encode())
	f.Add(l.fork(9).request(5, 9).Encode())
	f.Fuzz(func(t *testing.T, body []byte) {
		request, err := audit.ParseAddCheckpoint(body)
		if err != nil {
			return
		}
		line, err := s.Add(request)
		var refusal *refusalError
		if err != nil && !errors.As(err, &refusal) {
			t.Fatal(err)
		}
		cp, openErr := audit.OpenCheckpoint(s.Newest(origin), origin, verifier)
		if openErr != nil || cp.Size != 5 && cp.Size != 9 {
			t.Fatalf("%+v, %v", cp, openErr)
		}
		if want, _ := l.RootAt(cp.Size); cp.Root != want || line != nil && !bytes.HasSuffix(s.Newest(origin), line) {
			t.Fatalf("%+v after %q", cp, body)
		}
	})
}
