package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/store"
)

// testNewest: of each placement the newest certificate, of agents those that are
// good now, and why one of a placement was revoked since.
func testNewest(t *testing.T, b *bench) {
	b.withPlacements("p1", "p2", "p3")
	identity, over := leaf(1), leaf(2)
	for _, one := range []*store.Certificate{&identity, &over} {
		one.PlacementID, one.Generation, one.Kind, one.AgentID = "", 0, store.KindAgent, "agent-1"
	}
	over.NotAfter = start.Add(-time.Second)
	expelled := identity
	expelled.Serial = serial(3)
	first, newest, other := leaf(4), leaf(5), leaf(6)
	first.PlacementID, first.Generation = "p1", 7
	newest.PlacementID, newest.Generation = "p1", 9
	other.PlacementID, other.Generation = "p2", 1
	b.withCertificates(identity, over, expelled, first, newest, other)
	b.write(func(tx *store.Tx) error {
		return errors.Join(tx.RevokeCertificate(b.ctx, expelled.Serial, "keyCompromise"), tx.RevokeCertificate(b.ctx, other.Serial, "superseded"))
	})
	generations := map[string]uint64{}
	for _, one := range find(b, func(tx *store.Tx) ([]store.NewestLeaf, error) { return tx.NewestLeaves(b.ctx) }) {
		generations[one.PlacementID] = one.Generation
		if one.RevokedAt.IsZero() != (one.PlacementID == "p1") || one.Names == "" {
			t.Errorf("%+v", one)
		}
	}
	same(b, generations, map[string]uint64{"p1": 9, "p2": 1})
	live := find(b, func(tx *store.Tx) ([]store.LiveIdentity, error) { return tx.LiveIdentities(b.ctx) })
	same(b, live, []store.LiveIdentity{{Serial: identity.Serial, AgentID: "agent-1", Fingerprint: identity.Fingerprint, NotAfter: identity.NotAfter}})
	since := func(placement string, at time.Time) string {
		return find(b, func(tx *store.Tx) (string, error) { return tx.RevokedSince(b.ctx, placement, at) })
	}
	same(b, []string{since("p1", start), since("p2", start), since("p2", start.Add(time.Hour)), since("p3", start)}, []string{"", "superseded", "", ""})
}
