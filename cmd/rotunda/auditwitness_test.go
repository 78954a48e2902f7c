package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/internal/loopback"
)

// runningWitness is rotunda audit witness, with a key of its own.
type runningWitness struct {
	t                *testing.T
	state, url, vkey string
	stop             func()
}

func newRunningWitness(t *testing.T, name, logKey string) *runningWitness {
	t.Helper()
	w := &runningWitness{t: t, state: filepath.Join(t.TempDir(), "state")}
	code, out, errs := rotunda("audit", "witness", "key", name, "--state", w.state)
	if code != 0 {
		t.Fatalf("exit %d\n%s", code, errs)
	}
	w.vkey = strings.TrimSpace(out)
	w.start(logKey)
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *runningWitness) start(logKey string) {
	w.t.Helper()
	address, err := loopback.Reserve()
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	cmd := newRootCommand()
	cmd.SetArgs([]string{"audit", "witness", "serve", "--state", w.state, "--listen", address, "--log-key", logKey})
	said, log := io.Pipe()
	cmd.SetErr(log)
	cmd.SetOut(log)
	go func() { ended <- cmd.ExecuteContext(ctx); log.Close() }()
	if _, err := io.ReadAtLeast(said, make([]byte, 4096), 1); err != nil { // it says where it listens
		w.t.Fatal(err, <-ended)
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	w.url = "http://" + address
	w.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("the witness ended: %v", err)
		}
		w.stop = func() {}
	}
}

// What prove prints is what a witness takes, and its answer below the checkpoint
// is what verify counts.
func TestAuditCosigned(t *testing.T) {
	l := newLogServer(t, 23)
	credentials := newOperator(t, l)
	pin(t, credentials, l.key)
	w1, w2 := newRunningWitness(t, "witness.example/w1", l.key), newRunningWitness(t, "witness.example/w2", l.key)
	ask := func(w *runningWitness, from string) (int, string) {
		t.Helper()
		code, out, errs := rotunda("audit", "prove", "--from", from, "--credentials", credentials)
		if code != 0 {
			t.Fatalf("exit %d\n%s", code, errs)
		}
		response, err := http.Post(w.url+"/add-checkpoint", "text/plain", strings.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(answer)
	}
	if status, _ := ask(w1, "0"); status != http.StatusOK {
		t.Fatalf("the first checkpoint: %d", status)
	}
	l.grow(t, 8, "apply")
	if status, answer := ask(w1, "0"); status != http.StatusConflict || answer != "23\n" {
		t.Fatalf("from another size: %d %s", status, answer)
	}
	w1.stop()
	w1.start(l.key) // and what it cosigned it knows still
	status, line := ask(w1, "23")
	if status != http.StatusOK {
		t.Fatalf("from the size that the witness has: %d", status)
	}
	path := filepath.Join(t.TempDir(), "cosigned")
	if err := os.WriteFile(path, append(l.checkpoint[:len(l.checkpoint):len(l.checkpoint)], line...), 0o600); err != nil {
		t.Fatal(err)
	}
	verify := func(more ...string) (int, string, string) {
		return rotunda(append([]string{"audit", "verify", "--credentials", credentials, "--checkpoint", path}, more...)...)
	}
	if code, out, errs := verify("--witness", w1.vkey); code != 0 || !strings.Contains(out, "the first 31 entries, by witness.example/w1") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	if code, out, errs := verify("--witness", w1.vkey, "--witness", w2.vkey, "--required", "1", "-o", "json"); code != 0 || !strings.Contains(out, `"size": 31`) {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	if code, out, errs := verify("--witness", w1.vkey, "--witness", w2.vkey); code != exitError || out != "" || !strings.Contains(errs, "cosigned by 2 of the 2 witnesses") {
		t.Errorf("one of two: exit %d\n%s%s", code, out, errs)
	}
	for _, flags := range [][]string{{"--witness", w1.vkey, "--required", "2"}, {"--required", "1"}} {
		if code, _, errs := verify(flags...); code != exitUsage {
			t.Errorf("%v: exit %d\n%s", flags, code, errs)
		}
	}
	if code, _, errs := verify("--witness", w1.vkey, "--witness", w1.vkey); code != exitError || !strings.Contains(errs, "count once") {
		t.Errorf("one witness twice: exit %d\n%s", code, errs)
	}
	// The log is rewritten: the witness does not go along.
	l.entries, l.checkpoint, l.kept = nil, nil, nil
	l.grow(t, 40, "forged")
	if status, _ := ask(w1, "31"); status != http.StatusUnprocessableEntity {
		t.Errorf("a rewritten log: %d", status)
	}
	if code, _, errs := verify("--witness", w1.vkey); code != exitError || !strings.Contains(errs, "first bad index between 0 and 30") {
		t.Errorf("a rewritten log against what was cosigned: exit %d\n%s", code, errs)
	}
}
