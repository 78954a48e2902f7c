package target_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// TestExampleConfigurationsReload starts Redis, memcached and HAProxy from
// examples/hosts, where only what belongs to the host is another's.
func TestExampleConfigurationsReload(t *testing.T) {
	for _, c := range []struct {
		rig     func(*testing.T) *rig
		file    string
		adapt   func(*rig) []string // old, new, …
		install func(*rig, string)
	}{
		{func(t *testing.T) *rig { return newRedis(t, targettest.RedisOptions{}) }, "redis/redis.conf", func(r *rig) []string {
			return []string{"bind 0.0.0.0", "bind 127.0.0.1", "tls-port 6379", "tls-port " + portOf(r), "/run/redis/redis-server.sock", r.s.Target.Control.Address,
				">AGENT-PASSWORD", `">` + targettest.RedisPassword + `"`, "/etc/rotunda/tls/redis/current", r.d.File(""), "dir /var/lib/redis", "dir " + r.s.Dir}
		}, func(r *rig, text string) { r.install("redis.conf", text, targettest.RedisAccount()) }},
		{func(t *testing.T) *rig { return newMemcached(t, targettest.MemcachedOptions{}) }, "memcached/memcached.conf", func(r *rig) []string {
			return []string{"-l 0.0.0.0:11211", "-l " + r.s.Target.Address, "127.0.0.1:11212", r.s.Target.Control.Address,
				"-u memcache\n", "", "/etc/memcached/tls/current", r.d.File("")}
		}, func(r *rig, text string) { r.s.Arguments(argumentsOf(text)...) }},
		{func(t *testing.T) *rig { return newHAProxy(t, targettest.HAProxyOptions{}) }, "haproxy/haproxy.cfg", func(r *rig) []string {
			return []string{"bind 0.0.0.0:443", "bind " + r.s.Target.Address, "/run/haproxy/admin.sock", r.s.Target.Control.Address, "/etc/haproxy/tls/current", r.d.File("")}
		}, func(r *rig, text string) { r.install("haproxy.cfg", text, targettest.HAProxyAccount()) }},
	} {
		t.Run(c.file, func(t *testing.T) {
			r := c.rig(t)
			content, err := os.ReadFile(filepath.Join("../examples/hosts", c.file))
			if err != nil {
				t.Fatal(err)
			}
			text, changes := string(content), c.adapt(r)
			for i := 0; i < len(changes); i += 2 {
				if !strings.Contains(text, changes[i]) {
					t.Fatalf("%s has no %q", c.file, changes[i])
				}
				text = strings.ReplaceAll(text, changes[i], changes[i+1])
			}
			r.s.Stop()
			c.install(r, text)
			r.s.Start()
			if _, err := r.contact(r.s.Target); err != nil {
				t.Fatal(err)
			}
			r.takes(target.Change{Leaf: true}, r.renew(nil), r.a.Root)
			r.trusts(r.a, true)
			r.trusts(r.b, false)
			r.takes(target.Change{AnchorsAdded: true}, r.now, r.a.Root, r.b.Root)
			r.trusts(r.b, true)
		})
	}
}

func portOf(r *rig) string {
	_, port, _ := strings.Cut(r.s.Target.Address, ":")
	return port
}

func (r *rig) install(name, text, account string) {
	r.t.Helper()
	if os.Geteuid() != 0 {
		text = strings.NewReplacer("user haproxy\n", "", "group haproxy\n", "").Replace(text)
	}
	targettest.Write(r.t, filepath.Join(r.s.Dir, name), text, 0o600, account)
}

// argumentsOf reads memcached.conf as Debian's start script does.
func argumentsOf(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			all = append(all, strings.Fields(line)...)
		}
	}
	return all
}

// TestBundleAlone: a placement without an identity delivers anchors, and the
// server has its certificate from elsewhere.
func TestBundleAlone(t *testing.T) {
	for _, c := range []struct {
		kind    fleet.TargetKind
		account string
		start   func(t *testing.T, d, own *targettest.Delivery) *targettest.Server
	}{
		{fleet.TargetRedis, targettest.RedisAccount(), func(t *testing.T, d, own *targettest.Delivery) *targettest.Server {
			return targettest.Redis(t, d, targettest.RedisOptions{Config: []string{"tls-cert-file " + own.File("chain.pem"), "tls-key-file " + own.File("key.pem")}})
		}},
		{fleet.TargetMemcached, targettest.MemcachedAccount(), func(t *testing.T, d, own *targettest.Delivery) *targettest.Server {
			return targettest.Memcached(t, d, targettest.MemcachedOptions{Arguments: []string{"-o", "ssl_chain_cert=" + own.File("chain.pem"), "-o", "ssl_key=" + own.File("key.pem")}})
		}},
		{fleet.TargetHAProxy, targettest.HAProxyAccount(), func(t *testing.T, d, own *targettest.Delivery) *targettest.Server {
			return targettest.HAProxy(t, d, targettest.HAProxyOptions{Certificate: own.File("combined.pem")})
		}},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			own := targettest.NewDelivery(t, c.account)
			a := targettest.NewAuthority(t, "own")
			has := a.Issue(t, targettest.Order{})
			own.Switch(has, a.Root)
			r := newRig(t, c.kind, c.account, func(d *targettest.Delivery) *targettest.Server { return c.start(t, d, own) })
			r.bundleAlone(target.Change{AnchorsAdded: true}, r.a.Root, r.b.Root)
			r.trusts(r.b, true)
			r.serves(has)
		})
	}
}
