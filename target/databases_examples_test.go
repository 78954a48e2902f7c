package target_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/agent"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// wellWith sees that the agent finds all that it needs, and that a new leaf is
// taken.
func (d *database) wellWith(level fleet.Level) {
	d.t.Helper()
	if _, err := d.contact(*d.server.Target.Control); err != nil {
		d.t.Fatal(err)
	}
	if got := d.take(d.a.Issue(d.t, targettest.Order{}), target.Change{Leaf: true}, d.a.Root); got != level {
		d.t.Errorf("loaded: %s, want %s", got, level)
	}
	awaitHealth(d.t, d)
}

// TestPostgresExample runs a primary and a standby as examples/hosts/postgres
// has them, with the roles and the lines of pg_hba.conf that it names.
func TestPostgresExample(t *testing.T) {
	identity := targettest.NewDelivery(t, targettest.PostgresAccount())
	config := func(d *targettest.Delivery, primary string) []string {
		_, port, err := net.SplitHostPort(primary)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(exampleOf(t, "postgres/postgresql.conf", d, "host=p1.ledger.example.com", "host=localhost hostaddr=127.0.0.1 port="+port,
			"/etc/rotunda/tls/replica/current/", identity.File("")+"/"), "\n")
	}
	primary := newDatabase(t, fleet.TargetPostgres, targettest.PostgresAccount(), func(d *targettest.Delivery) *targettest.Server {
		return targettest.Postgres(t, d, targettest.PostgresOptions{Config: config(d, "none:1")})
	})
	identity.Switch(primary.a.Issue(t, targettest.Order{CommonName: "replicator"}), primary.a.Root)
	targettest.PostgresSQL(t, primary.server, "DROP OWNED BY rotunda; DROP ROLE rotunda")
	targettest.PostgresSQL(t, primary.server, exampleOf(t, "postgres/roles.sql", primary.delivery,
		"the line of /etc/rotunda/postgres.password", strings.ReplaceAll(targettest.PostgresPassword, "'", "''")))
	hba := exampleOf(t, "postgres/pg_hba.conf", primary.delivery, "peer", "scram-sha-256") // the tests are not user postgres
	path := filepath.Join(filepath.Dir(primary.server.Target.Control.PIDFile), "pg_hba.conf")
	// A backup for the standby is not in the example.
	targettest.Write(t, path, hba+"local replication postgres scram-sha-256\n", 0o600, targettest.PostgresAccount())
	targettest.PostgresSQL(t, primary.server, "SELECT pg_reload_conf()")
	awaitSQL(t, primary.server, "SELECT count(*) FROM pg_hba_file_rules WHERE 'replicator' = ANY (user_name)", "1")
	primary.wellWith(fleet.Delivered)
	standby := newDatabase(t, fleet.TargetPostgres, targettest.PostgresAccount(), func(d *targettest.Delivery) *targettest.Server {
		d.Switch(primary.a.Issue(t, targettest.Order{}), primary.a.Root)
		return targettest.PostgresStandby(t, primary.server, d, identity, targettest.PostgresOptions{Config: config(d, primary.server.Target.Address)})
	})
	standby.a = primary.a
	standby.wellWith(fleet.Delivered)
	awaitSQL(t, primary.server, "SELECT usename || ' ' || application_name FROM pg_stat_replication WHERE state = 'streaming'", "replicator p2")
}

func TestMariaDBExample(t *testing.T) {
	d := newDatabase(t, fleet.TargetMariaDB, targettest.MariaDBAccount(), func(d *targettest.Delivery) *targettest.Server {
		return targettest.MariaDB(t, d, targettest.MariaDBOptions{Config: []string{exampleOf(t, "mariadb/99-tls.cnf", d)}})
	})
	targettest.MariaDBSQL(t, d.server, "DROP USER rotunda@localhost")
	accounts := exampleOf(t, "mariadb/accounts.sql", d.delivery, "the line of /etc/rotunda/mariadb.password", targettest.MariaDBPassword)
	for _, statement := range strings.Split(strings.TrimSpace(accounts), ";\n") {
		targettest.MariaDBSQL(t, d.server, strings.TrimSuffix(statement, ";"))
	}
	d.wellWith(fleet.Loaded)
}

func TestEtcdExample(t *testing.T) {
	a := targettest.NewAuthority(t, "a")
	leaf, delivery := a.Issue(t, targettest.Order{}), targettest.NewDelivery(t, targettest.EtcdAccount())
	delivery.Switch(leaf, a.Root)
	control, client, peer := targettest.Loopback(targettest.Port(t)), targettest.Loopback(targettest.Port(t)), targettest.Loopback(targettest.Port(t))
	env := exampleOf(t, "etcd/etcd.env", delivery, "10.0.0.11:2379", client, "10.0.0.11:2380", peer, "127.0.0.1:2381", control,
		"m1.orders-db.example.com:2380", peer, "m1.orders-db.example.com:2379", client,
		"/etc/etcd/tls/client/current/", delivery.File("")+"/", "/etc/etcd/tls/peer/current/", delivery.File("")+"/")
	s := targettest.EtcdFromEnv(t, strings.Split(env, "\n"), target.Target{
		Name: "etcd", Directory: delivery.Dir, Address: client, Control: &target.Control{Address: control},
	})
	adapter, err := target.Lookup(fleet.TargetEtcd)
	if err != nil {
		t.Fatal(err)
	}
	d := &database{t: t, adapter: adapter, server: s, delivery: delivery, a: a, leaf: leaf}
	if seen, err := d.contact(*s.Target.Control); err != nil || seen.Product != "etcd" {
		t.Errorf("%+v, %v", seen, err)
	}
	awaitHealth(t, d)
	if seen := d.look(leaf); !d.shows(seen, leaf) || !accepted(seen) {
		t.Errorf("%+v", seen)
	}
}

// TestDatabasesAgentExamples: an agent takes them, and knows the targets by them.
func TestDatabasesAgentExamples(t *testing.T) {
	for _, kind := range []fleet.TargetKind{fleet.TargetPostgres, fleet.TargetMariaDB, fleet.TargetEtcd} {
		path := fmt.Sprintf("../examples/hosts/%s/agent.yaml", kind)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		config, err := agent.ParseConfig(path, append([]byte("servers: [control.example.com:7443]\n"), content...))
		if err != nil {
			t.Fatal(err)
		}
		if at := config.Targets[string(kind)]; at.Kind != string(kind) || at.Address == "" {
			t.Errorf("%s: %+v", path, at)
		}
	}
}
