package storetest

import (
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

func staple(n byte, of pki.Serial, at time.Time) store.Staple {
	return store.Staple{
		Digest: pki.Fingerprint{n}, Serial: of, ThisUpdate: at, NextUpdate: at.Add(4 * time.Hour), RefreshAt: at.Add(2 * time.Hour), DER: []byte{n},
	}
}

// testStaple: a staple takes the place of exactly the one that it was made after,
// and none that is older does.
func testStaple(t *testing.T, b *bench) {
	b.withCertificates(leaf(1))
	put := func(s store.Staple, before pki.Fingerprint) func(*store.Tx) error {
		return func(tx *store.Tx) error { return tx.PutStaple(b.ctx, s, before) }
	}
	first, second := staple(1, serial(1), start), staple(2, serial(1), start.Add(time.Hour))
	newest := func(tx *store.Tx) (store.Staple, error) { return tx.NewestStaple(b.ctx, serial(1)) }
	absent(b, newest)
	b.write(put(first, pki.Fingerprint{}))
	same(b, find(b, newest), first)
	b.refuse(fault.Conflict, put(second, pki.Fingerprint{}))
	b.refuse(fault.Conflict, put(second, pki.Fingerprint{9}))
	b.refuse(fault.Conflict, put(staple(3, serial(1), start.Add(-time.Second)), first.Digest))
	b.refuse(fault.Conflict, put(staple(3, serial(2), start.Add(time.Hour)), first.Digest))
	b.write(put(second, first.Digest))
	same(b, find(b, newest), second)
	for _, s := range []store.Staple{first, second} { // who was told of the first may fetch it yet
		same(b, find(b, func(tx *store.Tx) (store.Staple, error) { return tx.StapleByDigest(b.ctx, s.Digest) }), s)
	}
	b.pass(first.NextUpdate.Sub(b.clock()))
	ended := func() int64 {
		return find(b, func(tx *store.Tx) (int64, error) { return tx.EndedStaples(b.ctx) })
	}
	if n := ended(); n != 1 {
		t.Fatalf("%d have ended, want 1", n)
	}
	b.write(func(tx *store.Tx) error { return tx.DeleteEndedStaples(b.ctx) })
	absent(b, func(tx *store.Tx) (store.Staple, error) { return tx.StapleByDigest(b.ctx, first.Digest) })
	if n := ended(); n != 0 {
		t.Fatalf("%d are left of those that have ended", n)
	}
	same(b, find(b, newest), second)
}
