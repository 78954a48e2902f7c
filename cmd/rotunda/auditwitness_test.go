package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/rotunda-pki/rotunda/audit"
)

// httpWitness is a witness of C2SP tlog-witness that follows one log.
type httpWitness struct {
	name   string
	key    ed25519.PrivateKey
	vkey   string
	log    note.Verifier
	newest audit.Checkpoint
}

func newHTTPWitness(t *testing.T, name, logKey string) *httpWitness {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &httpWitness{name: name, key: private}
	key := append([]byte{4}, public...)
	hash := sha256.Sum256(append([]byte(name+"\n"), key...))
	w.vkey = fmt.Sprintf("%s+%x+%s", name, hash[:4], base64.StdEncoding.EncodeToString(key))
	if w.log, err = note.NewVerifier(logKey); err != nil {
		t.Fatal(err)
	}
	return w
}

// ServeHTTP answers add-checkpoint.
func (w *httpWitness) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.URL.Path != "/add-checkpoint" || r.Method != http.MethodPost {
		out.WriteHeader(http.StatusBadRequest)
		return
	}
	head, signed, _ := strings.Cut(string(body), "\n\n")
	checkpoint, err := audit.OpenCheckpoint([]byte(signed), w.log.Name(), w.log)
	if err != nil {
		out.WriteHeader(http.StatusForbidden)
		return
	}
	lines := strings.Split(head, "\n")
	if lines[0] != fmt.Sprintf("old %d", w.newest.Size) {
		out.Header().Set("Content-Type", "text/x.tlog.size")
		out.WriteHeader(http.StatusConflict)
		fmt.Fprintf(out, "%d\n", w.newest.Size)
		return
	}
	var proof tlog.TreeProof
	for _, line := range lines[1:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			out.WriteHeader(http.StatusBadRequest)
			return
		}
		proof = append(proof, hash)
	}
	if w.newest.Size > 0 && tlog.CheckTree(proof, int64(checkpoint.Size), checkpoint.Root, int64(w.newest.Size), w.newest.Root) != nil || w.newest.Size == 0 && len(proof) > 0 {
		out.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	w.newest = checkpoint
	io.WriteString(out, w.cosignature(signed))
}

func (w *httpWitness) cosignature(signed string) string {
	text, _, _ := strings.Cut(signed, "\n\n")
	const at = 1900000000
	cosigner, err := audit.NewCosigner(w.vkey)
	if err != nil {
		panic(err)
	}
	signature := binary.BigEndian.AppendUint32(nil, cosigner.KeyHash())
	signature = binary.BigEndian.AppendUint64(signature, at)
	signature = append(signature, ed25519.Sign(w.key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s\n", at, text))...)
	return "— " + w.name + " " + base64.StdEncoding.EncodeToString(signature) + "\n"
}

// What prove prints is what a witness takes, and its answer below the checkpoint
// is what verify counts.
func TestAuditCosigned(t *testing.T) {
	l := newLogServer(t, 23)
	credentials := newOperator(t, l)
	pin(t, credentials, l.key)
	w1, w2 := newHTTPWitness(t, "witness.example/w1", l.key), newHTTPWitness(t, "witness.example/w2", l.key)
	ask := func(w *httpWitness, from string) (int, string) {
		t.Helper()
		server := httptest.NewServer(w)
		defer server.Close()
		code, out, errs := rotunda("audit", "prove", "--from", from, "--credentials", credentials)
		if code != 0 {
			t.Fatalf("exit %d\n%s", code, errs)
		}
		response, err := http.Post(server.URL+"/add-checkpoint", "text/plain", strings.NewReader(out))
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
	for _, flags := range [][]string{{"--witness", w1.vkey, "--witness", w1.vkey}, {"--witness", w1.vkey, "--required", "2"}, {"--required", "1"}} {
		if code, _, errs := verify(flags...); code != exitUsage {
			t.Errorf("%v: exit %d\n%s", flags, code, errs)
		}
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
