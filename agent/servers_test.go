package agent

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rotunda-pki/rotunda/api"
)

var testPace = pace{backoff: backoff{time.Second, 10 * time.Second}, settle: time.Minute}

func addresses(s *servers) (list []string) {
	for _, e := range s.list {
		list = append(list, e.address)
	}
	return list
}

func regionServers(region string, addresses ...string) (list []*api.RegionServer) {
	for _, address := range addresses {
		list = append(list, &api.RegionServer{Region: region, Address: address})
	}
	return list
}

func TestServersInOrder(t *testing.T) {
	written := []ServerAddress{{Address: "w1"}, {Address: "w2"}, {Address: "us1", Region: "us"}, {Address: "eu9", Region: "eu"}}
	eu, us := regionServers("eu", "eu1", "eu2", "w2"), regionServers("us", "us1", "us2")
	s := newServers(written, testPace, "a1")
	if got := addresses(s); !slices.Equal(got, []string{"w1", "w2", "us1", "eu9"}) {
		t.Errorf("before the control plane has spoken: %v", got)
	}
	s.tell("eu", append(eu, us...))
	got := addresses(s)
	if home := slices.Sorted(slices.Values(got[:3])); !slices.Equal(home, []string{"eu1", "eu2", "w2"}) || got[3] != "eu9" || got[4] != "w1" || len(got) != 7 {
		t.Errorf("in region eu: %v", got)
	}
	s.tell("", append(eu, us...))
	if got := addresses(s); !slices.Equal(got[:4], []string{"w1", "w2", "us1", "eu9"}) || len(got) != 7 {
		t.Errorf("of no region: %v", got)
	}
	s.tell("eu", nil) // what the control plane forgets, agent.yaml does not
	if got := addresses(s); !slices.Equal(got, []string{"eu9", "w1", "w2", "us1"}) {
		t.Errorf("when the control plane names none: %v", got)
	}
	s.tell("eu", append(regionServers("eu", ""), regionServers("eu", make([]string, 5*maxTold)...)...))
	if got := addresses(s); len(got) != 4 {
		t.Errorf("of empty addresses: %v", got)
	}
}

// The agents of a region are spread over its servers, and one more server
// draws only those that go to it.
func TestAgentsAreSpread(t *testing.T) {
	first, moved := map[string]int{}, 0
	for i := range 3000 {
		s := newServers([]ServerAddress{{Address: "w"}}, testPace, fmt.Sprint("agent-", i))
		s.tell("eu", regionServers("eu", "a", "b", "c"))
		before := addresses(s)[0]
		first[before]++
		s.tell("eu", regionServers("eu", "a", "b", "c", "d"))
		if after := addresses(s)[0]; after != before {
			if moved++; after != "d" {
				t.Fatalf("moved from %s to %s", before, after)
			}
		}
	}
	if first["a"] < 850 || first["b"] < 850 || first["c"] < 850 || moved < 600 || moved > 900 {
		t.Errorf("spread %v, %d moved", first, moved)
	}
}

func TestBreaker(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s := newServers([]ServerAddress{{Address: "a"}, {Address: "b"}}, testPace, "")
	fail := func(address string, took time.Duration) { s.failed(address, now, took, 0, "down") }
	next := func(want string, resting bool) {
		t.Helper()
		if got, rest := s.next(now); got != want || (rest > 0) != resting {
			t.Errorf("next is %s after %s, want %s", got, rest, want)
		}
	}
	next("a", false)
	fail("a", 0)
	next("b", false)
	fail("b", 0)
	now = now.Add(2 * time.Second) // both rested for at most one
	next("a", false)
	fail("a", 0)
	fail("a", 0)
	if e := s.find("a"); e.state(now) != BreakerOpen || e.failures != 3 {
		t.Errorf("after three failures a is %+v", e)
	}
	next("b", false)
	fail("b", slowFailure)
	if e := s.find("b"); e.state(now) != BreakerOpen {
		t.Errorf("after a slow failure b is %+v", e)
	}
	now = now.Add(time.Minute)
	if a, b := s.find("a").state(now), s.find("b").state(now); a != BreakerHalfOpen || b != BreakerHalfOpen {
		t.Errorf("after the rest: %s, %s", a, b)
	}
	next("a", false)
	s.worked("b")
	next("b", false) // closed goes before half-open
	for range 100 {
		fail("b", 0)
		if rest := s.find("b").rest.Sub(now); rest <= 0 || rest > 10*time.Second {
			t.Fatalf("rests %s", rest)
		}
	}
	s.failed("b", now, 0, time.Minute, "busy")
	if rest := s.find("b").rest.Sub(now); rest != time.Minute {
		t.Errorf("asked for a minute, rests %s", rest)
	}
	s.failed("gone", now, 0, 0, "down")
	if len(s.list) != 2 {
		t.Error("a server that is off the list came back")
	}
}

// A region is left only when the breakers of all its servers are open, and
// whatever happens, the choice is a known server and the wait is bounded.
func TestRegionIsLeftLast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_800_000_000, 0)
		s := newServers([]ServerAddress{{Address: "w"}, {Address: "us1", Region: "us"}}, testPace, "a1")
		s.tell("eu", append(regionServers("eu", "eu1", "eu2"), regionServers("us", "us1", "us2")...))
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			address := rapid.SampledFrom(addresses(s)).Draw(t, "server")
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				s.failed(address, now, rapid.SampledFrom([]time.Duration{0, slowFailure}).Draw(t, "took"), 0, "down")
			case 2:
				s.worked(address)
			case 3:
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "passes")))
			}
			chosen, rest := s.next(now)
			e := s.find(chosen)
			if e == nil || rest < 0 || rest > testPace.backoff.limit {
				t.Fatalf("chosen %q after %s", chosen, rest)
			}
			for _, nearer := range s.list {
				if nearer.circle < e.circle && nearer.state(now) != BreakerOpen && rest == 0 {
					t.Fatalf("%s was chosen while %s is %s", chosen, nearer.address, nearer.state(now))
				}
			}
			if !strings.Contains(s.status(now).Why, "region eu") && e.circle < 2 {
				t.Fatalf("why is %q", s.status(now).Why)
			}
		}
	})
}

// The agent comes home only after the region was well at each look for a
// while, which is longer each time that it failed soon after.
func TestComingHome(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s := newServers([]ServerAddress{{Address: "eu1", Region: "eu"}, {Address: "us1", Region: "us"}}, testPace, "a1")
	s.tell("eu", nil)
	away := func() {
		t.Helper()
		for range tripAfter {
			s.failed("eu1", now, 0, 0, "down")
		}
		if got, _ := s.next(now); got != "us1" {
			t.Fatalf("next is %s", got)
		}
	}
	// home looks every ten seconds until the agent goes home.
	home := func() (after time.Duration) {
		t.Helper()
		for began := now; ; now = now.Add(10 * time.Second) {
			if s.looked("eu1", now, nil) {
				return now.Sub(began)
			}
			if got, _ := s.next(now); got == "eu1" && s.find("eu1").state(now) == BreakerClosed {
				t.Fatal("its breaker closed before it was well for long enough")
			}
			if now.Sub(began) > 3*time.Hour {
				t.Fatal("never comes home")
			}
		}
	}
	away()
	if got := s.better("us1"); !slices.Equal(got, []string{"eu1"}) {
		t.Errorf("nearer than us1 is %v", got)
	}
	s.looked("eu1", now, nil)
	now = now.Add(10 * time.Minute)
	if s.looked("eu1", now, errors.New("the store does not answer")) {
		t.Error("went home to a server that is not well")
	}
	var waits []time.Duration
	for range 8 {
		took := home()
		waits = append(waits, took)
		if got, _ := s.next(now); got != "eu1" {
			t.Fatalf("home is %s", got)
		}
		now = now.Add(30 * time.Second) // it fails again soon
		away()
	}
	for i, wait := range waits {
		shortest := testPace.settle << min(i, maxPenalty)
		if wait < shortest || wait > 2*shortest+10*time.Second {
			t.Errorf("return %d after %s, want %s to %s", i, wait, shortest, 2*shortest)
		}
	}
	home()
	now = now.Add(24 * time.Hour)
	away()
	if took := home(); took > 2*testPace.settle+10*time.Second {
		t.Errorf("after a good day it takes %s", took)
	}
	if s.better("eu1") != nil || len(s.better("off the list")) != 2 {
		t.Errorf("nearer than home: %v, than one off the list: %v", s.better("eu1"), s.better("off the list"))
	}
}
