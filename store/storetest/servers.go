package storetest

import (
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/store"
)

// testServer: a server says again and again that it is there, and one that says
// nothing is forgotten.
func testServer(_ *testing.T, b *bench) {
	one := store.Server{Instance: "s1", Name: "b", Address: "a:1", Version: "v1", Schema: 3, StartedAt: start}
	put := func(s *store.Server) {
		b.write(func(tx *store.Tx) error { return tx.PutServer(b.ctx, *s) })
		s.SeenAt = b.clock()
	}
	all := func() []store.Server {
		return find(b, func(tx *store.Tx) ([]store.Server, error) { return tx.Servers(b.ctx) })
	}
	put(&one)
	same(b, all(), []store.Server{one})
	b.pass(time.Minute)
	other := store.Server{Instance: "s2", Name: "a", Address: "a:1", Version: "v2", Schema: 4, StartedAt: b.clock()}
	put(&other)
	same(b, all(), []store.Server{other, one})
	b.pass(time.Minute)
	put(&one)
	same(b, all(), []store.Server{other, one})
	b.write(func(tx *store.Tx) error { return tx.PruneServers(b.ctx, one.SeenAt) })
	same(b, all(), []store.Server{one})
	b.write(func(tx *store.Tx) error { return tx.RemoveServer(b.ctx, "s1") })
	b.write(func(tx *store.Tx) error { return tx.RemoveServer(b.ctx, "s1") })
	same(b, len(all()), 0)
}

// testTermInUse: of the certificates of a placement the one that is in use
// counts, for its own agent.
func testTermInUse(_ *testing.T, b *bench) {
	b.withPlacements("placement-1")
	b.withCertificates(leaf(1), leaf(2))
	term := func(agent string) func(tx *store.Tx) (store.Term, error) {
		return func(tx *store.Tx) (store.Term, error) { return tx.TermInUse(b.ctx, "placement-1", agent) }
	}
	absent(b, term("agent-1"))
	b.write(func(tx *store.Tx) error {
		return tx.SetPlacementReport(b.ctx, "placement-1", store.Reported{Generation: 1, Last: 2, NotAfter: leaf(1).NotAfter})
	})
	same(b, find(b, term("agent-1")), store.Term{IssuedAt: leaf(1).IssuedAt, NotAfter: leaf(1).NotAfter})
	absent(b, term("agent-2"))
}
