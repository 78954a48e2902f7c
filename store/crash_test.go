package store_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/store/storetest"
)

// A test that needs a process of its own starts this binary again, with the
// part that it plays and the store's path in the environment.
const (
	partVariable = "ROTUNDA_STORE_TEST_PART"
	pathVariable = "ROTUNDA_STORE_TEST_PATH"
)

func TestMain(m *testing.M) {
	parts := map[string]func(path string) error{"load": writeUnderLoad, "fill": fillTheDisk, "hold": holdOpen}
	part, ok := parts[os.Getenv(partVariable)]
	if !ok {
		os.Exit(m.Run())
	}
	if err := part(os.Getenv(pathVariable)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(t *testing.T, part, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), partVariable+"="+part, pathVariable+"="+path)
	cmd.Stderr = os.Stderr
	return cmd
}

func create(t *testing.T, path string) {
	t.Helper()
	if err := storetest.Make(t, store.Options{Path: path}).Close(); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, path string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// verb writes what a verb does: a record, another, and the audit entry, all of
// one name.
func verb(ctx context.Context, db *store.DB, name string) error {
	return db.Write(ctx, func(tx *store.Tx) error {
		d := store.Document{Kind: "Service", Name: name, JSON: bytes.Repeat([]byte("x"), 300), ChangedBy: "test"}
		if err := tx.PutDocument(ctx, d); err != nil {
			return err
		}
		if err := tx.InsertDecision(ctx, store.Decision{ID: name, Kind: "rotate", Intent: "i", At: tx.Now}); err != nil {
			return err
		}
		return tx.AppendAuditEntries(ctx, store.PendingEntry{ID: name, Content: []byte(name), LeafHash: audit.LeafHash([]byte(name))})
	})
}

// verbs lists the verbs that the store knows, and fails on one that is there
// in part.
func verbs(t *testing.T, db *store.DB) map[string]bool {
	t.Helper()
	halves := map[string]int{}
	err := db.Read(t.Context(), func(tx *store.Tx) error {
		documents, err := tx.Documents(t.Context(), "", "")
		if err != nil {
			return err
		}
		for _, d := range documents {
			halves[d.Name]++
		}
		decisions, err := tx.IntentDecisions(t.Context(), "i")
		if err != nil {
			return err
		}
		for _, d := range decisions {
			halves[d.ID]++
		}
		entries, err := tx.PendingEntries(t.Context(), 1<<30)
		for _, e := range entries {
			halves[e.ID]++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	whole := map[string]bool{}
	for name, n := range halves {
		if n != 3 {
			t.Errorf("verb %s is there in part: %d of 3", name, n)
		}
		whole[name] = true
	}
	return whole
}

// writeUnderLoad writes from many goroutines for ever and prints the name of
// each verb that was answered for.
func writeUnderLoad(path string) error {
	ctx := context.Background()
	db, err := store.Open(ctx, store.Options{Path: path})
	if err != nil {
		return err
	}
	var out sync.Mutex
	var next atomic.Int64
	failed := make(chan error)
	for range 32 {
		go func() {
			for {
				name := fmt.Sprintf("%d-%06d", os.Getpid(), next.Add(1))
				if err := verb(ctx, db, name); err != nil {
					failed <- err
					return
				}
				out.Lock()
				fmt.Println(name)
				out.Unlock()
			}
		}()
	}
	return <-failed
}

// TestKill kills a process again and again in the middle of its group commits:
// what was answered for is there, and nothing is there in part.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rotunda.db")
	create(t, path)
	answered := map[string]bool{}
	for range 10 {
		for _, name := range killedAfter(t, path, 50+rand.IntN(1000)) {
			answered[name] = true
		}
	}
	found := verbs(t, open(t, path))
	for name := range answered {
		if !found[name] {
			t.Errorf("verb %s was answered for and is lost", name)
		}
	}
	t.Logf("%d verbs answered for, %d in the store", len(answered), len(found))
}

// killedAfter starts a process that writes, kills it after so many answers and
// returns all that it gave.
func killedAfter(t *testing.T, path string, answers int) (names []string) {
	cmd := child(t, "load", path)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(pipe)
	for {
		line, err := lines.ReadString('\n')
		if err != nil { // the end: what is after the last newline was not answered
			break
		}
		if names = append(names, strings.TrimSpace(line)); len(names) == answers {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if cmd.Wait(); len(names) < answers { // killed: always an error
		t.Fatalf("the process ended by itself after %d answers", len(names))
	}
	return names
}

// TestTornLog cuts and garbles the write-ahead log at many places, as a power
// failure may: the store opens with the verbs of some moment, each whole.
func TestTornLog(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "rotunda.db")
	create(t, path)
	db := open(t, path)
	const count = 40
	for i := range count {
		if err := verb(t.Context(), db, fmt.Sprintf("verb-%03d", i)); err != nil {
			t.Fatal(err)
		}
	}
	file, log := read(t, path), read(t, path+"-wal")
	if len(log) == 0 {
		t.Fatal("there is no write-ahead log to tear")
	}
	seen := map[int]bool{}
	for i := range 30 {
		torn := bytes.Clone(log[:rand.IntN(len(log)+1)])
		if i%2 == 0 && len(torn) > 64 { // garbage where the last pages were
			for at := len(torn) - 1 - rand.IntN(64); at < len(torn); at++ {
				torn[at] ^= 0x5a
			}
		}
		copied := filepath.Join(dir, fmt.Sprintf("copy-%d.db", i))
		write(t, copied, file)
		write(t, copied+"-wal", torn)
		again := open(t, copied)
		found := verbs(t, again)
		for n := range len(found) { // a beginning of what was written, without a gap
			if !found[fmt.Sprintf("verb-%03d", n)] {
				t.Fatalf("of %d verbs number %d is missing", len(found), n)
			}
		}
		seen[len(found)] = true
		if err := verb(t.Context(), again, "after"); err != nil {
			t.Fatal(err)
		}
		again.Close()
	}
	if len(seen) < 5 {
		t.Fatalf("the log was torn at %d places only", len(seen))
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisk: while there is no room, writes are refused as unavailable and
// reads go on; when there is, writes go on; nothing that was answered for is
// lost and nothing else is there.
func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rotunda.db")
	create(t, path)
	cmd := child(t, "fill", path)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	answered := strings.Fields(string(out))
	found := verbs(t, open(t, path))
	for _, name := range answered {
		if !found[name] {
			t.Errorf("verb %s was answered for and is lost", name)
		}
	}
	if len(found) != len(answered) || !found["roomy"] {
		t.Errorf("%d verbs answered for, %d in the store", len(answered), len(found))
	}
}

// fillTheDisk writes until a limit on the size of files stops it, lifts the
// limit and writes on.
func fillTheDisk(path string) error {
	signal.Ignore(syscall.SIGXFSZ) // else the limit would kill
	ctx := context.Background()
	db, err := store.Open(ctx, store.Options{Path: path})
	if err != nil {
		return err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	small := unix.Rlimit{Cur: 1 << 20, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &small); err != nil {
		return err
	}
	refused, next := 0, 0
	for ; refused < 5; next++ {
		name := fmt.Sprintf("verb-%06d", next)
		err := verb(ctx, db, name)
		switch {
		case err == nil:
			fmt.Println(name)
		case fault.CodeOf(err) == fault.Unavailable:
			refused++
		default:
			return fmt.Errorf("a full disk came out as: %w", err)
		}
	}
	if err := db.Read(ctx, func(tx *store.Tx) error { _, err := tx.Epoch(ctx); return err }); err != nil {
		return fmt.Errorf("read while the disk is full: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	if err := verb(ctx, db, "roomy"); err != nil {
		return fmt.Errorf("write when there is room again: %w", err)
	}
	fmt.Println("roomy")
	return db.Close()
}
