package probe

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"slices"
	"testing"
)

// realServer is how a server is started on a ground, and what it makes of
// clients.
type realServer struct {
	preamble Preamble
	account  string
	start    func(t *testing.T, g *ground)
	auth     ClientAuth
	// without, good and bad are its word on a client without a certificate,
	// with one under the trusted root, and with one under a throwaway root.
	without, good, bad Acceptance
}

var realServers = map[string]realServer{
	"redis, required": {Redis, "", startRedis("yes"), ClientAuthRequired, Rejected, Accepted, Rejected},
	"redis, optional": {Redis, "", startRedis("optional"), ClientAuthOptional, Accepted, Accepted, Rejected},
	"redis, none":     {Redis, "", startRedis("no"), ClientAuthNone, NotKnown, NotKnown, NotKnown},

	"mariadb": {MySQL, "mysql", startMariaDB, ClientAuthOptional, Accepted, Accepted, Rejected},

	"nats, required": {NATS, "", startNATS("verify: true"), ClientAuthRequired, Rejected, Accepted, Rejected},
	"nats, none":     {NATS, "", startNATS("verify: false"), ClientAuthNone, NotKnown, NotKnown, NotKnown},

	"nginx, required": {HTTP, "", startNginx("on"), ClientAuthRequired, Rejected, Accepted, Rejected},
	"nginx, optional": {HTTP, "", startNginx("optional"), ClientAuthOptional, Accepted, Accepted, Rejected},

	"haproxy, required": {HTTP, "", startHAProxy("required"), ClientAuthRequired, Rejected, Accepted, Rejected},
	"haproxy, optional": {HTTP, "", startHAProxy("optional"), ClientAuthOptional, Accepted, Accepted, Rejected},

	"etcd, required": {NoPreamble, "", startEtcd, ClientAuthRequired, Rejected, Accepted, Rejected},

	"memcached, required": {Memcached, "", startMemcached(2), ClientAuthRequired, Rejected, Accepted, Rejected},
	"memcached, optional": {Memcached, "", startMemcached(1), ClientAuthOptional, Accepted, Accepted, Rejected},

	"mosquitto, required": {MQTT, "", startMosquitto("true"), ClientAuthRequired, Rejected, Accepted, Rejected},
	"mosquitto, none":     {MQTT, "", startMosquitto("false"), ClientAuthNone, NotKnown, NotKnown, NotKnown},
}

// TestRealServersSayWhomTheyAccept holds each preamble against the server that
// it is for.
func TestRealServersSayWhomTheyAccept(t *testing.T) {
	for name, s := range realServers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCast(t)
			g := settle(t, s.account, c.ca, c.leaf)
			s.start(t, g)
			c.check(t, g, s)
		})
	}
}

// cast is the certificates of one play.
type cast struct {
	ca              authority
	leaf, good, bad tls.Certificate
}

func newCast(t *testing.T) cast {
	ca := newAuthority(t, "A")
	return cast{ca, ca.leaf(t), ca.leaf(t), newAuthority(t, "B").leaf(t)}
}

// check hears the server's word on each client over both protocols, and then
// proves it with its controls.
func (c cast) check(t *testing.T, g *ground, s realServer) {
	t.Helper()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, client := range []struct {
			name string
			sent *tls.Certificate
			want Acceptance
		}{{"none", nil, s.without}, {"good", &c.good, s.good}, {"bad", &c.bad, s.bad}} {
			seen := shake(t, Spec{
				Address: g.address, ServerName: "db.example", Preamble: s.preamble, Roots: c.ca.bundle,
				Certificate: client.sent, ReadAcceptance: true, MaxVersion: version,
			})
			if seen.Outcome != Served || seen.Trust != Trusted || seen.Accepted != client.want {
				t.Errorf("%s, %s: outcome %s, trust %s, accepted %q, want %q: %s",
					tls.VersionName(version), client.name, seen.Outcome, seen.Trust, seen.Accepted, client.want, seen.Error)
			}
		}
	}
	expected := patient(expect(c.ca, g.address, c.leaf, c.leaf))
	expected.Spec.Preamble, expected.ClientAuth = s.preamble, s.auth
	if s.bad == Rejected {
		expected.Trials = []Trial{{Name: "root A", Certificate: &c.good, Accept: true}, {Name: "a throwaway root", Certificate: &c.bad}}
	}
	verdict, seen := Prove(context.Background(), expected)
	if !verdict.Proven {
		t.Fatalf("%+v", verdict)
	}
	last := seen[len(seen)-1]
	if !slices.Equal(last.RefusedProtocols, []string{"TLS 1.0", "TLS 1.1"}) || len(last.Trials) != len(expected.Trials) {
		t.Errorf("the last observation: %+v", last)
	}
}

func startRedis(auth string) func(*testing.T, *ground) {
	return func(t *testing.T, g *ground) {
		config := g.configure("redis.conf", `port 0
bind 127.0.0.1
tls-port PORT
tls-cert-file DIR/cert.pem
tls-key-file DIR/key.pem
tls-ca-cert-file DIR/ca.pem
tls-auth-clients `+auth+`
requirepass secret
save ""
dir DIR
`)
		g.start(Redis, program(t, "redis-server"), config)
	}
}

func startMariaDB(t *testing.T, g *ground) {
	user := "mysql"
	if g.account == nil {
		user = os.Getenv("USER")
	}
	g.run(program(t, "mariadb-install-db"), "--no-defaults", "--datadir=DIR/data", "--user="+user, "--skip-test-db",
		"--auth-root-authentication-method=normal", "--skip-name-resolve")
	g.start(MySQL, program(t, "mariadbd"), "--no-defaults", "--datadir=DIR/data", "--socket=DIR/sock", "--pid-file=DIR/pid",
		"--bind-address=127.0.0.1", "--port=PORT", "--skip-name-resolve", "--innodb-buffer-pool-size=8M", "--innodb-log-file-size=4M",
		"--ssl-cert=DIR/cert.pem", "--ssl-key=DIR/key.pem", "--ssl-ca=DIR/ca.pem")
}

func startNATS(verify string) func(*testing.T, *ground) {
	return func(t *testing.T, g *ground) {
		config := g.configure("nats.conf", `listen: "127.0.0.1:PORT"
tls { cert_file: "DIR/cert.pem", key_file: "DIR/key.pem", ca_file: "DIR/ca.pem", `+verify+` }
authorization { user: somebody, password: secret }
`)
		g.start(NATS, program(t, "nats-server"), "-c", config)
	}
}

func startNginx(verify string) func(*testing.T, *ground) {
	return func(t *testing.T, g *ground) {
		config := g.configure("nginx.conf", `daemon off;
master_process off;
pid DIR/pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path DIR; proxy_temp_path DIR; fastcgi_temp_path DIR; uwsgi_temp_path DIR; scgi_temp_path DIR;
  server {
    listen 127.0.0.1:PORT ssl;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate DIR/cert.pem;
    ssl_certificate_key DIR/key.pem;
    ssl_client_certificate DIR/ca.pem;
    ssl_verify_depth 2;
    ssl_verify_client `+verify+`;
    location / { return 200 ok; }
  }
}
`)
		g.start(HTTP, program(t, "nginx"), "-e", "stderr", "-c", config)
	}
}

func startHAProxy(verify string) func(*testing.T, *ground) {
	return func(t *testing.T, g *ground) {
		var pair []byte
		for _, name := range []string{"key.pem", "cert.pem"} {
			part, err := os.ReadFile(g.path(name))
			if err != nil {
				t.Fatal(err)
			}
			pair = append(pair, part...)
		}
		g.write("combined.pem", pair)
		config := g.configure("haproxy.cfg", `global
  maxconn 50
defaults
  mode http
  timeout client 5s
  timeout connect 5s
  timeout server 5s
frontend f
  bind 127.0.0.1:PORT ssl crt DIR/combined.pem ca-file DIR/ca.pem verify `+verify+`
  http-request return status 200
`)
		g.start(HTTP, program(t, "haproxy"), "-db", "-f", config)
	}
}

func startEtcd(t *testing.T, g *ground) {
	peer := "http://" + freeAddress(t)
	g.start(NoPreamble, program(t, "etcd"), "--name=e", "--data-dir=DIR/data", "--listen-client-urls=https://127.0.0.1:PORT",
		"--advertise-client-urls=https://127.0.0.1:PORT", "--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer,
		"--initial-cluster=e="+peer, "--cert-file=DIR/cert.pem", "--key-file=DIR/key.pem", "--trusted-ca-file=DIR/ca.pem", "--client-cert-auth")
}

func startMemcached(verify int) func(*testing.T, *ground) {
	return func(t *testing.T, g *ground) {
		argv := []string{program(t, "memcached"), "-l", g.address, "-U", "0", "-m", "8", "-t", "2", "-Z",
			"-o", fmt.Sprintf("ssl_chain_cert=DIR/cert.pem,ssl_key=DIR/key.pem,ssl_ca_cert=DIR/ca.pem,ssl_verify_mode=%d", verify)}
		if os.Geteuid() == 0 {
			argv = append(argv, "-u", "root")
		}
		g.start(Memcached, argv...)
	}
}

func startMosquitto(require string) func(*testing.T, *ground) {
	return func(t *testing.T, g *ground) {
		config := g.configure("mosquitto.conf", `listener PORT 127.0.0.1
user root
certfile DIR/cert.pem
keyfile DIR/key.pem
cafile DIR/ca.pem
require_certificate `+require+`
`)
		g.start(MQTT, program(t, "mosquitto"), "-c", config)
	}
}
