package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

func token(id string) store.Token {
	return store.Token{
		ID: id, SecretHash: [32]byte{1, 2}, Labels: map[string]string{"role": "db"}, Region: "eu", Zone: "z", State: fleet.TokenOpen,
		RejoinAgent: "agent-7", CreatedBy: "operator/ann", CreatedAt: start, ExpiresAt: start.Add(time.Hour),
	}
}

func testToken(_ *testing.T, b *bench) {
	b.write(func(tx *store.Tx) error {
		late := token("late")
		late.CreatedAt = start.Add(time.Second)
		return errors.Join(tx.InsertToken(b.ctx, token("used")), tx.InsertToken(b.ctx, token("revoked")), tx.InsertToken(b.ctx, late))
	})
	same(b, find(b, func(tx *store.Tx) (store.Token, error) { return tx.Token(b.ctx, "used") }), token("used"))
	use := func(id string) func(*store.Tx) error {
		return func(tx *store.Tx) error { return tx.UseToken(b.ctx, id, "agent-1", pki.SPKIHash{5}) }
	}
	revoke := func(id string) func(*store.Tx) error {
		return func(tx *store.Tx) error { return tx.RevokeToken(b.ctx, id) }
	}
	b.pass(time.Minute)
	b.write(use("used"))
	b.write(revoke("revoked"))
	b.refuse(fault.Conflict, use("used"))
	b.refuse(fault.Conflict, use("revoked"))
	b.refuse(fault.Conflict, revoke("used"))
	b.refuse(fault.Conflict, revoke("revoked"))
	b.pass(time.Hour)
	b.refuse(fault.Conflict, use("late")) // it has expired
	used := token("used")
	used.State, used.UsedAt, used.AgentID, used.SPKI = fleet.TokenUsed, start.Add(time.Minute), "agent-1", pki.SPKIHash{5}
	same(b, find(b, func(tx *store.Tx) (store.Token, error) { return tx.Token(b.ctx, "used") }), used)
	var ids []string
	for _, one := range find(b, func(tx *store.Tx) ([]store.Token, error) { return tx.Tokens(b.ctx) }) {
		ids = append(ids, one.ID)
	}
	same(b, ids, []string{"late", "revoked", "used"})
	absent(b, func(tx *store.Tx) (store.Token, error) { return tx.Token(b.ctx, "guessed") })
}

// testTokenRace: of many that use one token at once, one succeeds.
func testTokenRace(t *testing.T, b *bench) {
	b.write(func(tx *store.Tx) error { return tx.InsertToken(b.ctx, token("one")) })
	answers := make([]error, 50)
	var group sync.WaitGroup
	for i := range answers {
		group.Go(func() {
			answers[i] = b.Write(b.ctx, func(tx *store.Tx) error {
				if err := tx.InsertAgent(b.ctx, agent(fmt.Sprint("agent-", i))); err != nil {
					return err
				}
				return tx.UseToken(b.ctx, "one", fmt.Sprint("agent-", i), pki.SPKIHash{byte(i)})
			})
		})
	}
	group.Wait()
	used := find(b, func(tx *store.Tx) (store.Token, error) { return tx.Token(b.ctx, "one") })
	agents := find(b, func(tx *store.Tx) ([]store.Agent, error) { return tx.Agents(b.ctx) })
	if len(agents) != 1 || agents[0].ID != used.AgentID {
		t.Fatalf("%d agents enrolled; the token says %s", len(agents), used.AgentID)
	}
	for i, err := range answers {
		if winner := used.AgentID == fmt.Sprint("agent-", i); winner != (err == nil) {
			t.Errorf("agent %d: %v", i, err)
		}
	}
}

func testPlacement(_ *testing.T, b *bench) {
	b.withPlacements("a", "b")
	want := store.Placement{ID: "a", Intent: "orders-db", AgentID: "agent-1", Instance: "a", Target: "etcd", CreatedAt: start}
	placement := func() store.Placement {
		return find(b, func(tx *store.Tx) (store.Placement, error) { return tx.Placement(b.ctx, "a") })
	}
	same(b, placement(), want)
	report := []byte{0, 1, 2, 255}
	b.pass(time.Second)
	b.write(func(tx *store.Tx) error {
		return tx.SetPlacementReport(b.ctx, "a", store.Reported{
			Report: report, Generation: 3, Last: 4, NotAfter: start.Add(time.Hour),
			FailedAt: start.Add(2 * time.Microsecond), AsksSlot: 7, AskedAt: start.Add(3 * time.Microsecond),
		})
	})
	want.Report, want.ReportedAt, want.Generation, want.LastGeneration, want.NotAfter = report, b.clock(), 3, 4, start.Add(time.Hour)
	want.FailedAt, want.AsksSlot, want.AskedAt = start.Add(2*time.Microsecond), 7, start.Add(3*time.Microsecond)
	same(b, placement(), want)
	b.write(func(tx *store.Tx) error { // an agent restored from an old copy
		return tx.SetPlacementReport(b.ctx, "a", store.Reported{NotAfter: time.Unix(0, 0)})
	})
	b.write(func(tx *store.Tx) error {
		return errors.Join(tx.SetPlacementOrphan(b.ctx, "a", true), tx.SetPlacementTarget(b.ctx, "a", "web", "c1"))
	})
	got := placement()
	want.Report, want.Generation, want.NotAfter, want.Orphan, want.Target = nil, 0, time.Time{}, true, "web"
	want.Cluster, want.FailedAt, want.AsksSlot, want.AskedAt = "c1", time.Time{}, 0, time.Time{}
	want.ReportedAt = got.ReportedAt
	same(b, got, want)
	other := find(b, func(tx *store.Tx) (store.Placement, error) { return tx.Placement(b.ctx, "b") })
	for _, all := range []func(*store.Tx) ([]store.Placement, error){
		func(tx *store.Tx) ([]store.Placement, error) { return tx.Placements(b.ctx) },
		func(tx *store.Tx) ([]store.Placement, error) { return tx.AgentPlacements(b.ctx, "agent-1") },
		func(tx *store.Tx) ([]store.Placement, error) { return tx.IntentPlacements(b.ctx, "orders-db") },
		func(tx *store.Tx) ([]store.Placement, error) { return tx.PlacementsAfter(b.ctx, "", 2) },
		func(tx *store.Tx) ([]store.Placement, error) {
			return tx.PlacementsBeyond(b.ctx, fleet.PlacementKey{}, 2)
		},
		func(tx *store.Tx) ([]store.Placement, error) {
			return tx.IntentPlacementsBeyond(b.ctx, fleet.PlacementKey{Intent: "orders-db"}, 2)
		},
		func(tx *store.Tx) ([]store.Placement, error) {
			return tx.PlacementsOfActive(b.ctx, "agent-1", "agent-2")
		},
	} {
		same(b, find(b, all), []store.Placement{want, other})
	}
	for _, rest := range []func(*store.Tx) ([]store.Placement, error){
		func(tx *store.Tx) ([]store.Placement, error) { return tx.PlacementsAfter(b.ctx, "a", 2) },
		func(tx *store.Tx) ([]store.Placement, error) {
			return tx.PlacementsBeyond(b.ctx, fleet.PlacementKey{Intent: fleet.Name(want.Intent), Agent: want.AgentID, Instance: fleet.Name(want.Instance)}, 2)
		},
		func(tx *store.Tx) ([]store.Placement, error) {
			return tx.IntentPlacementsBeyond(b.ctx, fleet.PlacementKey{Intent: fleet.Name(want.Intent), Agent: want.AgentID, Instance: fleet.Name(want.Instance)}, 2)
		},
	} {
		same(b, find(b, rest), []store.Placement{other})
	}
	same(b, len(find(b, func(tx *store.Tx) ([]store.Placement, error) {
		return tx.IntentPlacementsBeyond(b.ctx, fleet.PlacementKey{Intent: "orders"}, 2)
	})), 0)
	b.refuse(fault.Conflict, func(tx *store.Tx) error { // one place, one placement
		return tx.InsertPlacement(b.ctx, store.Placement{ID: "c", Intent: "orders-db", AgentID: "agent-1", Instance: "a"})
	})
	b.refuse(fault.NotFound, func(tx *store.Tx) error { return tx.SetPlacementOrphan(b.ctx, "c", true) })
	b.write(func(tx *store.Tx) error {
		return tx.SetAgentState(b.ctx, "agent-1", fleet.AgentActive, fleet.AgentRetired)
	})
	same(b, len(find(b, func(tx *store.Tx) ([]store.Placement, error) {
		return tx.PlacementsOfActive(b.ctx, "agent-1", "agent-2")
	})), 0)
}

// testRotation: demands for a new generation add up; an open one is not
// weakened by a later one, a met one is forgotten.
func testRotation(t *testing.T, b *bench) {
	b.withPlacements("a")
	in := func(generation uint64) {
		b.write(func(tx *store.Tx) error {
			return tx.SetPlacementReport(b.ctx, "a", store.Reported{Generation: generation, Last: generation, NotAfter: start})
		})
	}
	demand := func(through uint64, newKey bool) {
		b.write(func(tx *store.Tx) error { return tx.SetPlacementRotation(b.ctx, "a", through, newKey, time.Time{}) })
	}
	expect := func(step string, through uint64, newKey bool, attempt uint64) {
		t.Helper()
		p := find(b, func(tx *store.Tx) (store.Placement, error) { return tx.Placement(b.ctx, "a") })
		if p.RenewThrough != through || p.NewKey != newKey || p.Attempt != attempt {
			t.Errorf("%s: through %d, new key %v, attempt %d; want %d, %v, %d",
				step, p.RenewThrough, p.NewKey, p.Attempt, through, newKey, attempt)
		}
	}
	in(3)
	demand(3, true)
	expect("first demand", 3, true, 1)
	demand(3, false)
	expect("the same while it is open", 3, true, 2)
	in(4)
	demand(4, false)
	expect("after it was met", 4, false, 3)
	demand(2, true)
	expect("a lower one", 4, true, 4)
	b.write(func(tx *store.Tx) error { return tx.ResumePlacement(b.ctx, "a") })
	expect("resumed", 4, true, 5)
	resumed := find(b, func(tx *store.Tx) (store.Placement, error) { return tx.Placement(b.ctx, "a") }).ResumedAt
	if resumed.IsZero() || resumed.Before(start) {
		t.Errorf("resumed at %v", resumed)
	}
}
