package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// pair writes two things that belong together.
func pair(ctx context.Context, i int) func(*store.Tx) error {
	return func(tx *store.Tx) error {
		content := []byte(strings.Repeat("x", 1000))
		if err := tx.AppendAuditEntries(ctx, store.PendingEntry{ID: fmt.Sprint(i), Content: content, LeafHash: audit.LeafHash(content)}); err != nil {
			return err
		}
		return tx.RaiseDocumentState(ctx)
	}
}

// A copy taken while others write shows one moment: never half of a commit, and
// nothing older than what was answered before it began.
func TestBackupShowsOneMoment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	create(t, path)
	db, err := store.Open(t.Context(), store.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, stop := context.WithCancel(t.Context())
	answered, ended := make(chan int, 1), make(chan error, 1)
	go func() {
		for i := 0; ctx.Err() == nil; i++ {
			if err := db.Write(context.WithoutCancel(ctx), pair(ctx, i)); err != nil && ctx.Err() == nil {
				ended <- err
				return
			}
			select {
			case <-answered:
			default:
			}
			answered <- i + 1
		}
		ended <- nil
	}()
	for round := range 5 {
		before := <-answered
		err := store.Backup(t.Context(), store.Locate(path), filepath.Join(t.TempDir(), "copy.db"), func(tx *store.Tx) error {
			states, err := tx.DocumentState(t.Context())
			if err != nil {
				return err
			}
			entries, err := tx.CountPendingAuditEntries(t.Context())
			if uint64(entries) != states || entries < before {
				t.Errorf("round %d: the copy has %d entries and %d states, %d were answered before", round, entries, states, before)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestBackupLeavesAWholeFileOrNone(t *testing.T) {
	dir := t.TempDir()
	path, to := filepath.Join(dir, "store.db"), filepath.Join(dir, "copy.db")
	create(t, path)
	fine := func(*store.Tx) error { return nil }
	nothing := func(t *testing.T, err error, code fault.Code) {
		t.Helper()
		left, globErr := filepath.Glob(to + "*")
		if fault.CodeOf(err) != code || len(left) > 0 || globErr != nil {
			t.Errorf("refused with %v, left %v", err, left)
		}
	}
	t.Run("the copy does not check out", func(t *testing.T) {
		wrong := fault.New(fault.Conflict, "of another domain")
		nothing(t, store.Backup(t.Context(), store.Locate(path), to, func(*store.Tx) error { return wrong }), fault.Conflict)
	})
	t.Run("cut off", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := store.Backup(ctx, store.Locate(path), to, fine)
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		nothing(t, err, fault.CodeOf(err))
	})
	t.Run("no store", func(t *testing.T) {
		nothing(t, store.Backup(t.Context(), store.Locate(path+".not"), to, fine), fault.NotFound)
	})
	t.Run("taken meanwhile", func(t *testing.T) {
		err := store.Backup(t.Context(), store.Locate(path), to, func(*store.Tx) error { return os.WriteFile(to, []byte("precious"), 0o600) })
		if content, readErr := os.ReadFile(to); fault.CodeOf(err) != fault.Conflict || string(content) != "precious" || readErr != nil {
			t.Errorf("%v; the file holds %q", err, content)
		}
	})
	t.Run("taken before", func(t *testing.T) {
		err := store.Backup(t.Context(), store.Locate(path), to, fine)
		if content, readErr := os.ReadFile(to); fault.CodeOf(err) != fault.Conflict || string(content) != "precious" || readErr != nil {
			t.Errorf("%v; the file holds %q", err, content)
		}
	})
	t.Run("another under way", func(t *testing.T) {
		err := store.Backup(t.Context(), store.Locate(path), to+"2", func(*store.Tx) error {
			return store.Backup(t.Context(), store.Locate(path), to+"2", fine)
		})
		if fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), "under way") {
			t.Error(err)
		}
	})
}

// A store that is damaged where SQLite does not look at open is found out, and
// no backup is made of it.
func TestBackupOfDamageIsRefused(t *testing.T) {
	dir := t.TempDir()
	path, to := filepath.Join(dir, "store.db"), filepath.Join(dir, "copy.db")
	create(t, path)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 8 * 4096; i < 16*4096; i++ {
		content[i] ^= 0xff
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	err = store.Backup(t.Context(), store.Locate(path), to, func(*store.Tx) error { return nil })
	if left, _ := filepath.Glob(to + "*"); err == nil || len(left) > 0 {
		t.Errorf("backed up: %v, left %v", err, left)
	}
}
