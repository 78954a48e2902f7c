package targettest

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/target"
)

// MariaDBOptions is how a MariaDB is to run. The zero value is one whose
// application account has to show a client certificate.
type MariaDBOptions struct {
	// Name of the target. Empty: "mariadb".
	Name string
	// Require is what the application's account has to show. Empty: X509.
	Require string
	// Config is further lines of its section [mariadbd]; the last one counts.
	Config []string
}

// The accounts at each MariaDB under test. All have this password.
const (
	MariaDBUser     = "rotunda" // the agent's, with the rights that it needs
	MariaDBApp      = "app"     // a client's, over TLS
	MariaDBReplicas = "replica" // replicates
	MariaDBStranger = "nobody"  // may log in, and no more
	MariaDBPassword = "p-9:s3cret !@/"
)

// MariaDBAccount is the account that MariaDB runs as in tests.
func MariaDBAccount() string { return AccountOf("mysql") }

// MariaDB runs a MariaDB that serves what the delivery holds. Its control path
// is its unix socket, with an account of the agent's own.
func MariaDB(t testing.TB, d *Delivery, opts MariaDBOptions) *Server {
	t.Helper()
	name := orDefault(opts.Name, "mariadb")
	dir, port := Dir(t, name+"-"), Port(t)
	Own(t, dir, MariaDBAccount())
	path, data := filepath.Join(dir, "my.cnf"), filepath.Join(dir, "data")
	copyTree(t, mariadbTemplate(t), data)
	Write(t, filepath.Join(dir, "accounts.sql"), mariadbAccounts(opts), 0o600, MariaDBAccount())
	Write(t, path, mariadbConfig(d, opts, dir, port), 0o600, MariaDBAccount())
	s := &Server{
		Dir: dir, Account: MariaDBAccount(), t: t,
		argv: []string{Binary(t, "mariadbd", "mysqld"), "--defaults-file=" + path},
		Target: kindOf(t, fleet.TargetMariaDB, target.Target{
			Name: name, Directory: d.Dir, Address: Loopback(port),
			Control: &target.Control{
				Address: filepath.Join(dir, "mariadb.sock"), User: MariaDBUser,
				Password: func() ([]byte, error) { return []byte(MariaDBPassword), nil },
			},
		}),
	}
	s.foreign = func(ctx context.Context) error { _, err := askMariaDB(ctx, s, "SELECT 1"); return err }
	s.Start()
	return s
}

// MariaDBReplica runs a replica of the primary, over TLS. It shows the primary
// the certificate of the identity, a delivery of its own, and trusts its
// anchors.
func MariaDBReplica(t testing.TB, primary *Server, d, identity *Delivery, opts MariaDBOptions) *Server {
	t.Helper()
	opts.Name = orDefault(opts.Name, "replica")
	s := MariaDB(t, d, opts)
	at := MariaDBSQL(t, primary, "SELECT @@gtid_current_pos")
	MariaDBSQL(t, s, "SET GLOBAL gtid_slave_pos = '"+at[0]+"'")
	MariaDBSQL(t, s, fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%s, MASTER_USER='%s', MASTER_PASSWORD='%s', MASTER_USE_GTID=slave_pos, "+
		"MASTER_CONNECT_RETRY=1, MASTER_SSL=1, MASTER_SSL_CA='%s', MASTER_SSL_CERT='%s', MASTER_SSL_KEY='%s', MASTER_SSL_VERIFY_SERVER_CERT=1",
		portOf(t, primary.Target.Address), MariaDBReplicas, MariaDBPassword,
		identity.File("bundle.pem"), identity.File("chain.pem"), identity.File("key.pem")))
	MariaDBSQL(t, s, "START SLAVE")
	return s
}

// mariadbConfig is the server's configuration as examples/hosts/mariadb has
// it, and what makes a database for tests quick and small.
func mariadbConfig(d *Delivery, opts MariaDBOptions, dir string, port int) string {
	lines := []string{
		"[mariadbd]", "datadir=" + filepath.Join(dir, "data"), "socket=" + filepath.Join(dir, "mariadb.sock"),
		"pid-file=" + filepath.Join(dir, "mariadb.pid"), "tmpdir=" + dir,
		"bind-address=127.0.0.1", fmt.Sprintf("port=%d", port), "skip-name-resolve",
		"ssl-cert=" + d.File("chain.pem"), "ssl-key=" + d.File("key.pem"), "ssl-ca=" + d.File("bundle.pem"),
		"init-file=" + filepath.Join(dir, "accounts.sql"), fmt.Sprintf("server-id=%d", port),
		"log-bin=bin", "sync-binlog=0", "innodb-flush-log-at-trx-commit=0", "innodb-flush-method=nosync",
		"performance-schema=off", "aria-pagecache-buffer-size=1M", "key-buffer-size=1M", "innodb-buffer-pool-size=8M",
		"innodb-log-file-size=4M", "innodb-fast-shutdown=2", "table-open-cache=64", "max-connections=60",
	}
	return strings.Join(append(lines, opts.Config...), "\n") + "\n"
}

// mariadbAccounts is run at each start, before anybody is let in.
func mariadbAccounts(opts MariaDBOptions) string {
	account := func(name, host, require string) string {
		return fmt.Sprintf("CREATE USER IF NOT EXISTS '%s'@'%s' IDENTIFIED BY '%s'%s;", name, host, MariaDBPassword, require)
	}
	lines := []string{
		"SET sql_log_bin=0;",
		account(MariaDBUser, "localhost", ""), "GRANT RELOAD, SLAVE MONITOR ON *.* TO '" + MariaDBUser + "'@'localhost';",
		account(MariaDBApp, "%", " REQUIRE "+orDefault(opts.Require, "X509")),
		account(MariaDBReplicas, "%", " REQUIRE X509"), "GRANT REPLICATION SLAVE ON *.* TO '" + MariaDBReplicas + "'@'%';",
		account(MariaDBStranger, "localhost", ""),
		"CREATE DATABASE IF NOT EXISTS app; CREATE TABLE IF NOT EXISTS app.load (id BIGINT AUTO_INCREMENT PRIMARY KEY);",
		"GRANT ALL ON app.* TO '" + MariaDBApp + "'@'%';",
	}
	lines[len(lines)-2] = strings.ReplaceAll(lines[len(lines)-2], "; ", ";\n") // one statement a line
	return strings.Join(lines, "\n") + "\n"
}

// mariadbTemplate is a database with nothing in it.
func mariadbTemplate(t testing.TB) string {
	t.Helper()
	install := []string{
		Binary(t, "mariadb-install-db"), "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve",
		"--innodb-log-file-size=4M", "--innodb-flush-method=nosync", "--innodb-data-file-path=ibdata1:4M:autoextend", "--loose-innodb-fast-shutdown=0",
	}
	return template(t, "mariadb", MariaDBAccount(), strings.Join(install, " "), func(dir string) {
		runAs(t, MariaDBAccount(), dir, "", nil, append(slices.Clone(install), "--datadir="+dir)...)
	})
}

// MariaDBSQL asks a MariaDB as its administrator, over its socket, and returns
// the first column of what it answers.
func MariaDBSQL(t testing.TB, s *Server, query string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	rows, err := askMariaDB(ctx, s, query)
	if err != nil {
		t.Fatalf("%s: %v\n%s", query, err, s.Log())
	}
	return rows
}

func askMariaDB(ctx context.Context, s *Server, query string) ([]string, error) {
	config := mysql.NewConfig()
	config.User, config.Net, config.Addr = "root", "unix", s.Target.Control.Address
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }() // all was asked
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // read to its end
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var first []string
	for rows.Next() {
		values := make([]any, max(1, len(columns)))
		var value sql.NullString
		for i := range values {
			values[i] = new(sql.RawBytes)
		}
		values[0] = &value
		if err := rows.Scan(values...); err != nil {
			return nil, err
		}
		first = append(first, value.String)
	}
	return first, rows.Err()
}
