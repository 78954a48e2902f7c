package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

func testMeta(t *testing.T, b *bench) {
	meta := find(b, func(tx *store.Tx) (store.Meta, error) { return tx.Meta(b.ctx) })
	if meta.Epoch != 1 || meta.TrustDomain != "" || meta.Schema == 0 || meta.MinServerSchema == 0 ||
		meta.MinServerSchema > meta.Schema || !meta.CreatedAt.Equal(start) {
		t.Fatalf("a new store says %+v", meta)
	}
	b.write(func(tx *store.Tx) error {
		return errors.Join(tx.SetTrustDomain(b.ctx, "prod.example.org"), tx.RaiseEpoch(b.ctx), tx.RaiseDocumentState(b.ctx))
	})
	b.refuse(fault.Conflict, func(tx *store.Tx) error { return tx.SetTrustDomain(b.ctx, "test.example.org") })
	b.reopen(false)
	domain, err := b.TrustDomain(b.ctx)
	b.check(err)
	same(b, domain, "prod.example.org")
	same(b, find(b, func(tx *store.Tx) (uint64, error) { return tx.Epoch(b.ctx) }), 2)
	same(b, find(b, func(tx *store.Tx) (uint64, error) { return tx.DocumentState(b.ctx) }), 1)
}

func testAuthority(_ *testing.T, b *bench) {
	root := store.Authority{
		ID: "root-1", Name: "root", Kind: store.RootAuthority, State: fleet.AuthorityPrepared, Origin: store.KeyOffline,
		Certificate: []byte("DER of root-1"),
	}
	issuing := authority()
	issuing.ParentID, issuing.CrossOf = "root-1", "root-1"
	b.write(func(tx *store.Tx) error {
		return errors.Join(tx.InsertAuthority(b.ctx, root), tx.InsertAuthority(b.ctx, issuing))
	})
	root.CreatedAt, issuing.CreatedAt = start, start
	same(b, find(b, func(tx *store.Tx) (store.Authority, error) { return tx.Authority(b.ctx, "root-1") }), root)
	same(b, find(b, func(tx *store.Tx) (store.Authority, error) { return tx.AuthorityByName(b.ctx, "issuing") }), issuing)
	same(b, find(b, func(tx *store.Tx) ([]store.Authority, error) { return tx.Authorities(b.ctx) }),
		[]store.Authority{issuing, root})
	absent(b, func(tx *store.Tx) (store.Authority, error) { return tx.Authority(b.ctx, "root") })
	move := func(tx *store.Tx) error {
		return tx.SetAuthorityState(b.ctx, "root-1", fleet.AuthorityPrepared, fleet.AuthorityActive)
	}
	b.write(move)
	b.refuse(fault.Conflict, move)
	b.refuse(fault.Conflict, func(tx *store.Tx) error {
		other := authority()
		other.ID = "issuing-2"
		return tx.InsertAuthority(b.ctx, other)
	})
	root.State = fleet.AuthorityActive
	same(b, find(b, func(tx *store.Tx) (store.Authority, error) { return tx.Authority(b.ctx, "root-1") }), root)
}

func testSecret(_ *testing.T, b *bench) {
	b.withAuthority()
	for _, kek := range []string{"kek-1", "kek-2"} { // sealed, then sealed again by another
		key := store.AuthorityKey{AuthorityID: "issuing-1", KEKID: kek, Sealed: []byte("sealed by " + kek)}
		secret := store.Secret{Name: "log", KEKID: kek, Sealed: []byte("sealed by " + kek)}
		b.write(func(tx *store.Tx) error {
			return errors.Join(tx.PutAuthorityKey(b.ctx, key), tx.PutSecret(b.ctx, secret))
		})
		same(b, find(b, func(tx *store.Tx) (store.AuthorityKey, error) { return tx.AuthorityKey(b.ctx, "issuing-1") }), key)
		same(b, find(b, func(tx *store.Tx) (store.Secret, error) { return tx.Secret(b.ctx, "log") }), secret)
	}
	b.write(func(tx *store.Tx) error { return tx.DeleteAuthorityKey(b.ctx, "issuing-1") })
	absent(b, func(tx *store.Tx) (store.AuthorityKey, error) { return tx.AuthorityKey(b.ctx, "issuing-1") })
	absent(b, func(tx *store.Tx) (store.Secret, error) { return tx.Secret(b.ctx, "other") })
	b.refuse(fault.Conflict, func(tx *store.Tx) error {
		return tx.PutAuthorityKey(b.ctx, store.AuthorityKey{AuthorityID: "nobody", KEKID: "k", Sealed: []byte("s")})
	})
}

func testBundle(t *testing.T, b *bench) {
	first := store.Bundle{Name: "default", Digest: pki.BundleDigest{1}, Anchors: [][]byte{[]byte("A")}}
	second := store.Bundle{Name: "default", Digest: pki.BundleDigest{2}, Anchors: [][]byte{[]byte("A"), []byte("B")}}
	shared := store.Bundle{Name: "other", Digest: pki.BundleDigest{2}, Anchors: second.Anchors}
	for i, bundle := range []store.Bundle{first, second, shared, first} { // back to the first: a new seq
		b.pass(time.Second)
		b.write(func(tx *store.Tx) error { return tx.PutBundle(b.ctx, bundle) })
		bundle.Seq, bundle.CreatedAt = []uint64{1, 2, 1, 3}[i], b.clock()
		got := find(b, func(tx *store.Tx) (store.Bundle, error) { return tx.CurrentBundle(b.ctx, bundle.Name) })
		same(b, got, bundle)
		got = find(b, func(tx *store.Tx) (store.Bundle, error) { return tx.BundleByDigest(b.ctx, bundle.Digest) })
		same(b, got, bundle)
	}
	all := find(b, func(tx *store.Tx) ([]store.Bundle, error) { return tx.Bundles(b.ctx) })
	if len(all) != 2 || all[0].Seq != 3 || len(all[0].Anchors) != 1 || all[1].Name != "other" || len(all[1].Anchors) != 2 {
		t.Fatalf("bundles: %+v", all)
	}
	absent(b, func(tx *store.Tx) (store.Bundle, error) { return tx.CurrentBundle(b.ctx, "nothing") })
	absent(b, func(tx *store.Tx) (store.Bundle, error) { return tx.BundleByDigest(b.ctx, pki.BundleDigest{9}) })
}

func testDocument(t *testing.T, b *bench) {
	d := store.Document{Kind: "Intent", Name: "orders-db", JSON: []byte(`{"a":1}`), ChangedBy: "operator/ann", GitCommit: "abc"}
	b.write(func(tx *store.Tx) error { return tx.PutDocument(b.ctx, d) })
	d.JSON, d.ChangedBy, d.GitCommit = []byte(`{"a":2}`), "operator/bob", ""
	b.pass(time.Second)
	b.write(func(tx *store.Tx) error { return tx.PutDocument(b.ctx, d) })
	b.write(func(tx *store.Tx) error { return put(b.ctx, tx, "orders") })
	d.Revision, d.ChangedAt = 2, b.clock()
	same(b, find(b, func(tx *store.Tx) ([]store.Document, error) { return tx.Documents(b.ctx, "Intent", "") }), []store.Document{d})
	same(b, find(b, func(tx *store.Tx) ([]store.Document, error) { return tx.Documents(b.ctx, "", "orders-db") }), []store.Document{d})
	if all := find(b, func(tx *store.Tx) ([]store.Document, error) { return tx.Documents(b.ctx, "", "") }); len(all) != 2 {
		t.Fatalf("all documents: %+v", all)
	}
	b.write(func(tx *store.Tx) error { return tx.DeleteDocument(b.ctx, "Intent", "orders-db", "operator/cy") })
	b.refuse(fault.NotFound, func(tx *store.Tx) error { return tx.DeleteDocument(b.ctx, "Intent", "orders-db", "operator/cy") })
	b.write(func(tx *store.Tx) error { return tx.PutDocument(b.ctx, d) })
	revisions := find(b, func(tx *store.Tx) ([]store.Document, error) {
		return tx.DocumentRevisions(b.ctx, "Intent", "orders-db")
	})
	if len(revisions) != 4 || revisions[0].Revision != 4 || revisions[1].JSON != nil || revisions[1].ChangedBy != "operator/cy" ||
		string(revisions[3].JSON) != `{"a":1}` || revisions[3].GitCommit != "abc" {
		t.Fatalf("revisions: %+v", revisions)
	}
}

func testAgent(_ *testing.T, b *bench) {
	a := agent("agent-1")
	b.write(func(tx *store.Tx) error {
		return errors.Join(tx.InsertAgent(b.ctx, a), tx.InsertAgent(b.ctx, agent("agent-0")))
	})
	same(b, find(b, func(tx *store.Tx) (store.Agent, error) { return tx.Agent(b.ctx, "agent-1") }), a)
	same(b, find(b, func(tx *store.Tx) ([]store.Agent, error) { return tx.Agents(b.ctx) }), []store.Agent{agent("agent-0"), a})
	after := func(id string, limit int) []store.Agent {
		return find(b, func(tx *store.Tx) ([]store.Agent, error) { return tx.AgentsAfter(b.ctx, id, limit) })
	}
	same(b, after("", 1), []store.Agent{agent("agent-0")})
	same(b, after("agent-0", 5), []store.Agent{a})
	retire := func(tx *store.Tx) error {
		return tx.SetAgentState(b.ctx, "agent-1", fleet.AgentActive, fleet.AgentRetired)
	}
	b.write(retire)
	b.refuse(fault.Conflict, retire)
	b.pass(time.Minute)
	b.write(func(tx *store.Tx) error {
		return errors.Join(tx.SetAgentLabels(b.ctx, "agent-1", map[string]string{"role": "cache"}), tx.SetAgentSeen(b.ctx, "agent-1"))
	})
	same(b, find(b, func(tx *store.Tx) ([]store.Agent, error) { return tx.ActiveAgentsAfter(b.ctx, "", 5) }), []store.Agent{agent("agent-0")})
	a.State, a.Labels, a.SeenAt = fleet.AgentRetired, map[string]string{"role": "cache"}, b.clock()
	same(b, find(b, func(tx *store.Tx) (store.Agent, error) { return tx.Agent(b.ctx, "agent-1") }), a)
	b.pass(time.Hour)
	b.write(func(tx *store.Tx) error { return tx.SetAgentsSeen(b.ctx, []string{"nobody", "agent-1", "agent-0"}) })
	seen := agent("agent-0")
	seen.SeenAt = b.clock()
	same(b, find(b, func(tx *store.Tx) ([]store.Agent, error) { return tx.Agents(b.ctx) }), []store.Agent{seen, a}) // the other is retired
	b.refuse(fault.NotFound, func(tx *store.Tx) error { return tx.SetAgentSeen(b.ctx, "nobody") })
	b.refuse(fault.NotFound, func(tx *store.Tx) error { return tx.SetAgentLabels(b.ctx, "nobody", nil) })
	b.refuse(fault.Conflict, func(tx *store.Tx) error { return tx.InsertAgent(b.ctx, a) })
	absent(b, func(tx *store.Tx) (store.Agent, error) { return tx.Agent(b.ctx, "nobody") })
}

// testBoot: the boot counter only rises, and of two streams with one counter
// one is admitted.
func testBoot(_ *testing.T, b *bench) {
	b.withPlacements()
	boot := func(from, to uint64) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			return tx.SetAgentBoot(b.ctx, "agent-1", from, to, map[string]string{"os": "linux"})
		}
	}
	b.write(boot(0, 5))
	b.refuse(fault.Conflict, boot(0, 5))
	b.refuse(fault.Conflict, boot(0, 6))
	b.refuse(fault.Conflict, boot(5, 5))
	b.refuse(fault.Conflict, boot(5, 4))
	b.write(boot(5, 9))
	a := find(b, func(tx *store.Tx) (store.Agent, error) { return tx.Agent(b.ctx, "agent-1") })
	same(b, []uint64{a.Boot, a.Epoch}, []uint64{9, 1})
}

func testTarget(_ *testing.T, b *bench) {
	b.withPlacements()
	b.write(func(tx *store.Tx) error {
		if err := tx.InsertAgent(b.ctx, agent("agent-2")); err != nil {
			return err
		}
		return errors.Join(
			tx.PutTarget(b.ctx, store.Target{AgentID: "agent-1", Name: "etcd", Kind: "files", Cluster: "c0"}),
			tx.PutTarget(b.ctx, store.Target{AgentID: "agent-1", Name: "etcd", Kind: "etcd", Cluster: "c1"}),
			tx.PutTarget(b.ctx, store.Target{AgentID: "agent-1", Name: "web", Kind: "files"}),
			tx.PutTarget(b.ctx, store.Target{AgentID: "agent-2", Name: "etcd", Kind: "etcd", Cluster: "c1"}),
		)
	})
	one := store.Target{AgentID: "agent-1", Name: "etcd", Kind: "etcd", Cluster: "c1"}
	two := store.Target{AgentID: "agent-2", Name: "etcd", Kind: "etcd", Cluster: "c1"}
	web := store.Target{AgentID: "agent-1", Name: "web", Kind: "files"}
	same(b, find(b, func(tx *store.Tx) ([]store.Target, error) { return tx.AgentTargets(b.ctx, "agent-1") }), []store.Target{one, web})
	same(b, find(b, func(tx *store.Tx) ([]store.Target, error) { return tx.ClusterTargets(b.ctx, "c1") }), []store.Target{one, two})
	b.write(func(tx *store.Tx) error { return tx.DeleteTarget(b.ctx, "agent-1", "web") })
	b.refuse(fault.NotFound, func(tx *store.Tx) error { return tx.DeleteTarget(b.ctx, "agent-1", "web") })
	same(b, find(b, func(tx *store.Tx) ([]store.Target, error) { return tx.AgentTargets(b.ctx, "agent-1") }), []store.Target{one})
}

func testDecision(_ *testing.T, b *bench) {
	first := store.Decision{
		ID: "d1", Kind: "rotate", Intent: "orders-db", PlacementID: "p", ThroughGeneration: 7, NewKey: true,
		Reason: "key may be known", By: "operator/ann", At: start,
	}
	second := store.Decision{ID: "d2", Kind: "resume", Intent: "orders-db", By: "operator/bob", At: start.Add(time.Second)}
	other := store.Decision{ID: "d3", Kind: "resume", Intent: "other", By: "operator/bob", At: start}
	b.write(func(tx *store.Tx) error {
		return errors.Join(tx.InsertDecision(b.ctx, first), tx.InsertDecision(b.ctx, second), tx.InsertDecision(b.ctx, other))
	})
	same(b, find(b, func(tx *store.Tx) ([]store.Decision, error) { return tx.IntentDecisions(b.ctx, "orders-db") }),
		[]store.Decision{second, first})
	b.refuse(fault.Conflict, func(tx *store.Tx) error { return tx.InsertDecision(b.ctx, first) })
}

func testChange(t *testing.T, b *bench) {
	propose := func(id string) {
		b.write(func(tx *store.Tx) error {
			return tx.InsertChange(b.ctx, store.Change{ID: id, Verb: "rotate", Object: "Intent/x", Detail: []byte(`{}`), ProposedBy: "ann"})
		})
	}
	decide := func(id string, next store.ChangeState) func(*store.Tx) error {
		return func(tx *store.Tx) error { return tx.DecideChange(b.ctx, id, next, "bob") }
	}
	propose("c1")
	propose("c2")
	finish := func(tx *store.Tx) error { return tx.FinishChange(b.ctx, "c1") }
	b.refuse(fault.Conflict, finish)
	b.refuse(fault.Conflict, decide("c1", store.ChangeDone))
	b.write(decide("c1", store.ChangeApproved))
	b.refuse(fault.Conflict, decide("c1", store.ChangeRejected))
	b.write(decide("c2", store.ChangeRejected))
	open := find(b, func(tx *store.Tx) ([]store.Change, error) { return tx.OpenChanges(b.ctx) })
	if len(open) != 1 || open[0].ID != "c1" || open[0].State != store.ChangeApproved || open[0].DecidedBy != "bob" || open[0].DecidedAt.IsZero() {
		t.Fatalf("open changes: %+v", open)
	}
	b.write(finish)
	b.refuse(fault.Conflict, finish)
	c := find(b, func(tx *store.Tx) (store.Change, error) { return tx.Change(b.ctx, "c1") })
	if c.State != store.ChangeDone || c.DoneAt.IsZero() || string(c.Detail) != `{}` || c.ProposedBy != "ann" {
		t.Fatalf("the change is %+v", c)
	}
}

// testLease: one holder at a time, and a fencing number that tells a holder
// from himself after he let it lapse.
func testLease(t *testing.T, b *bench) {
	take := func(holder string) (store.Lease, error) {
		var lease store.Lease
		err := b.Write(b.ctx, func(tx *store.Tx) error {
			var err error
			lease, err = tx.TakeLease(b.ctx, "sequence", holder, time.Minute)
			return err
		})
		return lease, err
	}
	check := func(l store.Lease) func(*store.Tx) error {
		return func(tx *store.Tx) error { return tx.CheckLease(b.ctx, l) }
	}
	first, err := take("server-1")
	b.check(err)
	if _, err := take("server-2"); fault.CodeOf(err) != fault.Conflict {
		t.Fatalf("a second holder: %v", err)
	}
	b.pass(30 * time.Second)
	again, err := take("server-1")
	b.check(err)
	if again.Fencing != first.Fencing || !again.EndsAt.After(first.EndsAt) {
		t.Fatalf("prolonged: %+v, then %+v", first, again)
	}
	b.pass(61 * time.Second)
	b.refuse(fault.Conflict, check(again))
	second, err := take("server-2")
	b.check(err)
	b.write(check(second))
	b.refuse(fault.Conflict, check(again))
	if second.Fencing <= first.Fencing {
		t.Fatalf("fencing %d after %d", second.Fencing, first.Fencing)
	}
	b.pass(2 * time.Minute)
	later, err := take("server-2")
	b.check(err)
	if later.Fencing <= second.Fencing {
		t.Fatal("a lease that lapsed came back with its old fencing number")
	}
	b.refuse(fault.Conflict, func(tx *store.Tx) error { return tx.ReleaseLease(b.ctx, second) })
	b.write(func(tx *store.Tx) error { return tx.ReleaseLease(b.ctx, later) })
	_, err = take("server-1")
	b.check(err)
}
