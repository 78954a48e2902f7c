package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/internal/postgrestest"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/store/storetest"
)

func nothingTold(store.Copied) {}

// furnish fills a store with rows that refer to each other, and with values of
// every type: texts beyond ASCII, bytes with zeros, what is NULL, truths.
func furnish(t *testing.T, o store.Options) {
	t.Helper()
	o.Create = true
	db, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	err = db.Write(t.Context(), func(tx *store.Tx) error {
		ctx := t.Context()
		for _, do := range []func() error{
			func() error { return tx.SetTrustDomain(ctx, "test.example") },
			func() error { return tx.InsertAuthority(ctx, record("root", store.RootAuthority, "")) },
			func() error { return tx.InsertAuthority(ctx, record("issuing", store.IssuingAuthority, "root")) },
			func() error {
				return tx.InsertAgent(ctx, store.Agent{ID: "a", State: fleet.AgentActive, Labels: map[string]string{"stadt": "Köln"}, EnrolledAt: now})
			},
			func() error {
				return tx.InsertPlacement(ctx, store.Placement{ID: "p", Intent: "i", AgentID: "a", Instance: "main", Target: "etcd"})
			},
			func() error {
				return tx.PutDocument(ctx, store.Document{Kind: "Service", Name: "ä\n\"'", JSON: []byte(`{"x":"\u0000"}`), ChangedBy: "test"})
			},
		} {
			if err := do(); err != nil {
				return err
			}
		}
		list := store.CRL{CRLHead: store.CRLHead{AuthorityID: "issuing", Number: 1, ThisUpdate: now, NextUpdate: now.Add(time.Hour)}, Head: []byte("DER"), Tail: []byte{}}
		if err := tx.PutCRL(ctx, list, 0, store.EntryChange{All: true}); err != nil {
			return err
		}
		for i := range 3000 {
			c := store.Certificate{
				Serial: pki.Serial{0: 1, 14: byte(i >> 8), 15: byte(i)}, Kind: store.KindLeaf, AuthorityID: "issuing", PlacementID: "p", Generation: uint64(i + 1),
				Rule: "allow", SPKI: pki.SPKIHash{1}, NotBefore: now, NotAfter: now.Add(time.Hour), IssuedAt: now, DER: []byte{0, 1, 0xff, byte(i)},
			}
			if err := tx.InsertCertificates(ctx, c); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func record(id string, kind store.AuthorityKind, parent string) store.Authority {
	return store.Authority{ID: id, Name: id, Kind: kind, State: fleet.AuthorityActive, Origin: store.KeyHere, ParentID: parent, Certificate: []byte("DER")}
}

// everything is what a store shows of what furnish put there.
func everything(t *testing.T, o store.Options) (found []any) {
	t.Helper()
	db, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Read(t.Context(), func(tx *store.Tx) error {
		ctx := t.Context()
		meta, err := tx.Meta(ctx)
		if err != nil {
			return err
		}
		certificates, err := tx.Certificates(ctx, store.CertificateQuery{})
		if err != nil {
			return err
		}
		authorities, err := tx.Authorities(ctx)
		if err != nil {
			return err
		}
		agent, err := tx.Agent(ctx, "a")
		if err != nil {
			return err
		}
		placement, err := tx.Placement(ctx, "p")
		if err != nil {
			return err
		}
		documents, err := tx.Documents(ctx, "", "")
		found = []any{meta, certificates, authorities, agent, placement, documents}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A store that is moved from a file to a database, from that to another one and
// back into a file is what it was, and those that it was are served no more.
func TestMove(t *testing.T) {
	server := postgrestest.Run(t)
	dir := t.TempDir()
	places := []store.Options{
		{Path: filepath.Join(dir, "first.db")}, {URL: server.Database(t)}, {URL: server.Database(t)}, {Path: filepath.Join(dir, "last.db")},
	}
	furnish(t, places[0])
	want := everything(t, places[0])
	for i, to := range places[1:] {
		var running *store.DB
		if places[i].URL != "" {
			running = shared(t, places[i].URL)
		}
		var told []store.Copied
		if err := store.Move(t.Context(), places[i], to, func(c store.Copied) { told = append(told, c) }); err != nil {
			t.Fatal(err)
		}
		if last := told[len(told)-1]; last.Rows < 3000 {
			t.Errorf("told of %d rows", last.Rows)
		}
		if got := everything(t, to); !reflect.DeepEqual(got, want) {
			t.Errorf("%d: it is another one\n%+v\n%+v", i, got[0], want[0])
		}
		_, err := store.Open(t.Context(), places[i])
		if fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), "was moved") {
			t.Errorf("the old one: %v", err)
		}
		if running != nil {
			servesNoMore(t, running)
		}
	}
}

// servesNoMore demands that a server whose store was moved beneath it writes
// nothing, and reads nothing from then on.
func servesNoMore(t *testing.T, running *store.DB) {
	t.Helper()
	err := running.Write(t.Context(), func(tx *store.Tx) error { return tx.RaiseDocumentState(t.Context()) })
	if fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), "was moved") {
		t.Errorf("a server that ran meanwhile writes: %v", err)
	}
	err = running.Read(t.Context(), func(*store.Tx) error { return nil })
	if fault.CodeOf(err) != fault.Conflict {
		t.Errorf("and reads: %v", err)
	}
}

// A move or a backup takes as long as it takes, though a transaction of a server
// may idle for ten seconds only.
func TestSlowMove(t *testing.T) {
	server := postgrestest.Run(t)
	from, to := store.Options{URL: server.Database(t)}, store.Options{URL: server.Database(t)}
	furnish(t, from)
	slow := sync.OnceFunc(func() { time.Sleep(11 * time.Second) }) // longer than it would be let
	if err := store.Move(t.Context(), from, to, func(store.Copied) { slow() }); err != nil {
		t.Fatal(err)
	}
	everything(t, to)
}

// Of two backups to one name, and of what one that was killed left, nothing is
// taken away or taken for a copy.
func TestBackupBesideAnother(t *testing.T) {
	from := store.Options{URL: postgrestest.Run(t).Database(t)}
	furnish(t, from)
	to := filepath.Join(t.TempDir(), "copy.db")
	fine := func(*store.Tx) error { return nil }
	err := store.Backup(t.Context(), from, to, func(*store.Tx) error {
		if err := store.Backup(t.Context(), from, to, fine); fault.CodeOf(err) != fault.Conflict {
			t.Errorf("a second one meanwhile: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Errorf("the first one: %v", err)
	}
	second := to + "2"
	if err := os.WriteFile(second+".partial.db", []byte("cut off"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.Backup(t.Context(), from, second, fine); err != nil {
		t.Errorf("after one that was killed: %v", err)
	}
}

// A move that can't be made leaves the old one in use and nothing else.
func TestMoveThatIsRefused(t *testing.T) {
	server := postgrestest.Run(t)
	path := filepath.Join(t.TempDir(), "rotunda.db")
	furnish(t, store.Options{Path: path})
	from := store.Options{Path: path}
	full := server.Database(t)
	furnish(t, store.Options{URL: full})
	foreign := server.Database(t)
	if _, err := storetest.Raw(t, foreign).Exec("CREATE TABLE orders (id BIGINT)"); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		to   store.Options
		code fault.Code
		says string
	}{
		"another store is there":    {store.Options{URL: full}, fault.Conflict, "trust domain test.example already"},
		"another product is there":  {store.Options{URL: foreign}, fault.Conflict, "orders"},
		"a file is there":           {from, fault.Conflict, "exists"},
		"there is no directory":     {store.Options{Path: filepath.Join(t.TempDir(), "none", "rotunda.db")}, fault.Unavailable, "name a file in a directory"},
		"there is no such database": {store.Options{URL: server.URL("nosuch")}, fault.NotFound, "does not exist"},
		"nobody answers":            {store.Options{URL: "postgres://x@127.0.0.1:1/x"}, fault.Unavailable, "can't be reached"},
		"no URL":                    {store.Options{URL: "postgres://x:geheim@:y/x"}, fault.Invalid, "URL of the store"},
	} {
		for _, err := range []error{store.TryMove(t.Context(), from, test.to), store.Move(t.Context(), from, test.to, nothingTold)} {
			if fault.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "geheim") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	to := server.Database(t)
	if err := store.Move(ended, from, store.Options{URL: to}, func(store.Copied) { cancel() }); err == nil {
		t.Error("a move that was cut off went well")
	}
	everything(t, from)
	if err := store.Move(t.Context(), from, store.Options{URL: to}, nothingTold); err != nil {
		t.Errorf("once more: %v", err)
	}
	for _, left := range []string{".partial", ".new"} {
		if _, err := os.Stat(path + left); err == nil {
			t.Errorf("%s is left", left)
		}
	}
}

// A backup of a database that servers use is a file that shows one moment.
func TestBackupOfADatabase(t *testing.T) {
	server := postgrestest.Run(t)
	from := store.Options{URL: server.Database(t)}
	furnish(t, from)
	want := everything(t, from)
	to := filepath.Join(t.TempDir(), "copy.db")
	checked := false
	if err := store.Backup(t.Context(), from, to, func(*store.Tx) error { checked = true; return nil }); err != nil || !checked {
		t.Fatal(checked, err)
	}
	if got := everything(t, store.Options{Path: to}); !reflect.DeepEqual(got, want) {
		t.Error("the copy is another store")
	}
	everything(t, from)
	refused := fault.New(fault.Invalid, "not so")
	err := store.Backup(t.Context(), from, to+"2", func(*store.Tx) error { return refused })
	if _, stat := os.Stat(to + "2"); err == nil || stat == nil {
		t.Errorf("a copy that was refused is there: %v", err)
	}
}

// The list of tables is that of the schema.
func TestAllTablesAreMoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rotunda.db")
	create(t, path)
	rows, err := storetest.Raw(t, path).Query(`SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'store_migration'`)
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		there[name] = true
	}
	for _, name := range store.Tables() {
		if !there[name] {
			t.Errorf("table %s is copied and does not exist", name)
		}
		delete(there, name)
	}
	if len(there) > 0 {
		t.Errorf("these would be left behind: %s", fmt.Sprint(there))
	}
}
