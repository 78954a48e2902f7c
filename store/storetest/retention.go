package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// testPruning: history goes when it is old, and while nothing rests on it.
func testPruning(t *testing.T, b *bench) {
	b.withAuthority()
	b.withPlacements("a", "b")
	b.write(func(tx *store.Tx) error {
		next := store.Authority{ID: "root-2", Name: "root-2", Kind: store.RootAuthority, State: fleet.AuthorityPrepared, Origin: store.KeyOffline, Certificate: []byte("DER")}
		return errors.Join(tx.InsertAuthority(b.ctx, next), tx.PutAdoption(b.ctx, store.Adoption{PlacementID: "a", BundleDigest: "d", Level: "proven", Evidence: "a1", At: start}))
	})
	for i := range 3 {
		for _, placement := range []string{"a", "b"} {
			b.write(func(tx *store.Tx) error {
				return tx.PutEvidence(b.ctx, store.Evidence{
					Digest: fmt.Sprint(placement, i), PlacementID: placement, Observer: "agent-1", Kind: "handshake", Verdict: fmt.Sprint(i),
					Statement: []byte("s"), Signature: []byte("s"), At: start.Add(time.Duration(i) * time.Second),
				})
			})
		}
	}
	change := store.TrustChange{ID: "change-1", Kind: store.RootChange, OldRoot: "issuing-1", NewRoot: "root-2", OldIssuing: "issuing-1", NewIssuing: "root-2", Reissue: `{}`, BegunBy: "x"}
	for _, one := range []struct{ id, of string }{{"n1", "r1"}, {"n2", "r2"}, {"n3", "change-1"}, {"n4", "r2"}} {
		b.write(func(tx *store.Tx) error {
			return tx.InsertNotice(b.ctx, store.Notice{ID: one.id, Kind: store.NoticeOfRollout, ChangeID: one.of, URL: "https://x", Body: []byte("{}")})
		})
	}
	b.write(func(tx *store.Tx) error {
		return errors.Join(tx.SentNotice(b.ctx, "n1"), tx.SentNotice(b.ctx, "n2"), tx.SentNotice(b.ctx, "n3"),
			tx.InsertRollout(b.ctx, rollout("r1", "orders"), []store.RolloutPart{{PlacementID: "b"}}), tx.InsertTrustChange(b.ctx, change))
	})
	b.pass(time.Hour)
	old := func(what string, evidence, notices int) {
		t.Helper()
		if n := find(b, func(tx *store.Tx) (int, error) { return tx.OldEvidence(b.ctx, tx.Now) }); n != evidence {
			t.Errorf("%s: %d of evidence, want %d", what, n, evidence)
		}
		if n := find(b, func(tx *store.Tx) (int, error) { return tx.OldNotices(b.ctx, tx.Now) }); n != notices {
			t.Errorf("%s: %d notices, want %d", what, n, notices)
		}
	}
	old("a rollout and a change of trust are open", 0, 1) // n2
	b.write(func(tx *store.Tx) error { return tx.EndTrustChange(b.ctx, "change-1") })
	old("a rollout is open", 1, 2) // a0: a1 is cited, a2 the latest
	b.write(func(tx *store.Tx) error { return tx.EndRollout(b.ctx, "r1") })
	old("nothing is open", 3, 3) // n4 was never taken
	b.write(func(tx *store.Tx) error {
		return tx.InsertRevocation(b.ctx, store.Revocation{ID: "v1", Object: "x", Reason: "superseded", By: "x"}, []pki.Serial{serial(1)})
	})
	c := leaf(1)
	c.PlacementID = "a"
	b.write(func(tx *store.Tx) error { return tx.InsertCertificates(b.ctx, c) })
	old("a revocation is open", 2, 3)
	b.write(func(tx *store.Tx) error {
		for _, want := range []int{1, 1, 0} {
			if n, err := tx.PruneEvidence(b.ctx, tx.Now, 1); err != nil || n != want {
				t.Errorf("pruned %d, want %d: %v", n, want, err)
			}
		}
		n, err := tx.PruneNotices(b.ctx, tx.Now, 10)
		if n != 3 {
			t.Errorf("%d notices pruned", n)
		}
		return err
	})
	for placement, want := range map[string]int{"a": 3, "b": 1} {
		if left := find(b, func(tx *store.Tx) ([]store.Evidence, error) { return tx.EvidenceOf(b.ctx, placement) }); len(left) != want {
			t.Errorf("%s: %d left, want %d", placement, len(left), want)
		}
	}
}
