package targettest

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/target"
)

// PostgresOptions is how a PostgreSQL is to run. The zero value is one that
// demands client certificates of all that come over TCP.
type PostgresOptions struct {
	// Name of the target. Empty: "postgres".
	Name string
	// ClientCert is the clientcert of its hostssl lines: verify-ca, or "none"
	// to demand none. Empty: verify-ca.
	ClientCert string
	// Config is further lines of postgresql.conf; the last one counts.
	Config []string
}

// The roles at each PostgreSQL under test. All have this password.
const (
	PostgresUser     = "rotunda" // the agent's, with the rights that it needs
	PostgresApp      = "app"     // a client's, over TLS
	PostgresStandbys = "standby" // replicates
	PostgresStranger = "nobody"  // may log in over the socket, and no more
	PostgresAdmin    = "postgres"
	PostgresPassword = "p-9:s3cret !'"
)

// PostgresAccount is the account that PostgreSQL runs as in tests. It refuses
// to be run by root.
func PostgresAccount() string { return AccountOf("postgres") }

// Postgres runs a primary that serves what the delivery holds. Its control
// path is its unix socket, with a role of the agent's own, and its pid file.
func Postgres(t testing.TB, d *Delivery, opts PostgresOptions) *Server {
	t.Helper()
	s := newPostgres(t, d, opts)
	copyTree(t, postgresTemplate(t), s.data())
	s.configure(d, opts, "")
	s.Start()
	return s.Server
}

// PostgresStandby runs a standby that streams from the primary over TLS. It
// shows the primary the certificate of the identity, a delivery of its own,
// and trusts its anchors.
func PostgresStandby(t testing.TB, primary *Server, d, identity *Delivery, opts PostgresOptions) *Server {
	t.Helper()
	opts.Name = orDefault(opts.Name, "standby")
	s := newPostgres(t, d, opts)
	host, port := filepath.Dir(primary.Target.Control.Address), portOf(t, primary.Target.Address)
	runAs(t, s.Account, s.Dir, "", []string{"PGPASSWORD=" + PostgresPassword}, Binary(t, "pg_basebackup"),
		"-h", host, "-p", port, "-U", PostgresAdmin, "-D", s.data(), "-c", "fast", "-X", "fetch", "--no-sync")
	Write(t, filepath.Join(s.data(), "standby.signal"), "", 0o600, s.Account)
	s.configure(d, opts, fmt.Sprintf(
		"host=localhost hostaddr=127.0.0.1 port=%s user=%s password='%s' application_name=%s sslmode=verify-full sslrootcert=%s sslcert=%s sslkey=%s",
		port, PostgresStandbys, conninfoQuote(PostgresPassword), opts.Name,
		identity.File("bundle.pem"), identity.File("chain.pem"), identity.File("key.pem")))
	s.Start()
	return s.Server
}

type postgresServer struct {
	*Server

	port int
}

func (s postgresServer) data() string { return filepath.Join(s.Dir, "data") }

func newPostgres(t testing.TB, d *Delivery, opts PostgresOptions) postgresServer {
	t.Helper()
	name := orDefault(opts.Name, "postgres")
	dir, port := Dir(t, name+"-"), Port(t)
	Own(t, dir, PostgresAccount())
	s := postgresServer{port: port, Server: &Server{
		Dir: dir, Account: PostgresAccount(), t: t,
		Target: kindOf(t, fleet.TargetPostgres, target.Target{
			Name: name, Directory: d.Dir, Address: Loopback(port),
			Control: &target.Control{
				Address: filepath.Join(dir, fmt.Sprintf(".s.PGSQL.%d", port)), User: PostgresUser,
				Password: func() ([]byte, error) { return []byte(PostgresPassword), nil },
				PIDFile:  filepath.Join(dir, "data", "postmaster.pid"),
			},
		}),
	}}
	s.argv = []string{Binary(t, "sh"), "-c", runPostgres, "sh", s.data(), Binary(t, "postgres")}
	s.foreign = func(ctx context.Context) error { _, err := askPostgres(ctx, s.Server, "SELECT 1"); return err }
	return s
}

// runPostgres is what a service manager does for PostgreSQL: to stop it means
// SIGINT, for SIGTERM would wait until every client has left; and it starts
// once all processes of a killed one are gone, which they are when the lock
// that they inherited is free. Then the dead one's locks are worth nothing,
// even if its number is still taken.
const runPostgres = `exec 9>"$1.lock" && flock 9 && rm -f "$1/postmaster.pid" "$1"/../.s.PGSQL.* &&
trap 'kill -INT $!' TERM && { setpriv --pdeathsig KILL -- "$2" -D "$1" & wait; wait; }`

// configure writes postgresql.conf and pg_hba.conf as examples/hosts/postgres
// has them, and what makes a database for tests quick.
func (s postgresServer) configure(d *Delivery, opts PostgresOptions, conninfo string) {
	s.t.Helper()
	config := []string{
		"listen_addresses = '127.0.0.1'", fmt.Sprintf("port = %d", s.port),
		"unix_socket_directories = '" + s.Dir + "'", "unix_socket_permissions = 0777",
		"ssl = on", "ssl_cert_file = '" + d.File("chain.pem") + "'", "ssl_key_file = '" + d.File("key.pem") + "'",
		"ssl_ca_file = '" + d.File("bundle.pem") + "'",
		"fsync = off", "synchronous_commit = off", "full_page_writes = off", "autovacuum = off",
		"shared_buffers = 4MB", "max_connections = 60", "max_wal_senders = 4", "wal_keep_size = 16MB",
		"wal_retrieve_retry_interval = 100ms", "hot_standby_feedback = on",
	}
	if conninfo != "" {
		config = append(config, "primary_conninfo = '"+strings.NewReplacer(`\`, `\\`, "'", "''").Replace(conninfo)+"'")
	}
	cert := " clientcert=" + orDefault(opts.ClientCert, "verify-ca")
	if opts.ClientCert == "none" {
		cert = ""
	}
	hba := []string{
		"local all all scram-sha-256", "local replication all scram-sha-256",
		"hostssl all all 127.0.0.1/32 scram-sha-256" + cert,
		"hostssl replication " + PostgresStandbys + " 127.0.0.1/32 scram-sha-256" + cert,
	}
	Write(s.t, filepath.Join(s.data(), "postgresql.conf"), strings.Join(append(config, opts.Config...), "\n")+"\n", 0o600, s.Account)
	Write(s.t, filepath.Join(s.data(), "pg_hba.conf"), strings.Join(hba, "\n")+"\n", 0o600, s.Account)
}

// postgresTemplate is a database with the roles in it.
func postgresTemplate(t testing.TB) string {
	t.Helper()
	initdb := []string{Binary(t, "initdb"), "--no-sync", "--no-locale", "--encoding=UTF8", "--auth=reject", "--wal-segsize=1"}
	quoted := "'" + strings.ReplaceAll(PostgresPassword, "'", "''") + "'"
	roles := strings.Join([]string{
		"ALTER ROLE " + PostgresAdmin + " PASSWORD " + quoted,
		"CREATE ROLE " + PostgresUser + " LOGIN PASSWORD " + quoted,
		"GRANT pg_monitor TO " + PostgresUser,
		"GRANT EXECUTE ON FUNCTION pg_catalog.pg_reload_conf() TO " + PostgresUser,
		"CREATE ROLE " + PostgresApp + " LOGIN PASSWORD " + quoted,
		"CREATE ROLE " + PostgresStandbys + " LOGIN REPLICATION PASSWORD " + quoted,
		"CREATE ROLE " + PostgresStranger + " LOGIN PASSWORD " + quoted,
		"CREATE TABLE load (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())",
		"GRANT ALL ON load, load_id_seq TO " + PostgresApp,
	}, "\n") + "\n"
	return template(t, "postgres", PostgresAccount(), strings.Join(initdb, " ")+roles, func(dir string) {
		runAs(t, PostgresAccount(), dir, "", nil, append(slices.Clone(initdb), "-D", dir)...)
		runAs(t, PostgresAccount(), dir, roles, nil, Binary(t, "postgres"), "--single", "-F", "-D", dir, "postgres")
	})
}

// PostgresSQL asks a PostgreSQL as its administrator, over its socket, and
// returns the first column of what it answers.
func PostgresSQL(t testing.TB, s *Server, sql string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	rows, err := askPostgres(ctx, s, sql)
	if err != nil {
		t.Fatalf("%s: %v\n%s", sql, err, s.Log())
	}
	return rows
}

func askPostgres(ctx context.Context, s *Server, sql string) ([]string, error) {
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%s user=%s dbname=postgres password='%s' sslmode=disable",
		filepath.Dir(s.Target.Control.Address), portOf(s.t, s.Target.Address), PostgresAdmin, conninfoQuote(PostgresPassword)))
	if err != nil {
		return nil, err
	}
	config.ConnectTimeout = 5 * time.Second
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }() // all was asked
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	var rows []string
	for _, result := range results {
		for _, row := range result.Rows {
			rows = append(rows, string(row[0]))
		}
	}
	return rows, nil
}

func conninfoQuote(text string) string { return strings.ReplaceAll(text, "'", `\'`) }

func portOf(t testing.TB, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}
