package schedule

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2030, 1, 2, 14, 2, 0, 0, time.UTC)

func at(agent string) Member { return Member{Agent: agent, Target: "redis"} }

func ask(agent string, since time.Duration) Ask {
	return Ask{Member: at(agent), Placement: "p-" + agent, Since: noon.Add(since)}
}

// granted are the placements that may go, in their order.
func granted(verdicts []Verdict) (ids []string) {
	for _, v := range verdicts {
		if v.Granted {
			ids = append(ids, v.Placement)
		}
	}
	return ids
}

func TestDecide(t *testing.T) {
	begun := []Hold{{Member: at("x"), Begun: true, Since: noon}}
	both := ask("x", time.Minute)
	both.Placement = "p-x-2"
	unseen := ask("a", 0)
	unseen.Unseen = true
	unwell := []Unwell{{Member: at("x"), Why: "prove failed", Since: noon}}
	for name, c := range map[string]struct {
		cluster Cluster
		now     time.Time
		want    []string
		reason  string // of the first that is not granted
	}{
		"the oldest first":             {Cluster{Asks: []Ask{ask("b", time.Minute), ask("a", 2*time.Minute)}}, noon, []string{"p-b"}, "c1 has 1 of 1 members away: the one on agent b was given it now"},
		"two may":                      {Cluster{Most: 2, Asks: []Ask{ask("b", 2), ask("a", 1), ask("c", 3)}}, noon, []string{"p-a", "p-b"}, "c1 has 2 of 2"},
		"one holds it":                 {Cluster{Holds: begun, Asks: []Ask{ask("a", 0)}}, noon.Add(90 * 24 * time.Hour), nil, "cluster c1 has 1 of 1 members away: the one on agent x holds it since 14:02"},
		"one of two holds it":          {Cluster{Most: 2, Holds: begun, Asks: []Ask{ask("a", 0), ask("b", 1)}}, noon, []string{"p-a"}, "2 of 2"},
		"another of the same target":   {Cluster{Holds: begun, Asks: []Ask{ask("a", 0), both}}, noon, []string{"p-x-2"}, "holds it"},
		"two asks of one target":       {Cluster{Asks: []Ask{ask("x", 0), both, ask("a", time.Hour)}}, noon, []string{"p-x", "p-x-2"}, "1 of 1"},
		"its agent is away":            {Cluster{Asks: []Ask{unseen, ask("b", time.Minute)}}, noon, []string{"p-b"}, "agent a is not connected"},
		"one is unwell":                {Cluster{Unwell: unwell, Asks: []Ask{ask("a", 0)}}, noon.Add(time.Minute), nil, "unwell since 14:02: prove failed"},
		"one was unwell for too long":  {Cluster{Unwell: unwell, Asks: []Ask{ask("a", 0)}}, noon.Add(UnwellFor), []string{"p-a"}, ""},
		"the unwell one may heal":      {Cluster{Unwell: unwell, Asks: []Ask{ask("a", 0), ask("x", 1)}}, noon, []string{"p-x"}, "unwell"},
		"unwell beside one that holds": {Cluster{Holds: begun, Unwell: []Unwell{{Member: at("a"), Why: "prove failed", Since: noon}}, Asks: []Ask{ask("a", 0)}}, noon, nil, "2 of 1 members away"},
		"fewer may than before":        {Cluster{Holds: append([]Hold{{Member: at("a"), Since: noon}}, begun...), Asks: []Ask{both}}, noon, nil, "2 of 1 members away"},
		"more hold it than may":        {Cluster{Holds: append([]Hold{{Member: at("y"), Since: noon}}, begun...), Asks: []Ask{ask("a", 0), ask("b", 1)}}, noon, nil, "2 of 1 members away"},
	} {
		t.Run(name, func(t *testing.T) {
			c.cluster.Name = "c1"
			verdicts := c.cluster.Decide(c.now)
			if got := granted(verdicts); fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("granted %v, want %v", got, c.want)
			}
			for _, v := range verdicts {
				if v.Granted != (v.Reason == "") {
					t.Errorf("granted %v for the reason %q", v.Granted, v.Reason)
				}
			}
			for _, v := range verdicts {
				if !v.Granted {
					if c.reason == "" || !strings.Contains(v.Reason, c.reason) {
						t.Errorf("reason %q, want %q in it", v.Reason, c.reason)
					}
					break
				}
			}
		})
	}
}

// Whatever is known: with the grants no more members are away than may be, or
// than were; and where there is room someone who can go goes.
func TestNeverTooManyAway(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		member := rapid.Custom(func(t *rapid.T) Member {
			return Member{Agent: rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "agent"), Target: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "target")}
		})
		c := Cluster{Name: "c", Most: rapid.IntRange(0, 4).Draw(t, "most")}
		for range rapid.IntRange(0, 4).Draw(t, "holds") {
			c.Holds = append(c.Holds, Hold{Member: member.Draw(t, "holds"), Since: noon})
		}
		for range rapid.IntRange(0, 2).Draw(t, "unwell") {
			c.Unwell = append(c.Unwell, Unwell{Member: member.Draw(t, "unwell"), Since: noon.Add(-time.Duration(rapid.IntRange(0, 30).Draw(t, "since")) * time.Minute)})
		}
		for i := range rapid.IntRange(0, 8).Draw(t, "asks") {
			c.Asks = append(c.Asks, Ask{Member: member.Draw(t, "asks"), Placement: fmt.Sprint(i), Since: noon, Unseen: rapid.Bool().Draw(t, "unseen")})
		}
		before := c.away(noon)
		after := map[Member]bool{}
		for m := range before {
			after[m] = true
		}
		held := map[Member]bool{}
		for _, hold := range c.Holds {
			held[hold.Member] = true
		}
		verdicts := c.Decide(noon)
		waits := false
		for _, v := range verdicts {
			if v.Granted {
				delete(held, v.Member)
				if len(held) >= max(c.Most, 1) {
					t.Fatalf("granted to %v beside %d that hold one: the store would refuse it", v.Member, len(held))
				}
				held[v.Member] = true
			}
			if v.Granted && v.Unseen {
				t.Fatalf("granted to one who can't be told: %v", v)
			}
			if v.Granted {
				after[v.Member] = true
			}
			waits = waits || !v.Granted && !v.Unseen
		}
		if most := max(c.Most, 1); len(after) > max(most, len(before)) || waits && len(after) < most {
			t.Fatalf("%d away, %d before, at most %d may be; someone waits: %v", len(after), len(before), most, waits)
		}
	})
}

// The parts of a cluster's members don't overlap, fill the window, and don't
// depend on who asks or on the order of the members.
func TestPartsAreDisjoint(t *testing.T) {
	after, before := noon, noon.Add(8*time.Hour)
	var members []Member
	for i := range 5 {
		members = append(members, at(fmt.Sprint("agent-", i)), at(fmt.Sprint("agent-", i))) // two placements each
	}
	var whole time.Duration
	for i := range 5 {
		from, to := Part("c1", members[2*i], members, after, before)
		again, _ := Part("c1", members[2*i], append(members[3:], members[:3]...), after, before)
		if from.Before(after) || to.After(before) || !from.Equal(again) {
			t.Errorf("part %s to %s, or from %s", from, to, again)
		}
		whole += to.Sub(from)
		for j := range i {
			f, u := Part("c1", members[2*j], members, after, before)
			if from.Before(u) && f.Before(to) {
				t.Errorf("members %d and %d share a part of the window", i, j)
			}
		}
	}
	if whole != before.Sub(after) {
		t.Errorf("the parts make %s", whole)
	}
	if from, to := Part("", at("a"), members, after, before); !from.Equal(after) || !to.Equal(before) {
		t.Error("without a cluster the window is cut")
	}
}

// The parts of many clusters lie evenly over the window: who has the first is
// not decided by names.
func TestPartsAreSpread(t *testing.T) {
	first := map[string]int{}
	for c := range 3000 {
		for _, agent := range []string{"a", "b", "c"} {
			members := []Member{at("a"), at("b"), at("c")}
			if from, _ := Part(fmt.Sprint("cluster-", c), at(agent), members, noon, noon.Add(time.Hour)); from.Equal(noon) {
				first[agent]++
			}
		}
	}
	for agent, n := range first {
		if math.Abs(float64(n)-1000) > 150 {
			t.Errorf("agent %s has the first part of %d clusters in 3000", agent, n)
		}
	}
}

func TestPace(t *testing.T) {
	var ids []string
	for i := range 61 {
		ids = append(ids, fmt.Sprintf("p-%03d", i))
	}
	turns := Pace(ids, DefaultOver(len(ids)))
	if DefaultOver(61) != time.Minute || DefaultOver(1) != 0 || DefaultOver(0) != 0 {
		t.Errorf("61 take %s", DefaultOver(61))
	}
	seen, neighbours := map[string]bool{}, 0
	for i, turn := range turns {
		if want := time.Duration(i) * time.Second; (turn.After - want).Abs() > time.Microsecond {
			t.Errorf("turn %d after %s", i, turn.After)
		}
		if i > 0 && turn.Placement > turns[i-1].Placement {
			neighbours++
		}
		seen[turn.Placement] = true
	}
	if len(seen) != 61 || neighbours > 45 || neighbours < 15 {
		t.Errorf("%d placements, %d in the order of their names", len(seen), neighbours)
	}
	if one := Pace(ids[:1], time.Hour); one[0].After != 0 {
		t.Errorf("one placement waits %s", one[0].After)
	}
	if len(Pace(nil, time.Hour)) != 0 {
		t.Error("turns of nothing")
	}
}
