package target_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// stranger is a user of the host who listens where a server should, answers as
// one would, and keeps what it is told.
type stranger struct {
	address string
	stop    func() string // and what it was told
}

func listens(t *testing.T, network, address string, answer func(net.Conn, io.Writer)) stranger {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			told.WriteString("(connected)")
			answer(conn, &told)
			_ = conn.Close()
		}
	}()
	stop := sync.OnceValue(func() string {
		_ = listener.Close()
		<-done
		return told.String()
	})
	t.Cleanup(func() { stop() })
	return stranger{listener.Addr().String(), stop}
}

// TestNoSecretGoesToAPort: neither a password nor a key.
func TestNoSecretGoesToAPort(t *testing.T) {
	d := targettest.NewDelivery(t, "")
	a := targettest.NewAuthority(t, "a")
	d.Switch(a.Issue(t, targettest.Order{}), a.Root)
	for kind, refused := range map[fleet.TargetKind]string{
		fleet.TargetRedis: "a password is not said to a port", fleet.TargetMariaDB: "a password is not said to a port",
		fleet.TargetMemcached: "a password is not said to a port", fleet.TargetHAProxy: "private key is not said to a port",
	} {
		t.Run(string(kind), func(t *testing.T) {
			adapter, err := target.Lookup(kind)
			if err != nil {
				t.Fatal(err)
			}
			it := listens(t, "tcp", "127.0.0.1:0", func(conn net.Conn, told io.Writer) {
				greeting := map[fleet.TargetKind]string{fleet.TargetHAProxy: "Name: HAProxy\nVersion: 2.6.12\nPid: 1\n", fleet.TargetRedis: "+OK\r\n"}
				_, _ = io.WriteString(conn, greeting[kind])
				_, _ = io.Copy(told, conn) // until the agent hangs up
			})
			at := target.Target{Name: "it", Directory: d.Dir, Control: &target.Control{
				Address: it.address, User: "rotunda", PIDFile: "/none",
				Password: func() ([]byte, error) { return []byte("never-shown"), nil },
			}}
			_, contact := adapter.Contact(t.Context(), targettest.Host(nil), at)
			fails(t, contact, fault.Invalid, refused)
			_, load := adapter.Load(t.Context(), targettest.Host(nil), target.Act{Kind: target.ActReload, Target: at, Change: target.Change{Leaf: true}})
			fails(t, load, fault.Invalid, refused)
			if told := it.stop(); strings.Contains(told, "never-shown") || strings.Contains(told, "PRIVATE KEY") || strings.Contains(told, "AUTH") {
				t.Errorf("a stranger was told %q", told)
			}
		})
	}
}

// TestStrangersWithoutEnd: who answers without end costs bounded memory.
func TestStrangersWithoutEnd(t *testing.T) {
	db := targettest.Postgres(t, delivered(t, targettest.PostgresAccount()), targettest.PostgresOptions{})
	err := target.AskPostgres(t.Context(), db.Target, "SELECT repeat('x', 1000000) FROM generate_series(1, 8)")
	fails(t, err, fault.Invalid, "sends more than 4 MiB", "targets.postgres.address")
	db = targettest.MariaDB(t, delivered(t, targettest.MariaDBAccount()), targettest.MariaDBOptions{})
	err = target.AskMariaDB(t.Context(), db.Target, "SELECT REPEAT('x', 1000000) UNION ALL SELECT REPEAT('y', 8000000)")
	fails(t, err, fault.Invalid, "sends more than 4 MiB", "targets.mariadb.address")
	for _, ask := range []func(context.Context, target.Target, string) error{target.AskPostgres, target.AskMariaDB} {
		noise := listens(t, "unix", filepath.Join(targettest.Dir(t, "noise-"), ".s.PGSQL.5432"), func(conn net.Conn, _ io.Writer) {
			// A packet of either protocol that goes on and on: a greeting of 16
			// MiB, or a notice of as much.
			for chunk := []byte("N\x00\xff\xff\n"); ; chunk = make([]byte, 64<<10) {
				if _, err := conn.Write(chunk); err != nil {
					return
				}
			}
		})
		at := target.Target{Name: "db", Control: &target.Control{Address: noise.address, User: "rotunda"}}
		if err := ask(t.Context(), at, "SELECT 1"); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		noise.stop()
	}
}

func delivered(t *testing.T, account string) *targettest.Delivery {
	t.Helper()
	d, a := targettest.NewDelivery(t, account), targettest.NewAuthority(t, "a")
	d.Switch(a.Issue(t, targettest.Order{}), a.Root)
	return d
}

// TestRevisionsOwnDirectory: what names it would stay behind at the switch, and
// is told so before.
func TestRevisionsOwnDirectory(t *testing.T) {
	own := func(d *targettest.Delivery, file string) string {
		path, err := filepath.EvalSymlinks(d.File(file))
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	r := newRig(t, fleet.TargetHAProxy, targettest.HAProxyAccount(), func(d *targettest.Delivery) *targettest.Server {
		return targettest.HAProxy(t, d, targettest.HAProxyOptions{Certificate: own(d, "combined.pem")})
	})
	_, err := r.contact(r.s.Target)
	fails(t, err, fault.Invalid, "does not use "+r.d.File("combined.pem"), "it uses "+own(r.d, "combined.pem"))
	r = newRig(t, fleet.TargetMemcached, targettest.MemcachedAccount(), func(d *targettest.Delivery) *targettest.Server {
		return targettest.Memcached(t, d, targettest.MemcachedOptions{Arguments: []string{"-o", "ssl_key=" + own(d, "key.pem")}})
	})
	_, err = r.contact(r.s.Target)
	fails(t, err, fault.Invalid, "does not use "+r.d.File("key.pem"), own(r.d, "key.pem"))
}
