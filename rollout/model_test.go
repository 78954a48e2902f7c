package rollout

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/schedule"
)

var noon = time.Date(2030, 1, 2, 14, 2, 0, 0, time.UTC)

// someFacts is facts about two rollouts over some placements, as they may come
// about, and in any order.
func someFacts(t *rapid.T) []Fact {
	moment := rapid.Custom(func(t *rapid.T) time.Time {
		return noon.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "at")) * 30 * time.Second)
	})
	places := rapid.IntRange(1, 8).Draw(t, "places")
	placement := rapid.Custom(func(t *rapid.T) uuid.UUID { return id(fmt.Sprint(rapid.IntRange(0, places-1).Draw(t, "of"))) })
	run := rapid.Custom(func(t *rapid.T) uuid.UUID { return id(rapid.SampledFrom([]string{"one", "two"}).Draw(t, "run")) })
	var facts []Fact
	for i, name := range []string{"one", "two"} {
		spec := Spec{
			Name: name, Steps: []Step{{Count: 1}, {Percent: 50}, {Percent: 100}}, PerMinute: 1 + 3*i, AtOnce: i,
			Soak:  fleet.Duration(i) * fleet.Duration(time.Minute),
			Gates: Gates{Failures: 40 * i, Health: i == 0, Adoption: i == 1, Outside: []Gate{{Name: "g"}}},
		}
		if i == 0 {
			spec.Windows, spec.Notice, spec.Gates.Told = []fleet.Name{"w"}, fleet.Duration(3*time.Minute), true
		}
		var all []Seat
		for p := range places {
			all = append(all, Seat{ID: id(fmt.Sprint(p)), Through: 1})
		}
		waves, parts, err := Plan(spec, all)
		if err != nil {
			t.Fatal(err)
		}
		facts = append(facts, Begun{id(name), spec, waves, parts, noon.Add(time.Duration(i) * time.Second), places})
	}
	fact := rapid.Custom(func(t *rapid.T) Fact {
		at := moment.Draw(t, "at")
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			return Decided{run.Draw(t, "run"), rapid.SampledFrom([]Act{Pause, Resume, Resume, Abort}).Draw(t, "act"), at, "ann", ""}
		case 1, 2:
			return Asked{run.Draw(t, "run"), placement.Draw(t, "p"), at}
		case 3:
			return Settled{run.Draw(t, "run"), placement.Draw(t, "p"), at}
		case 4:
			return GateAnswered{run.Draw(t, "run"), rapid.IntRange(0, 2).Draw(t, "wave"), "g", rapid.Bool().Draw(t, "passed"), "no", at}
		case 7:
			return Told{run.Draw(t, "run"), rapid.SampledFrom([]Event{Announced, HeldUp, GoesOn}).Draw(t, "event"), rapid.SampledFrom([]fleet.Name{"s", "t"}).Draw(t, "service"), at,
				rapid.SampledFrom([]time.Time{{}, at.Add(time.Minute), at.Add(2 * time.Minute)}).Draw(t, "reached")}
		case 5:
			return Held{rapid.SampledFrom([]string{"c1", "c2"}).Draw(t, "c"), "trust change b", at, rapid.Bool().Draw(t, "over")}
		case 6:
			return Declared{"w", rapid.Uint64Range(1, 5).Draw(t, "revision"), &fleet.Window{From: "12:00", To: "14:10", Timezone: "UTC", Freeze: at.Minute()%2 == 0}}
		}
		return Seen{
			Placement: placement.Draw(t, "p"), At: at, Intent: rapid.SampledFrom([]string{"i", "j"}).Draw(t, "i"),
			Cluster: rapid.SampledFrom([]string{"", "c1", "c2"}).Draw(t, "c"), Member: at2(rapid.IntRange(0, 2).Draw(t, "m")),
			Generation: rapid.Uint64Range(1, 3).Draw(t, "g"), Level: fleet.Proven, Steady: rapid.Bool().Draw(t, "steady"),
			Failed: rapid.IntRange(0, 5).Draw(t, "failed") == 0, Well: rapid.IntRange(0, 5).Draw(t, "well") > 0,
			Adopted: rapid.IntRange(0, 5).Draw(t, "adopted") > 0, Gone: rapid.IntRange(0, 9).Draw(t, "gone") == 0,
		}
	})
	facts = append(facts, rapid.SliceOfN(fact, 0, 60).Draw(t, "facts")...)
	// A window's revision says one thing only.
	revisions := map[uint64]Fact{}
	for i, f := range facts {
		if d, ok := f.(Declared); ok {
			if known, ok := revisions[d.Revision]; ok {
				facts[i] = known
			}
			revisions[d.Revision] = facts[i]
		}
	}
	return facts
}

func at2(n int) schedule.Member { return schedule.Member{Agent: fmt.Sprint(n), Target: "redis"} }

// answers is all that can be asked of a model.
func allAnswers(m *Model, now time.Time) []any {
	actions, reasons := m.Next(now)
	all := []any{actions, reasons}
	for _, name := range []string{"one", "two"} {
		status, _ := m.Status(id(name), now)
		all = append(all, status, m.Estimate(id(name), now))
	}
	return all
}

// Folded step by step, in whatever order and however often, the model says what
// one that is built from all facts says; and what it says is in order.
func TestFolded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		facts := someFacts(t)
		scratch := NewModel()
		for _, fact := range facts {
			scratch.Observe(fact)
		}
		mixed := append(slices.Clone(facts), facts...)
		shuffle := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		shuffle.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		folded := NewModel()
		for i, fact := range mixed {
			folded.Observe(fact)
			if i%7 == 0 {
				folded.Next(noon.Add(time.Duration(i) * time.Minute)) // a question changes nothing
			}
		}
		now := noon.Add(time.Duration(rapid.IntRange(0, 30).Draw(t, "now")) * time.Minute)
		got, want := allAnswers(folded, now), allAnswers(scratch, now)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("folded:\n%+v\nfrom scratch:\n%+v", got, want)
		}
		sound(t, scratch, now)
	})
}

// sound: whoever is not asked is among the reasons, and of a cluster nobody is
// asked while another member or another change is at work there.
func sound(t *rapid.T, m *Model, now time.Time) {
	actions, reasons := m.Next(now)
	for _, r := range m.open() {
		asked, explained, waiting := 0, 0, 0
		for _, a := range actions {
			if a.Rollout == r.id && a.Do == Rotate {
				asked++
			}
		}
		for _, why := range reasons {
			if why.Rollout == r.id {
				explained += why.Count
			}
		}
		for _, tally := range m.survey(r, uint32(now.Unix())).waves {
			waiting += tally.pending + tally.moving
		}
		if asked+explained < waiting {
			t.Fatalf("%d asked, %d explained, %d wait: %+v %+v", asked, explained, waiting, actions, reasons)
		}
	}
	members := map[string]map[uint32]bool{}
	n := m.turn(now)
	for cluster, all := range n.holders {
		name := m.clusters.list[cluster]
		members[name] = map[uint32]bool{}
		for _, one := range all {
			members[name][one.member] = true
		}
	}
	for _, a := range actions {
		if a.Do != Rotate {
			continue
		}
		p := m.places[m.placeOf(a.Placement)]
		cluster := m.clusters.list[p.cluster]
		if cluster == "" {
			continue
		}
		if _, held := n.heldBy(cluster); held {
			t.Fatalf("%v is asked in %s, which another change holds", a.Placement, cluster)
		}
		if members[cluster] == nil {
			members[cluster] = map[uint32]bool{}
		}
		members[cluster][p.member] = true
		if len(members[cluster]) > 1 {
			t.Fatalf("two members of %s at once", cluster)
		}
	}
}

func TestPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := Spec{Name: "x", Steps: DefaultSteps, PerMinute: 60, ByRegion: rapid.Bool().Draw(t, "by region")}
		var places []Seat
		for i := range rapid.IntRange(1, 300).Draw(t, "n") {
			places = append(places, Seat{ID: id(fmt.Sprint(i)), Region: rapid.SampledFrom([]string{"eu", "us", ""}).Draw(t, "r")})
		}
		waves, parts, err := Plan(spec, places)
		if err != nil {
			t.Fatal(err)
		}
		count, seen := make([]int, len(waves)), map[uuid.UUID]bool{}
		for i, part := range parts {
			count[part.Wave]++
			seen[part.Placement] = true
			if i > 0 && part.Wave < parts[i-1].Wave {
				t.Fatal("the parts are not in the order of the waves")
			}
		}
		for i, wave := range waves {
			if wave.Count != count[i] || wave.Count == 0 {
				t.Fatalf("wave %d: %v has %d", i, wave, count[i])
			}
		}
		if len(seen) != len(places) || len(parts) != len(places) || waves[0].Count != 1 {
			t.Fatalf("%d of %d, the first wave %v", len(seen), len(places), waves[0])
		}
	})
}
