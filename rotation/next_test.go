package rotation

import (
	"strings"
	"testing"
	"time"
)

// placed is a placement whose first certificate is proven and committed, and
// that wants nothing.
func placed() (Facts, Desired) {
	w := newWorld()
	for w.step().Action != Wait {
	}
	return w.facts(), w.d
}

// with adds a generation to the facts, and a staged and checked revision of it.
func with(f *Facts, number uint64, from, to time.Time) {
	f.Ask(Generation{Number: number, Algorithm: "ecdsa-p256", KeyBorn: from, AskedAt: from, Wanted: f.Generations[0].Wanted})
	f.Issue(number, Leaf{Serial: "2", Terms: f.Generations[0].Wanted, NotBefore: from, NotAfter: to})
	f.Stage(Revision{Number: number, Generation: number, Bundle: bundle(1), StagedAt: from})
	f.Check(number)
}

// TestNext holds single rules that no story tells.
func TestNext(t *testing.T) {
	tomorrow := noon.Add(24 * time.Hour)
	cases := map[string]struct {
		set  func(f *Facts, d *Desired)
		now  time.Time
		want string // the beginning of the described step
	}{
		"a window that opens within seconds is meant": {func(f *Facts, d *Desired) {
			d.Window = Window{Generation: 1, After: noon.Add(4 * time.Second), Before: noon.Add(5 * time.Second)}
		}, noon.Add(6 * time.Second), "request generation 2 new key: the renewal of generation 1 was due"},
		"what ran out since its check is not activated": {func(f *Facts, d *Desired) {
			with(f, 2, noon.Add(-time.Hour), noon.Add(time.Minute))
		}, noon.Add(2 * time.Minute), "request generation 3 new key: generation 2 ran out"},
		"what is not valid yet is not activated": {func(f *Facts, d *Desired) {
			with(f, 2, noon.Add(time.Hour), tomorrow)
		}, noon.Add(time.Minute), "wait until 01 13:00:00: revision 2 is staged and checked; generation 2 is not valid"},
		"nobody goes back to what is not valid yet": {func(f *Facts, d *Desired) {
			f.Generations[0].Leaf.NotBefore = noon.Add(time.Hour)
			with(f, 2, noon, tomorrow)
			f.Switch(2, noon)
			f.Fail(2, Prove, "wrong", false, *d, noon)
			f.Current = 2
		}, noon, "wait ALARM"},
		"what stood stays while what stands is not valid": {func(f *Facts, d *Desired) {
			with(f, 2, noon.Add(-3*time.Hour), noon.Add(time.Hour))
			f.Switch(2, noon)
			f.Load(2)
			f.Prove(2)
			f.Commit(2, noon)
			f.Current = 2
			d.Orphan, d.Grace = true, 0
		}, noon.Add(2 * time.Hour), "wait: no intent"},
		"the grace being over, what stood goes": {func(f *Facts, d *Desired) {
			with(f, 2, noon.Add(-time.Hour), tomorrow)
			f.Switch(2, noon)
			f.Load(2)
			f.Prove(2)
			f.Commit(2, noon)
			f.Current = 2
		}, noon.Add(time.Hour), "remove revision 1: revision 2 stands"},
		"by a clock that is off nothing goes": {func(f *Facts, d *Desired) {
			with(f, 2, noon.Add(-time.Hour), tomorrow)
			f.Switch(2, noon)
			f.Load(2)
			f.Prove(2)
			f.Commit(2, noon)
			f.Current, d.ClockOff = 2, true
		}, noon.Add(time.Hour), "wait"},
		"what someone linked to by hand is not removed": {func(f *Facts, d *Desired) {
			f.Stage(Revision{Number: 2, Generation: 1, Bundle: bundle(2), StagedAt: noon})
			f.Fail(2, Check, "wrong", false, *d, noon)
			f.Current, d.Repair, d.Orphan = 2, false, true
		}, noon.Add(time.Hour), "restore revision 1"},
		"what someone linked to before its check is checked first": {func(f *Facts, d *Desired) {
			f.Stage(Revision{Number: 2, Generation: 1, Bundle: bundle(2), StagedAt: noon})
			f.Current = 2
		}, noon, "check revision 2"},
		"what was checked and is gone is not activated": {func(f *Facts, d *Desired) {
			with(f, 2, noon, tomorrow)
			f.Gone = []uint64{2}
		}, noon, "stage revision 3 generation 2"},
		"from what is gone one goes back to what stood": {func(f *Facts, d *Desired) {
			with(f, 2, noon, tomorrow)
			f.Switch(2, noon)
			f.Current, f.Gone = 2, []uint64{2}
		}, noon, "restore revision 1"},
		"a file that is gone is put back where edits are only reported": {func(f *Facts, d *Desired) {
			d.Repair, f.Drift, f.Gone = false, "key.pem is gone", []uint64{1}
		}, noon, "repair revision 2"},
		"what an orphan had stays gone": {func(f *Facts, d *Desired) {
			d.Orphan, f.Current, f.Gone = true, 0, []uint64{1}
		}, noon, "wait: no intent"},
		"what can't be staged is not staged for ever": {func(f *Facts, d *Desired) {
			f.Current, f.Gone = 0, []uint64{1}
			f.SetBack(Stage, 1, "disk full", true, *d, noon)
		}, noon, "wait ALARM until 01 12:00:05"},
		"what can't be switched to is not staged for ever": {func(f *Facts, d *Desired) {
			f.Current, f.Gone = 0, []uint64{1}
			f.Stage(Revision{Number: 2, Generation: 1, Bundle: bundle(1), StagedAt: noon})
			f.Check(2)
			f.Switch(2, noon)
			f.Fail(2, Activate, "the link can't be written", false, *d, noon)
		}, noon, "wait ALARM until 01 12:01:00"},
		"numbers go on from what the directory shows": {func(f *Facts, d *Desired) {
			f.Strays, d.Bundle = []uint64{41}, bundle(2)
		}, noon, "stage revision 42"},
		"numbers go on from what the server knows": {func(f *Facts, d *Desired) {
			d.Window.Generation, d.RenewThrough = 56, 56
		}, noon, "request generation 57"},
		"a raised renew-through ends the pause": {func(f *Facts, d *Desired) {
			d.RenewThrough = 1
			f.SetBack(Request, 2, "refused", false, *d, noon)
			d.RenewThrough = 2
		}, noon, "request generation 3"},
		"the same one does not": {func(f *Facts, d *Desired) {
			d.RenewThrough = 1
			f.SetBack(Request, 2, "refused", false, *d, noon)
		}, noon.Add(59 * time.Second), "wait ALARM until 01 12:01:00: request failed once"},
		"a failure noted in the future is not waited for": {func(f *Facts, d *Desired) {
			d.RenewThrough = 1
			f.SetBack(Request, 2, "refused", false, *d, noon.Add(time.Hour))
		}, noon, "request generation 2"},
		"another algorithm needs another key": {func(f *Facts, d *Desired) {
			d.KeyAge, d.Algorithm, d.Terms = 90*24*time.Hour, "ed25519", "ed25519 | serverAuth | a.test"
		}, noon, "request generation 2 new key"},
		"the same algorithm keeps it": {func(f *Facts, d *Desired) {
			d.KeyAge, d.Terms = 90*24*time.Hour, "ecdsa-p256 | serverAuth | b.test"
		}, noon, "request generation 2 key of 1"},
		"the window of another generation is not this one's": {func(f *Facts, d *Desired) {
			d.Window = Window{Generation: 7, After: noon.Add(-time.Hour), Before: noon}
		}, noon, "wait until 02 04:46:44"},
		"the window of this one is": {func(f *Facts, d *Desired) {
			d.Window = Window{Generation: 1, After: noon.Add(-time.Hour), Before: noon}
		}, noon.Add(time.Minute), "request generation 2 new key: the renewal of generation 1 was due"},
		"though not at its first moment": {func(f *Facts, d *Desired) {
			d.Window = Window{Generation: 1, After: noon.Add(-time.Hour), Before: noon}
		}, noon, "wait until 01 12:01:00: the renewal of generation 1 was due"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f, d := placed()
			c.set(&f, &d)
			if got := describe(Next(f, d, c.now)); !strings.HasPrefix(got, c.want) {
				t.Errorf("next is %q, not %q", got, c.want)
			}
		})
	}
}

// TestNextChangesNothing: deciding is not doing.
func TestNextChangesNothing(t *testing.T) {
	f, d := placed()
	before := describe(Next(f, d, noon)) + f.Generations[0].Leaf.Serial
	for range 3 {
		if again := describe(Next(f, d, noon)) + f.Generations[0].Leaf.Serial; again != before {
			t.Errorf("%q, then %q", before, again)
		}
	}
}

// TestSpread: the renewals of many placements fill their window evenly.
func TestSpread(t *testing.T) {
	const placements, parts = 10_000, 10
	g := Generation{Number: 3, Leaf: &Leaf{NotBefore: noon, NotAfter: noon.Add(time.Hour)}}
	window := Window{Generation: 3, After: noon, Before: noon.Add(parts * time.Minute)}
	var counts [parts]int
	for i := range placements {
		at := Desired{Placement: string(rune('a'+i%26)) + time.Duration(i).String(), Window: window}.RenewAt(g)
		if at.Before(window.After) || !at.Before(window.Before) {
			t.Fatalf("%s is outside of the window", at)
		}
		counts[at.Sub(noon)/time.Minute]++
	}
	for part, count := range counts {
		if count < placements/parts*8/10 || count > placements/parts*12/10 {
			t.Errorf("minute %d has %d of %d", part, count, placements)
		}
	}
	first, second := Desired{Placement: "p", Window: window}, Desired{Placement: "p", Window: window, Attempt: 3}
	if first.RenewAt(g) != second.RenewAt(g) {
		t.Error("the same placement and generation come to two moments")
	}
}
