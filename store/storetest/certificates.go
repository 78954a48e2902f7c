package storetest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

func (b *bench) withCertificates(all ...store.Certificate) {
	b.t.Helper()
	b.withAuthority()
	b.write(func(tx *store.Tx) error {
		var errs []error
		for _, c := range all {
			errs = append(errs, tx.InsertCertificate(b.ctx, c))
		}
		return errors.Join(errs...)
	})
}

func testCertificate(t *testing.T, b *bench) {
	bare := store.Certificate{ // of an operator: no placement, no policy
		Serial: serial(9), Kind: store.KindOperator, AuthorityID: "issuing-1", Operator: "ann",
		NotBefore: start, NotAfter: start, IssuedAt: start, DER: []byte("DER"),
	}
	b.withCertificates(leaf(1), bare)
	same(b, find(b, func(tx *store.Tx) (store.Certificate, error) { return tx.Certificate(b.ctx, serial(1)) }), leaf(1))
	same(b, find(b, func(tx *store.Tx) (store.Certificate, error) { return tx.Certificate(b.ctx, serial(9)) }), bare)
	absent(b, func(tx *store.Tx) (store.Certificate, error) { return tx.Certificate(b.ctx, serial(2)) })
	b.refuse(fault.Conflict, func(tx *store.Tx) error { return tx.InsertCertificate(b.ctx, bare) })
	b.refuse(fault.Conflict, func(tx *store.Tx) error {
		foreign := leaf(2)
		foreign.AuthorityID = "nobody"
		return tx.InsertCertificate(b.ctx, foreign)
	})
	b.refuse(fault.Conflict, func(tx *store.Tx) error { // a generation without its placement
		lost := leaf(2)
		lost.PlacementID = ""
		return tx.InsertCertificate(b.ctx, lost)
	})
	err := b.Write(b.ctx, func(tx *store.Tx) error {
		odd := leaf(2)
		odd.Kind = "spare"
		return tx.InsertCertificate(b.ctx, odd)
	})
	if err == nil {
		t.Fatal("a kind that does not exist was stored")
	}
}

// testGeneration: a (placement, generation) is given once.
func testGeneration(t *testing.T, b *bench) {
	b.withCertificates(leaf(1), leaf(2))
	err := b.Write(b.ctx, func(tx *store.Tx) error {
		again := leaf(3)
		again.Generation = 2
		return tx.InsertCertificate(b.ctx, again)
	})
	if fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), "generation 2 at placement placement-1") {
		t.Fatalf("generation 2 for a second time: %v", err)
	}
	elsewhere := leaf(3)
	elsewhere.PlacementID, elsewhere.Generation = "placement-2", 2
	b.write(func(tx *store.Tx) error { return tx.InsertCertificate(b.ctx, elsewhere) })
	same(b, find(b, func(tx *store.Tx) (store.Certificate, error) {
		return tx.PlacementCertificate(b.ctx, "placement-1", 1)
	}), leaf(1))
	same(b, find(b, func(tx *store.Tx) (store.Certificate, error) {
		return tx.NewestPlacementCertificate(b.ctx, "placement-1")
	}), leaf(2))
	same(b, find(b, func(tx *store.Tx) ([]store.Certificate, error) {
		return tx.PlacementCertificates(b.ctx, "placement-1")
	}), []store.Certificate{leaf(2), leaf(1)})
	absent(b, func(tx *store.Tx) (store.Certificate, error) { return tx.PlacementCertificate(b.ctx, "placement-1", 3) })
	absent(b, func(tx *store.Tx) (store.Certificate, error) {
		return tx.NewestPlacementCertificate(b.ctx, "placement-3")
	})
}

func testCertificateQueries(t *testing.T, b *bench) {
	identity := func(n byte, issued time.Duration) store.Certificate {
		c := leaf(n)
		c.Kind, c.PlacementID, c.Generation, c.Intent, c.IssuedAt = store.KindAgent, "", 0, "", start.Add(issued)
		return c
	}
	b.withCertificates(leaf(1), leaf(2), leaf(3), identity(4, time.Hour), identity(5, 2*time.Hour))
	b.write(func(tx *store.Tx) error { return tx.RevokeCertificate(b.ctx, serial(2), "superseded") })
	for name, one := range map[string]struct {
		query store.CertificateQuery
		want  []byte
	}{
		"all":             {store.CertificateQuery{}, []byte{1, 2, 3, 4, 5}},
		"kind":            {store.CertificateQuery{Kind: store.KindAgent}, []byte{4, 5}},
		"intent":          {store.CertificateQuery{Intent: "orders-db"}, []byte{1, 2, 3}},
		"agent":           {store.CertificateQuery{AgentID: "agent-1", Kind: store.KindLeaf}, []byte{1, 2, 3}},
		"other agent":     {store.CertificateQuery{AgentID: "agent-2"}, nil},
		"authority":       {store.CertificateQuery{AuthorityID: "issuing-1"}, []byte{1, 2, 3, 4, 5}},
		"valid":           {store.CertificateQuery{ValidAfter: start.Add(time.Hour)}, []byte{3, 4, 5}},
		"expiring":        {store.CertificateQuery{ValidAfter: start, ExpiresBefore: start.Add(4 * time.Hour)}, []byte{1, 3}},
		"issued since":    {store.CertificateQuery{IssuedAfter: start.Add(time.Hour)}, []byte{4, 5}},
		"the first two":   {store.CertificateQuery{Limit: 2}, []byte{1, 2}},
		"all of it":       {store.CertificateQuery{Kind: store.KindLeaf, Intent: "orders-db", ValidAfter: start, ExpiresBefore: start.Add(9 * time.Hour), IssuedAfter: start, Limit: 9}, []byte{1, 3}},
		"nothing matches": {store.CertificateQuery{Kind: store.KindServer}, nil},
	} {
		var got []byte
		for _, c := range find(b, func(tx *store.Tx) ([]store.Certificate, error) { return tx.Certificates(b.ctx, one.query) }) {
			got = append(got, c.Serial[15])
		}
		if string(got) != string(one.want) {
			t.Errorf("%s: got %v, want %v", name, got, one.want)
		}
	}
	live := func(now time.Time) []store.Live {
		return find(b, func(tx *store.Tx) ([]store.Live, error) { return tx.LiveCertificates(b.ctx, now) })
	}
	agents := store.Live{AuthorityID: "issuing-1", Kind: store.KindAgent, Count: 2, Last: start.Add(5 * time.Hour)}
	same(b, live(start), []store.Live{agents, {AuthorityID: "issuing-1", Kind: store.KindLeaf, Count: 2, Last: start.Add(3 * time.Hour)}})
	same(b, live(start.Add(3*time.Hour)), []store.Live{agents})
	same(b, live(start.Add(5*time.Hour)), nil)
	same(b, find(b, func(tx *store.Tx) ([]store.Certificate, error) { return tx.AgentIdentities(b.ctx, "agent-1") }),
		[]store.Certificate{identity(5, 2*time.Hour), identity(4, time.Hour)})
}

// testRevocation: the first revocation stands, and is on the CRL of its shard
// until the certificate has expired.
func testRevocation(_ *testing.T, b *bench) {
	b.withCertificates(leaf(1), leaf(2), leaf(129)) // 1 and 129 share a shard
	for _, n := range []byte{129, 1, 2} {
		b.pass(time.Second)
		b.write(func(tx *store.Tx) error { return tx.RevokeCertificate(b.ctx, serial(n), "keyCompromise") })
	}
	b.refuse(fault.Conflict, func(tx *store.Tx) error { return tx.RevokeCertificate(b.ctx, serial(1), "superseded") })
	b.refuse(fault.NotFound, func(tx *store.Tx) error { return tx.RevokeCertificate(b.ctx, serial(77), "superseded") })
	revoked := find(b, func(tx *store.Tx) (store.Certificate, error) { return tx.Certificate(b.ctx, serial(1)) })
	same(b, []any{revoked.RevokedAt, revoked.Reason}, []any{start.Add(2 * time.Second), "keyCompromise"})
	entry := func(n byte, at time.Duration) store.Revocation {
		return store.Revocation{Serial: serial(n), RevokedAt: start.Add(at), Reason: "keyCompromise", NotAfter: leaf(n).NotAfter}
	}
	crl := func(shard int, now time.Time) []store.Revocation {
		return find(b, func(tx *store.Tx) ([]store.Revocation, error) { return tx.Revocations(b.ctx, "issuing-1", shard, now) })
	}
	same(b, crl(1, start), []store.Revocation{entry(1, 2*time.Second), entry(129, time.Second)})
	same(b, crl(1, start.Add(90*time.Minute)), []store.Revocation{entry(129, time.Second)})
	same(b, crl(2, start), []store.Revocation{entry(2, 3*time.Second)})
	same(b, crl(3, start), nil)
	same(b, int(pki.Serial{15: 129}.Shard()), 1)
}
