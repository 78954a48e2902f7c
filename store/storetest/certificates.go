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
	b.write(func(tx *store.Tx) error { return tx.InsertCertificates(b.ctx, all...) })
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
	b.refuse(fault.Conflict, func(tx *store.Tx) error { return tx.InsertCertificates(b.ctx, bare) })
	b.refuse(fault.Conflict, func(tx *store.Tx) error {
		foreign := leaf(2)
		foreign.AuthorityID = "nobody"
		return tx.InsertCertificates(b.ctx, foreign)
	})
	b.refuse(fault.Conflict, func(tx *store.Tx) error { // a generation without its placement
		lost := leaf(2)
		lost.PlacementID = ""
		return tx.InsertCertificates(b.ctx, lost)
	})
	err := b.Write(b.ctx, func(tx *store.Tx) error {
		odd := leaf(2)
		odd.Kind = "spare"
		return tx.InsertCertificates(b.ctx, odd)
	})
	if err == nil {
		t.Fatal("a kind that does not exist was stored")
	}
}

// testCertificates: any number is recorded at once, each whole; or none.
func testCertificates(t *testing.T, b *bench) {
	b.withAuthority()
	var all []store.Certificate
	for i := range byte(70) { // beyond what one statement takes, and no multiple of it
		c := leaf(i + 1)
		if i%3 == 0 {
			c.PlacementID, c.Generation, c.AgentID, c.PolicyInput, c.RevokedAt, c.Reason = "", 0, "", nil, start, "superseded"
		}
		all = append(all, c)
	}
	for _, n := range []int{0, 1, 2, 5, 16, 17, 70} {
		err := b.Write(b.ctx, func(tx *store.Tx) error {
			if err := tx.InsertCertificates(b.ctx, all[:n]...); err != nil {
				return err
			}
			for _, want := range all[:n] {
				got, err := tx.Certificate(b.ctx, want.Serial)
				if err != nil {
					return err
				}
				same(b, got, want)
			}
			return errUndo
		})
		if !errors.Is(err, errUndo) {
			t.Fatalf("%d: %v", n, err)
		}
	}
	twice := leaf(71)
	twice.Generation = 2
	err := b.Write(b.ctx, func(tx *store.Tx) error { return tx.InsertCertificates(b.ctx, append(all, twice)...) })
	if fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), "one of 71 certificates exists already") {
		t.Fatalf("one generation twice in a batch: %v", err)
	}
	b.read(func(tx *store.Tx) error {
		_, err := tx.Certificate(b.ctx, all[0].Serial)
		if fault.CodeOf(err) != fault.NotFound {
			t.Errorf("of a batch that failed one is there: %v", err)
		}
		return nil
	})
}

var errUndo = errors.New("not to be kept")

// testGeneration: a (placement, generation) is given once.
func testGeneration(t *testing.T, b *bench) {
	b.withCertificates(leaf(1), leaf(2))
	err := b.Write(b.ctx, func(tx *store.Tx) error {
		again := leaf(3)
		again.Generation = 2
		return tx.InsertCertificates(b.ctx, again)
	})
	if fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), "generation 2 at placement placement-1") {
		t.Fatalf("generation 2 for a second time: %v", err)
	}
	elsewhere := leaf(3)
	elsewhere.PlacementID, elsewhere.Generation = "placement-2", 2
	b.write(func(tx *store.Tx) error { return tx.InsertCertificates(b.ctx, elsewhere) })
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
		"agent":           {store.CertificateQuery{AgentID: "agent-1"}, []byte{4, 5}},
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

// testRevocation: the first revocation stands, but that what is on hold may be
// revoked for good, or taken off it; and each waits for its list.
func testRevocation(_ *testing.T, b *bench) {
	b.withCertificates(leaf(1), leaf(2), leaf(129)) // 1 and 129 share a shard
	for _, n := range []byte{129, 1} {
		b.pass(time.Second)
		b.write(func(tx *store.Tx) error { return tx.RevokeCertificate(b.ctx, serial(n), "keyCompromise") })
	}
	b.pass(time.Second)
	b.write(func(tx *store.Tx) error { return tx.RevokeCertificate(b.ctx, serial(2), store.OnHold) })
	for _, again := range []string{"superseded", "keyCompromise", store.OnHold} {
		b.refuse(fault.Conflict, func(tx *store.Tx) error { return tx.RevokeCertificate(b.ctx, serial(1), again) })
	}
	b.refuse(fault.Conflict, func(tx *store.Tx) error { return tx.LiftCertificate(b.ctx, serial(1)) })
	b.refuse(fault.NotFound, func(tx *store.Tx) error { return tx.RevokeCertificate(b.ctx, serial(77), "superseded") })
	revoked := func(n byte) []any {
		record := find(b, func(tx *store.Tx) (store.Certificate, error) { return tx.Certificate(b.ctx, serial(n)) })
		return []any{record.RevokedAt, record.Reason}
	}
	same(b, revoked(1), []any{start.Add(2 * time.Second), "keyCompromise"})
	same(b, int(pki.Serial{15: 129}.Shard()), 1)

	shards := func() []store.PendingShard {
		return find(b, func(tx *store.Tx) ([]store.PendingShard, error) { return tx.PendingShards(b.ctx) })
	}
	first, second := store.PendingShard{AuthorityID: "issuing-1", Shard: 1}, store.PendingShard{AuthorityID: "issuing-1", Shard: 2}
	same(b, shards(), nil) // nobody here can sign their lists
	b.write(func(tx *store.Tx) error {
		return tx.PutAuthorityKey(b.ctx, store.AuthorityKey{AuthorityID: "issuing-1", KEKID: "kek", Sealed: []byte{1}})
	})
	same(b, shards(), []store.PendingShard{first, second})
	pending := func(shard store.PendingShard) []store.PendingRevocation {
		return find(b, func(tx *store.Tx) ([]store.PendingRevocation, error) { return tx.PendingRevocations(b.ctx, shard) })
	}
	entry := func(n byte, at time.Duration, reason string) store.PendingRevocation {
		return store.PendingRevocation{Serial: serial(n), RevokedAt: start.Add(at), Reason: reason, NotAfter: leaf(n).NotAfter}
	}
	same(b, pending(first), []store.PendingRevocation{entry(129, time.Second, "keyCompromise"), entry(1, 2*time.Second, "keyCompromise")})
	b.write(func(tx *store.Tx) error { return tx.Listed(b.ctx, first, pending(first)[:1]) })
	same(b, pending(first), []store.PendingRevocation{entry(1, 2*time.Second, "keyCompromise")})

	// What is lifted after a list was made of it is pending again.
	held := pending(second)
	b.write(func(tx *store.Tx) error { return tx.LiftCertificate(b.ctx, serial(2)) })
	b.write(func(tx *store.Tx) error { return tx.Listed(b.ctx, second, held) })
	same(b, pending(second), []store.PendingRevocation{{Serial: serial(2), Lifted: true, NotAfter: leaf(2).NotAfter}})
	same(b, revoked(2), []any{time.Time{}, ""})
	b.refuse(fault.Conflict, func(tx *store.Tx) error { return tx.LiftCertificate(b.ctx, serial(2)) })
	b.write(func(tx *store.Tx) error { return tx.RevokeCertificate(b.ctx, serial(2), store.OnHold) })
	b.write(func(tx *store.Tx) error { return tx.RevokeCertificate(b.ctx, serial(2), "keyCompromise") })
	same(b, revoked(2)[1], any("keyCompromise"))
	same(b, pending(second)[0].Reason, "keyCompromise")
}

// testCRL: a list takes the place of the one that it was made from and of no
// other, and neither number nor date goes back.
func testCRL(_ *testing.T, b *bench) {
	b.withCertificates()
	list := func(shard int, number int64, this time.Duration) store.CRL {
		return store.CRL{
			CRLHead: store.CRLHead{
				AuthorityID: "issuing-1", Shard: shard, Number: number, Basis: 3, Digest: pki.Fingerprint{byte(number)},
				ThisUpdate: start.Add(this), NextUpdate: start.Add(this + time.Hour), Count: 1,
			},
			Head: []byte{byte(number)}, Tail: []byte{9},
		}
	}
	part := func(n byte) store.EntryPart { return store.EntryPart{Ends: []byte{n, n, n, n}, Entries: []byte{48, n}} }
	change := store.EntryChange{Part: part(1)}
	put := func(c store.CRL, before int64) func(*store.Tx) error {
		return func(tx *store.Tx) error { return tx.PutCRL(b.ctx, c, before, change) }
	}
	b.refuse(fault.NotFound, func(tx *store.Tx) error { _, err := tx.CRL(b.ctx, "issuing-1", 5); return err })
	b.write(put(list(5, 7, 0), 0))
	b.write(put(list(-1, 9, 0), 0))
	for name, bad := range map[string]func(*store.Tx) error{
		"a second first one": put(list(5, 8, 0), 0), "made from another": put(list(5, 8, 0), 6), "the same number": put(list(5, 7, 0), 7),
		"a lower number": put(list(5, 6, time.Hour), 7), "dated back": put(list(5, 8, -time.Second), 7),
	} {
		b.t.Log(name)
		b.refuse(fault.Conflict, bad)
	}
	change = store.EntryChange{}
	b.write(put(list(5, 8, 0), 7))
	read := func() store.CRL {
		return find(b, func(tx *store.Tx) (store.CRL, error) { return tx.CRL(b.ctx, "issuing-1", 5) })
	}
	want := list(5, 8, 0)
	want.EntryPart, want.Parts = part(1), 1
	same(b, read(), want)
	same(b, read().DER(), []byte{8, 48, 1, 9})
	change = store.EntryChange{Part: part(2)}
	b.write(put(list(5, 9, 0), 8))
	same(b, read().DER(), []byte{9, 48, 1, 48, 2, 9})
	same(b, read().Parts, 2)
	change = store.EntryChange{All: true, Part: part(3)}
	b.write(put(list(5, 10, 0), 9))
	same(b, read().DER(), []byte{10, 48, 3, 9})
	heads := find(b, func(tx *store.Tx) ([]store.CRLHead, error) { return tx.CRLHeads(b.ctx, "issuing-1") })
	same(b, heads, []store.CRLHead{list(-1, 9, 0).CRLHead, list(5, 10, 0).CRLHead})
	same(b, find(b, func(tx *store.Tx) (store.CRLHead, error) { return tx.CRLHead(b.ctx, "issuing-1", 5) }), heads[1])
	wholes := func() []store.WholeList {
		return find(b, func(tx *store.Tx) ([]store.WholeList, error) { return tx.WholeLists(b.ctx) })
	}
	same(b, wholes(), []store.WholeList{{AuthorityID: "issuing-1", Number: 9}})
	whole := list(-1, 11, 0)
	whole.Basis = 10
	b.write(put(whole, 9))
	same(b, wholes(), []store.WholeList{{AuthorityID: "issuing-1", Number: 11, Complete: true}})
	b.write(put(list(5, 12, 0), 10))
	same(b, wholes(), []store.WholeList{{AuthorityID: "issuing-1", Number: 11}})
}

// testRevocations: what was asked for, and what of it is left.
func testRevocations(_ *testing.T, b *bench) {
	b.withPlacements(leaf(1).PlacementID)
	b.withCertificates(leaf(1), leaf(2))
	asked := store.Revocation{ID: "r1", Object: "Service/orders", Reason: "keyCompromise", Note: "seen in a dump", By: "operator/ann", BegunAt: start, ForceAt: start.Add(time.Hour)}
	b.write(func(tx *store.Tx) error {
		asked.BegunAt = tx.Now
		return tx.InsertRevocation(b.ctx, asked, []pki.Serial{serial(1), serial(2)})
	})
	open := func() []store.Revocation {
		return find(b, func(tx *store.Tx) ([]store.Revocation, error) { return tx.OpenRevocations(b.ctx) })
	}
	same(b, open(), []store.Revocation{asked})
	parts := find(b, func(tx *store.Tx) ([]store.Certificate, error) { return tx.RevocationParts(b.ctx, "r1") })
	same(b, len(parts), 2)
	same(b, parts[0].Serial, serial(1))
	b.pass(time.Second)
	ended := time.Time{}
	b.write(func(tx *store.Tx) error {
		ended = tx.Now
		return tx.EndRevocation(b.ctx, "r1")
	})
	b.refuse(fault.Conflict, func(tx *store.Tx) error { return tx.EndRevocation(b.ctx, "r1") })
	same(b, open(), nil)
	asked.EndedAt = ended
	same(b, find(b, func(tx *store.Tx) ([]store.Revocation, error) { return tx.Revocations(b.ctx, 9) }), []store.Revocation{asked})
	same(b, find(b, func(tx *store.Tx) (store.Revocation, error) { return tx.Revocation(b.ctx, "r1") }), asked)
}
