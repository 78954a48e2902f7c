package target_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

func newMemcached(t *testing.T, opts targettest.MemcachedOptions) *rig {
	t.Helper()
	return newRig(t, fleet.TargetMemcached, targettest.MemcachedAccount(), func(d *targettest.Delivery) *targettest.Server {
		return targettest.Memcached(t, d, opts)
	})
}

func TestMemcachedTakesLeavesAndMoreCAsLive(t *testing.T) {
	r := newMemcached(t, targettest.MemcachedOptions{})
	seen, err := r.contact(r.s.Target)
	if err != nil || seen.Product != "memcached" || seen.Version == "" {
		t.Fatalf("contact: %v %v", seen, err)
	}
	t.Log(seen)
	r.takes(target.Change{Leaf: true}, r.renew(r.now.Key), r.a.Root)
	r.takes(target.Change{Leaf: true}, r.renew(nil), r.a.Root)
	r.trusts(r.b, false)
	r.takes(target.Change{AnchorsAdded: true}, r.now, r.a.Root, r.b.Root)
	r.trusts(r.a, true)
	r.trusts(r.b, true)
	r.takes(target.Change{Leaf: true}, r.b.Issue(t, targettest.Order{}), r.a.Root, r.b.Root)
}

// TestMemcachedKeepsTrustUntilARestart: that is what its row says, and why the
// plan restarts it.
func TestMemcachedKeepsTrustUntilARestart(t *testing.T) {
	r := newMemcached(t, targettest.MemcachedOptions{})
	r.takes(target.Change{AnchorsAdded: true}, r.now, r.a.Root, r.b.Root)
	r.trusts(r.b, true)
	r.takes(target.Change{Leaf: true}, r.renew(nil), r.a.Root) // a reload of a smaller bundle
	seen := r.look(r.b.Issue(t, targettest.Order{}))
	if seen.Accepted != probe.Accepted || len(seen.Authorities) != 1 {
		t.Errorf("a CA removed by refresh_certs: client accepted %q, advertised %v: correct the row", seen.Accepted, seen.Authorities)
	}
	loaded, err := r.load(target.Change{AnchorsRemoved: true})
	if err != nil || loaded.Level != fleet.Delivered || !strings.Contains(loaded.Pending, "a CA removed") {
		t.Errorf("without a restartCommand: %+v %v", loaded, err)
	}
	r.s.Restart()
	r.trusts(r.b, false)
	r.trusts(r.a, true)
}

// TestMemcachedKeepsTheOtherKeyType: it has one certificate of each type, and
// goes on serving that of the type that was not replaced.
func TestMemcachedKeepsTheOtherKeyType(t *testing.T) {
	r := newMemcached(t, targettest.MemcachedOptions{})
	r.d.Switch(r.renew(targettest.RSAKey(t)), r.a.Root)
	r.s.Restart()
	before := r.renew(targettest.RSAKey(t))
	r.takes(target.Change{Leaf: true}, before, r.a.Root)
	after := r.renew(nil)
	r.d.Switch(after, r.a.Root)
	loaded, err := r.load(target.Change{Leaf: true, KeyType: true})
	if err != nil || !strings.Contains(loaded.Pending, "a key of another type") {
		t.Fatalf("%+v %v", loaded, err)
	}
	r.serves(before) // though it said OK
	r.s.Restart()
	r.serves(after)
}

func TestMemcachedBrokenPair(t *testing.T) {
	r := newMemcached(t, targettest.MemcachedOptions{})
	before := r.now
	r.d.SwitchFiles(map[string][]byte{"chain.pem": []byte("-----BEGIN CERT"), "key.pem": nil, "bundle.pem": nil})
	_, err := r.load(target.Change{Leaf: true})
	fails(t, err, fault.Invalid, "did not take")
	r.serves(before)

	r.breaks()
	_, err = r.load(target.Change{Leaf: true})
	fails(t, err, fault.Invalid, "did not take", "key values mismatch", "new handshakes may fail")
	if seen := r.look(nil); seen.Outcome != probe.TLSFailed {
		t.Errorf("it serves %v (%s): correct the row", seen.Chain, seen.Outcome)
	}
	r.takes(target.Change{Leaf: true}, r.renew(nil), r.a.Root) // the control path is not TLS, so it mends
}

// TestMemcachedBrokenBundle: the pair is taken before the bundle is read.
func TestMemcachedBrokenBundle(t *testing.T) {
	r := newMemcached(t, targettest.MemcachedOptions{})
	next := r.renew(nil)
	key, err := pki.EncodeKeyPEM(next.Key)
	if err != nil {
		t.Fatal(err)
	}
	r.d.SwitchFiles(map[string][]byte{"chain.pem": pki.EncodeCertificatesPEM(next.Chain...), "key.pem": key, "bundle.pem": []byte("none\n")})
	_, err = r.load(target.Change{Leaf: true, AnchorsAdded: true})
	fails(t, err, fault.Invalid, "did not take", "bundle.pem")
	r.serves(next)
	r.trusts(r.a, true)
	r.takes(target.Change{Leaf: true}, r.renew(nil), r.a.Root)
}

func TestMemcachedOutages(t *testing.T) {
	r := newMemcached(t, targettest.MemcachedOptions{})
	r.outages()
	r.serves(r.now)
}

func TestMemcachedContactTellsWhatIsWrong(t *testing.T) {
	r := newMemcached(t, targettest.MemcachedOptions{})
	d := targettest.NewDelivery(t, targettest.MemcachedAccount())
	d.Switch(r.now, r.a.Root)
	elsewhere := targettest.Memcached(t, d, targettest.MemcachedOptions{})
	plain := targettest.PlainMemcached(t)
	redis := targettest.PlainRedis(t, nil)
	for name, c := range map[string]struct {
		address string
		words   []string
	}{
		"no path":    {"", []string{"names no address"}},
		"wrong port": {targettest.Loopback(targettest.Port(t)), []string{"nobody listens"}},
		"TLS port":   {r.s.Target.Address, []string{"hangs up", "without TLS"}},
		"Redis":      {redis.Target.Control.Address, []string{"Redis answers"}},
		"HTTP":       {httpServer(t), []string{"an HTTP server answers"}},
		"no TLS":     {plain.Target.Control.Address, []string{"TLS switched off", "-Z"}},
		"elsewhere":  {elsewhere.Target.Control.Address, []string{"does not use", "ssl_chain_cert is " + d.Dir, "ssl_chain_cert=" + r.d.Dir}},
	} {
		t.Run(name, func(t *testing.T) {
			wrong := r.changed(func(c2 *target.Control) { c2.Address = c.address })
			_, err := r.contact(wrong)
			fails(t, err, fault.Invalid, c.words...)
			_, err = r.adapter.Load(t.Context(), targettest.Host(nil), r.adapter.Plan(wrong, target.Change{Leaf: true})[0])
			fails(t, err, fault.Invalid, c.words...)
		})
	}
	r.serves(r.now)
}

// TestMemcachedPassword: one that is started with -Y wants a login on its
// control path too, which is a port, so that the agent leaves it alone.
func TestMemcachedPassword(t *testing.T) {
	file := filepath.Join(targettest.Dir(t, "auth-"), "auth")
	targettest.Write(t, file, "rotunda:s3cret\n", 0o600, targettest.MemcachedAccount())
	r := newMemcached(t, targettest.MemcachedOptions{Arguments: []string{"-Y", file}})
	_, err := r.contact(r.s.Target)
	fails(t, err, fault.Forbidden, "demands a password", "reloadCommand")
	_, err = r.load(target.Change{Leaf: true})
	fails(t, err, fault.Forbidden, "demands a password")
}
