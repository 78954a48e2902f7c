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
	tree := audit.NewTree()
	for _, entry := range l.entries {
		if err := tree.Append(audit.Hash(entry.LeafHash)); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	l.checkpoint, err = audit.Checkpoint{Origin: l.signer.Name(), Size: uint64(len(l.entries)), Root: tree.Root()}.Sign(l.signer)
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
	if code != 0 || !strings.Contains(out, "size    0\n") {
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
		}, "entry 11 is not what was written"},
		{"two entries", false, func(t *testing.T, l *logServer) {
			l.entries[3].Content = forge(t, l.entries[3].Content)
			l.entries[20].Content = forge(t, l.entries[20].Content)
		}, "entry 3, 20 is not what was written"},
		{"content and its hash", false, func(t *testing.T, l *logServer) {
			l.entries[11].Content = forge(t, l.entries[11].Content)
			leaf := audit.LeafHash(l.entries[11].Content)
			l.entries[11].LeafHash = leaf[:]
		}, "the entries do not give the root"},
		{"content and its hash, verified before", true, func(t *testing.T, l *logServer) {
			l.entries[11].Content = forge(t, l.entries[11].Content)
			leaf := audit.LeafHash(l.entries[11].Content)
			l.entries[11].LeafHash = leaf[:]
		}, "an entry between 0 and 22 is not what was written"},
		{"content and its hash, written since", true, func(t *testing.T, l *logServer) {
			l.grow(t, 5, "apply")
			l.entries[25].Content = forge(t, l.entries[25].Content)
			l.entries[25].LeafHash = nil
		}, "an entry between 23 and 27 is not what was written"},
		{"form", false, func(_ *testing.T, l *logServer) {
			l.entries[5].Content = append(l.entries[5].Content, '\n')
		}, "entry 5 is not in the form that is hashed"},
		{"garbage", false, func(_ *testing.T, l *logServer) { l.entries[5].Content = []byte("no entry") }, "entry 5 is not in the form"},
		{"removed", false, func(_ *testing.T, l *logServer) {
			l.entries = append(l.entries[:9:9], l.entries[10:]...)
		}, "entry 9 is missing"},
		{"swapped", false, func(_ *testing.T, l *logServer) {
			l.entries[4], l.entries[5] = l.entries[5], l.entries[4]
		}, "entry 4 is missing"},
		{"swapped with their numbers", false, func(_ *testing.T, l *logServer) {
			l.entries[4].Content, l.entries[5].Content = l.entries[5].Content, l.entries[4].Content
		}, "entry 4 says that it is"},
		{"cut off", false, func(_ *testing.T, l *logServer) { l.entries = l.entries[:20] }, "entry 20 is missing"},
		{"set back", true, func(t *testing.T, l *logServer) {
			l.entries = l.entries[:20]
			l.sign(t)
		}, "has 20 entries and had 23"},
		{"rewritten and signed again", true, func(t *testing.T, l *logServer) {
			l.entries = nil
			l.grow(t, 30, "forged")
		}, "does not go with the one that was verified before"},
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
