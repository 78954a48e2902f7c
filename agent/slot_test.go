package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
)

func slot(id string, revision uint64) func(*api.DesiredPlacement) {
	return func(d *api.DesiredPlacement) {
		d.Slot = &api.Slot{Id: id, Revision: revision, StartWithin: durationpb.New(30 * time.Second)}
	}
}

// grant gives what the newest report asks for.
func (l *lab) grant(id string) {
	for _, r := range l.executor.Reports() {
		if r.GetPlacementId() == id && r.GetAsksSlot() > 0 {
			l.want(id, slot(fmt.Sprintf("s%d", r.GetAsksSlot()), r.GetAsksSlot()))
		}
	}
}

// asking waits until a member asks for a slot, and returns for which revision.
func (l *lab) asking(id string) uint64 {
	l.t.Helper()
	return l.until(id, "asking for a slot", func(r *api.PlacementReport) bool { return r.GetAsksSlot() > 0 }).GetAsksSlot()
}

func TestMemberWaitsForItsSlot(t *testing.T) {
	l := newLab(t)
	s := l.serve("p1", false)
	l.want("p1", s.proven, reloading, asMember)
	var held []string // slots reported at each point
	l.crash = func(point string) {
		for _, r := range l.executor.Reports() {
			held = append(held, point+"="+r.GetSlotId())
		}
	}
	stop := l.run()
	l.steady("p1", 1)
	l.want("p1", renewThrough(1))
	revision := l.asking("p1")
	if r := l.until("p1", "waiting", func(r *api.PlacementReport) bool { return r.GetAsksSlot() > 0 }); r.GetGeneration() != 1 || !strings.Contains(r.GetReason(), "slot") || r.GetSlotId() != "" {
		t.Errorf("report: %v", r)
	}
	l.want("p1", slot("other", revision+1))
	l.want("p1", func(d *api.DesiredPlacement) { d.Slot = nil })
	if again := l.asking("p1"); again != revision {
		t.Errorf("asks for %d, not %d", again, revision)
	}
	l.want("p1", slot("s1", revision))
	l.steady("p1", 2)
	l.until("p1", "without a slot", func(r *api.PlacementReport) bool { return r.GetSlotId() == "" })
	stop()
	// From before the switch until it was let go, each report had it.
	text := strings.Join(held, " ")
	for _, point := range []string{"activate: noted", "activate: switched", "activate: loaded", "prove: shown", "prove: recorded"} {
		if !strings.Contains(text, point+"=s1") {
			t.Errorf("at %q no report has the slot: %s", point, text)
		}
	}
	if strings.Contains(text, "=other") {
		t.Error("a slot of another revision was begun")
	}
}

// A slot that was not begun in time is not begun.
func TestLapsedSlot(t *testing.T) {
	l := newLab(t)
	l.want("p1", asMember)
	l.run()
	l.steady("p1", 1)
	l.want("p1", renewThrough(1))
	revision := l.asking("p1")
	l.want("p1", slot("s1", revision), func(d *api.DesiredPlacement) { d.Slot.StartWithin = durationpb.New(time.Nanosecond) })
	l.until("p1", "told that it lapsed", func(r *api.PlacementReport) bool { return strings.Contains(r.GetReason(), "not begun in time") })
	if r := l.recorded("p1"); r.Slot != nil || r.Standing().Generation != 1 {
		t.Errorf("record: %+v", r.Record)
	}
	l.want("p1", slot("s2", revision))
	l.steady("p1", 2)
}

// What a report does not have as begun, made after a desire without the slot was
// taken, is never begun: the control plane gives it to another member then.
func TestSlotTakenBack(t *testing.T) {
	l := newLab(t)
	l.want("p1", asMember)
	var reports []*api.PlacementReport // right after the slot was taken back
	l.crash = func(point string) {
		if point == "activate: to begin a slot" && reports == nil {
			l.want("p1", func(d *api.DesiredPlacement) { d.Slot = nil })
			reports = l.executor.Reports()
		}
	}
	stop := l.run()
	l.steady("p1", 1)
	l.want("p1", renewThrough(1))
	revision := l.asking("p1")
	next := l.executor.next()
	l.want("p1", slot("s1", revision))
	<-next
	asked := l.asking("p1")
	stop()
	if len(reports) != 1 || reports[0].GetSlotId() != "" {
		t.Fatalf("reports: %v", reports)
	}
	if r := l.recorded("p1"); r.Slot != nil || r.Loaded != 1 || asked != revision {
		t.Errorf("begun after it was taken back: %+v, asks for %d", r.Record, asked)
	}
}

// Files that move to another directory are a switch like any other: the
// processes of a cluster run with the old ones, and must not all be told at once.
func TestMemberMovesWithLeave(t *testing.T) {
	for _, level := range []api.Level{api.Level_LEVEL_DELIVERED, api.Level_LEVEL_LOADED} {
		l := newLab(t)
		l.want("p1", asMember, reloading, func(d *api.DesiredPlacement) { d.Proof.Level = level })
		l.run()
		l.steady("p1", 1)
		check(t, os.RemoveAll(filepath.Join(l.dir, "reloaded")))
		l.want("p1", func(d *api.DesiredPlacement) { d.Files.Directory = l.path("elsewhere") })
		revision := l.asking("p1")
		if _, err := os.Lstat(filepath.Join(l.path("elsewhere"), "current")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: switched without leave: %v", level, err)
		}
		if _, err := os.Stat(filepath.Join(l.dir, "reloaded")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: reloaded without leave: %v", level, err)
		}
		l.want("p1", slot("s1", revision))
		l.until("p1", "steady where it moved", func(r *api.PlacementReport) bool {
			return r.GetState() == api.State_STATE_STEADY && r.GetRevision() == revision && r.GetSlotId() == ""
		})
		if _, err := os.Stat(filepath.Join(l.dir, "reloaded")); err != nil {
			t.Errorf("%s: never told that its files moved: %v", level, err)
		}
	}
}

// A member whose record can't be read says nothing of what stands, nor that a
// slot is over; with the record set aside, it asks for leave as one that stood.
func TestMemberWithoutItsRecord(t *testing.T) {
	l := newLab(t)
	l.want("p1", asMember, reloading)
	l.advanceAll()
	l.want("p1", renewThrough(1))
	l.advanceAll()
	l.grant("p1")
	l.crash = func(point string) {
		if point == "activate: noted" {
			panic(labCrash(point))
		}
	}
	if l.advanceAll() == "" {
		t.Fatal("was not killed")
	}
	l.crash = nil
	at := filepath.Join(l.dir, "state", placementsDir, "p1", recordFile)
	check(t, os.Rename(at, at+".away"))
	check(t, os.Mkdir(at, 0o700)) // reading it is an error
	l.advanceAll()
	if r := l.executor.Reports()[0]; r.GetState() != api.State_STATE_FAILED || r.GetRevision() != 0 || r.GetSlotId() != "" || r.GetAsksSlot() != 0 {
		t.Errorf("report: %v", r)
	}
	check(t, os.Remove(at))
	check(t, os.WriteFile(at, []byte("{"), 0o600))
	l.want("p1", func(d *api.DesiredPlacement) { d.Slot, d.WindowGeneration = nil, 2 })
	for range 2 { // also by the next agent
		l.advanceAll()
		r := l.executor.Reports()[0]
		if r.GetRevision() != 0 || r.GetAsksSlot() == 0 {
			t.Errorf("switched without leave: %v", r)
		}
	}
	l.grant("p1")
	l.advanceAll()
	if r := l.executor.Reports()[0]; r.GetRevision() == 0 || r.GetState() != api.State_STATE_STEADY || r.GetSlotId() != "" {
		t.Errorf("report: %v", r)
	}
}

// An orphan that was killed half switched can't be brought back: nothing is
// known any more of how. Its slot is kept, and an operator is called.
func TestOrphanThatKeepsItsSlot(t *testing.T) {
	for _, hold := range []string{"", "frozen"} {
		l := newLab(t)
		l.want("p1", asMember, reloading)
		l.advanceAll()
		l.want("p1", renewThrough(1))
		l.advanceAll()
		l.grant("p1")
		l.crash = func(point string) {
			if point == "activate: switched" {
				panic(labCrash(point))
			}
		}
		if l.advanceAll() == "" {
			t.Fatal("was not killed")
		}
		l.crash = nil
		l.mu.Lock()
		l.desired = &api.DesiredState{Epoch: 1, Seq: l.desired.Seq + 1, Placements: []*api.DesiredPlacement{{PlacementId: "p1", Orphan: hold == "", Hold: hold}}}
		l.mu.Unlock()
		l.advanceAll()
		r := l.executor.Reports()[0]
		if r.GetSlotId() != "s2" || r.GetState() != api.State_STATE_FAILED || !strings.Contains(r.GetReason(), "slot s2 is kept") || !strings.Contains(r.GetReason(), "rotunda slots release") {
			t.Errorf("report: %v", r)
		}
	}
}

// What was granted before a restart is not begun from the disk: it may be
// another's by now.
func TestSlotsAreNotCarriedOver(t *testing.T) {
	state := &api.DesiredState{Placements: []*api.DesiredPlacement{{PlacementId: "p1", Slot: &api.Slot{Id: "s1"}}}}
	if carried := withoutSlots(state); carried.Placements[0].Slot != nil || state.Placements[0].Slot == nil {
		t.Errorf("carries %v, changes %v", carried, state)
	}
}

// A first report after a kill in the middle has the slot, also where nothing
// more than that can be said.
func TestBegunSlotOutlivesTheAgent(t *testing.T) {
	l := newLab(t)
	s := l.serve("p1", false)
	l.want("p1", s.proven, reloading, asMember)
	l.advanceAll()
	l.want("p1", renewThrough(1))
	l.advanceAll()
	l.grant("p1")
	l.crash = func(point string) {
		if point == "activate: noted" {
			panic(labCrash(point))
		}
	}
	if l.advanceAll() == "" {
		t.Fatal("was not killed")
	}
	l.want("p1", func(d *api.DesiredPlacement) { d.Slot = nil })
	check(t, os.Rename(l.path("p1"), l.path("p1")+".away"))
	check(t, os.WriteFile(l.path("p1"), nil, 0o600)) // trouble on the host
	l.crash = nil
	l.advanceAll()
	if r := l.executor.Reports()[0]; r.GetSlotId() != "s2" || r.GetState() != api.State_STATE_FAILED {
		t.Errorf("report: %v", r)
	}
	check(t, os.Remove(l.path("p1")))
	check(t, os.Rename(l.path("p1")+".away", l.path("p1")))
	l.advanceAll()
	if r := l.executor.Reports()[0]; r.GetSlotId() != "" || r.GetGeneration() != 2 {
		t.Errorf("report: %v", r)
	}
}
