package target_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

func newPostgres(t *testing.T, opts targettest.PostgresOptions) *database {
	t.Helper()
	return newDatabase(t, fleet.TargetPostgres, targettest.PostgresAccount(), func(d *targettest.Delivery) *targettest.Server {
		return targettest.Postgres(t, d, opts)
	})
}

func TestPostgresTakesAllLive(t *testing.T) {
	d := newPostgres(t, targettest.PostgresOptions{})
	seen, err := d.contact(*d.server.Target.Control)
	if err != nil || seen.Product != "postgres" || !strings.HasPrefix(seen.Version, "15.") {
		t.Fatalf("contact: %+v, %v", seen, err)
	}
	d.rotations(fleet.Delivered)
	loaded, err := d.broken()
	if err != nil || loaded.Level != fleet.Delivered {
		t.Errorf("PostgreSQL has no word on a broken pair: %+v, %v", loaded, err)
	}
	if !strings.Contains(d.server.Log(), "SSL configuration was not reloaded") {
		t.Errorf("the row says that its log tells: %s", d.server.Log())
	}
	d.brokenBundle()
	// By SIGHUP alone.
	control := *d.server.Target.Control
	d.server.Target.Control = &target.Control{PIDFile: control.PIDFile}
	if seen, err := d.contact(*d.server.Target.Control); err != nil || seen.String() != "postgres 15" {
		t.Errorf("contact by pid file: %v, %v", seen, err)
	}
	d.take(d.a.Issue(t, targettest.Order{}), target.Change{Leaf: true}, d.a.Root)
	if err := d.adapter.Health(t.Context(), targettest.Host(nil), d.server.Target, d.spec()); err != nil {
		t.Errorf("health by pid file: %v", err)
	}
}

// brokenBundle: a CA file that does not parse keeps the new pair out too.
func (d *database) brokenBundle() {
	d.t.Helper()
	before := d.leaf
	d.delivery.Switch(d.a.Issue(d.t, targettest.Order{}), d.a.Root)
	targettest.Write(d.t, d.delivery.File("bundle.pem"), "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n", 0o644, "")
	_, err := d.reload(target.Change{Leaf: true, AnchorsAdded: true})
	if err != nil {
		d.t.Fatal(err)
	}
	client := d.a.Issue(d.t, targettest.Order{})
	for range 5 {
		if seen := d.look(client); !d.shows(seen, before) || !accepted(seen) {
			d.t.Fatalf("after a broken bundle: %+v\n%s", seen, d.server.Log())
		}
	}
}

func TestPostgresContactSaysWhatToMend(t *testing.T) {
	d := newPostgres(t, targettest.PostgresOptions{})
	good := *d.server.Target.Control
	with := func(change func(*target.Control)) target.Control {
		control := good
		change(&control)
		return control
	}
	dir := filepath.Dir(good.Address)
	for _, c := range []struct {
		name    string
		control target.Control
		code    fault.Code
		words   []string
	}{
		{"wrong path", with(func(c *target.Control) { c.Address = filepath.Join(dir, ".s.PGSQL.1") }), fault.Invalid, []string{"though something listens", "targets.postgres.address"}},
		{"directory", with(func(c *target.Control) { c.Address = dir }), fault.Invalid, []string{"not a socket of PostgreSQL's", ".s.PGSQL.5432"}},
		{"no role", with(func(c *target.Control) { c.User = "" }), fault.Invalid, []string{"CREATE ROLE", "pg_reload_conf"}},
		{"wrong password", with(func(c *target.Control) { c.Password = password("wrong") }), fault.Forbidden, []string{"password authentication failed", "passwordFile"}},
		{"no password", with(func(c *target.Control) { c.Password = nil }), fault.Forbidden, []string{"passwordFile"}},
		{"unknown role", with(func(c *target.Control) { c.User = "ghost" }), fault.Forbidden, []string{"ghost"}},
		{"no right", with(func(c *target.Control) { c.User = targettest.PostgresStranger }), fault.Forbidden, []string{"pg_monitor", "GRANT EXECUTE ON FUNCTION pg_catalog.pg_reload_conf() TO nobody"}},
		{"TLS port", with(func(c *target.Control) { c.Address = d.server.Target.Address }), fault.Forbidden, []string{"no encryption", "pg_hba.conf"}},
		{"wrong pid file", target.Control{PIDFile: filepath.Join(dir, "nothing.pid")}, fault.Invalid, []string{"though something listens"}},
		{"our own pid", target.Control{PIDFile: ownPIDFile(t)}, fault.Invalid, []string{"not postgres"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := d.contact(c.control)
			refuses(t, err, c.code, c.words...)
		})
	}
	targettest.PostgresSQL(t, d.server, "GRANT pg_monitor TO nobody")
	_, err := d.contact(with(func(c *target.Control) { c.User = targettest.PostgresStranger }))
	refuses(t, err, fault.Forbidden, "may not execute pg_reload_conf()")
	t.Run("reads elsewhere", func(t *testing.T) { postgresReadsElsewhere(t, d) })
	t.Run("away", func(t *testing.T) { postgresAway(t, d) })
}

// postgresReadsElsewhere: a setting that leads to other files, or to a
// revision's own directory, would reload nothing of ours.
func postgresReadsElsewhere(t *testing.T, d *database) {
	data := filepath.Dir(d.server.Target.Control.PIDFile)
	revision, err := filepath.EvalSymlinks(filepath.Join(d.delivery.Dir, "current"))
	if err != nil {
		t.Fatal(err)
	}
	set := func(setting, value string) {
		t.Helper()
		targettest.PostgresSQL(t, d.server, "ALTER SYSTEM SET "+setting+" = '"+value+"'")
		targettest.PostgresSQL(t, d.server, "SELECT pg_reload_conf()")
		awaitSQL(t, d.server, "SELECT current_setting('"+setting+"')", value)
	}
	for setting, values := range map[string][]string{
		"ssl_cert_file": {"server.crt", d.delivery.File("cert.pem"), filepath.Join(revision, "chain.pem")},
		"ssl_key_file":  {filepath.Join(revision, "key.pem")},
		"ssl_ca_file":   {filepath.Join(revision, "bundle.pem")},
		"ssl":           {"off"},
	} {
		for _, value := range values {
			set(setting, value)
			_, err := d.contact(*d.server.Target.Control)
			refuses(t, err, fault.Invalid, setting, value, "ALTER SYSTEM SET "+setting)
			if _, err := d.reload(target.Change{Leaf: true}); err == nil {
				t.Errorf("%s = %s: it reloads other files", setting, value)
			}
		}
		targettest.PostgresSQL(t, d.server, "ALTER SYSTEM RESET "+setting)
		targettest.PostgresSQL(t, d.server, "SELECT pg_reload_conf()")
	}
	// A link of the administrator's own is as good, from wherever it leads.
	link := filepath.Join(data, "server.pem")
	symlink(t, d.delivery.File("chain.pem"), link)
	set("ssl_cert_file", "server.pem")
	awaitSQL(t, d.server, "SELECT current_setting('ssl')", "on")
	awaitSQL(t, d.server, "SELECT current_setting('ssl_key_file')", d.delivery.File("key.pem"))
	if _, err := d.contact(*d.server.Target.Control); err != nil {
		t.Errorf("by a link: %v", err)
	}
}

func postgresAway(t *testing.T, d *database) {
	pidOnly := target.Control{PIDFile: d.server.Target.Control.PIDFile}
	d.server.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := d.adapter.Contact(ctx, targettest.Host(nil), d.server.Target)
	refuses(t, err, fault.Unavailable, "no answer in time")
	d.server.Thaw()
	d.server.Stop()
	_, err = d.contact(*d.server.Target.Control)
	refuses(t, err, fault.Unavailable, "is not running")
	_, err = d.contact(pidOnly)
	refuses(t, err, fault.Unavailable, "is not running")
	if _, err := d.reload(target.Change{Leaf: true}); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("reload of a stopped server: %v", err)
	}
	if loaded, err := d.reload(target.Change{First: true}); err != nil || loaded.Level != fleet.Delivered {
		t.Errorf("the first files of a server that has yet to start: %+v, %v", loaded, err)
	}
	// Another product where its socket was.
	for _, banner := range []string{"", "-ERR unknown command\r\n"} {
		other := answer(t, d.server.Target.Control.Address, banner)
		at := d.server.Target
		at.Address = ""
		_, err = d.adapter.Contact(t.Context(), targettest.Host(nil), at)
		refuses(t, err, fault.Invalid, "does not speak PostgreSQL's protocol", "targets.postgres.address")
		_ = other.Close()
	}
}

// standbyOf runs a standby of it, with an identity under the same authority.
func standbyOf(t *testing.T, d *database) (standby *database, identity *targettest.Delivery) {
	t.Helper()
	identity = targettest.NewDelivery(t, targettest.PostgresAccount())
	identity.Switch(d.a.Issue(t, targettest.Order{CommonName: targettest.PostgresStandbys}), d.a.Root)
	standby = newDatabase(t, fleet.TargetPostgres, targettest.PostgresAccount(), func(own *targettest.Delivery) *targettest.Server {
		own.Switch(d.a.Issue(t, targettest.Order{}), d.a.Root)
		return targettest.PostgresStandby(t, d.server, own, identity, targettest.PostgresOptions{})
	})
	standby.a = d.a
	return standby, identity
}

// TestPostgresStandby replaces the root of a primary and its standby, each
// link tried by a reconnect, and sees that health tells when it is down.
func TestPostgresStandby(t *testing.T) {
	primary := newPostgres(t, targettest.PostgresOptions{})
	says := func(want string) {
		t.Helper()
		if text, err := primary.adapter.Says(t.Context(), targettest.Host(nil), primary.server.Target); err != nil || text != "pg_stat_ssl: "+want {
			t.Errorf("it says %q, %v", text, err)
		}
	}
	says("no TLS session")
	standby, identity := standbyOf(t, primary)
	health := func(d *database) error {
		return d.adapter.Health(t.Context(), targettest.Host(nil), d.server.Target, d.spec())
	}
	// reconnects ends the stream and waits for a new one.
	reconnects := func() {
		t.Helper()
		old := awaitSQL(t, primary.server, "SELECT pid FROM pg_stat_replication WHERE state = 'streaming'", "")
		targettest.PostgresSQL(t, primary.server, "SELECT pg_terminate_backend("+old+")")
		awaitSQL(t, primary.server, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND pid <> "+old, "1")
		awaitHealth(t, standby)
		awaitHealth(t, primary)
	}
	reconnects()
	says("1 × TLSv1.3, client issuer /CN=a issuing")
	a, b := primary.a, targettest.NewAuthority(t, "b")
	identity.Switch(a.Issue(t, targettest.Order{}), a.Root, b.Root)
	standby.take(a.Issue(t, targettest.Order{}), target.Change{Leaf: true, AnchorsAdded: true}, a.Root, b.Root)
	primary.take(a.Issue(t, targettest.Order{}), target.Change{Leaf: true, AnchorsAdded: true}, a.Root, b.Root)
	reconnects()
	identity.Switch(b.Issue(t, targettest.Order{}), b.Root, a.Root)
	standby.take(b.Issue(t, targettest.Order{}), target.Change{Leaf: true}, a.Root, b.Root)
	primary.take(b.Issue(t, targettest.Order{}), target.Change{Leaf: true}, a.Root, b.Root)
	reconnects()

	// An identity of another root: what is up stays up, and a reconnect fails.
	identity.Switch(targettest.NewAuthority(t, "c").Issue(t, targettest.Order{}), b.Root)
	if err := health(standby); err != nil {
		t.Errorf("a stream that is up stays up: %v", err)
	}
	targettest.PostgresSQL(t, primary.server, "SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
	awaitSQL(t, standby.server, "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'", "0")
	refuses(t, health(standby), fault.Unavailable, "standby without a connection to its primary")
	if err := health(primary); err != nil {
		t.Errorf("a primary that has no slot for it knows of no standby: %v", err)
	}
	targettest.PostgresSQL(t, primary.server, "SELECT pg_create_physical_replication_slot('s1')")
	refuses(t, health(primary), fault.Unavailable, "s1 is away")
	targettest.PostgresSQL(t, primary.server, "SELECT pg_drop_replication_slot('s1')")
	targettest.PostgresSQL(t, primary.server, "ALTER SYSTEM SET synchronous_standby_names = 'standby'")
	targettest.PostgresSQL(t, primary.server, "ALTER SYSTEM SET default_transaction_read_only = on")
	targettest.PostgresSQL(t, primary.server, "SELECT pg_reload_conf()")
	awaitSQL(t, primary.server, "SELECT current_setting('default_transaction_read_only')", "on")
	refuses(t, health(primary), fault.Unavailable, "takes no writes")
	targettest.PostgresSQL(t, primary.server, "BEGIN READ WRITE; COMMIT")
	targettest.PostgresSQL(t, primary.server, "ALTER SYSTEM RESET default_transaction_read_only")
	targettest.PostgresSQL(t, primary.server, "SELECT pg_reload_conf()")
	awaitSQL(t, primary.server, "SELECT current_setting('default_transaction_read_only')", "off")
	refuses(t, health(primary), fault.Unavailable, "commits wait")
	identity.Switch(b.Issue(t, targettest.Order{}), b.Root)
	awaitHealth(t, standby)
	awaitHealth(t, primary)
	if got := targettest.PostgresSQL(t, standby.server, "SELECT count(*) FROM load"); got[0] != "0" {
		t.Errorf("%v", got)
	}
	primary.server.Stop()
	refuses(t, health(primary), fault.Unavailable)
}

func awaitHealth(t *testing.T, d *database) {
	t.Helper()
	awaitTrue(t, func() (bool, string) {
		err := d.adapter.Health(t.Context(), targettest.Host(nil), d.server.Target, d.spec())
		if err != nil {
			return false, err.Error() + "\n" + d.server.Log()
		}
		return true, ""
	})
}

// awaitSQL asks until the first column of the first row is want, or anything
// where that is empty, and returns it.
func awaitSQL(t *testing.T, s *targettest.Server, sql, want string) string {
	t.Helper()
	var got string
	awaitTrue(t, func() (bool, string) {
		rows := targettest.PostgresSQL(t, s, sql)
		if len(rows) > 0 {
			got = rows[0]
		}
		return len(rows) > 0 && (want == "" || got == want), sql + " answers " + strings.Join(rows, ", ") + "\n" + s.Log()
	})
	return got
}

func awaitTrue(t *testing.T, so func() (bool, string)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), targettest.Patience)
	defer cancel()
	knock := time.NewTicker(20 * time.Millisecond)
	defer knock.Stop()
	for {
		ok, why := so()
		if ok {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", why)
		case <-knock.C:
		}
	}
}
