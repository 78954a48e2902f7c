package target_test

import (
	"context"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// database is a server under test with what it was given.
type database struct {
	t        *testing.T
	adapter  target.Adapter
	server   *targettest.Server
	delivery *targettest.Delivery
	a        *targettest.Authority // whose leaves it serves and whose clients it takes
	leaf     *targettest.Credential
}

// newDatabase delivers a first leaf and lets run start the server.
func newDatabase(t *testing.T, kind fleet.TargetKind, account string, run func(*targettest.Delivery) *targettest.Server) *database {
	t.Helper()
	adapter, err := target.Lookup(kind)
	if err != nil {
		t.Fatal(err)
	}
	d := &database{t: t, adapter: adapter, a: targettest.NewAuthority(t, "a"), delivery: targettest.NewDelivery(t, account)}
	d.leaf = d.a.Issue(t, targettest.Order{CommonName: "db"})
	d.delivery.Switch(d.leaf, d.a.Root)
	d.server = run(d.delivery)
	return d
}

// reload carries out what the adapter plans for the change.
func (d *database) reload(change target.Change) (target.Loaded, error) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), targettest.Patience)
	defer cancel()
	acts := d.adapter.Plan(d.server.Target, change)
	if len(acts) != 1 || acts[0].Kind != target.ActReload || acts[0].Command != "" {
		d.t.Fatalf("plan: %+v", acts)
	}
	return d.adapter.Load(ctx, targettest.Host(nil), acts[0])
}

// take switches to a leaf and anchors, reloads, and waits until the leaf is
// served. It returns how far the server's word went.
func (d *database) take(leaf *targettest.Credential, change target.Change, anchors ...*x509.Certificate) fleet.Level {
	d.t.Helper()
	d.delivery.Switch(leaf, anchors...)
	loaded, err := d.reload(change)
	if err != nil {
		d.t.Fatalf("reload: %v\n%s", err, d.server.Log())
	}
	d.leaf = leaf
	d.await(func(seen probe.Observation) bool { return d.shows(seen, leaf) }, leaf)
	return loaded.Level
}

func (d *database) look(client *targettest.Credential) probe.Observation {
	d.t.Helper()
	spec := d.spec()
	if client != nil {
		spec.Certificate = client.TLS()
	}
	seen, err := probe.Handshake(d.t.Context(), spec)
	if err != nil {
		d.t.Fatal(err)
	}
	return seen
}

func (d *database) spec() probe.Spec {
	at := d.server.Target
	return probe.Spec{Address: at.Address, ServerName: at.ServerName, Preamble: at.Preamble, ReadAcceptance: true, Timeout: 20 * time.Second, Now: time.Now}
}

func (d *database) shows(seen probe.Observation, leaf *targettest.Credential) bool {
	return len(seen.Chain) == 2 && seen.Chain[0] == leaf.Fingerprints()[0].String() && seen.Chain[1] == leaf.Fingerprints()[1].String()
}

// await shakes hands with the client's certificate until it is so.
func (d *database) await(so func(probe.Observation) bool, client *targettest.Credential) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), targettest.Patience)
	defer cancel()
	knock := time.NewTicker(20 * time.Millisecond)
	defer knock.Stop()
	for {
		seen := d.look(client)
		if so(seen) {
			return
		}
		select {
		case <-ctx.Done():
			d.t.Fatalf("never seen; last: %+v\n%s", seen, d.server.Log())
		case <-knock.C:
		}
	}
}

func accepted(seen probe.Observation) bool { return seen.Accepted == probe.Accepted }
func rejected(seen probe.Observation) bool {
	return seen.Accepted == probe.Rejected || seen.Outcome == probe.Refused
}

// contact is Contact with another control path.
func (d *database) contact(control target.Control) (target.Contact, error) {
	d.t.Helper()
	at := d.server.Target
	at.Control = &control
	return d.adapter.Contact(d.t.Context(), targettest.Host(nil), at)
}

// refuses fails the test unless the error has the code, a remedy and all of
// the words.
func refuses(t *testing.T, err error, code fault.Code, words ...string) {
	t.Helper()
	if fault.CodeOf(err) != code || err == nil {
		t.Fatalf("%v: code %s, want %s", err, fault.CodeOf(err), code)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%v: it does not say %q", err, word)
		}
	}
}

func password(text string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(text), nil }
}

// rotations takes it through what every database has to take live: a new leaf,
// a key of another type, a CA added and removed.
func (d *database) rotations(want fleet.Level) {
	d.t.Helper()
	t, b := d.t, targettest.NewAuthority(d.t, "b")
	ours, theirs := d.a.Issue(t, targettest.Order{CommonName: "ours"}), b.Issue(t, targettest.Order{CommonName: "theirs"})
	d.await(accepted, ours)
	d.await(rejected, theirs)
	level := d.take(d.a.Issue(t, targettest.Order{Key: d.leaf.Key}), target.Change{Leaf: true}, d.a.Root)
	if level != want {
		t.Errorf("its word is worth %s, want %s", level, want)
	}
	d.take(d.a.Issue(t, targettest.Order{}), target.Change{Leaf: true}, d.a.Root)
	d.take(d.a.Issue(t, targettest.Order{Key: targettest.RSAKey(t)}), target.Change{Leaf: true, KeyType: true}, d.a.Root)
	d.take(d.a.Issue(t, targettest.Order{}), target.Change{Leaf: true, KeyType: true, AnchorsAdded: true}, d.a.Root, b.Root)
	d.await(accepted, theirs)
	d.await(accepted, ours)
	d.take(b.Issue(t, targettest.Order{}), target.Change{Leaf: true}, d.a.Root, b.Root)
	d.take(b.Issue(t, targettest.Order{}), target.Change{Leaf: true, AnchorsRemoved: true}, b.Root)
	d.await(accepted, theirs)
	d.await(rejected, ours)
	d.a = b
}

// broken gives it a pair that does not fit, and sees that it serves the one
// before.
func (d *database) broken() (target.Loaded, error) {
	d.t.Helper()
	before := d.leaf
	files := map[string][]byte{}
	d.delivery.Switch(d.a.Issue(d.t, targettest.Order{}), d.a.Root)
	for _, name := range []string{"chain.pem", "bundle.pem"} {
		content, err := os.ReadFile(d.delivery.File(name))
		if err != nil {
			d.t.Fatal(err)
		}
		files[name] = content
	}
	d.delivery.Switch(d.a.Issue(d.t, targettest.Order{}), d.a.Root)
	key, err := os.ReadFile(d.delivery.File("key.pem"))
	if err != nil {
		d.t.Fatal(err)
	}
	files["key.pem"] = key
	d.delivery.SwitchFiles(files)
	loaded, err := d.reload(target.Change{Leaf: true})
	client := d.a.Issue(d.t, targettest.Order{})
	for range 5 {
		if seen := d.look(client); !d.shows(seen, before) || !accepted(seen) {
			d.t.Fatalf("after a broken pair: %+v\n%s", seen, d.server.Log())
		}
	}
	return loaded, err
}

func symlink(t *testing.T, to, at string) {
	t.Helper()
	if err := os.Symlink(to, at); err != nil {
		t.Fatal(err)
	}
}

// ownPIDFile names this test, which is no server of any kind.
func ownPIDFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "own.pid")
	targettest.Write(t, path, strconv.Itoa(os.Getpid())+"\n", 0o644, "")
	return path
}

// answer is another product on a path, one that is spoken to first: it says
// its banner then, and hangs up.
func answer(t *testing.T, path, banner string) net.Listener {
	return product(t, path, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 512))
		_, _ = conn.Write([]byte(banner))
		_ = conn.Close()
	})
}

// greet is one that speaks first and hangs up, or waits in silence.
func greet(t *testing.T, path, banner string) net.Listener {
	return product(t, path, func(conn net.Conn) {
		if banner == "silence" {
			_, _ = conn.Read(make([]byte, 512))
		} else {
			_, _ = conn.Write([]byte(banner))
		}
		_ = conn.Close()
	})
}

func product(t *testing.T, path string, serve func(net.Conn)) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return l
}
