package storetest

import (
	"testing"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// testStanding: each fact that a decision rests on changes the standing, and
// nothing else does.
func testStanding(t *testing.T, b *bench) {
	b.withPlacements("p1")
	shown, first := leaf(1), leaf(2)
	shown.PlacementID, shown.Generation, shown.Kind = "", 0, store.KindAgent
	first.PlacementID, first.Generation = "p1", 7
	b.withCertificates(shown, first)
	look := func() store.Standing {
		t.Helper()
		var standing store.Standing
		b.read(func(tx *store.Tx) error {
			var newest uint64
			var err error
			standing, newest, err = tx.Standing(b.ctx, "p1", &shown.Serial)
			if newest != 7 {
				t.Errorf("newest generation %d, want 7", newest)
			}
			return err
		})
		return standing
	}
	before := look()
	agent := before.AgentID
	if before.Revoked || before.Orphan || before.AgentState != fleet.AgentActive || agent == "" {
		t.Errorf("standing %+v", before)
	}
	b.write(func(tx *store.Tx) error { return tx.SetAgentSeen(b.ctx, agent) })
	same(b, look(), before)
	for name, change := range map[string]func(*store.Tx) error{
		"labels":    func(tx *store.Tx) error { return tx.SetAgentLabels(b.ctx, agent, map[string]string{"new": "label"}) },
		"documents": func(tx *store.Tx) error { return tx.RaiseDocumentState(b.ctx) },
		"orphan":    func(tx *store.Tx) error { return tx.SetPlacementOrphan(b.ctx, "p1", true) },
		"revoked":   func(tx *store.Tx) error { return tx.RevokeCertificate(b.ctx, shown.Serial, "keyCompromise") },
		"retired": func(tx *store.Tx) error {
			return tx.SetAgentState(b.ctx, agent, fleet.AgentActive, fleet.AgentRetired)
		},
	} {
		was := look()
		b.write(change)
		if look() == was {
			t.Errorf("%s: changed, and the standing is the same", name)
		}
	}
	b.read(func(tx *store.Tx) error {
		unknown, _, err := tx.Standing(b.ctx, "p1", &pki.Serial{9})
		if !unknown.Revoked {
			t.Error("a certificate without a record stands")
		}
		none, _, err2 := tx.Standing(b.ctx, "p1", nil)
		if none.Revoked {
			t.Error("no certificate was shown, and it counts as revoked")
		}
		if _, _, err := tx.Standing(b.ctx, "nosuch", nil); fault.CodeOf(err) != fault.NotFound || err == nil {
			t.Errorf("no such placement: %v", err)
		}
		b.check(err)
		return err2
	})
}
