package target_test

import (
	"context"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// TestEtcd holds its row against a cluster of one: leaves at each handshake,
// CAs at a restart, and no mercy for a broken pair.
func TestEtcd(t *testing.T) {
	d := newDatabase(t, fleet.TargetEtcd, targettest.EtcdAccount(), func(d *targettest.Delivery) *targettest.Server {
		return targettest.Etcd(t, targettest.EtcdDeliveries{Server: d, Peer: d}, targettest.EtcdOptions{Control: true})
	})
	serves := func(leaf *targettest.Credential) {
		t.Helper()
		if seen := d.look(leaf); !d.shows(seen, leaf) || !accepted(seen) {
			t.Fatalf("%+v\n%s", seen, d.server.Log())
		}
	}
	for _, order := range []targettest.Order{{Key: d.leaf.Key}, {}, {Key: targettest.RSAKey(t)}} {
		leaf := d.a.Issue(t, order)
		d.delivery.Switch(leaf, d.a.Root)
		if acts := d.adapter.Plan(d.server.Target, target.Change{Leaf: true, KeyType: true}); acts[0].Kind != target.ActNothing {
			t.Fatalf("%+v", acts)
		}
		serves(leaf)
	}
	d.leaf = d.a.Issue(t, targettest.Order{})
	d.delivery.SwitchFiles(map[string][]byte{"chain.pem": []byte("no"), "key.pem": []byte("no"), "bundle.pem": []byte("no")})
	if seen := d.look(d.leaf); seen.Outcome == probe.Served {
		t.Fatalf("a broken pair is served: %+v", seen)
	}
	if err := d.health(d.leaf); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("health with a broken pair: %v", err)
	}
	d.delivery.Switch(d.leaf, d.a.Root)
	serves(d.leaf)

	b := targettest.NewAuthority(t, "b")
	theirs := b.Issue(t, targettest.Order{})
	d.delivery.Switch(d.leaf, d.a.Root, b.Root)
	if seen := d.look(theirs); !rejected(seen) {
		t.Fatalf("a CA is taken without a restart: %+v", seen)
	}
	at := d.server.Target
	at.RestartCommand = "bounce"
	host := targettest.Host(map[string]func(context.Context) error{"bounce": func(context.Context) error { d.server.Restart(); return nil }})
	for _, anchors := range [][]*x509.Certificate{{d.a.Root, b.Root}, {d.a.Root}} {
		d.delivery.Switch(d.leaf, anchors...)
		acts := d.adapter.Plan(at, target.Change{AnchorsAdded: true})
		loaded, err := d.adapter.Load(t.Context(), host, acts[0])
		if err != nil || loaded.Level != fleet.Loaded {
			t.Fatalf("%+v, %v", loaded, err)
		}
		if seen := d.look(theirs); accepted(seen) != slices.Contains(anchors, b.Root) {
			t.Errorf("with %d anchors: %+v", len(anchors), seen)
		}
	}
	if err := d.health(d.leaf); err != nil {
		t.Errorf("%v", err)
	}
	withControl := d.server.Target.Control
	for _, client := range []*targettest.Credential{d.leaf, nil} {
		d.server.Target.Control = nil
		if err := d.health(client); err != nil {
			t.Errorf("over its own port, or not at all without a certificate: %v", err)
		}
		d.server.Target.Control = withControl
	}
	etcdContact(t, d)
}

func etcdContact(t *testing.T, d *database) {
	seen, err := d.contact(*d.server.Target.Control)
	if err != nil || seen.Product != "etcd" || !strings.HasPrefix(seen.Version, "3.") {
		t.Errorf("contact: %+v, %v", seen, err)
	}
	for _, c := range []struct {
		name, address string
		code          fault.Code
		word          string
	}{
		{"no address", "", fault.Invalid, "--listen-metrics-urls"},
		{"nobody", targettest.Loopback(targettest.Port(t)), fault.Invalid, "though something listens"},
		{"its own TLS port", d.server.Target.Address, fault.Invalid, "not etcd's listener for metrics"},
	} {
		_, err := d.contact(target.Control{Address: c.address})
		refuses(t, err, c.code, c.word)
	}
	d.server.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = d.adapter.Contact(ctx, targettest.Host(nil), d.server.Target)
	refuses(t, err, fault.Unavailable, "no answer in time")
	d.server.Thaw()
	d.server.Stop()
	_, err = d.contact(*d.server.Target.Control)
	refuses(t, err, fault.Unavailable, "is not running")
	refuses(t, d.health(d.leaf), fault.Unavailable, "not well")
}

// TestEtcdPeerPort: a placement of a peer's looks at a port that has no pages.
func TestEtcdPeerPort(t *testing.T) {
	adapter, err := target.Lookup(fleet.TargetEtcd)
	if err != nil {
		t.Fatal(err)
	}
	a := targettest.NewAuthority(t, "a")
	leaf, delivery := a.Issue(t, targettest.Order{}), targettest.NewDelivery(t, targettest.EtcdAccount())
	delivery.Switch(leaf, a.Root)
	peer := targettest.Loopback(targettest.Port(t))
	s := targettest.Etcd(t, targettest.EtcdDeliveries{Server: delivery, Peer: delivery}, targettest.EtcdOptions{
		Control: true, Arguments: []string{"--listen-peer-urls", "https://" + peer},
	})
	at := s.Target
	at.Address = peer
	spec := probe.Spec{Address: peer, ServerName: "localhost", Certificate: leaf.TLS(), Now: time.Now}
	if err := adapter.Health(t.Context(), targettest.Host(nil), at, spec); err != nil {
		t.Errorf("over the control path: %v", err)
	}
	at.Control = nil
	if err := adapter.Health(t.Context(), targettest.Host(nil), at, spec); err != nil {
		t.Errorf("at the peer's port alone: %v", err)
	}
	s.Stop()
	refuses(t, adapter.Health(t.Context(), targettest.Host(nil), s.Target, spec), fault.Unavailable)
}

// health asks with a client's certificate.
func (d *database) health(client *targettest.Credential) error {
	d.t.Helper()
	spec := d.spec()
	if client != nil {
		spec.Certificate = client.TLS()
	}
	return d.adapter.Health(d.t.Context(), targettest.Host(nil), d.server.Target, spec)
}

// TestEtcdHealthSeesPeers: a member that has a leader, and answers /health, but
// can't reach its peers is not well.
func TestEtcdHealthSeesPeers(t *testing.T) {
	for name, opts := range map[string]targettest.EtcdOptions{
		"gateway":      {},
		"no gateway":   {Arguments: []string{"--enable-grpc-gateway=false"}},
		"control path": {Control: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			etcdHealthSeesPeers(t, opts)
		})
	}
}

func etcdHealthSeesPeers(t *testing.T, opts targettest.EtcdOptions) {
	adapter, err := target.Lookup(fleet.TargetEtcd)
	if err != nil {
		t.Fatal(err)
	}
	a := targettest.NewAuthority(t, "a")
	leaf := a.Issue(t, targettest.Order{})
	var deliveries []targettest.EtcdDeliveries
	for range 3 {
		server, peer := targettest.NewDelivery(t, targettest.EtcdAccount()), targettest.NewDelivery(t, targettest.EtcdAccount())
		server.Switch(leaf, a.Root)
		peer.Switch(leaf, a.Root)
		deliveries = append(deliveries, targettest.EtcdDeliveries{Server: server, Peer: peer})
	}
	members := targettest.EtcdCluster(t, deliveries, opts)
	health := func(i int) error {
		d := &database{t: t, adapter: adapter, server: members[i]}
		if opts.Control {
			return d.health(nil)
		}
		return d.health(leaf)
	}
	is := func(i int, words string) {
		t.Helper()
		awaitTrue(t, func() (bool, string) {
			err := health(i)
			return errorText(err) == words || err != nil && words != "well" && strings.Contains(err.Error(), words), "etcd" + string(rune('1'+i)) + " is " + errorText(err) + "\n" + members[i].Log()
		})
	}
	for i := range members {
		is(i, "well")
	}
	// A leaf that may be a server only: its peers come to it, and refuse it.
	deliveries[2].Peer.Switch(a.Issue(t, targettest.Order{Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}), a.Root)
	members[2].Restart()
	is(2, "it has no connection to its peer")
	deliveries[2].Peer.Switch(leaf, a.Root)
	for i := range members {
		is(i, "well")
	}
	if opts.Arguments != nil {
		return
	}
	// One that is gone, and one that is alone.
	members[2].Kill()
	is(0, "it has no connection to its peer")
	members[1].Kill()
	is(0, "health page")
}
