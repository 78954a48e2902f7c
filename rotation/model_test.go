package rotation

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestModel lets anything happen in any order: faults, kills, edits, changed
// desires, time. The laws that world holds are true after every effect; once
// the faults end and desires rest, what is desired comes to be in use.
func TestModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := newWorld()
		w.d.Repair = rapid.Bool().Draw(r, "repair")
		w.d.Grace = rapid.SampledFrom([]time.Duration{0, time.Minute, 3 * time.Hour}).Draw(r, "grace")
		w.lifetime = rapid.SampledFrom([]time.Duration{time.Minute, 24 * time.Hour, 90 * 24 * time.Hour}).Draw(r, "lifetime")
		w.d.RideOut = w.lifetime / 6
		w.d.NeedsSlot = rapid.Bool().Draw(r, "member")
		left := 0
		w.kill = func(string) bool { left--; return left == 0 }
		fault := rapid.Bool()
		r.Repeat(map[string]func(*rapid.T){
			"steps": func(r *rapid.T) { some(w, rapid.IntRange(1, 12).Draw(r, "n")) },
			"kill":  func(r *rapid.T) { left = rapid.IntRange(1, 20).Draw(r, "after"); some(w, 12) },
			"time": func(r *rapid.T) {
				w.now = w.now.Add(w.lifetime / time.Duration(rapid.IntRange(1, 100).Draw(r, "part")))
			},
			"clock": func(r *rapid.T) {
				w.now = w.now.Add(-time.Duration(rapid.IntRange(1, 120).Draw(r, "back")) * time.Second)
			},
			"server": func(r *rapid.T) { w.serverDown, w.badLeaf = fault.Draw(r, "down"), fault.Draw(r, "wrong") },
			"refusal": func(r *rapid.T) {
				w.refusal = rapid.SampledFrom([]string{"", "the policy refuses"}).Draw(r, "refusal")
			},
			"host": func(r *rapid.T) {
				w.badReload, w.diskFull, w.badCheck = fault.Draw(r, "reload"), fault.Draw(r, "full"), fault.Draw(r, "peers")
			},
			"liar": func(r *rapid.T) {
				clear(w.liar)
				w.liar[rapid.Uint64Range(0, w.record.LastGeneration+1).Draw(r, "liar")] = true
			},
			"process": func(r *rapid.T) {
				if w.start(); fault.Draw(r, "stopped") {
					w.down = true
				}
			},
			"drift": func(*rapid.T) { w.drift = "edited" },
			"wipe":  func(r *rapid.T) { w.wipe(rapid.Uint64Range(0, w.record.LastRevision).Draw(r, "wiped")) },
			"move":  func(*rapid.T) { w.move() },
			"relink": func(r *rapid.T) { // someone moves the link by hand
				for number := range w.dirs {
					if w.record.Revision(number) != nil && fault.Draw(r, "here") {
						w.current, w.handed[number] = number, true
						break
					}
				}
			},
			"want": func(r *rapid.T) {
				w.d.Bundle = bundle(rapid.ByteRange(1, 3).Draw(r, "bundle"))
				w.d.Bridge = bridge(rapid.ByteRange(0, 2).Draw(r, "bridge"))
				w.root = rapid.SampledFrom([]byte("AB")).Draw(r, "root")
				w.d.Terms = Terms(rapid.SampledFrom([]string{"a", "b"}).Draw(r, "terms"))
				w.d.RenewThrough = max(w.d.RenewThrough, rapid.Uint64Range(0, w.record.LastGeneration).Draw(r, "through"))
				w.d.KeyAge = rapid.SampledFrom([]time.Duration{0, w.lifetime}).Draw(r, "key age")
				w.d.NewKey = fault.Draw(r, "new key")
				w.d.Identity = rapid.IntRange(0, 9).Draw(r, "identity") > 0
			},
			"slot": func(r *rapid.T) {
				w.unwell = fault.Draw(r, "unwell")
				if len(w.steps) > 0 && fault.Draw(r, "granted") {
					w.grant()
				} else {
					w.d.Slot = Slot{}
				}
			},
			"revocation": func(r *rapid.T) {
				n := rapid.ByteRange(0, 4).Draw(r, "crl")
				w.d.CRL, w.d.OpenOnStale = dated('C', n, w.now), fault.Draw(r, "open")
				w.unfit[n] = fault.Draw(r, "unfit")
				w.d.Staple = dated('S', rapid.ByteRange(0, 2).Draw(r, "staple"), w.now)
				if w.stapled = w.record.LastGeneration; fault.Draw(r, "revoked") {
					w.d.Revoked = append(w.d.Revoked, rapid.Uint64Range(1, w.record.LastGeneration+1).Draw(r, "generation"))
				}
			},
			"later": func(r *rapid.T) {
				w.d.RenewFrom = w.now.Add(w.lifetime / time.Duration(rapid.IntRange(1, 100).Draw(r, "part")))
			},
			"operator": func(r *rapid.T) {
				w.d.Attempt += uint64(rapid.IntRange(0, 1).Draw(r, "attempt"))
				w.d.Hold = rapid.SampledFrom([]string{"", "", "frozen"}).Draw(r, "hold")
				w.d.Orphan = rapid.IntRange(0, 9).Draw(r, "orphan") == 0
			},
			"": func(r *rapid.T) {
				for _, bad := range w.bad {
					r.Fatalf("%s%s", bad, w.log())
				}
			},
		})
		heal(r, w)
	})
}

// some makes up to n steps. With time at rest there must be an end of them:
// nothing is asked for, staged or loaded for ever.
func some(w *world, n int) {
	for range n {
		if w.step().Action == Wait {
			return
		}
	}
}

func heal(r *rapid.T, w *world) {
	w.serverDown, w.badLeaf, w.badReload, w.badCheck, w.diskFull, w.refusal = false, false, false, false, false, ""
	w.start()
	w.kill, w.unwell, w.d.RenewFrom = nil, false, time.Time{}
	clear(w.liar)
	clear(w.unfit)
	if w.d.OpenOnStale = false; !w.d.CRL.None() {
		w.d.CRL = dated('C', 9, w.now)
	}
	w.d.Staple = Dated{}
	w.d.Hold, w.d.Orphan, w.d.Identity, w.d.Repair = "", false, true, true
	deadline := w.now.Add(3 * time.Hour)
	for steps := 0; ; steps++ {
		for i := 0; w.step().Action != Wait; i++ {
			if i > 60 {
				r.Fatalf("no end of steps%s", w.log())
			}
		}
		if w.grant() {
			continue
		}
		if w.good() == "" && w.record.Slot == nil {
			break
		}
		s := w.steps[len(w.steps)-1]
		if s.Until.IsZero() || steps > 300 || w.now.After(deadline) {
			r.Fatalf("never as desired: %s%s", w.good(), w.log())
		}
		w.now = s.Until
	}
	for _, bad := range w.bad {
		r.Fatalf("%s%s", bad, w.log())
	}
}
