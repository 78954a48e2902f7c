package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/api/apiconnect"
	"github.com/rotunda-pki/rotunda/audit"
)

// logServer serves an audit log that a test grows, and tampers with.
type logServer struct {
	apiconnect.UnimplementedOperatorServiceHandler

	mu         sync.Mutex
	signer     note.Signer
	key        string
	entries    []*api.AuditEntry
	checkpoint []byte
	kept       [][]byte      // older checkpoints
	grown      chan struct{} // closed when the log grows
	breaks     int           // how many watches end after one page
}

func newLogServer(t *testing.T, size int) *logServer {
	t.Helper()
	secret, public, err := audit.NewLogKey(audit.Origin("prod.example"))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	l := &logServer{signer: signer, key: public, grown: make(chan struct{})}
	l.grow(t, size, "token.create")
	return l
}

func (l *logServer) grow(t *testing.T, n int, verb string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for range n {
		at := uint64(len(l.entries))
		entry := audit.Entry{
			ID: fmt.Sprintf("0199c2f4-6a51-7c1e-8000-%012d", at), Time: time.Date(2026, 3, 1, 14, 2, int(at%60), 0, time.UTC),
			Actor: audit.Actor{Kind: "operator", ID: "ann"}, Verb: verb, Object: fmt.Sprintf("Token/%d", at), Outcome: audit.Done,
		}
		content, err := entry.Encode()
		if err != nil {
			t.Fatal(err)
		}
		leaf := audit.LeafHash(content)
		l.entries = append(l.entries, &api.AuditEntry{Id: entry.ID, Index: at, Content: content, LeafHash: leaf[:]})
	}
	l.sign(t)
	close(l.grown)
	l.grown = make(chan struct{})
}

func (l *logServer) sign(t *testing.T) {
	t.Helper()
	if l.checkpoint != nil {
		l.kept = append(l.kept, l.checkpoint)
	}
	var err error
	l.checkpoint, err = audit.Checkpoint{Origin: l.signer.Name(), Size: uint64(len(l.entries)), Root: l.tree().Root()}.Sign(l.signer)
	if err != nil {
		t.Fatal(err)
	}
}

func (l *logServer) page(from uint64, limit int) *api.ListAuditEntriesResponse {
	l.mu.Lock()
	defer l.mu.Unlock()
	response := &api.ListAuditEntriesResponse{Checkpoint: l.checkpoint, LogKey: l.key}
	for at := int(from); at < len(l.entries) && len(response.Entries) < limit; at++ {
		response.Entries = append(response.Entries, l.entries[at])
	}
	return response
}

func (l *logServer) ListAuditEntries(_ context.Context, r *connect.Request[api.ListAuditEntriesRequest]) (*connect.Response[api.ListAuditEntriesResponse], error) {
	limit := min(int(r.Msg.Limit), 7) // smaller pages than were asked for, so that there are several
	if !r.Msg.Newest {
		return connect.NewResponse(l.page(r.Msg.From, limit)), nil
	}
	l.mu.Lock()
	size := len(l.entries)
	l.mu.Unlock()
	return connect.NewResponse(l.page(uint64(max(0, size-limit)), limit)), nil
}

func (l *logServer) ListCheckpoints(_ context.Context, r *connect.Request[api.ListCheckpointsRequest]) (*connect.Response[api.ListCheckpointsResponse], error) {
	response := &api.ListCheckpointsResponse{}
	for _, signed := range l.kept {
		if treeSize(signed) >= r.Msg.From && len(response.Checkpoints) < 2 {
			response.Checkpoints = append(response.Checkpoints, signed)
		}
	}
	return connect.NewResponse(response), nil
}

// tree is over the leaf hashes that the server has in its own.
func (l *logServer) tree() *audit.Tree {
	tree := audit.NewTree()
	for _, entry := range l.entries {
		if err := tree.Append(audit.Hash(entry.LeafHash)); err != nil {
			panic(err)
		}
	}
	return tree
}

func (l *logServer) ShowAuditEntry(_ context.Context, r *connect.Request[api.ShowAuditEntryRequest]) (*connect.Response[api.ShowAuditEntryResponse], error) {
	index := r.Msg.Index
	for _, entry := range l.entries {
		if r.Msg.Id != "" && entry.Id == r.Msg.Id {
			index = entry.Index
		}
	}
	tree := l.tree()
	response := &api.ShowAuditEntryResponse{Entry: l.entries[index], Size: tree.Size(), Checkpoint: l.checkpoint}
	for _, hash := range audit.NewProver(tree).Prove(index) {
		response.Proof = append(response.Proof, hash[:])
	}
	return connect.NewResponse(response), nil
}

func (l *logServer) ProveAuditGrowth(_ context.Context, r *connect.Request[api.ProveAuditGrowthRequest]) (*connect.Response[api.ProveAuditGrowthResponse], error) {
	tree := l.tree()
	response := &api.ProveAuditGrowthResponse{From: r.Msg.From, To: tree.Size(), NewCheckpoint: l.checkpoint}
	for _, signed := range l.kept {
		if treeSize(signed) == r.Msg.From {
			response.OldCheckpoint = signed
		}
	}
	proof, err := audit.ProveConsistency(r.Msg.From, tree.Size(), audit.TileReader(tree.ReadTile))
	for _, hash := range proof {
		response.Proof = append(response.Proof, hash[:])
	}
	return connect.NewResponse(response), err
}

func (l *logServer) WatchAuditEntries(ctx context.Context, r *connect.Request[api.ListAuditEntriesRequest], stream *connect.ServerStream[api.ListAuditEntriesResponse]) error {
	next := r.Msg.From
	for {
		l.mu.Lock()
		grown := l.grown
		l.mu.Unlock()
		page := l.page(next, 7)
		if len(page.Entries) > 0 {
			if err := stream.Send(page); err != nil {
				return err
			}
			next += uint64(len(page.Entries))
			l.mu.Lock()
			broken := l.breaks > 0
			l.breaks--
			l.mu.Unlock()
			if broken {
				return connect.NewError(connect.CodeUnavailable, fmt.Errorf("the server is stopping"))
			}
			continue
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil
		}
	}
}

func pin(t *testing.T, credentials, key string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(credentials, logKeyFile), []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAuditVerifyWholeLog(t *testing.T) {
	l := newLogServer(t, 23)
	credentials := newOperator(t, l)
	pin(t, credentials, l.key)
	code, out, errs := rotunda("audit", "verify", "--credentials", credentials)
	if code != 0 || !strings.Contains(out, "The audit log is whole.") || !strings.Contains(out, "size          23\n") {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	if strings.Contains(out, "earlier") {
		t.Errorf("nothing was verified before, and yet:\n%s", out)
	}
	l.grow(t, 4, "apply")
	code, out, errs = rotunda("audit", "verify", "--credentials", credentials)
	if code != 0 || !strings.Contains(out, "begins with the 23 that were verified before") {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
}

func TestAuditVerifyEmptyLog(t *testing.T) {
	l := newLogServer(t, 0)
	credentials := newOperator(t, l)
	pin(t, credentials, l.key)
	code, out, errs := rotunda("audit", "verify", "--credentials", credentials)
	if code != 0 || !strings.Contains(out, "size         0\n") {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
}

// forge makes an entry that says something else, in good form.
func forge(t *testing.T, content []byte) []byte {
	t.Helper()
	entry, err := audit.Decode(content)
	if err != nil {
		t.Fatal(err)
	}
	entry.Actor.ID = "mallory"
	forged, err := entry.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return forged
}

func TestAuditVerifyFindsTampering(t *testing.T) {
	cases := []struct {
		name   string
		before bool // verify the untouched log first
		tamper func(t *testing.T, l *logServer)
		says   string
	}{
		{"content", false, func(t *testing.T, l *logServer) {
			l.entries[11].Content = forge(t, l.entries[11].Content)
		}, "first bad index 11: its content"},
		{"two entries", false, func(t *testing.T, l *logServer) {
			l.entries[3].Content = forge(t, l.entries[3].Content)
			l.entries[20].Content = forge(t, l.entries[20].Content)
		}, "first bad index 3: its content"},
		{"content and its hash", false, func(t *testing.T, l *logServer) {
			l.entries[11].Content = forge(t, l.entries[11].Content)
			leaf := audit.LeafHash(l.entries[11].Content)
			l.entries[11].LeafHash = leaf[:]
		}, "first bad index between 0 and 22"},
		{"content and its hash, verified before", true, func(t *testing.T, l *logServer) {
			l.entries[11].Content = forge(t, l.entries[11].Content)
			leaf := audit.LeafHash(l.entries[11].Content)
			l.entries[11].LeafHash = leaf[:]
		}, "first bad index between 0 and 22"},
		{"content and its hash, written since", true, func(t *testing.T, l *logServer) {
			l.grow(t, 5, "apply")
			l.entries[25].Content = forge(t, l.entries[25].Content)
			leaf := audit.LeafHash(l.entries[25].Content)
			l.entries[25].LeafHash = leaf[:]
		}, "first bad index between 23 and 27"},
		{"form", false, func(_ *testing.T, l *logServer) {
			l.entries[5].Content = append(l.entries[5].Content, '\n')
		}, "first bad index 5: its content"},
		{"garbage", false, func(_ *testing.T, l *logServer) { l.entries[5].Content = []byte("no entry") }, "first bad index 5: its content"},
		{"removed", false, func(_ *testing.T, l *logServer) {
			l.entries = append(l.entries[:9:9], l.entries[10:]...)
		}, "first bad index 9: it is missing"},
		{"swapped", false, func(_ *testing.T, l *logServer) {
			l.entries[4], l.entries[5] = l.entries[5], l.entries[4]
		}, "first bad index 4: it is missing"},
		{"swapped with their numbers", false, func(_ *testing.T, l *logServer) {
			l.entries[4].Content, l.entries[5].Content = l.entries[5].Content, l.entries[4].Content
		}, "first bad index 4: its content"},
		{"cut off", false, func(_ *testing.T, l *logServer) { l.entries = l.entries[:20] }, "first bad index 20: it is missing"},
		{"set back", true, func(t *testing.T, l *logServer) {
			l.entries = l.entries[:20]
			l.sign(t)
		}, "first bad index 20: it is missing: the log ends here, and was signed with 23 entries"},
		{"rewritten and signed again", true, func(t *testing.T, l *logServer) {
			l.entries, l.checkpoint = nil, nil
			l.grow(t, 30, "forged")
		}, "first bad index between 0 and 22"},
		{"rewritten and signed again, an older checkpoint left", false, func(t *testing.T, l *logServer) {
			l.entries = nil
			l.grow(t, 30, "forged")
		}, "first bad index between 0 and 22"},
		{"rewritten between two checkpoints that are left", false, func(t *testing.T, l *logServer) {
			l.grow(t, 5, "apply")
			l.entries[25].Content = forge(t, l.entries[25].Content)
			leaf := audit.LeafHash(l.entries[25].Content)
			l.entries[25].LeafHash = leaf[:]
			l.grow(t, 5, "apply")
		}, "first bad index between 23 and 27"},
		{"a hash of the tree", false, func(_ *testing.T, l *logServer) {
			l.entries[7].LeafHash = make([]byte, audit.HashSize)
		}, "first bad index 7: its content"},
		{"another key", false, func(t *testing.T, l *logServer) {
			other := newLogServer(t, 0)
			l.signer = other.signer
			l.sign(t)
		}, "not signed by the pinned log key"},
		{"no checkpoint", false, func(_ *testing.T, l *logServer) { l.checkpoint = nil }, "has signed no checkpoint yet"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l := newLogServer(t, 23)
			credentials := newOperator(t, l)
			pin(t, credentials, l.key)
			if c.before {
				if code, out, errs := rotunda("audit", "verify", "--credentials", credentials); code != 0 {
					t.Fatalf("before: exit %d\n%s%s", code, out, errs)
				}
			}
			c.tamper(t, l)
			code, out, errs := rotunda("audit", "verify", "--credentials", credentials)
			if code != exitError || !strings.Contains(errs, c.says) || out != "" {
				t.Errorf("exit %d, want 1 and %q\n%s%s", code, c.says, out, errs)
			}
		})
	}
}

func TestAuditVerifyWantsAPinnedKey(t *testing.T) {
	l := newLogServer(t, 3)
	credentials := newOperator(t, l)
	code, _, errs := rotunda("audit", "verify", "--credentials", credentials)
	if code != exitError || !strings.Contains(errs, "there is no pinned log key") {
		t.Fatalf("without a key: exit %d\n%s", code, errs)
	}
	code, _, errs = rotunda("audit", "verify", "--credentials", credentials, "--log-key", "garbage")
	if code != exitError || !strings.Contains(errs, "the log key is malformed") {
		t.Fatalf("with garbage: exit %d\n%s", code, errs)
	}
	memory := t.TempDir()
	code, out, errs := rotunda("audit", "verify", "--credentials", credentials, "--log-key", l.key, "--memory", memory)
	if code != 0 {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	if kept, err := os.ReadFile(filepath.Join(memory, checkpointFile)); err != nil || !bytes.Equal(kept, l.checkpoint) {
		t.Errorf("the checkpoint was not kept in --memory: %v", err)
	}
}

// What is exported verifies where no server is, compressed or not, and is named
// by its first bad index when it was touched.
func TestAuditExport(t *testing.T) {
	l := newLogServer(t, 23)
	l.grow(t, 8, "apply")
	credentials := newOperator(t, l)
	pin(t, credentials, l.key)
	key := filepath.Join(credentials, logKeyFile)
	for _, name := range []string{"audit.jsonl", "audit.jsonl.zst"} {
		path := filepath.Join(t.TempDir(), name)
		if code, out, errs := rotunda("audit", "export", path, "--credentials", credentials); code != 0 {
			t.Fatalf("exit %d\n%s%s", code, out, errs)
		}
		code, out, errs := rotunda("audit", "verify", "--export", path, "--log-key", key)
		if code != 0 || !strings.Contains(out, "whole") || !strings.Contains(out, "31\n") || !strings.Contains(out, "2, each signed") {
			t.Fatalf("%s: exit %d\n%s%s", name, code, out, errs)
		}
		if code, _, errs := rotunda("audit", "verify", "--export", path, "--log-key", newLogServer(t, 1).key); code != exitError {
			t.Errorf("another key: exit %d\n%s", code, errs)
		}
		t.Setenv("ROTUNDA_CREDENTIALS", credentials)
		if code, _, errs := rotunda("audit", "verify", "--export", path); code != 0 {
			t.Errorf("the key beside the credentials of the environment: exit %d\n%s", code, errs)
		}
	}
	code, out, errs := rotunda("audit", "export", "-", "--credentials", credentials)
	if code != 0 {
		t.Fatalf("exit %d\n%s", code, errs)
	}
	if !strings.Contains(out[:strings.Index(out, "\n")], l.key) {
		t.Error("the header does not say by which key it was verified")
	}
	path := filepath.Join(t.TempDir(), "touched")
	touched := strings.Replace(out, `"object":"Token/9"`, `"object":"Token/8"`, 1)
	if err := os.WriteFile(path, []byte(touched), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs = rotunda("audit", "verify", "--export", path, "--log-key", key)
	if code != exitError || out != "" || !strings.Contains(errs, "first bad index 9: its content") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	code, out, _ = rotunda("audit", "verify", "--export", path, "--log-key", key, "-o", "json")
	if code != exitError || !strings.Contains(out, `"whole": false`) || !strings.Contains(out, `"firstBadIndex": 9`) {
		t.Errorf("exit %d\n%s", code, out)
	}
	seen := filepath.Join(t.TempDir(), "seen")
	if err := os.WriteFile(seen, l.checkpoint, 0o600); err != nil {
		t.Fatal(err)
	}
	l.entries, l.checkpoint, l.kept = nil, nil, nil
	l.grow(t, 20, "forged")
	if code, _, errs := rotunda("audit", "export", path, "--credentials", credentials); code != 0 {
		t.Fatalf("exit %d\n%s", code, errs)
	}
	code, _, errs = rotunda("audit", "verify", "--export", path, "--log-key", key, "--checkpoint", seen)
	if code != exitError || !strings.Contains(errs, "first bad index 20: it is missing") {
		t.Errorf("a shorter log than was seen: exit %d\n%s", code, errs)
	}
}

// A log that does not verify is not exported, and the file of before stays.
func TestAuditExportRefuses(t *testing.T) {
	l := newLogServer(t, 23)
	credentials := newOperator(t, l)
	pin(t, credentials, l.key)
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	if err := os.WriteFile(path, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.entries[5].Content = forge(t, l.entries[5].Content)
	code, _, errs := rotunda("audit", "export", path, "--credentials", credentials)
	content, err := os.ReadFile(path)
	if code != exitError || !strings.Contains(errs, "first bad index 5") || err != nil || string(content) != "before" {
		t.Errorf("exit %d, the file holds %q, %v\n%s", code, content, err, errs)
	}
}

// Proofs have the form of C2SP tlog-proof and tlog-witness, and tell a forged
// entry.
func TestAuditProve(t *testing.T) {
	l := newLogServer(t, 23)
	l.grow(t, 8, "apply")
	credentials := newOperator(t, l)
	pin(t, credentials, l.key)
	for _, name := range []string{"17", l.entries[17].Id} {
		code, out, errs := rotunda("audit", "prove", name, "--credentials", credentials)
		head, checkpoint, _ := strings.Cut(out, "\n\n")
		lines := strings.Split(head, "\n")
		if code != 0 || lines[0] != "c2sp.org/tlog-proof@v1" || lines[1] != "index 17" || checkpoint != string(l.checkpoint) {
			t.Fatalf("exit %d\n%s%s", code, out, errs)
		}
		var proof tlog.RecordProof
		for _, line := range lines[2:] {
			hash, err := tlog.ParseHash(line)
			if err != nil {
				t.Fatal(err)
			}
			proof = append(proof, hash)
		}
		if err := tlog.CheckRecord(proof, 31, l.tree().Root(), 17, tlog.RecordHash(l.entries[17].Content)); err != nil {
			t.Error(err)
		}
	}
	code, out, errs := rotunda("audit", "prove", "--from", "23", "--credentials", credentials)
	if code != 0 || !strings.HasPrefix(out, "old 23\n") || !strings.HasSuffix(out, "\n\n"+string(l.checkpoint)) {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	code, out, errs = rotunda("audit", "show", "17", "--credentials", credentials)
	if code != 0 || !strings.Contains(out, "Token/17") || !strings.Contains(out, "yes, in the log of 31 entries") {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	if code, _, errs := rotunda("audit", "prove", "17", "--from", "3", "--credentials", credentials); code != exitUsage {
		t.Errorf("both: exit %d\n%s", code, errs)
	}
	l.entries[17].Content = forge(t, l.entries[17].Content)
	for _, verb := range []string{"prove", "show"} {
		code, out, errs := rotunda("audit", verb, "17", "--credentials", credentials)
		if code != exitError || out != "" || !strings.Contains(errs, "entry 17 is not the one that the checkpoint of 31 entries covers") {
			t.Errorf("%s of a forged entry: exit %d\n%s%s", verb, code, out, errs)
		}
	}
}
