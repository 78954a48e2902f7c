package rotation

import (
	"testing"
	"time"
)

// stories are rotations of each kind, each with what must be in use at its end.
var stories = map[string]struct {
	run        func(t testing.TB, w *world)
	generation uint64
	bundle     byte
}{
	"first issuance": {func(t testing.TB, w *world) { w.run(t) }, 1, 1},
	"renewal": {func(t testing.TB, w *world) {
		w.run(t)
		w.pass(t, 20*time.Hour)
	}, 2, 1},
	"renewal with the same key": {func(t testing.TB, w *world) {
		w.d.KeyAge = 48 * time.Hour
		w.run(t)
		w.pass(t, 20*time.Hour)
	}, 2, 1},
	"bundle only": {func(t testing.TB, w *world) {
		w.run(t)
		w.d.Bundle = bundle(2)
		w.pass(t, 2*time.Hour)
	}, 1, 2},
	"bundle and renewal": {func(t testing.TB, w *world) {
		w.run(t)
		w.d.Bundle, w.d.RenewThrough = bundle(2), 1
		w.pass(t, 2*time.Hour)
	}, 2, 2},
	"drift": {func(t testing.TB, w *world) {
		w.run(t)
		w.drift = "edited"
		w.pass(t, 2*time.Hour)
	}, 1, 1},
	"restore, then success": {func(t testing.TB, w *world) {
		w.run(t)
		w.liar[2] = true
		w.d.RenewThrough = 1
		w.pass(t, 30*time.Second)
		clear(w.liar)
		w.pass(t, 3*time.Hour)
	}, 2, 1},
	"caught at check, then success": {func(t testing.TB, w *world) {
		w.run(t)
		w.badLeaf = true
		w.d.RenewThrough = 1
		w.pass(t, 30*time.Second)
		w.badLeaf = false
		w.pass(t, 3*time.Hour)
	}, 0, 1}, // as many generations as attempts
	"a member's renewal": {func(t testing.TB, w *world) {
		w.d.NeedsSlot = true
		w.run(t)
		w.d.RenewThrough = 1
		w.run(t)
		w.grant()
		w.run(t)
		w.pass(t, 2*time.Hour)
	}, 2, 1},
	"a member that is restored, then goes again": {func(t testing.TB, w *world) {
		w.d.NeedsSlot = true
		w.run(t)
		w.liar[2] = true
		w.d.RenewThrough = 1
		for range 2 {
			w.run(t)
			w.grant()
			w.pass(t, 20*time.Second)
		}
		clear(w.liar)
		for range 4 {
			w.pass(t, time.Hour)
			w.grant()
		}
		w.run(t)
	}, 2, 1},
	"a member that goes without leave": {func(t testing.TB, w *world) {
		w.d.NeedsSlot = true
		w.run(t)
		w.pass(t, w.lifetime-time.Minute)
		w.pass(t, time.Hour)
	}, 2, 1},
	"an identity without a bundle's grace": {func(t testing.TB, w *world) {
		w.d.Grace = 0
		w.run(t)
		w.d.RenewThrough = 1
		w.pass(t, time.Hour)
		w.d.RenewThrough = 2
		w.pass(t, time.Hour)
	}, 3, 1},
}

// TestKilledAtEachPoint kills the agent at each point between two effects of
// each story, and at each pair of points: whoever carries on ends where it
// would have ended, with the same number of generations and keys, and breaks no
// law on the way.
func TestKilledAtEachPoint(t *testing.T) {
	for name, story := range stories {
		t.Run(name, func(t *testing.T) {
			points := tell(t, story.run, nil)
			if points < 10 {
				t.Fatalf("only %d points", points)
			}
			for first := range points {
				for second := first; second < points+4; second++ {
					w := newWorld()
					at := 0
					w.kill = func(string) bool { at++; return at == first+1 || at == second+2 }
					story.run(t, w)
					ended(t, w, story.generation, story.bundle)
					if t.Failed() {
						t.Fatalf("killed at points %d and %d", first, second)
					}
				}
			}
		})
	}
}

func tell(t *testing.T, story func(testing.TB, *world), kill func(string) bool) int {
	points := 0
	w := newWorld()
	w.kill = func(at string) bool { points++; return kill != nil && kill(at) }
	story(t, w)
	w.sound(t)
	return points
}

func ended(t *testing.T, w *world, generation uint64, b byte) {
	t.Helper()
	w.sound(t)
	if why := w.good(); why != "" {
		t.Errorf("not as desired: %s%s", why, w.log())
	}
	if v := w.record.Revision(w.current); v != nil && generation != 0 && (v.Generation != generation || v.Bundle != bundle(b)) {
		t.Errorf("ends with generation %d and bundle %x%s", v.Generation, v.Bundle[0], w.log())
	}
	if w.record.Slot != nil {
		t.Errorf("ends with slot %+v%s", w.record.Slot, w.log())
	}
	if generation != 0 && w.record.LastGeneration != generation {
		t.Errorf("used %d generations, not %d%s", w.record.LastGeneration, generation, w.log())
	}
}

// TestNothingIsLeftBehind: once the grace is over, one directory and one key
// are left, whatever was killed.
func TestNothingIsLeftBehind(t *testing.T) {
	for kill := range 60 {
		w := newWorld()
		at := 0
		w.kill = func(string) bool { at++; return at == kill }
		w.run(t)
		for i := range uint64(4) {
			w.d.RenewThrough = i + 1
			w.pass(t, 30*time.Minute)
		}
		w.pass(t, 2*time.Hour)
		w.sound(t)
		if len(w.dirs) != 1 || len(w.keys) != 1 || len(w.record.Revisions) != 1 || len(w.record.Generations) != 1 {
			t.Fatalf("killed at %d: directories %v, keys %v%s", kill, w.dirs, w.keys, w.log())
		}
	}
}
