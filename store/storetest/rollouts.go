package storetest

import (
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

func rollout(id, name string) store.Rollout {
	return store.Rollout{
		ID: id, Name: name, Selection: []byte(`{"all":true}`), Spec: []byte(`{}`), Waves: []byte(`[]`), Well: 2,
		Undoes: "r0", Reason: "drill", BegunBy: "operator/ann",
	}
}

// testRollout: goals stay as they were said, what can happen once is dated once,
// and of open rollouts one has a name.
func testRollout(_ *testing.T, b *bench) {
	b.withPlacements("p1", "p2")
	parts := []store.RolloutPart{{PlacementID: "p2", Through: 7}, {PlacementID: "p1", Wave: 1, Through: 3}}
	begin := func(r store.Rollout, parts []store.RolloutPart) func(*store.Tx) error {
		return func(tx *store.Tx) error { return tx.InsertRollout(b.ctx, r, parts) }
	}
	b.write(begin(rollout("r1", "orders-db"), parts))
	b.refuse(fault.Conflict, begin(rollout("r2", "orders-db"), nil))
	b.refuse(fault.Conflict, begin(rollout("r2", "other"), append(parts, parts[0])))
	want := rollout("r1", "orders-db")
	want.BegunAt = find(b, func(tx *store.Tx) (store.Rollout, error) { return tx.Rollout(b.ctx, "r1") }).BegunAt
	same(b, find(b, func(tx *store.Tx) ([]store.Rollout, error) { return tx.OpenRollouts(b.ctx) }), []store.Rollout{want})
	absent(b, func(tx *store.Tx) (store.Rollout, error) { return tx.Rollout(b.ctx, "r2") })

	ask := func(tx *store.Tx) error { return tx.AskRolloutPart(b.ctx, "r1", "p2") }
	settle := func(tx *store.Tx) error { return tx.SettleRolloutPart(b.ctx, "r1", "p2") }
	b.pass(time.Minute)
	b.write(ask)
	parts[0].AskedAt = b.clock()
	b.pass(time.Minute)
	b.write(settle)
	parts[0].SettledAt = b.clock()
	b.refuse(fault.Conflict, ask)
	b.refuse(fault.Conflict, settle)
	b.refuse(fault.Conflict, func(tx *store.Tx) error { return tx.AskRolloutPart(b.ctx, "r1", "nobody") })
	same(b, find(b, func(tx *store.Tx) ([]store.RolloutPart, error) { return tx.RolloutParts(b.ctx, "r1") }), parts)

	b.write(func(tx *store.Tx) error { return tx.EndRollout(b.ctx, "r1") })
	want.EndedAt = find(b, func(tx *store.Tx) (store.Rollout, error) { return tx.Rollout(b.ctx, "r1") }).EndedAt
	b.refuse(fault.Conflict, func(tx *store.Tx) error { return tx.EndRollout(b.ctx, "r1") })
	b.pass(time.Minute)
	b.write(begin(rollout("r2", "orders-db"), nil))
	all := find(b, func(tx *store.Tx) ([]store.Rollout, error) { return tx.Rollouts(b.ctx, 10) })
	if len(all) != 2 || all[0].ID != "r2" || want.EndedAt.IsZero() {
		b.t.Fatalf("rollouts: %+v", all)
	}
	same(b, all[1], want)
	if newest := find(b, func(tx *store.Tx) ([]store.Rollout, error) { return tx.Rollouts(b.ctx, 1) }); len(newest) != 1 {
		b.t.Errorf("%d rollouts, want 1", len(newest))
	}
}

// testRolloutDecision: decisions are kept all, of answers the newest.
func testRolloutDecision(_ *testing.T, b *bench) {
	b.write(func(tx *store.Tx) error { return tx.InsertRollout(b.ctx, rollout("r1", "orders-db"), nil) })
	var decided []store.RolloutDecision
	for _, act := range []string{"pause", "resume", "pause", "abort"} {
		b.pass(time.Second)
		d := store.RolloutDecision{Act: act, Reason: "because", By: "operator/ann", At: b.clock()}
		b.write(func(tx *store.Tx) error { return tx.InsertRolloutDecision(b.ctx, "r1", d) })
		decided = append(decided, d)
	}
	same(b, find(b, func(tx *store.Tx) ([]store.RolloutDecision, error) { return tx.RolloutDecisions(b.ctx, "r1") }), decided)
	var answers []store.RolloutAnswer
	for i, passed := range []bool{false, true, false} {
		b.pass(time.Second)
		a := store.RolloutAnswer{Wave: i / 2, Gate: "errors", Passed: passed, Words: "3%", By: "server", At: b.clock()}
		b.write(func(tx *store.Tx) error { return tx.PutRolloutAnswer(b.ctx, "r1", a) })
		answers = append(answers, a)
	}
	same(b, find(b, func(tx *store.Tx) ([]store.RolloutAnswer, error) { return tx.RolloutAnswers(b.ctx, "r1") }), answers[1:])
	b.refuse(fault.Conflict, func(tx *store.Tx) error {
		return tx.InsertRolloutDecision(b.ctx, "nothing", store.RolloutDecision{Act: "pause"})
	})
}

// testRolloutTurn: a plan is good until something else is decided.
func testRolloutTurn(_ *testing.T, b *bench) {
	turn := func() uint64 { return find(b, func(tx *store.Tx) (uint64, error) { return tx.RolloutTurn(b.ctx) }) }
	take := func(n uint64) func(*store.Tx) error {
		return func(tx *store.Tx) error { return tx.TakeRolloutTurn(b.ctx, n) }
	}
	planned := turn()
	b.write(take(planned))
	b.refuse(fault.Conflict, take(planned))
	planned = turn()
	b.write(func(tx *store.Tx) error { return tx.RaiseRolloutTurn(b.ctx) })
	b.refuse(fault.Conflict, take(planned))
	b.write(take(turn()))
}
