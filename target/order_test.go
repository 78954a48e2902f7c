package target_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// orders carries one out within a time, and holds its outcome and words.
func orders(t *testing.T, a target.Adapter, at target.Target, o target.Order, within time.Duration, outcome target.Outcome, words ...string) target.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	result := a.CarryOut(ctx, targettest.Host(nil), at, o)
	for _, word := range words {
		if !strings.Contains(result.Words, word) {
			t.Errorf("%s: %q lacks %q", o.Act, result.Words, word)
		}
	}
	if result.Outcome != outcome {
		t.Errorf("%s: %+v, want %s", o.Act, result, outcome)
	}
	return result
}

// dialled opens a session of a client's over TLS.
func dialled(t *testing.T, at target.Target, c *targettest.Credential) *tls.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", at.Address, &tls.Config{Certificates: []tls.Certificate{*c.TLS()}, InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// redisClient is one that has been answered.
func redisClient(t *testing.T, at target.Target, c *targettest.Credential, says string) *tls.Conn {
	t.Helper()
	conn := dialled(t, at, c)
	if _, err := io.WriteString(conn, says+"\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return conn
}

// closed says whether the other side has hung up.
func closed(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	for {
		_, err := conn.Read(make([]byte, 1<<10))
		if err != nil {
			return !errors.Is(err, os.ErrDeadlineExceeded)
		}
	}
}

const redisWithOrders = "+config|set +config|get +info +ping +client|kill"

func TestRedisCarriesOrdersOut(t *testing.T) {
	master := newRedis(t, targettest.RedisOptions{Name: "master", Rights: redisWithOrders, Config: []string{"repl-timeout 5"}})
	replica := &rig{t: t, adapter: master.adapter, a: master.a, b: master.b, now: master.a.Issue(t, targettest.Order{})}
	replica.d = targettest.NewDelivery(t, targettest.RedisAccount())
	replica.d.Switch(replica.now, replica.a.Root)
	replica.s = targettest.Redis(t, replica.d, targettest.RedisOptions{Name: "one", ReplicaOf: master.s, Rights: redisWithOrders})
	replica.well()
	awaitTrue(t, func() (bool, string) {
		result := master.adapter.CarryOut(t.Context(), targettest.Host(nil), master.s.Target, target.Order{Act: target.ReconnectLinks})
		return result.Outcome == target.Done && result.Count == 1 && strings.Contains(result.Words, "links are back"), fmt.Sprintf("%+v", result)
	})
	master.well()
	if got := orders(t, replica.adapter, replica.s.Target, target.Order{Act: target.ReconnectLinks}, targettest.Patience, target.Done, "links are back"); got.Count != 1 {
		t.Errorf("the replica's own link: %+v", got)
	}
	replica.well()

	clients := []net.Conn{
		redisClient(t, master.s.Target, master.now, "PING"), redisClient(t, master.s.Target, master.now, "PING"),
		redisClient(t, master.s.Target, master.now, "SUBSCRIBE news"),
	}
	got := orders(t, master.adapter, master.s.Target, target.Order{Act: target.CloseSessions, Issuers: []*x509.Certificate{master.b.Issuing}}, targettest.Patience, target.Done, "all clients")
	if got.Count != int64(len(clients)) {
		t.Errorf("closed %+v, want %d", got, len(clients))
	}
	for i, conn := range clients {
		if !closed(conn) {
			t.Errorf("client %d is connected still", i)
		}
	}
	replica.well() // its link is no session

	// A replica that is not let in again is a link that is not back.
	replica.s.Freeze()
	orders(t, master.adapter, master.s.Target, target.Order{Act: target.ReconnectLinks}, time.Second, target.Failed, "1 links were broken", "0 replicas synced again", "see the log")
	replica.s.Thaw()
	replica.well()
	master.s.Stop()
	orders(t, master.adapter, master.s.Target, target.Order{Act: target.CloseSessions}, time.Second, target.Failed, "is not running")
	alone := replica
	orders(t, alone.adapter, alone.s.Target, target.Order{Act: target.ReconnectLinks}, time.Second, target.Failed, "no link to its master")
}

func TestRedisOrdersTakeARight(t *testing.T) {
	r := newRedis(t, targettest.RedisOptions{Config: []string{"user admin on nopass ~* &* +@all"}})
	conn := redisClient(t, r.s.Target, r.now, "PING")
	for _, act := range []target.OrderAct{target.CloseSessions, target.ReconnectLinks} {
		orders(t, r.adapter, r.s.Target, target.Order{Act: act}, targettest.Patience, target.Impossible, "no right to CLIENT KILL", "ACL SETUSER rotunda +client|kill")
	}
	if closed(conn) {
		t.Error("a client was closed")
	}
	without := r.s.Target
	without.Control = nil
	orders(t, r.adapter, without, target.Order{Act: target.CloseSessions}, time.Second, target.Impossible, "name it as targets.redis", "unix socket")
}

// pgClient opens a session over TLS.
func (d *database) pgClient(c *targettest.Credential, role string) *pgconn.PgConn {
	d.t.Helper()
	config, err := pgconn.ParseConfig("host=localhost user=" + role + " dbname=postgres sslmode=require")
	if err != nil {
		d.t.Fatal(err)
	}
	config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", d.server.Target.Address)
	}
	config.Password, config.Fallbacks = targettest.PostgresPassword, nil
	config.TLSConfig = &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*c.TLS()}}
	conn, err := pgconn.ConnectConfig(d.t.Context(), config)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func alive(t *testing.T, conn *pgconn.PgConn) bool {
	_, err := conn.Exec(t.Context(), "SELECT 1").ReadAll()
	return err == nil
}

func TestPostgresCarriesOrdersOut(t *testing.T) {
	d := newPostgres(t, targettest.PostgresOptions{})
	b := targettest.NewAuthority(t, `b, "of" <many> + names; in a string that goes on for more than 63 bytes`)
	d.take(d.a.Issue(t, targettest.Order{}), target.Change{AnchorsAdded: true}, d.a.Root, b.Root)
	order := func(act target.OrderAct, issuers []*x509.Certificate, outcome target.Outcome, words ...string) target.Result {
		t.Helper()
		return orders(t, d.adapter, d.server.Target, target.Order{Act: act, Issuers: issuers}, targettest.Patience, outcome, words...)
	}
	order(target.ReconnectLinks, nil, target.Done, "no standby is connected")
	standby, _ := standbyOf(t, d)
	awaitHealth(t, standby)
	underA, underB := d.pgClient(d.a.Issue(t, targettest.Order{}), targettest.PostgresApp), d.pgClient(b.Issue(t, targettest.Order{}), targettest.PostgresApp)

	// Without the right nothing is done, and the remedy is all that is missing.
	for _, act := range []target.OrderAct{target.CloseSessions, target.ReconnectLinks} {
		order(act, []*x509.Certificate{d.a.Issuing}, target.Impossible, "GRANT pg_signal_backend TO rotunda")
	}
	if !alive(t, underA) {
		t.Fatal("a session was closed")
	}
	targettest.PostgresSQL(t, d.server, "GRANT pg_signal_backend TO rotunda")
	if got := order(target.CloseSessions, []*x509.Certificate{d.a.Issuing}, target.Done, "CN=a issuing"); got.Count != 1 || alive(t, underA) || !alive(t, underB) {
		t.Errorf("under A: %+v", got)
	}
	if got := order(target.CloseSessions, []*x509.Certificate{d.a.Issuing, b.Issuing}, target.Done); got.Count != 1 || alive(t, underB) {
		t.Errorf("under B: %+v", got)
	}
	// Of a revoked certificate its own session ends, and no other's.
	stolen, other := d.a.Issue(t, targettest.Order{}), d.a.Issue(t, targettest.Order{})
	withStolen, withOther := d.pgClient(stolen, targettest.PostgresApp), d.pgClient(other, targettest.PostgresApp)
	serial, err := pki.SerialOf(stolen.Leaf)
	if err != nil {
		t.Fatal(err)
	}
	one := target.Order{Act: target.CloseSessions, Issuers: []*x509.Certificate{d.a.Issuing}, Serials: []pki.Serial{serial}}
	if got := orders(t, d.adapter, d.server.Target, one, targettest.Patience, target.Done, "1 revoked certificates"); got.Count != 1 || alive(t, withStolen) || !alive(t, withOther) {
		t.Errorf("one certificate's: %+v", got)
	}
	_ = withOther.Close(t.Context())
	// A superuser's is not the agent's to end.
	mine, admins := d.pgClient(b.Issue(t, targettest.Order{}), targettest.PostgresApp), d.pgClient(b.Issue(t, targettest.Order{}), targettest.PostgresAdmin)
	if got := order(target.CloseSessions, nil, target.Partly, "all TLS clients", "may not end 1 sessions of postgres"); got.Count != 1 || alive(t, mine) || !alive(t, admins) {
		t.Errorf("all: %+v", got)
	}
	old := awaitSQL(t, d.server, "SELECT pid FROM pg_stat_replication WHERE state = 'streaming'", "") // no session of a client's
	if got := order(target.ReconnectLinks, nil, target.Done, "1 of 1 standbys", "/CN=a issuing"); got.Count != 1 {
		t.Errorf("links: %+v", got)
	}
	awaitSQL(t, d.server, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND pid <> "+old, "1")
	orders(t, standby.adapter, standby.server.Target, target.Order{Act: target.ReconnectLinks}, targettest.Patience, target.Impossible, "is a standby", "its primary")
	standby.server.Freeze()
	orders(t, d.adapter, d.server.Target, target.Order{Act: target.ReconnectLinks}, time.Second, target.Failed, "0 of 1 standbys", "standby did not come back")
	standby.server.Thaw()
	byPID := d.server.Target
	byPID.Control = &target.Control{PIDFile: d.server.Target.Control.PIDFile}
	orders(t, d.adapter, byPID, target.Order{Act: target.CloseSessions}, time.Second, target.Impossible, "targets.postgres.address")
}

// What a kind has no way for is said, with its own way; and where that is a
// restart, a restartCommand does it, but never to a member of a cluster.
func TestOrdersWithoutAWay(t *testing.T) {
	for _, a := range target.Adapters() {
		control := &target.Control{}
		at := target.Target{Name: "t", Control: control}
		switch a.Kind {
		case fleet.TargetRedis, fleet.TargetPostgres, fleet.TargetRabbitMQ:
			continue
		case fleet.TargetNginx, fleet.TargetHAProxy, fleet.TargetMariaDB:
			at.RestartCommand = "restart" // is not their way
		}
		orders(t, a, at, target.Order{Act: target.CloseSessions}, time.Second, target.Impossible, a.Title, a.CloseSessionsBy)
		orders(t, a, at, target.Order{Act: target.ReconnectLinks}, time.Second, target.Impossible, a.Title, "member by member")
	}
	etcd, err := target.Lookup(fleet.TargetEtcd)
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	host := target.Host{Command: func(context.Context, string) (string, error) { ran++; return "", nil }}
	at := target.Target{Name: "t", RestartCommand: "restart"}
	if got := etcd.CarryOut(t.Context(), host, at, target.Order{Act: target.CloseSessions, Cluster: true}); got.Outcome != target.Impossible || ran != 0 || !strings.Contains(got.Words, "one member at a time") {
		t.Errorf("a member: %+v", got)
	}
	if got := etcd.CarryOut(t.Context(), host, at, target.Order{Act: target.CloseSessions}); got.Outcome != target.Done || ran != 1 {
		t.Errorf("alone: %+v", got)
	}
}
