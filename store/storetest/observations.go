package storetest

import (
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

func testAdoption(_ *testing.T, b *bench) {
	b.withPlacements("a", "b")
	put := func(placement, digest, level string, at time.Duration) store.Adoption {
		a := store.Adoption{PlacementID: placement, BundleDigest: digest, Level: level, Evidence: "of " + level, At: start.Add(at)}
		b.write(func(tx *store.Tx) error { return tx.PutAdoption(b.ctx, a) })
		return a
	}
	put("a", "d1", "proven", 0)
	regressed := put("a", "d1", "delivered", 2*time.Second)
	put("a", "d1", "loaded", time.Second) // a message that was late
	newer := put("a", "d2", "delivered", 3*time.Second)
	other := put("b", "d1", "loaded", 0)
	same(b, find(b, func(tx *store.Tx) ([]store.Adoption, error) { return tx.PlacementAdoptions(b.ctx, "a") }),
		[]store.Adoption{newer, regressed})
	same(b, find(b, func(tx *store.Tx) ([]store.Adoption, error) { return tx.BundleAdoptions(b.ctx, "d1") }),
		[]store.Adoption{regressed, other})
	b.refuse(fault.Conflict, func(tx *store.Tx) error {
		return tx.PutAdoption(b.ctx, store.Adoption{PlacementID: "nowhere", BundleDigest: "d1", At: start})
	})
}

// testEvidence: the latest of each (placement, observer, kind) stands, history
// has each change of the verdict and what is cited, and a late message changes
// nothing that is newer.
func testEvidence(_ *testing.T, b *bench) {
	b.withPlacements("a")
	put := func(digest, verdict string, at time.Duration, keep bool) store.Evidence {
		e := store.Evidence{
			Digest: digest, PlacementID: "a", Observer: "agent-1", Kind: "served", Verdict: verdict,
			Statement: []byte("statement of " + digest), Signature: []byte{1, 2, 3}, At: start.Add(at), Keep: keep,
		}
		b.write(func(tx *store.Tx) error { return tx.PutEvidence(b.ctx, e) })
		e.Keep = false
		return e
	}
	expect := func(want ...store.Evidence) {
		b.t.Helper()
		same(b, find(b, func(tx *store.Tx) ([]store.Evidence, error) { return tx.EvidenceOf(b.ctx, "a") }), want)
	}
	one := put("e1", "proven", 0, false)
	expect(one)
	two := put("e2", "proven", time.Second, false)
	expect(two, one)
	three := put("e3", "proven", 2*time.Second, true)
	expect(three, one) // e2 had the verdict of e1
	four := put("e4", "refused", 3*time.Second, false)
	put("e4", "refused", 3*time.Second, false) // sent again
	expect(four, three, one)
	five := put("e5", "refused", 4*time.Second, false)
	late := put("e0", "proven", -time.Second, false)
	expect(five, four, three, one, late)
	same(b, find(b, func(tx *store.Tx) (store.Evidence, error) { return tx.Evidence(b.ctx, "e5") }), five)
	same(b, find(b, func(tx *store.Tx) (store.Evidence, error) { return tx.Evidence(b.ctx, "e1") }), one)
	absent(b, func(tx *store.Tx) (store.Evidence, error) { return tx.Evidence(b.ctx, "e2") })
	for _, want := range []int{2, 0} {
		b.write(func(tx *store.Tx) error {
			pruned, err := tx.PruneEvidence(b.ctx, start.Add(2*time.Second), 10)
			if pruned != want {
				b.t.Errorf("pruned %d, want %d", pruned, want)
			}
			return err
		})
	}
	expect(five, four, three)
	b.refuse(fault.Internal, func(tx *store.Tx) error {
		_, err := tx.PruneEvidence(b.ctx, start, 0)
		return err
	})
}
