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
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// kinds is what the suite runs. The slow ones come first, so that the quick
// ones fit beside them.
var kinds = []kind{
	{"rabbitmq", rabbitVersion, rabbitmq, slowLoad},
	{"postgres", versionOf("postgres", "--version"), postgres, databaseLoad},
	{"mariadb", versionOf("mariadbd", "--version"), mariadb, databaseLoad},
	{"redis", versionOf("redis-server", "--version"), redis, plainLoad},
	{"memcached", versionOf("memcached", "--version"), memcached, plainLoad},
	{"nats", versionOf("nats-server", "--version"), nats, plainLoad},
	{"nginx", versionOf("nginx", "-v"), nginx, retryingLoad},
	{"haproxy", versionOf("haproxy", "-v"), haproxy, retryingLoad},
	{"mosquitto", versionOf("mosquitto", "-h"), mosquitto, plainLoad},
}

// one is a subject of a single member.
func one(t *testing.T, kind fleet.TargetKind, account string, dial func(string) load.Dialer, start func(*targettest.Delivery) *targettest.Server) *story.Subject {
	s := story.NewSubject(t, kind)
	s.Join(t, story.Recruit{Name: string(kind), Account: account, Timeout: 3 * time.Second, Dial: dial, Start: start})
	return s
}

func redis(t *testing.T) *story.Subject {
	return one(t, fleet.TargetRedis, targettest.RedisAccount(), load.Redis, func(d *targettest.Delivery) *targettest.Server {
		return targettest.Redis(t, d, targettest.RedisOptions{})
	})
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
	s.Join(t, story.Recruit{
		Name: "haproxy", Account: targettest.HAProxyAccount(), Timeout: 3 * time.Second, Dial: load.HTTP, Change: combined,
		Start: func(d *targettest.Delivery) *targettest.Server {
			return targettest.HAProxy(t, d, targettest.HAProxyOptions{})
		},
	})
	return s
}

func mosquitto(t *testing.T) *story.Subject {
	return one(t, fleet.TargetMosquitto, targettest.MosquittoAccount(), load.MQTT, func(d *targettest.Delivery) *targettest.Server {
		return targettest.Mosquitto(t, d, targettest.MosquittoOptions{})
	})
}

func rabbitmq(t *testing.T) *story.Subject {
	s := story.NewSubject(t, fleet.TargetRabbitMQ)
	s.Sparse = 5
	s.Join(t, story.Recruit{
		Name: "rabbitmq", Account: targettest.RabbitMQAccount(), Timeout: 8 * time.Second, Dial: load.RabbitMQ,
		Start: func(d *targettest.Delivery) *targettest.Server {
			return targettest.RabbitMQ(t, d, targettest.RabbitMQOptions{})
		},
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
	return one(t, fleet.TargetMariaDB, targettest.MariaDBAccount(), load.MariaDB(login), func(d *targettest.Delivery) *targettest.Server {
		return targettest.MariaDB(t, d, targettest.MariaDBOptions{})
	})
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
