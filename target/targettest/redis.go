package targettest

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/target"
)

// RedisOptions is how a Redis is to run. The zero value is one that demands
// client certificates.
type RedisOptions struct {
	// Name of the target. Empty: "redis".
	Name string
	// AuthClients is tls-auth-clients: yes, no or optional. Empty: yes.
	AuthClients string
	// ReplicaOf is the master, reached over TLS with this server's own
	// certificate.
	ReplicaOf *Server
	// Rights replaces the agent's rights, "" the ones that its remedy names.
	Rights string
	// Config is further lines of redis.conf.
	Config []string
	// Port makes the control path a loopback port instead of a unix socket,
	// and asks the agent's user for no password there.
	Port bool
}

// The agent's user at each Redis under test.
const (
	RedisUser     = "rotunda"
	RedisPassword = "p-9:s3cret !"
)

// RedisAccount is the account that Redis runs as in tests.
func RedisAccount() string { return AccountOf("redis") }

// Redis runs a redis-server that serves what the delivery holds. Its control
// path is a unix socket, and an ACL user of the agent's own.
func Redis(t testing.TB, d *Delivery, opts RedisOptions) *Server {
	t.Helper()
	name := orDefault(opts.Name, "redis")
	dir, port := Dir(t, name+"-"), Port(t)
	Own(t, dir, RedisAccount())
	control := filepath.Join(dir, "redis.sock")
	plain := "port 0"
	if opts.Port {
		n := Port(t)
		control, plain = Loopback(n), fmt.Sprintf("port %d", n)
	}
	config := redisConfig(d, opts, port, plain, filepath.Join(dir, "redis.sock"))
	path := filepath.Join(dir, "redis.conf")
	Write(t, path, config, 0o600, RedisAccount())
	s := &Server{
		Dir: dir, Account: RedisAccount(), t: t,
		argv: []string{Binary(t, "redis-server"), path},
		Target: kindOf(t, fleet.TargetRedis, target.Target{
			Name: name, Directory: d.Dir, Address: Loopback(port),
			Control: &target.Control{Address: control, User: RedisUser},
		}),
	}
	if !opts.Port {
		s.Target.Control.Password = func() ([]byte, error) { return []byte(RedisPassword), nil }
	}
	s.foreign = func(ctx context.Context) error { return opens(ctx, filepath.Join(dir, "redis.sock")) }
	s.Start()
	return s
}

// opens says whether something listens on a unix socket.
func opens(ctx context.Context, path string) error {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path)
	if err != nil {
		return err
	}
	return conn.Close()
}

// redisConfig is redis.conf as examples/hosts/redis has it.
func redisConfig(d *Delivery, opts RedisOptions, port int, plain, socket string) string {
	secret := `">` + RedisPassword + `"`
	if opts.Port {
		secret = "nopass"
	}
	lines := []string{
		"bind 127.0.0.1", plain, fmt.Sprintf("tls-port %d", port),
		"unixsocket " + socket, "unixsocketperm 700",
		"tls-cert-file " + d.File("chain.pem"), "tls-key-file " + d.File("key.pem"), "tls-ca-cert-file " + d.File("bundle.pem"),
		"tls-auth-clients " + orDefault(opts.AuthClients, "yes"), "tls-session-caching no",
		`save ""`, "appendonly no", "repl-diskless-sync-delay 0",
		fmt.Sprintf(`user %s on %s -@all %s`, RedisUser, secret, orDefault(opts.Rights, "+config|set +config|get +info +ping")),
	}
	if opts.ReplicaOf != nil {
		host, masterPort, _ := net.SplitHostPort(opts.ReplicaOf.Target.Address)
		lines = append(lines, "tls-replication yes", fmt.Sprintf("replicaof %s %s", host, masterPort))
	}
	return strings.Join(append(lines, opts.Config...), "\n") + "\n"
}

// kindOf fills in what the kind's row and every test's names say.
func kindOf(t testing.TB, kind fleet.TargetKind, at target.Target) target.Target {
	t.Helper()
	adapter, err := target.Lookup(kind)
	if err != nil {
		t.Fatal(err)
	}
	at.ServerName, at.Preamble = "localhost", adapter.Preamble
	return at
}

func orDefault(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// PlainRedis runs a redis-server without TLS, as one finds it where something
// else was expected. Its only listener is its control path.
func PlainRedis(t testing.TB, config []string, arguments ...string) *Server {
	t.Helper()
	dir, port := Dir(t, "redis-plain-"), Port(t)
	Own(t, dir, RedisAccount())
	path := filepath.Join(dir, "redis.conf")
	lines := append([]string{"bind 127.0.0.1", fmt.Sprintf("port %d", port), "unixsocket " + filepath.Join(dir, "redis.sock")}, config...)
	Write(t, path, strings.Join(lines, "\n")+"\n", 0o600, RedisAccount())
	s := &Server{
		Dir: dir, Account: RedisAccount(), t: t,
		argv: append([]string{Binary(t, "redis-server"), path}, arguments...),
		Target: kindOf(t, fleet.TargetRedis, target.Target{
			Name: "redis", Directory: dir, Address: Loopback(port), Control: &target.Control{Address: Loopback(port)},
		}),
	}
	s.foreign = func(ctx context.Context) error { return opens(ctx, filepath.Join(dir, "redis.sock")) }
	s.Start()
	return s
}
