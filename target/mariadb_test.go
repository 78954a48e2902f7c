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

func newMariaDB(t *testing.T, opts targettest.MariaDBOptions) *database {
	t.Helper()
	return newDatabase(t, fleet.TargetMariaDB, targettest.MariaDBAccount(), func(d *targettest.Delivery) *targettest.Server {
		return targettest.MariaDB(t, d, opts)
	})
}

func TestMariaDBTakesAllLive(t *testing.T) {
	d := newMariaDB(t, targettest.MariaDBOptions{})
	seen, err := d.contact(*d.server.Target.Control)
	if err != nil || seen.Product != "mariadb" || !strings.HasPrefix(seen.Version, "10.") {
		t.Fatalf("contact: %+v, %v", seen, err)
	}
	d.rotations(fleet.Loaded)
	says, err := d.adapter.Says(t.Context(), targettest.Host(nil), d.server.Target)
	if want := "Ssl_server_not_after " + d.leaf.Leaf.NotAfter.Format("Jan _2 15:04:05 2006") + " GMT"; err != nil || !strings.HasSuffix(says, want) {
		t.Errorf("it says %q, %v, want %q", says, err, want)
	}
	loaded, err := d.broken()
	refuses(t, err, fault.Invalid, "did not take the files", "error log")
	if loaded.Level != fleet.Delivered {
		t.Errorf("%+v", loaded)
	}
	d.delivery.SwitchFiles(map[string][]byte{"bundle.pem": []byte("no\n")})
	_, err = d.reload(target.Change{Leaf: true})
	refuses(t, err, fault.Invalid)
	d.take(d.a.Issue(t, targettest.Order{}), target.Change{Leaf: true}, d.a.Root)
}

func TestMariaDBContactSaysWhatToMend(t *testing.T) {
	d := newMariaDB(t, targettest.MariaDBOptions{})
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
		{"wrong path", with(func(c *target.Control) { c.Address = filepath.Join(dir, "other.sock") }), fault.Invalid, []string{"though something listens", "targets.mariadb.address"}},
		{"no socket", with(func(c *target.Control) { c.Address = dir }), fault.Invalid, []string{"is no socket"}},
		{"no account", with(func(c *target.Control) { c.User = "" }), fault.Invalid, []string{"CREATE USER", "passwordFile"}},
		{"wrong password", with(func(c *target.Control) { c.Password = password("wrong") }), fault.Forbidden, []string{"Access denied", "passwordFile"}},
		{"no password", with(func(c *target.Control) { c.Password = nil }), fault.Forbidden, []string{"passwordFile"}},
		{"unknown account", with(func(c *target.Control) { c.User = "ghost" }), fault.Forbidden, []string{"ghost"}},
		{"no right", with(func(c *target.Control) { c.User = targettest.MariaDBStranger }), fault.Forbidden, []string{"lacks RELOAD", "GRANT RELOAD, SLAVE MONITOR ON *.* TO nobody@localhost"}},
		{"password to a port", with(func(c *target.Control) { c.Address = d.server.Target.Address }), fault.Invalid, []string{"a password is not said to a port", "unix socket"}},
		{"TLS port", with(func(c *target.Control) { c.Address, c.Password = d.server.Target.Address, nil }), fault.Forbidden, []string{"Access denied"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := d.contact(c.control)
			refuses(t, err, c.code, c.words...)
			if strings.Contains(err.Error(), "IDENTIFIED BY PASSWORD") {
				t.Errorf("it repeats a password's digest: %v", err)
			}
		})
	}
	// RELOAD alone is not enough for health; contact says so before anything
	// is touched.
	stranger := with(func(c *target.Control) { c.User = targettest.MariaDBStranger })
	targettest.MariaDBSQL(t, d.server, "GRANT RELOAD ON *.* TO nobody@localhost")
	_, err := d.contact(stranger)
	refuses(t, err, fault.Forbidden, "SLAVE MONITOR")
	t.Run("reads elsewhere", func(t *testing.T) { mariadbReadsElsewhere(t, d) })
	t.Run("away", func(t *testing.T) { mariadbAway(t, d) })
}

// mariadbReadsElsewhere: settings that lead to other files would reload
// nothing of ours.
func mariadbReadsElsewhere(t *testing.T, d *database) {
	other := targettest.NewDelivery(t, targettest.MariaDBAccount())
	other.Switch(d.leaf, d.a.Root)
	d.server.Target.Directory = other.Dir
	defer func() { d.server.Target.Directory = d.delivery.Dir }()
	_, err := d.contact(*d.server.Target.Control)
	refuses(t, err, fault.Invalid, "ssl_cert", d.delivery.File("chain.pem"), "ssl_cert = "+other.File("chain.pem"))
	_, err = d.reload(target.Change{Leaf: true})
	refuses(t, err, fault.Invalid, "not this target's")
}

func mariadbAway(t *testing.T, d *database) {
	d.server.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := d.adapter.Contact(ctx, targettest.Host(nil), d.server.Target)
	refuses(t, err, fault.Unavailable, "no answer in time")
	d.server.Thaw()
	d.server.Stop()
	_, err = d.contact(*d.server.Target.Control)
	refuses(t, err, fault.Unavailable, "is not running")
	_, err = d.reload(target.Change{Leaf: true})
	refuses(t, err, fault.Unavailable)
	at := d.server.Target
	at.Address = ""
	for banner, c := range map[string]struct {
		code  fault.Code
		words []string
	}{
		"220 mail.example ESMTP\r\n": {fault.Invalid, []string{"does not speak MariaDB's protocol", "targets.mariadb.address"}},
		"":                           {fault.Invalid, []string{"does not speak MariaDB's protocol"}},
		"silence":                    {fault.Unavailable, []string{"another product listens there"}}, // waits to be spoken to
	} {
		other := greet(t, at.Control.Address, banner)
		patience := targettest.Patience
		if banner == "silence" {
			patience = time.Second
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err = d.adapter.Contact(ctx, targettest.Host(nil), at)
		refuses(t, err, c.code, c.words...)
		cancel()
		_ = other.Close()
	}
}

func TestMariaDBReplica(t *testing.T) {
	primary := newMariaDB(t, targettest.MariaDBOptions{})
	identity := targettest.NewDelivery(t, targettest.MariaDBAccount())
	identity.Switch(primary.a.Issue(t, targettest.Order{CommonName: "replica"}), primary.a.Root)
	replica := newDatabase(t, fleet.TargetMariaDB, targettest.MariaDBAccount(), func(own *targettest.Delivery) *targettest.Server {
		own.Switch(primary.a.Issue(t, targettest.Order{}), primary.a.Root)
		return targettest.MariaDBReplica(t, primary.server, own, identity, targettest.MariaDBOptions{})
	})
	replica.a = primary.a
	awaitHealth(t, replica)
	b := targettest.NewAuthority(t, "b")
	identity.Switch(b.Issue(t, targettest.Order{}), primary.a.Root)
	health := func(d *database) error {
		return d.adapter.Health(t.Context(), targettest.Host(nil), d.server.Target, d.spec())
	}
	if err := health(replica); err != nil {
		t.Errorf("a stream that is up stays up: %v", err)
	}
	targettest.MariaDBSQL(t, replica.server, "STOP SLAVE")
	targettest.MariaDBSQL(t, replica.server, "START SLAVE")
	awaitTrue(t, func() (bool, string) {
		err := health(replica)
		return err != nil && strings.Contains(err.Error(), "Slave_IO_Running Connecting"), "health is " + errorText(err)
	})
	if err := health(primary); err != nil {
		t.Errorf("%v", err)
	}
	primary.take(primary.a.Issue(t, targettest.Order{}), target.Change{Leaf: true, AnchorsAdded: true}, primary.a.Root, b.Root)
	awaitHealth(t, replica)
}

func errorText(err error) string {
	if err == nil {
		return "well"
	}
	return err.Error()
}
