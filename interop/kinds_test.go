package interop

import (
	"os/exec"
	"regexp"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/interop/load"
	"github.com/rotunda-pki/rotunda/interop/story"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// kinds is what the suite runs. The slow ones come first, so that the quick
// ones fit beside them.
var kinds = []kind{
	{name: "rabbitmq", version: rabbitVersion, start: rabbitmq, load: slowLoad},
	{name: "postgres", version: versionOf("postgres", "--version"), start: postgres, load: databaseLoad},
	{name: "etcd x3", version: versionOf("etcd", "--version"), start: etcdCluster, load: clusterLoad},
	{name: "mariadb", version: versionOf("mariadbd", "--version"), start: mariadb, load: databaseLoad},
	{name: "redis x3", version: versionOf("redis-server", "--version"), start: redisReplicas, load: masterLoad, stories: inStep},
	{name: "memcached", version: versionOf("memcached", "--version"), start: memcached, load: plainLoad},
	{name: "nginx", version: versionOf("nginx", "-v"), start: nginx, load: retryingLoad},
	{name: "postgres x2", version: versionOf("postgres", "--version"), start: postgresStandby, load: masterLoad, stories: inStep},
	{name: "haproxy", version: versionOf("haproxy", "-v"), start: haproxy, load: retryingLoad},
	{name: "redis", version: versionOf("redis-server", "--version"), start: redis, load: plainLoad},
	{name: "nats", version: versionOf("nats-server", "--version"), start: nats, load: plainLoad},
	{name: "mosquitto", version: versionOf("mosquitto", "-h"), start: mosquitto, load: plainLoad},
}

// patience is how long a proof may take: far longer than it does, since the
// machine has others to serve.
const patience = 10 * time.Second

// one is a subject of a single member.
func one(t *testing.T, kind fleet.TargetKind, account string, dial func(string) load.Dialer, start func(*targettest.Delivery) *targettest.Server) *story.Subject {
	s := story.NewSubject(t, kind)
	s.One(t, start, story.Recruit{Name: string(kind), Account: account, Timeout: patience, Dial: dial})
	return s
}

func redis(t *testing.T) *story.Subject {
	s := one(t, fleet.TargetRedis, targettest.RedisAccount(), load.Redis, func(d *targettest.Delivery) *targettest.Server {
		return targettest.Redis(t, d, targettest.RedisOptions{})
	})
	s.Second = func(t *testing.T) *target.Control {
		d := targettest.NewDelivery(t, targettest.RedisAccount())
		other := targettest.NewAuthority(t, "another")
		d.Switch(other.Issue(t, targettest.Order{}), other.Root)
		return targettest.Redis(t, d, targettest.RedisOptions{Name: "another"}).Target.Control
	}
	return s
}

func memcached(t *testing.T) *story.Subject {
	return one(t, fleet.TargetMemcached, targettest.MemcachedAccount(), load.Memcached, func(d *targettest.Delivery) *targettest.Server {
		return targettest.Memcached(t, d, targettest.MemcachedOptions{})
	})
}

func nats(t *testing.T) *story.Subject {
	return one(t, fleet.TargetNATS, targettest.NATSAccount(), load.NATS, func(d *targettest.Delivery) *targettest.Server {
		return targettest.NATS(t, d, targettest.NATSOptions{})
	})
}

func nginx(t *testing.T) *story.Subject {
	return one(t, fleet.TargetNginx, targettest.NginxAccount(), load.HTTP, func(d *targettest.Delivery) *targettest.Server {
		return targettest.Nginx(t, d, targettest.NginxOptions{})
	})
}

func haproxy(t *testing.T) *story.Subject {
	s := story.NewSubject(t, fleet.TargetHAProxy)
	s.One(t, func(d *targettest.Delivery) *targettest.Server {
		return targettest.HAProxy(t, d, targettest.HAProxyOptions{})
	}, story.Recruit{
		Name: "haproxy", Account: targettest.HAProxyAccount(), Timeout: patience, Dial: load.HTTP, Change: combined,
	})
	return s
}

func mosquitto(t *testing.T) *story.Subject {
	return one(t, fleet.TargetMosquitto, targettest.MosquittoAccount(), load.MQTT, func(d *targettest.Delivery) *targettest.Server {
		return targettest.Mosquitto(t, d, targettest.MosquittoOptions{})
	})
}

// rabbitVersions leaves TLS 1.1 away, which Debian's RabbitMQ speaks unasked
// and a profile for 1.2 rightly takes for a fault.
var rabbitVersions = []string{"ssl_options.versions.1 = tlsv1.3", "ssl_options.versions.2 = tlsv1.2"}

func rabbitmq(t *testing.T) *story.Subject {
	s := story.NewSubject(t, fleet.TargetRabbitMQ)
	s.Sparse = 5
	s.One(t, func(d *targettest.Delivery) *targettest.Server {
		return targettest.RabbitMQ(t, d, targettest.RabbitMQOptions{Config: rabbitVersions})
	}, story.Recruit{
		Name: "rabbitmq", Account: targettest.RabbitMQAccount(), Timeout: 2 * patience, Dial: load.RabbitMQ,
	})
	return s
}

func postgres(t *testing.T) *story.Subject {
	login := load.Login{User: targettest.PostgresApp, Password: targettest.PostgresPassword, Database: "postgres"}
	return one(t, fleet.TargetPostgres, targettest.PostgresAccount(), load.Postgres(login), func(d *targettest.Delivery) *targettest.Server {
		return targettest.Postgres(t, d, targettest.PostgresOptions{})
	})
}

func mariadb(t *testing.T) *story.Subject {
	login := load.Login{User: targettest.MariaDBApp, Password: targettest.MariaDBPassword, Database: "app"}
	s := story.NewSubject(t, fleet.TargetMariaDB)
	s.One(t, func(d *targettest.Delivery) *targettest.Server {
		return targettest.MariaDB(t, d, targettest.MariaDBOptions{})
	}, story.Recruit{
		Name: "mariadb", Account: targettest.MariaDBAccount(), Timeout: patience, Dial: load.MariaDB(login),
		ClientAuth: "optional", // it is the account that demands a certificate
	})
	return s
}

// combined wants the one file that HAProxy reads.
func combined(d *api.DesiredPlacement) { d.Files.Formats = []string{"combined", "pem"} }

// retryingLoad is clients of servers that close kept connections when they
// reload.
func retryingLoad(s *story.Subject) load.Options {
	o := plainLoad(s)
	o.Retry = true
	return o
}

// databaseLoad is gentler with new connections, each of which is a login.
func databaseLoad(s *story.Subject) load.Options {
	o := plainLoad(s)
	o.Kept, o.Fresh = 10*time.Millisecond, 50*time.Millisecond
	return o
}

func slowLoad(s *story.Subject) load.Options {
	o := plainLoad(s)
	o.Kept, o.Fresh = 10*time.Millisecond, 100*time.Millisecond
	return o
}

var number = regexp.MustCompile(`\d+\.\d+(\.\d+)?`)

// versionOf asks a program for its version.
func versionOf(program, argument string) func(testing.TB) string {
	return func(t testing.TB) string {
		t.Helper()
		output, _ := exec.Command(targettest.Binary(t, program), argument).CombinedOutput() // some end with 1 or 3
		found := number.FindString(string(output))
		if found == "" {
			t.Fatalf("%s %s says no version: %s", program, argument, output)
		}
		return found
	}
}

// rabbitVersion asks the package: the program takes seconds to say it.
func rabbitVersion(t testing.TB) string {
	t.Helper()
	output, err := exec.Command("dpkg-query", "--show", "--showformat=${Version}", "rabbitmq-server").Output()
	if err != nil {
		t.Fatalf("dpkg-query: %v", err)
	}
	return number.FindString(string(output))
}
