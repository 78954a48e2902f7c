package target_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// rig is a real server with what it serves, and two roots to play with.
type rig struct {
	t       *testing.T
	adapter target.Adapter
	d       *targettest.Delivery
	s       *targettest.Server
	a, b    *targettest.Authority
	now     *targettest.Credential // that was switched to last
}

// newRig prepares material under a's root; run starts the server with it.
func newRig(t *testing.T, kind fleet.TargetKind, account string, run func(*targettest.Delivery) *targettest.Server) *rig {
	t.Helper()
	adapter, err := target.Lookup(kind)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, adapter: adapter, a: targettest.NewAuthority(t, "a"), b: targettest.NewAuthority(t, "b")}
	r.d = targettest.NewDelivery(t, account)
	r.now = r.a.Issue(t, targettest.Order{})
	r.d.Switch(r.now, r.a.Root)
	r.s = run(r.d)
	return r
}

// load does what the plan says, as the agent does.
func (r *rig) load(change target.Change) (target.Loaded, error) {
	ctx, cancel := context.WithTimeout(context.Background(), targettest.Patience)
	defer cancel()
	return r.loadWithin(ctx, change)
}

func (r *rig) loadWithin(ctx context.Context, change target.Change) (target.Loaded, error) {
	r.t.Helper()
	var last target.Loaded
	for _, act := range r.adapter.Plan(r.s.Target, change) {
		loaded, err := r.adapter.Load(ctx, targettest.Host(nil), act)
		if err != nil {
			return loaded, err
		}
		if loaded.Pending == "" {
			loaded.Pending = last.Pending
		}
		last = loaded
	}
	return last, nil
}

// takes switches, loads, and sees a handshake with the new leaf.
func (r *rig) takes(change target.Change, c *targettest.Credential, anchors ...*x509.Certificate) {
	r.t.Helper()
	r.now = c
	r.d.Switch(c, anchors...)
	loaded, err := r.load(change)
	if err != nil || loaded.Level != fleet.Loaded || loaded.Pending != "" {
		r.t.Fatalf("load %+v: %+v %v\n%s", change, loaded, err, r.s.Log())
	}
	r.serves(c)
}

// serves waits until this whole chain is served, and sees it ten times in a
// row.
func (r *rig) serves(c *targettest.Credential) {
	r.t.Helper()
	seen := r.look(nil)
	for deadline := time.Now().Add(targettest.Patience); !shows(seen, c); seen = r.look(nil) {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s serves %v (%s %s) and never %v\n%s", r.s.Target.Name, seen.Chain, seen.Outcome, seen.Error, c.Fingerprints(), r.s.Log())
		}
	}
	for range 10 {
		if seen := r.look(nil); !shows(seen, c) {
			r.t.Fatalf("%s serves %v (%s %s) again, expected %v", r.s.Target.Name, seen.Chain, seen.Outcome, seen.Error, c.Fingerprints())
		}
	}
}

func shows(seen probe.Observation, c *targettest.Credential) bool {
	want := c.Fingerprints()
	if seen.Outcome != probe.Served || len(seen.Chain) != len(want) {
		return false
	}
	for i := range want {
		if seen.Chain[i] != want[i].String() {
			return false
		}
	}
	return true
}

// look shakes hands, with a client certificate where there is one.
func (r *rig) look(client *targettest.Credential) probe.Observation {
	r.t.Helper()
	spec := probe.Spec{
		Address: r.s.Target.Address, ServerName: r.s.Target.ServerName, Preamble: r.s.Target.Preamble,
		ReadAcceptance: client != nil, Now: time.Now, Timeout: 10 * time.Second,
	}
	if client != nil {
		spec.Certificate = client.TLS()
	}
	seen, err := probe.Handshake(context.Background(), spec)
	if err != nil {
		r.t.Fatal(err)
	}
	return seen
}

// trusts sees whether a client under an authority is let in. What a reload
// brings may take a moment to reach all threads.
func (r *rig) trusts(a *targettest.Authority, want bool) {
	r.t.Helper()
	client := a.Issue(r.t, targettest.Order{})
	wanted := map[bool]probe.Acceptance{true: probe.Accepted, false: probe.Rejected}[want]
	for deadline := time.Now().Add(targettest.Patience); ; {
		seen := r.look(client)
		if seen.Accepted == wanted {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: client under %s is accepted: %q (%s), want %q\n%s", r.s.Target.Name, a.Root.Subject, seen.Accepted, seen.Error, wanted, r.s.Log())
		}
	}
}

// contact is the adapter's, for a target that a test may have changed.
func (r *rig) contact(t target.Target) (target.Contact, error) {
	ctx, cancel := context.WithTimeout(context.Background(), targettest.Patience)
	defer cancel()
	return r.adapter.Contact(ctx, targettest.Host(nil), t)
}

// changed is the target with another control path.
func (r *rig) changed(change func(*target.Control)) target.Target {
	other, control := r.s.Target, *r.s.Target.Control
	change(&control)
	other.Control = &control
	return other
}

// fails wants an error of that code, with a remedy and these words.
func fails(t *testing.T, err error, code fault.Code, words ...string) {
	t.Helper()
	if fault.CodeOf(err) != code {
		t.Fatalf("code %s, want %s: %v", fault.CodeOf(err), code, err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Fatalf("no word of %q: %v", word, err)
		}
	}
}

// bounded runs a call against a server that hangs, and wants it to end with
// its context: its own patience is many times longer.
func (r *rig) bounded(name string, call func(context.Context) error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- call(ctx) }()
	select {
	case err := <-ended:
		if fault.CodeOf(err) != fault.Unavailable || ctx.Err() == nil {
			r.t.Errorf("%s of a frozen server: %v (%v)", name, err, ctx.Err())
		}
	case <-time.After(targettest.Patience):
		r.t.Fatalf("%s of a frozen server does not end with its context", name)
	}
}

// outages is what every adapter has to say of a server that hangs, that was
// stopped, and that is back.
func (r *rig) outages() {
	r.t.Helper()
	host := targettest.Host(nil)
	r.s.Freeze()
	r.bounded("contact", func(ctx context.Context) error {
		_, err := r.adapter.Contact(ctx, host, r.s.Target)
		return err
	})
	r.bounded("reload", func(ctx context.Context) error {
		_, err := r.loadWithin(ctx, target.Change{Leaf: true})
		return err
	})
	r.s.Thaw()
	if _, err := r.contact(r.s.Target); err != nil {
		r.t.Fatalf("after a thaw: %v", err)
	}
	r.s.Stop()
	_, err := r.contact(r.s.Target)
	fails(r.t, err, fault.Unavailable, r.s.Target.Control.Address)
	_, err = r.load(target.Change{Leaf: true})
	fails(r.t, err, fault.Unavailable)
	loaded, err := r.load(target.Change{First: true, Leaf: true})
	if err != nil || loaded.Level != fleet.Delivered {
		r.t.Fatalf("the first files of a server that is not running yet: %+v %v", loaded, err)
	}
	r.s.Start()
	if _, err := r.contact(r.s.Target); err != nil {
		r.t.Fatalf("after a restart: %v", err)
	}
}

// renew is a leaf under a's root; sameKey keeps the key in use.
func (r *rig) renew(key crypto.Signer) *targettest.Credential {
	return r.a.Issue(r.t, targettest.Order{Key: key})
}

// breaks switches to a key that does not belong to the certificate.
func (r *rig) breaks() {
	r.t.Helper()
	good, other := r.renew(nil), r.renew(nil)
	key, err := pki.EncodeKeyPEM(other.Key)
	if err != nil {
		r.t.Fatal(err)
	}
	chain := pki.EncodeCertificatesPEM(good.Chain...)
	r.d.SwitchFiles(map[string][]byte{
		"cert.pem": pki.EncodeCertificatesPEM(good.Leaf.Raw), "key.pem": key, "chain.pem": chain,
		"combined.pem": append(append([]byte(nil), key...), chain...), "bundle.pem": pki.EncodeCertificatesPEM(r.a.Root.Raw),
	})
}

// bundleAlone delivers anchors and no certificate, as for a placement without
// an identity; the server has its certificate from elsewhere.
func (r *rig) bundleAlone(change target.Change, anchors ...*x509.Certificate) {
	r.t.Helper()
	r.d.Switch(nil, anchors...)
	if _, err := r.contact(r.s.Target); err != nil {
		r.t.Fatal(err)
	}
	if loaded, err := r.load(change); err != nil || loaded.Level != fleet.Loaded {
		r.t.Fatalf("bundle alone: %+v %v\n%s", loaded, err, r.s.Log())
	}
}
