package target_test

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/internal/loopback"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

func newRedis(t *testing.T, opts targettest.RedisOptions) *rig {
	t.Helper()
	return newRig(t, fleet.TargetRedis, targettest.RedisAccount(), func(d *targettest.Delivery) *targettest.Server {
		return targettest.Redis(t, d, opts)
	})
}

func TestRedisTakesAllLive(t *testing.T) {
	r := newRedis(t, targettest.RedisOptions{})
	seen, err := r.contact(r.s.Target)
	if err != nil || seen.Product != "redis" || seen.Version == "" {
		t.Fatalf("contact: %v %v", seen, err)
	}
	t.Log(seen)
	leaf := target.Change{Leaf: true}
	r.takes(leaf, r.renew(r.now.Key), r.a.Root)
	r.takes(leaf, r.renew(nil), r.a.Root)
	r.takes(target.Change{Leaf: true, KeyType: true}, r.renew(targettest.RSAKey(t)), r.a.Root)
	r.trusts(r.a, true)
	r.trusts(r.b, false)
	r.takes(target.Change{AnchorsAdded: true}, r.now, r.a.Root, r.b.Root)
	r.trusts(r.a, true)
	r.trusts(r.b, true)
	r.takes(target.Change{Leaf: true, KeyType: true}, r.b.Issue(t, targettest.Order{}), r.a.Root, r.b.Root)
	r.takes(target.Change{AnchorsRemoved: true}, r.now, r.b.Root)
	r.trusts(r.b, true)
	r.trusts(r.a, false)
}

func TestRedisRefusesABrokenPair(t *testing.T) {
	r := newRedis(t, targettest.RedisOptions{Port: true})
	before := r.now
	r.breaks()
	_, err := r.load(target.Change{Leaf: true})
	fails(t, err, fault.Invalid, "did not take", r.d.Dir, "see its log")
	r.serves(before)
	r.d.SwitchFiles(map[string][]byte{"chain.pem": []byte("-----BEGIN CERT"), "key.pem": nil, "bundle.pem": nil})
	_, err = r.load(target.Change{Leaf: true})
	fails(t, err, fault.Invalid, "did not take")
	r.serves(before)
	r.takes(target.Change{Leaf: true}, r.renew(nil), r.a.Root)
}

func TestRedisOutages(t *testing.T) {
	r := newRedis(t, targettest.RedisOptions{})
	r.outages()
	r.s.Freeze()
	r.bounded("health", func(ctx context.Context) error {
		return r.adapter.Health(ctx, targettest.Host(nil), r.s.Target, probe.Spec{})
	})
	r.s.Thaw()
	r.serves(r.now)
}

// TestRedisContactTellsWhatIsWrong: each of an administrator's slips has its
// own word and its own remedy, and none is taken for a server that is down.
func TestRedisContactTellsWhatIsWrong(t *testing.T) {
	r := newRedis(t, targettest.RedisOptions{Config: []string{
		`user reader on ">` + targettest.RedisPassword + `" -@all +info +config|get`,
		`user blind on ">` + targettest.RedisPassword + `" -@all +ping`,
		"user default off",
	}})
	stranger := targettest.Memcached(t, func() *targettest.Delivery {
		d := targettest.NewDelivery(t, targettest.MemcachedAccount())
		d.Switch(r.now, r.a.Root)
		return d
	}(), targettest.MemcachedOptions{})
	password := func(text string) func() ([]byte, error) { return func() ([]byte, error) { return []byte(text), nil } }
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*target.Control)
		code   fault.Code
		words  []string
	}{
		"no path":            {func(c *target.Control) { c.Address = "" }, fault.Invalid, []string{"names no address", "targets.redis.address"}},
		"wrong path":         {func(c *target.Control) { c.Address = r.s.Dir + "/other.sock" }, fault.Invalid, []string{"nobody listens", "other.sock", "targets.redis.address"}},
		"wrong port":         {func(c *target.Control) { *c = target.Control{Address: targettest.Loopback(targettest.Port(t))} }, fault.Invalid, []string{"nobody listens"}},
		"no socket":          {func(c *target.Control) { c.Address = file }, fault.Invalid, []string{"is no socket"}},
		"TLS port":           {func(c *target.Control) { *c = target.Control{Address: r.s.Target.Address} }, fault.Invalid, []string{"hangs up", "without TLS"}},
		"memcached":          {func(c *target.Control) { *c = target.Control{Address: stranger.Target.Control.Address} }, fault.Invalid, []string{"memcached answers"}},
		"HTTP":               {func(c *target.Control) { *c = target.Control{Address: httpServer(t)} }, fault.Invalid, []string{"an HTTP server answers"}},
		"wrong password":     {func(c *target.Control) { c.Password = password("guess") }, fault.Forbidden, []string{"does not let in user rotunda", "passwordFile"}},
		"no such user":       {func(c *target.Control) { c.User = "nobody" }, fault.Forbidden, []string{"does not let in user nobody"}},
		"password to a port": {func(c *target.Control) { c.Address = httpServer(t) }, fault.Invalid, []string{"a password is not said to a port", "unix socket"}},
		"no login":           {func(c *target.Control) { c.User, c.Password = "", nil }, fault.Forbidden, []string{"demands a password", "+config|set"}},
		"no password":        {func(c *target.Control) { c.Password = nil }, fault.Forbidden, []string{"does not let in"}},
		"may read only":      {func(c *target.Control) { c.User = "reader" }, fault.Forbidden, []string{"user reader", "CONFIG SET", "ACL SETUSER reader +config|set +config|get +info"}},
		"may do nothing":     {func(c *target.Control) { c.User = "blind" }, fault.Forbidden, []string{"user blind", "INFO server", "ACL SETUSER blind"}},
		"password file": {func(c *target.Control) {
			c.Password = func() ([]byte, error) { return nil, fault.New(fault.Invalid, "it is gone") }
		}, fault.Invalid, []string{"it is gone"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.contact(r.changed(c.change))
			fails(t, err, c.code, c.words...)
		})
	}
	r.serves(r.now)
}

// TestRedisOfAnotherKind: what answers is Redis, and not the one that was
// meant or not one that can do it.
func TestRedisOfAnotherKind(t *testing.T) {
	r := newRedis(t, targettest.RedisOptions{})
	other := newRedis(t, targettest.RedisOptions{})
	_, err := r.contact(r.changed(func(c *target.Control) { c.Address = other.s.Target.Control.Address }))
	fails(t, err, fault.Invalid, "another Redis", r.s.Target.Address)
	before := other.now
	r.s.Target = r.changed(func(c *target.Control) { c.Address = other.s.Target.Control.Address })
	r.d.Switch(r.renew(nil), r.a.Root)
	_, err = r.load(target.Change{Leaf: true})
	fails(t, err, fault.Invalid, "another Redis")
	other.serves(before)

	dir := targettest.NewDelivery(t, targettest.RedisAccount())
	dir.Switch(r.now, r.a.Root)
	hashed := targettest.Dir(t, "ca-")
	trusting := targettest.Redis(t, dir, targettest.RedisOptions{Config: []string{"tls-ca-cert-dir " + hashed}})
	_, err = r.contact(trusting.Target)
	fails(t, err, fault.Invalid, "tls-ca-cert-dir "+hashed)

	for name, c := range map[string]struct {
		config, arguments []string
		words             []string
	}{
		"sentinel":     {nil, []string{"--sentinel"}, []string{"is a Sentinel", "restartCommand"}},
		"no TLS":       {nil, nil, []string{"TLS switched off"}},
		"renamed":      {[]string{"rename-command CONFIG hidden"}, nil, []string{"does not know CONFIG GET", "rename-command"}},
		"renamed AUTH": {[]string{"rename-command AUTH hidden"}, nil, []string{"refuses AUTH"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := targettest.PlainRedis(t, c.config, c.arguments...)
			if name == "renamed AUTH" {
				s.Target.Control.Address = filepath.Join(s.Dir, "redis.sock")
				s.Target.Control.Password = func() ([]byte, error) { return []byte("never-shown"), nil }
			}
			_, err := r.contact(s.Target)
			fails(t, err, fault.Invalid, c.words...)
			if strings.Contains(err.Error(), "never-shown") {
				t.Errorf("the password shows: %v", err)
			}
		})
	}
}

// TestRedisReplicas: a master and two replicas over TLS take another root one
// after the other, and their links come back under it.
func TestRedisReplicas(t *testing.T) {
	master := newRedis(t, targettest.RedisOptions{Name: "master"})
	var members []*rig
	for _, name := range []string{"one", "two"} {
		r := &rig{t: t, adapter: master.adapter, a: master.a, b: master.b, now: master.a.Issue(t, targettest.Order{})}
		r.d = targettest.NewDelivery(t, targettest.RedisAccount())
		r.d.Switch(r.now, r.a.Root)
		r.s = targettest.Redis(t, r.d, targettest.RedisOptions{Name: name, ReplicaOf: master.s})
		members = append(members, r)
	}
	members = append(members, master) // the master last
	for _, r := range members {
		r.well()
	}
	for _, step := range []struct {
		change  target.Change
		issuer  *targettest.Authority
		anchors []*x509.Certificate
	}{
		{target.Change{AnchorsAdded: true}, nil, []*x509.Certificate{master.a.Root, master.b.Root}},
		{target.Change{Leaf: true}, master.b, []*x509.Certificate{master.a.Root, master.b.Root}},
		{target.Change{AnchorsRemoved: true}, nil, []*x509.Certificate{master.b.Root}},
	} {
		for _, r := range members {
			next := r.now
			if step.issuer != nil {
				next = step.issuer.Issue(t, targettest.Order{})
			}
			r.takes(step.change, next, step.anchors...)
			r.well()
		}
	}
	// A link that is up proves little, so both are made anew.
	for _, r := range members[:2] {
		r.s.Restart()
		r.well()
	}
	master.trusts(master.a, false)
	members[0].breaksLink()
}

// well waits until the adapter finds the member well.
func (r *rig) well() {
	r.t.Helper()
	for deadline := time.Now().Add(targettest.Patience); ; time.Sleep(5 * time.Millisecond) {
		err := r.health()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("never well: %v\n%s", err, r.s.Log())
		}
	}
}

func (r *rig) health() error {
	spec := probe.Spec{Address: r.s.Target.Address, ServerName: "localhost", Certificate: r.now.TLS(), Now: time.Now}
	return r.adapter.Health(context.Background(), targettest.Host(nil), r.s.Target, spec)
}

// breaksLink has a replica start with a certificate that its master does not
// take: it serves, and is not well.
func (r *rig) breaksLink() {
	r.t.Helper()
	r.now = r.a.Issue(r.t, targettest.Order{})
	r.d.Switch(r.now, r.a.Root, r.b.Root)
	r.s.Restart()
	r.serves(r.now)
	fails(r.t, r.health(), fault.Unavailable, "its link to the master", "is down")
}

// busPort is a port of a cluster's bus that nothing else takes. By itself Redis
// takes its own plus 10000, which may be a connection's of somebody.
func busPort(t *testing.T) string {
	t.Helper()
	address, err := loopback.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestRedisCluster: a cluster's member is well once all slots are served.
func TestRedisCluster(t *testing.T) {
	r := newRedis(t, targettest.RedisOptions{
		Rights: "+config|set +config|get +info +cluster", Config: []string{"cluster-enabled yes", "tls-cluster yes", "cluster-port " + busPort(t)},
	})
	if _, err := r.contact(r.s.Target); err != nil {
		t.Fatal(err)
	}
	fails(t, r.health(), fault.Unavailable, "its cluster's state is fail")
	r.tool("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
	r.well()
}

// tool runs redis-cli as the agent's user.
func (r *rig) tool(words ...string) {
	r.t.Helper()
	argv := append([]string{"-s", r.s.Target.Control.Address, "--user", targettest.RedisUser, "--pass", targettest.RedisPassword, "--no-auth-warning"}, words...)
	if out, err := exec.Command(targettest.Binary(r.t, "redis-cli"), argv...).CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "OK" {
		r.t.Fatalf("redis-cli %v: %v %s", words, err, out)
	}
}

// TestRedisRemedyIsEnough: the rights that the remedies name are all that is
// needed.
func TestRedisRemedyIsEnough(t *testing.T) {
	r := newRedis(t, targettest.RedisOptions{Rights: "+ping", Config: []string{"user admin on nopass ~* &* +@all"}})
	_, err := r.contact(r.s.Target)
	fails(t, err, fault.Forbidden)
	_, line, _ := strings.Cut(err.Error(), "ACL SETUSER ")
	line, _, _ = strings.Cut(line, ",")
	words := append([]string{"-s", r.s.Target.Control.Address, "--user", "admin", "--pass", "x", "--no-auth-warning", "ACL", "SETUSER"}, strings.Fields(line)...)
	if out, err := exec.Command(targettest.Binary(t, "redis-cli"), words...).CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "OK" {
		t.Fatalf("ACL SETUSER %s: %v %s", line, err, out)
	}
	if _, err := r.contact(r.s.Target); err != nil {
		t.Fatal(err)
	}
	r.takes(target.Change{Leaf: true}, r.renew(nil), r.a.Root)
	r.well()
}

func httpServer(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// httpSocket is one of those on a unix socket.
func httpSocket(t *testing.T) string {
	t.Helper()
	path := filepath.Join(targettest.Dir(t, "http-"), "sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Listener = listener
	s.Start()
	t.Cleanup(s.Close)
	return path
}

// TestRedisTakesOver: what ran with files from elsewhere takes all three of
// ours by the first reload.
func TestRedisTakesOver(t *testing.T) {
	r := newRedis(t, targettest.RedisOptions{})
	d := targettest.NewDelivery(t, targettest.RedisAccount())
	r.s.Target.Directory, r.d = d.Dir, d
	r.takes(target.Change{First: true, Leaf: true, AnchorsAdded: true}, r.b.Issue(t, targettest.Order{}), r.b.Root)
	r.trusts(r.b, true)
	r.trusts(r.a, false)
}
