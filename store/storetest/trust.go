package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

func testTrust(t *testing.T, b *bench) {
	b.withAuthority()
	next := store.Authority{
		ID: "root-2", Name: "root-2", Kind: store.RootAuthority, State: fleet.AuthorityPrepared, Origin: store.KeyOffline,
		Certificate: []byte("DER of root-2"),
	}
	first := store.TrustChange{
		ID: "change-1", Kind: store.RootChange, OldRoot: "issuing-1", NewRoot: "root-2", OldIssuing: "issuing-1", NewIssuing: "root-2",
		Carry: true, Pace: time.Minute, Reissue: `{}`, Reason: "drill", BegunBy: "operator/ann",
	}
	b.pass(time.Second)
	second := first
	second.ID, second.Bridge, second.Carry, second.Close, second.Pace = "change-2", "root-2", false, true, 0
	b.write(func(tx *store.Tx) error {
		return errors.Join(tx.InsertAuthority(b.ctx, next), tx.InsertTrustChange(b.ctx, first))
	})
	first.BegunAt = b.clock()
	b.refuse(fault.Conflict, func(tx *store.Tx) error { return tx.InsertTrustChange(b.ctx, first) })
	b.pass(time.Second)
	b.write(func(tx *store.Tx) error { return tx.InsertTrustChange(b.ctx, second) })
	second.BegunAt = b.clock()
	same(b, find(b, func(tx *store.Tx) (store.TrustChange, error) { return tx.TrustChange(b.ctx, "change-1") }), first)
	same(b, find(b, func(tx *store.Tx) ([]store.TrustChange, error) { return tx.OpenTrustChanges(b.ctx) }), []store.TrustChange{first, second})
	absent(b, func(tx *store.Tx) (store.TrustChange, error) { return tx.TrustChange(b.ctx, "change-3") })

	b.pass(time.Second)
	end := func(tx *store.Tx) error { return tx.EndTrustChange(b.ctx, "change-1") }
	b.write(end)
	first.EndedAt = b.clock()
	b.refuse(fault.Conflict, end)
	same(b, find(b, func(tx *store.Tx) ([]store.TrustChange, error) { return tx.OpenTrustChanges(b.ctx) }), []store.TrustChange{second})
	same(b, find(b, func(tx *store.Tx) ([]store.TrustChange, error) { return tx.TrustChanges(b.ctx) }), []store.TrustChange{second, first})

	decisions := []store.TrustDecision{
		{ID: "d-1", ChangeID: "change-2", Kind: store.TrustAdvance, Phase: "withdraw", Reason: "go", By: "operator/ann"},
		{ID: "d-2", ChangeID: "change-2", Kind: store.TrustBack, Reason: "no", By: "operator/bob"},
	}
	for i := range decisions {
		b.pass(time.Second)
		b.write(func(tx *store.Tx) error { return tx.InsertTrustDecision(b.ctx, decisions[i]) })
		decisions[i].At = b.clock()
	}
	same(b, find(b, func(tx *store.Tx) ([]store.TrustDecision, error) { return tx.TrustDecisions(b.ctx, "change-2") }), decisions)
	if none := find(b, func(tx *store.Tx) ([]store.TrustDecision, error) { return tx.TrustDecisions(b.ctx, "change-1") }); len(none) > 0 {
		t.Errorf("decisions on another change: %v", none)
	}
	testStandby(b, second)
	b.refuse(fault.Conflict, func(tx *store.Tx) error {
		return tx.InsertTrustDecision(b.ctx, store.TrustDecision{ID: "d-3", ChangeID: "nothing", Kind: store.TrustPause})
	})
}

// testStandby keeps a standby, and makes a change of it once.
func testStandby(b *bench, ordinary store.TrustChange) {
	standby := ordinary
	standby.ID, standby.Standby, standby.Bridge, standby.Pace = "change-4", true, "", 0
	b.pass(time.Second)
	b.write(func(tx *store.Tx) error { return tx.InsertTrustChange(b.ctx, standby) })
	standby.BegunAt = b.clock()
	look := func(tx *store.Tx) (store.TrustChange, error) { return tx.TrustChange(b.ctx, standby.ID) }
	same(b, find(b, look), standby)
	b.pass(time.Second)
	b.write(func(tx *store.Tx) error { return tx.SetStandbyIssuing(b.ctx, standby.ID, "issuing-1") })
	standby.NewIssuing = "issuing-1"
	same(b, find(b, look), standby)
	standby.OldRoot, standby.OldIssuing, standby.Bridge = "root-2", "root-2", "root-2"
	standby.Carry, standby.Close, standby.Pace, standby.Reissue, standby.Reason, standby.BegunBy = true, false, time.Hour, `{"steps":["100%"]}`, "leaked", "operator/bob"
	b.pass(time.Second)
	over := func(tx *store.Tx) error { return tx.FailOver(b.ctx, standby) }
	b.write(over)
	standby.Standby, standby.BegunAt = false, b.clock()
	same(b, find(b, look), standby)
	b.refuse(fault.Conflict, over)
	b.refuse(fault.Conflict, func(tx *store.Tx) error { return tx.SetStandbyIssuing(b.ctx, standby.ID, "root-2") })
}

func testAgentAnchors(_ *testing.T, b *bench) {
	b.write(func(tx *store.Tx) error {
		return errors.Join(
			tx.InsertAgent(b.ctx, store.Agent{ID: "agent-1", State: fleet.AgentActive, EnrolledAt: start}),
			tx.InsertAgent(b.ctx, store.Agent{ID: "agent-2", State: fleet.AgentActive, EnrolledAt: start}),
			tx.InsertAgent(b.ctx, store.Agent{ID: "agent-3", State: fleet.AgentRetired, EnrolledAt: start}),
			tx.SetAgentAnchors(b.ctx, "agent-1", "ab12"))
	})
	same(b, find(b, func(tx *store.Tx) ([]store.AgentAnchors, error) { return tx.AgentAnchors(b.ctx) }),
		[]store.AgentAnchors{{AgentID: "agent-1", Digest: "ab12", At: b.clock()}, {AgentID: "agent-2"}})
	b.refuse(fault.NotFound, func(tx *store.Tx) error { return tx.SetAgentAnchors(b.ctx, "agent-9", "ab") })
}
