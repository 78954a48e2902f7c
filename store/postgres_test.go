package store_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/internal/postgrestest"
	"github.com/rotunda-pki/rotunda/store"
	"github.com/rotunda-pki/rotunda/store/storetest"
)

func TestPostgres(t *testing.T) {
	server := postgrestest.Run(t)
	storetest.Run(t, func(t *testing.T) store.Options {
		return store.Options{URL: storetest.Database(t, server.URL("postgres"))}
	})
}

// shared opens a store of a database, as one more server does.
func shared(t *testing.T, url string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func makeShared(t *testing.T, server *postgrestest.Server) string {
	t.Helper()
	url := server.Database(t)
	db, err := store.Open(t.Context(), store.Options{URL: url, Create: true})
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// What can't be a store's database is refused, with the rule and the remedy,
// and nothing is changed in it.
func TestDatabasesThatAreRefused(t *testing.T) {
	server := postgrestest.Run(t)
	sql := func(url string, statements ...string) {
		t.Helper()
		raw := storetest.Raw(t, url)
		for _, statement := range statements {
			if _, err := raw.Exec(statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
	}
	foreign, latin, founded, empty := server.Database(t), server.Database(t), makeShared(t, server), server.Database(t)
	sql(foreign, "CREATE TABLE orders (id BIGINT)")
	sql(server.URL("postgres"), "CREATE DATABASE latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
		"CREATE ROLE reader LOGIN PASSWORD 'geheim' CONNECTION LIMIT 20", "CREATE ROLE narrow LOGIN CONNECTION LIMIT 3",
		"CREATE ROLE lazy LOGIN", "ALTER ROLE lazy SET default_transaction_read_only = on")
	sql(founded, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader, narrow, lazy", "UPDATE store_meta SET trust_domain = 'test.example'")
	latin = strings.Replace(latin, "/test_", "/latin1?x=", 1)[:strings.LastIndex(latin, "/")] + "/latin1?sslmode=disable"
	as := func(role string) string { return strings.Replace(founded, "postgres@", role+"@", 1) }
	for name, test := range map[string]struct {
		url    string
		create bool
		code   fault.Code
		says   string
	}{
		"a typo in the URL":                  {"postgres://x:geheim@host:port/x", false, fault.Invalid, "URL of the store"},
		"a database of another kind":         {"mysql://x:geheim@db.example.org/x?sslmode=disable", false, fault.Invalid, `begins with "mysql://"`},
		"a far host, and no word of TLS":     {"postgres://x:geheim@db.example.org/x", false, fault.Invalid, "sslmode=verify-full"},
		"nobody listens":                     {"postgres://x:geheim@127.0.0.1:1/x", false, fault.Unavailable, "check the database and the network"},
		"no such database":                   {server.URL("nosuch"), false, fault.NotFound, "CREATE DATABASE"},
		"no such role":                       {strings.Replace(founded, "postgres@", "nosuch@", 1), false, fault.Unavailable, "pg_hba.conf"},
		"another product's":                  {foreign, false, fault.Invalid, "table orders of something else"},
		"to be made beside another's tables": {foreign, true, fault.Conflict, "search_path"},
		"nothing there":                      {empty, false, fault.NotFound, "rotunda init"},
		"a second installation":              {founded, true, fault.Conflict, "trust domain test.example already"},
		"another encoding":                   {latin, true, fault.Invalid, "UTF8"},
		"a role that only reads":             {as("reader"), false, fault.Forbidden, "GRANT"},
		"a read-only role":                   {as("lazy"), false, fault.Unavailable, "default_transaction_read_only"},
		"too few connections":                {as("narrow"), false, fault.Unavailable, "CONNECTION LIMIT"},
		"a schema that is not there":         {founded + "&search_path=nosuch", false, fault.Invalid, "CREATE SCHEMA"},
	} {
		place := store.Locate(test.url)
		place.Create = test.create
		db, err := store.Open(t.Context(), place)
		if err == nil {
			t.Errorf("%s: opened", name)
			db.Close()
			continue
		}
		if fault.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %s, %v", name, fault.CodeOf(err), err)
		}
	}
	var tables int
	if err := storetest.Raw(t, foreign).QueryRow("SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'").Scan(&tables); err != nil || tables != 1 {
		t.Errorf("%d tables in the other product's database, %v", tables, err)
	}
	shared(t, founded)
}

// Servers that make or migrate one database at once do it once.
func TestServersMigrateAtOnce(t *testing.T) {
	server := postgrestest.Run(t)
	for range 3 {
		url := server.Database(t)
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				db, err := store.Open(t.Context(), store.Options{URL: url, Create: true})
				if err != nil {
					t.Error(err)
					return
				}
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
}

// What was told while a server could not listen is made up for: it hears that it
// may have missed anything.
func TestMissedNotesAreMadeUpFor(t *testing.T) {
	server := postgrestest.Run(t)
	db := shared(t, makeShared(t, server))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	heard := make(chan string, 10)
	db.Hear(func(note string) { heard <- note })
	for listening := []string{"0"}; listening[0] == "0"; {
		var err error
		if listening, err = server.Exec(ctx, `SELECT COUNT(*) FROM pg_stat_activity WHERE query LIKE 'SELECT last_commit%' AND query NOT LIKE '%UPDATE'`); err != nil {
			t.Fatal(err)
		}
	}
	for len(heard) > 0 { // of its beginning
		<-heard
	}
	if _, err := server.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rotunda'`); err != nil {
		t.Fatal(err)
	}
	select {
	case note := <-heard:
		if note != "" {
			t.Errorf("heard %q", note)
		}
	case <-ctx.Done():
		t.Error("nothing is heard")
	}
}

// Servers that write at once lose nothing, give no moment twice, and each sees
// what all before it wrote.
func TestManyServersWrite(t *testing.T) {
	server := postgrestest.Run(t)
	url := makeShared(t, server)
	// Whatever a database's transactions are by default.
	if _, err := storetest.Raw(t, url).Exec("ALTER DATABASE " + url[strings.LastIndex(url, "/")+1:strings.LastIndex(url, "?")] + " SET default_transaction_isolation = 'repeatable read'"); err != nil {
		t.Fatal(err)
	}
	const servers, writes = 4, 60
	var group sync.WaitGroup
	var mu sync.Mutex
	moments := map[time.Time]bool{}
	for range servers {
		db := shared(t, url)
		for range 3 {
			group.Go(func() {
				for range writes / 3 {
					var at time.Time
					err := db.Write(t.Context(), func(tx *store.Tx) error {
						at = tx.Now
						all, err := tx.Documents(t.Context(), "", "")
						if err != nil {
							return err
						}
						d := store.Document{Kind: "Service", Name: fmt.Sprint(len(all)), JSON: []byte("{}"), ChangedBy: "test"}
						return tx.PutDocument(t.Context(), d)
					})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					moments[at] = true
					mu.Unlock()
				}
			})
		}
	}
	group.Wait()
	err := shared(t, url).Read(t.Context(), func(tx *store.Tx) error {
		all, err := tx.Documents(t.Context(), "", "")
		if len(all) != servers*writes {
			t.Errorf("%d documents, %d were written", len(all), servers*writes)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Two that read before either wrote must not both go on from what they read.
func TestServersTakeTurns(t *testing.T) {
	server := postgrestest.Run(t)
	url := makeShared(t, server)
	one, two := shared(t, url), shared(t, url)
	reading, goOn, answer := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		answer <- one.Write(t.Context(), func(tx *store.Tx) error {
			if _, err := tx.TakeLease(t.Context(), "loop", "one", time.Minute); err != nil {
				return err
			}
			close(reading)
			<-goOn
			return nil
		})
	}()
	<-reading
	second := make(chan error, 1)
	go func() {
		second <- two.Write(t.Context(), func(tx *store.Tx) error {
			_, err := tx.TakeLease(t.Context(), "loop", "two", time.Minute)
			return err
		})
	}()
	waitForLock(t, server)
	close(goOn)
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	if err := <-second; fault.CodeOf(err) != fault.Conflict {
		t.Errorf("both took the lease: %v", err)
	}
}

// waitForLock waits until somebody waits for a lock.
func waitForLock(t *testing.T, server *postgrestest.Server) {
	t.Helper()
	for ctx := t.Context(); ; {
		found, err := server.Exec(ctx, "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
		if err != nil {
			t.Fatal(err)
		}
		if found[0] != "0" {
			return
		}
	}
}

// A commit on one server wakes who waits on another, and what is told there is
// heard here, by others than who told it.
func TestServersHearOfEachOther(t *testing.T) {
	server := postgrestest.Run(t)
	url := makeShared(t, server)
	one, two := shared(t, url), shared(t, url)
	heard, own := make(chan string, 100), make(chan string, 100)
	two.Hear(func(note string) { heard <- note })
	one.Hear(func(note string) {
		if note != "" { // as it hears when it begins to listen
			own <- note
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for i := range 5 {
		_, next := two.Changed()
		if err := one.Write(ctx, func(tx *store.Tx) error { return tx.RaiseDocumentState(ctx) }); err != nil {
			t.Fatal(err)
		}
		select {
		case <-next:
		case <-ctx.Done():
			t.Fatal("not woken")
		}
		note := fmt.Sprintf("agents %d", i)
		one.Tell(note)
		for got := ""; got != note; {
			select {
			case got = <-heard:
			case <-ctx.Done():
				t.Fatal("nothing is heard")
			}
			if got == "" { // what was told before it listened is lost, and it knows
				one.Tell(note)
			}
		}
	}
	select {
	case note := <-own:
		t.Errorf("it heard itself: %q", note)
	default:
	}
}

// A database that is killed loses nothing that was answered, and servers go on
// by themselves when it is back.
func TestDatabaseIsKilled(t *testing.T) {
	server := postgrestest.Run(t, "fsync=on", "full_page_writes=on")
	db := shared(t, makeShared(t, server))
	answered := 0
	raise := func() error {
		err := db.Write(t.Context(), func(tx *store.Tx) error { return tx.RaiseDocumentState(t.Context()) })
		if err == nil {
			answered++
		}
		return err
	}
	for range 3 {
		for range 20 {
			if err := raise(); err != nil {
				t.Fatal(err)
			}
		}
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := raise(); fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("without a database: %v", err)
		}
		if err := server.Restart(); err != nil {
			t.Fatal(err)
		}
		if err := raise(); err != nil {
			t.Errorf("it is back: %v", err)
		}
		err := db.Read(t.Context(), func(tx *store.Tx) error {
			state, err := tx.DocumentState(t.Context())
			if state < uint64(answered) {
				t.Errorf("%d are there, %d were answered", state, answered)
			}
			return err
		})
		if err != nil {
			t.Errorf("read: %v", err)
		}
	}
}

// A server that stops in the middle of a write holds up the others for as long
// as the database gives it, and has written nothing when it goes on.
func TestStoppedServerHoldsNobodyUpForLong(t *testing.T) {
	server := postgrestest.Run(t)
	url := makeShared(t, server)
	one, two := shared(t, url), shared(t, url)
	stopped, goOn, answer := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		answer <- one.Write(t.Context(), func(tx *store.Tx) error {
			err := tx.RaiseDocumentState(t.Context())
			close(stopped)
			<-goOn
			return err
		})
	}()
	<-stopped
	if err := two.Write(t.Context(), func(tx *store.Tx) error { return tx.RaiseDocumentState(t.Context()) }); err != nil {
		t.Errorf("held up: %v", err)
	}
	close(goOn)
	if err := <-answer; fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("who was stopped: %v", err)
	}
	err := one.Read(t.Context(), func(tx *store.Tx) error {
		state, err := tx.DocumentState(t.Context())
		if state != 1 {
			t.Errorf("%d changes, one was answered", state)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A standby is refused, and named with its primary the primary is found; when
// that is gone the standby, once promoted, is gone on with.
func TestFailover(t *testing.T) {
	// What the primary has answered, the database too, is there at the standby for who looks.
	primary := postgrestest.Run(t, "synchronous_standby_names=*", "synchronous_commit=remote_apply")
	standby := postgrestest.RunStandby(t, primary)
	url := makeShared(t, primary)
	at := func(server *postgrestest.Server) string {
		return strings.Replace(url, fmt.Sprintf(":%d/", primary.Port), fmt.Sprintf(":%d/", server.Port), 1)
	}
	if _, err := store.Open(t.Context(), store.Options{URL: at(standby)}); fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "standby") {
		t.Errorf("a standby is opened: %v", err)
	}
	both := strings.Replace(url, fmt.Sprintf("127.0.0.1:%d/", primary.Port),
		fmt.Sprintf("127.0.0.1:%d,127.0.0.1:%d/", standby.Port, primary.Port), 1) + "&target_session_attrs=read-write"
	db := shared(t, both)
	for i := range 20 {
		if err := verb(t.Context(), db, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := verb(t.Context(), db, "lost"); err == nil {
		t.Error("written to nobody")
	}
	if _, err := standby.Exec(t.Context(), "SELECT pg_promote()"); err != nil {
		t.Fatal(err)
	}
	if err := verb(t.Context(), db, "after"); err != nil {
		t.Errorf("after the failover: %v", err)
	}
	found := verbs(t, db)
	for i := range 20 {
		if !found[fmt.Sprint(i)] {
			t.Errorf("verb %d was answered and is gone", i)
		}
	}
}
