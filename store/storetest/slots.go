package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// slots makes and moves slots in a bench.
type slots struct{ *bench }

func (b slots) slot(id, placement, target string) store.Slot {
	return store.Slot{
		ID: id, Cluster: "c1", AgentID: "agent-1", Target: target, PlacementID: placement, Revision: 9,
		StartBy: b.clock().Add(10 * time.Second),
	}
}

func (b slots) grant(s store.Slot, most int) func(*store.Tx) error {
	return func(tx *store.Tx) error { return tx.GrantSlot(b.ctx, s, most) }
}

func (b slots) move(verb func(*store.Tx, string) error, id string) func(*store.Tx) error {
	return func(tx *store.Tx) error { return verb(tx, id) }
}

func (b slots) begin(tx *store.Tx, id string) error    { return tx.BeginSlot(b.ctx, id) }
func (b slots) end(tx *store.Tx, id string) error      { return tx.EndSlot(b.ctx, id, "agent-1") }
func (b slots) withdraw(tx *store.Tx, id string) error { return tx.WithdrawSlot(b.ctx, id) }
func (b slots) lapse(tx *store.Tx, id string) error    { return tx.LapseSlot(b.ctx, id) }

func (b slots) held(cluster string) (ids []string) {
	b.t.Helper()
	for _, one := range find(b.bench, func(tx *store.Tx) ([]store.Slot, error) { return tx.HeldSlots(b.ctx, cluster) }) {
		ids = append(ids, one.ID)
	}
	return ids
}

// testSlot: never more than so many members of a cluster hold one, nothing but
// an end frees what was begun, and what has ended can't begin.
func testSlot(_ *testing.T, bench *bench) {
	b := slots{bench}
	b.withPlacements("a", "b", "c")
	b.refuse(fault.Conflict, b.grant(b.slot("s0", "a", "a"), 0))
	b.write(b.grant(b.slot("s1", "a", "a"), 1))
	b.refuse(fault.Conflict, b.grant(b.slot("s2", "b", "b"), 1))
	b.refuse(fault.Conflict, b.grant(b.slot("s2", "a", "a"), 2)) // the placement has one
	b.write(b.grant(b.slot("s2", "b", "a"), 1))                  // another placement of the same target
	b.refuse(fault.Conflict, b.grant(b.slot("s3", "c", "c"), 1)) // both are one member, and away
	b.write(b.grant(b.slot("s3", "c", "c"), 2))
	b.write(func(tx *store.Tx) error { return tx.SetSlotRevision(b.ctx, "s1", 10) })
	b.write(b.move(b.begin, "s1"))
	b.refuse(fault.Conflict, b.move(b.begin, "s1"))
	b.refuse(fault.Conflict, func(tx *store.Tx) error { return tx.SetSlotRevision(b.ctx, "s1", 11) })
	b.refuse(fault.Conflict, b.move(b.withdraw, "s1"))
	b.refuse(fault.Conflict, b.move(b.lapse, "s1"))
	same(bench, b.held("c1"), []string{"s1", "s2", "s3"})
	b.write(b.move(b.end, "s1"))
	b.refuse(fault.Conflict, b.move(b.end, "s1"))
	b.refuse(fault.Conflict, b.move(b.begin, "s1"))
	same(bench, b.held("c1"), []string{"s2", "s3"})
	want := b.slot("s3", "c", "c")
	want.State, want.GrantedAt = store.SlotGranted, find(bench, func(tx *store.Tx) (store.Slot, error) { return tx.Slot(b.ctx, "s3") }).GrantedAt
	same(bench, find(bench, func(tx *store.Tx) (store.Slot, error) { return tx.PlacementSlot(b.ctx, "c") }), want)
	absent(bench, func(tx *store.Tx) (store.Slot, error) { return tx.PlacementSlot(b.ctx, "a") })
	same(bench, find(bench, func(tx *store.Tx) (store.Slot, error) { return tx.Slot(b.ctx, "s1") }).Revision, 10)
	absent(bench, func(tx *store.Tx) (store.Slot, error) { return tx.Slot(b.ctx, "s9") })
	agents := find(bench, func(tx *store.Tx) ([]store.Slot, error) { return tx.AgentSlots(b.ctx, "agent-1") })
	if len(agents) != 2 || agents[1].ID != "s3" {
		b.t.Errorf("slots of the agent: %+v", agents)
	}
}

// testSlotLapse: time frees nothing; a slot is withdrawn, and free only when it
// lapsed. One that began all the same is begun.
func testSlotLapse(_ *testing.T, bench *bench) {
	b := slots{bench}
	b.withPlacements("a", "b")
	overdue := func() (ids []string) {
		for _, one := range find(bench, func(tx *store.Tx) ([]store.Slot, error) { return tx.OverdueSlots(b.ctx, b.clock()) }) {
			ids = append(ids, one.ID)
		}
		return ids
	}
	b.write(b.grant(b.slot("s1", "a", "a"), 1))
	same(bench, overdue(), nil)
	b.pass(time.Hour)
	same(bench, overdue(), []string{"s1"})
	b.refuse(fault.Conflict, b.grant(b.slot("s2", "b", "b"), 1))
	b.refuse(fault.Conflict, b.move(b.lapse, "s1"))
	b.write(b.move(b.withdraw, "s1"))
	b.refuse(fault.Conflict, b.move(b.withdraw, "s1"))
	same(bench, overdue(), nil)
	b.refuse(fault.Conflict, b.grant(b.slot("s2", "b", "b"), 1))
	b.write(b.move(b.lapse, "s1"))
	same(bench, b.held("c1"), nil)
	b.write(b.grant(b.slot("s2", "b", "b"), 1))
	b.write(b.move(b.begin, "s1")) // late, and a fact
	same(bench, b.held("c1"), []string{"s1", "s2"})
	b.write(func(tx *store.Tx) error { return errors.Join(b.end(tx, "s1"), b.end(tx, "s2")) })
	all := find(bench, func(tx *store.Tx) ([]store.Slot, error) { return tx.Slots(b.ctx, "", true, 10) })
	if len(all) != 2 || all[0].ID != "s2" || all[0].EndedBy != "agent-1" || all[1].WithdrawnAt.IsZero() {
		b.t.Errorf("ended slots %+v", all)
	}
}

// testSlotMoves: a target that moves to another cluster while it is away is
// away there too.
func testSlotMoves(_ *testing.T, bench *bench) {
	b := slots{bench}
	b.withPlacements("a", "b")
	b.write(b.grant(b.slot("s1", "a", "a"), 1))
	b.write(func(tx *store.Tx) error { return tx.SetPlacementTarget(b.ctx, "a", "a", "c2") })
	same(bench, b.held("c1"), []string{"s1"})
	same(bench, b.held("c2"), []string{"s1"})
	other := b.slot("s2", "b", "b")
	other.Cluster = "c2"
	b.refuse(fault.Conflict, b.grant(other, 1))
}

// testClusters: members and asks of a cluster are found by its name, orphans
// never.
func testClusters(_ *testing.T, b *bench) {
	b.withPlacements("a", "b", "c", "d")
	ids := func() (ids []string) {
		for _, one := range find(b, func(tx *store.Tx) ([]store.Placement, error) { return tx.ClusterPlacements(b.ctx, "c1") }) {
			ids = append(ids, one.ID)
		}
		return ids
	}
	asking := func() []string {
		return find(b, func(tx *store.Tx) ([]string, error) { return tx.AskingClusters(b.ctx) })
	}
	same(b, ids(), nil)
	same(b, asking(), nil)
	same(b, find(b, func(tx *store.Tx) (bool, error) { return tx.UnplacedTargets(b.ctx) }), false)
	b.write(func(tx *store.Tx) error {
		for _, id := range []string{"c", "a", "b"} {
			if err := tx.SetPlacementTarget(b.ctx, id, "redis", "c1"); err != nil {
				return err
			}
			if err := tx.SetPlacementReport(b.ctx, id, store.Reported{AsksSlot: 1, AskedAt: start}); err != nil {
				return err
			}
		}
		return errors.Join(tx.SetPlacementOrphan(b.ctx, "b", true),
			tx.SetPlacementReport(b.ctx, "d", store.Reported{AsksSlot: 1, AskedAt: start}))
	})
	same(b, ids(), []string{"a", "c"})
	same(b, asking(), []string{"c1"})
	same(b, find(b, func(tx *store.Tx) ([]store.Target, error) { return tx.ClusterMembers(b.ctx, "c1") }),
		[]store.Target{{AgentID: "agent-1", Name: "redis", Cluster: "c1"}}) // of two placements
	b.pass(time.Minute)
	b.write(func(tx *store.Tx) error { return tx.SetPlacementAsked(b.ctx, "a") })
	same(b, find(b, func(tx *store.Tx) (store.Placement, error) { return tx.Placement(b.ctx, "a") }).AskedAt, b.clock())
}

// testFailed: a failure counts that stands, and came after the last resume, by
// the server's clock.
func testFailed(t *testing.T, b *bench) {
	b.withPlacements("a", "b", "c")
	fail := func(id string, at time.Time) {
		b.write(func(tx *store.Tx) error { return tx.SetPlacementReport(b.ctx, id, store.Reported{FailedAt: at}) })
	}
	expect := func(step, want string) {
		t.Helper()
		var first store.Placement
		err := b.DB.Read(b.ctx, func(tx *store.Tx) (err error) {
			first, err = tx.FailedPlacement(b.ctx, "orders-db")
			return err
		})
		if missing := fault.CodeOf(err) == fault.NotFound; err != nil && !missing || missing != (want == "") || first.ID != want {
			t.Errorf("%s: %q, want %q (%v)", step, first.ID, want, err)
		}
	}
	expect("at first", "")
	fail("b", start.Add(time.Second))
	fail("a", start.Add(2*time.Second))
	fail("c", start.Add(3*time.Second))
	expect("three failed", "b")
	b.pass(time.Minute)
	b.write(func(tx *store.Tx) error { return tx.ResumePlacement(b.ctx, "b") })
	expect("one resumed", "a")
	fail("b", start.Add(2*time.Minute))
	fail("a", time.Time{})
	expect("failed again, and one healed", "c")
	b.write(func(tx *store.Tx) error { return tx.SetPlacementOrphan(b.ctx, "c", true) })
	expect("an orphan", "b")
}

// testPacedRotation: a rotation that is to begin later does not put off one
// that was to begin earlier; one that came about is forgotten.
func testPacedRotation(t *testing.T, b *bench) {
	b.withPlacements("a")
	in := func(generation uint64) {
		b.write(func(tx *store.Tx) error {
			return tx.SetPlacementReport(b.ctx, "a", store.Reported{Generation: generation, Last: generation})
		})
	}
	demand := func(through uint64, from time.Time) {
		b.write(func(tx *store.Tx) error { return tx.SetPlacementRotation(b.ctx, "a", through, false, from) })
	}
	expect := func(step string, from time.Time, open bool) {
		t.Helper()
		p := find(b, func(tx *store.Tx) (store.Placement, error) { return tx.Placement(b.ctx, "a") })
		if !p.RenewFrom.Equal(from) || p.RotationOpen() != open {
			t.Errorf("%s: from %s, open %v; want %s, %v", step, p.RenewFrom, p.RotationOpen(), from, open)
		}
	}
	early, late := start.Add(time.Minute), start.Add(time.Hour)
	in(1)
	expect("none", time.Time{}, false)
	demand(1, late)
	expect("first", late, true)
	demand(1, early)
	expect("an earlier one", early, true)
	demand(1, late)
	expect("a later one", early, true)
	demand(1, time.Time{})
	expect("at once", time.Time{}, true)
	demand(1, late)
	expect("a later one after that", time.Time{}, true)
	in(2)
	expect("met", time.Time{}, false)
	demand(2, late)
	expect("a new one", late, true)
}
