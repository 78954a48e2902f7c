package store_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/store/migrations"
)

// TestDamage: a file with bytes changed is refused at open, or the damage is
// named when it is met; it is never served as if it were sound, and an
// undamaged answer is not invented.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "rotunda.db")
	create(t, path)
	db := open(t, path)
	for i := range 200 {
		if err := verb(t.Context(), db, fmt.Sprintf("verb-%03d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	sound := read(t, path)
	for name, damage := range map[string]func([]byte) []byte{
		"header":      func(b []byte) []byte { copy(b, "not a database at all"); return b },
		"first page":  func(b []byte) []byte { clear(b[100:400]); return b },
		"pages":       func(b []byte) []byte { clear(b[len(b)/2 : len(b)/2+16384]); return b },
		"cut short":   func(b []byte) []byte { return b[:len(b)/2/4096*4096] },
		"random text": func(b []byte) []byte { return bytes.Repeat([]byte("hello "), 1000) },
	} {
		t.Run(name, func(t *testing.T) {
			copied := filepath.Join(dir, name+".db")
			write(t, copied, damage(bytes.Clone(sound)))
			_, err := store.Open(t.Context(), store.Options{Path: copied})
			if fault.CodeOf(err) != fault.Internal || err == nil || !strings.Contains(err.Error(), "damaged") {
				t.Fatalf("opened, or refused unclearly: %v", err)
			}
		})
	}
	t.Run("empty", func(t *testing.T) {
		copied := filepath.Join(dir, "empty.db")
		write(t, copied, nil)
		_, err := store.Open(t.Context(), store.Options{Path: copied})
		if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "not a Rotunda store") {
			t.Fatal(err)
		}
	})
}

// TestDamageWhileServing: damage in a store that is too large to look through
// at open is named by the call that meets it.
func TestDamageWhileServing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rotunda.db")
	create(t, path)
	db := open(t, path)
	for i := range 40 {
		err := db.Write(t.Context(), func(tx *store.Tx) error {
			d := store.Document{Kind: "Service", Name: fmt.Sprint(i), JSON: bytes.Repeat([]byte("x"), 100_000), ChangedBy: "test"}
			return tx.PutDocument(t.Context(), d)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	content := read(t, path)
	for at := 200 * 4096; at < len(content); at++ {
		content[at] = 0xff
	}
	write(t, path, content)
	db = open(t, path)
	err := db.Read(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Documents(t.Context(), "", "")
		return err
	})
	if fault.CodeOf(err) != fault.Internal || err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Fatalf("read as if it were sound, or refused unclearly: %v", err)
	}
}

// TestVersions: a store that a newer version made unreadable to this one is
// refused and left alone; one that it merely extended is served.
func TestVersions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rotunda.db")
	create(t, path)
	set := func(column string, value int) {
		t.Helper()
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec("UPDATE store_meta SET "+column+" = $1", value); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	set("schema_version", migrations.Schema+1)
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	set("min_server_schema", migrations.Schema+1)
	before := read(t, path)
	_, err := store.Open(t.Context(), store.Options{Path: path})
	if fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), "newer rotunda") {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, path), before) {
		t.Fatal("a store that was refused was changed")
	}
	set("min_server_schema", migrations.Schema)
	open(t, path)
}

// TestSchema: the newest migration and the number in the code agree.
func TestSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rotunda.db")
	create(t, path)
	files, err := migrations.Files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	if newest := files[len(files)-1].Name(); !strings.HasPrefix(newest, fmt.Sprintf("%05d_", migrations.Schema)) {
		t.Errorf("migrations.Schema is %d, the newest migration %s", migrations.Schema, newest)
	}
	err = open(t, path).Read(t.Context(), func(tx *store.Tx) error {
		meta, err := tx.Meta(t.Context())
		if meta.Schema != migrations.Schema {
			t.Errorf("a new store has schema %d, the code %d", meta.Schema, migrations.Schema)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPaths(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a name? with #odd %20 things.db")
	_, err := store.Open(t.Context(), store.Options{Path: path})
	if fault.CodeOf(err) != fault.NotFound || !strings.Contains(err.Error(), "rotunda init") {
		t.Fatalf("a store that is missing: %v", err)
	}
	create(t, path)
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(t.Context(), store.Options{Path: path, Create: true})
	if fault.CodeOf(err) != fault.Conflict {
		t.Fatalf("a store made twice: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	foreign := filepath.Join(dir, "foreign.db")
	db, err := sql.Open("sqlite", foreign)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("CREATE TABLE t (x)"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	_, err = store.Open(t.Context(), store.Options{Path: foreign})
	if fault.CodeOf(err) != fault.Invalid {
		t.Fatalf("another program's file: %v", err)
	}
	_, err = store.Open(t.Context(), store.Options{Path: dir})
	if fault.CodeOf(err) != fault.Invalid {
		t.Fatalf("a directory: %v", err)
	}
	// A crash while a store was made leaves what the next attempt clears away.
	write(t, filepath.Join(dir, "crashed.db.new"), []byte("half"))
	create(t, filepath.Join(dir, "crashed.db"))
}

func holdOpen(path string) error {
	if _, err := store.Open(context.Background(), store.Options{Path: path}); err != nil {
		return err
	}
	fmt.Println("open")
	select {}
}

// TestTwoServers: the second is refused, and told who the first is; when the
// first dies, however it dies, its place is free.
func TestTwoServers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rotunda.db")
	create(t, path)
	cmd := child(t, "hold", path)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(pipe).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(t.Context(), store.Options{Path: path})
	if fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), fmt.Sprintf("process %d", cmd.Process.Pid)) {
		t.Errorf("a second server: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() // killed: always an error
	db := open(t, path)
	if _, err := store.Open(t.Context(), store.Options{Path: path}); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("a second store in one process: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

// TestClosedStoreIsOneFile: nothing of a store that was closed lies beside its
// file, so the file can be copied, or another put in its place.
func TestClosedStoreIsOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rotunda.db")
	create(t, path)
	db := open(t, path)
	if err := verb(t.Context(), db, "one"); err != nil {
		t.Fatal(err)
	}
	if err := db.Read(t.Context(), func(tx *store.Tx) error { _, err := tx.Meta(t.Context()); return err }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, beside := range []string{"-wal", "-shm"} {
		if _, err := os.Stat(path + beside); !os.IsNotExist(err) {
			t.Errorf("%s is there: %v", beside, err)
		}
	}
}
