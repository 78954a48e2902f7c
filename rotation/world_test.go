package rotation

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a host, a control plane and a process, as far as rotations see them.
// It carries steps out as an agent does, and may be killed at each point
// between two effects; what was made durable stays.
type world struct {
	now time.Time
	d   Desired

	// Durable.
	record  Record
	current uint64
	dirs    map[uint64]Revision // revision → what its directory holds
	keys    map[uint64]int      // generation → key, each key a number of its own
	drift   string
	roots   map[uint64]byte // generation → the root that it is under
	wiped   map[uint64]bool // revisions that someone else took away
	handed  map[uint64]bool // revisions that someone else linked to

	// Elsewhere.
	process  uint64 // the revision that it has loaded
	lifetime time.Duration
	issued   map[uint64]issuedLeaf
	made     int    // keys
	root     byte   // that the control plane issues under
	stapled  uint64 // the generation that the staple is for

	// Faults.
	serverDown bool
	refusal    string               // of the server
	backdate   time.Duration        // of what the server signs
	badLeaf    bool                 // the server signs something else than asked
	badCheck   bool                 // a relying party's bundle does not know the issuer
	badReload  bool                 // the reload command fails
	liar       map[uint64]bool      // generations that the process does not take, saying it did
	diskFull   bool                 // nothing can be staged
	down       bool                 // the process does not run
	unfit      map[byte]bool        // CRLs that are no good
	unwell     bool                 // the member is not in its steady state
	stood      bool                 // something was committed once
	over       map[string]bool      // slots that were let go
	kill       func(at string) bool // nil: never

	steps []Step
	bad   []string // broken invariants
}

type issuedLeaf struct {
	key  int
	leaf Leaf
}

func newWorld() *world {
	return &world{
		now: noon, lifetime: 24 * time.Hour,
		d: Desired{Placement: "p1", Identity: true, Algorithm: "ecdsa-p256", Terms: "ecdsa-p256 | serverAuth | a.test",
			Bundle: bundle(1), RideOut: 4 * time.Hour, Grace: time.Hour, Repair: true},
		dirs: map[uint64]Revision{}, keys: map[uint64]int{}, issued: map[uint64]issuedLeaf{}, liar: map[uint64]bool{}, wiped: map[uint64]bool{}, handed: map[uint64]bool{},
		over: map[string]bool{}, roots: map[uint64]byte{}, root: 'A', unfit: map[byte]bool{},
	}
}

func bundle(n byte) pki.BundleDigest { return pki.BundleDigest{n} }

func (w *world) facts() Facts {
	f := Facts{Record: w.record, Current: w.current, Drift: w.drift, Stapled: w.stapled}
	for _, v := range w.record.Revisions {
		if _, ok := w.dirs[v.Number]; !ok {
			f.Gone = append(f.Gone, v.Number)
		}
	}
	if _, ok := w.dirs[w.current]; !ok {
		f.Current = 0
	}
	for number := range w.dirs {
		if w.record.Revision(number) == nil {
			f.Strays = append(f.Strays, number)
		}
	}
	for _, g := range w.record.Generations {
		if !w.d.Bridge.IsZero() && w.roots[g.Number] != 'B' {
			f.Apart = append(f.Apart, g.Number)
		}
	}
	return f
}

// bridge is one from root B to an older root.
func bridge(n byte) pki.Fingerprint {
	if n == 0 {
		return pki.Fingerprint{}
	}
	return pki.Fingerprint{'B', n}
}

// dated is CRLs, or a staple, that are good for ten hours.
func dated(kind, n byte, from time.Time) Dated {
	if n == 0 {
		return Dated{}
	}
	return Dated{Digest: pki.Fingerprint{kind, n}, From: from, Until: from.Add(10 * time.Hour)}
}

// wipe takes away a revision, or all with the link.
func (w *world) wipe(revision uint64) {
	for number := range w.dirs {
		if revision == 0 || number == revision {
			delete(w.dirs, number)
			w.wiped[number] = true
		}
	}
	if _, ok := w.dirs[w.current]; !ok {
		w.drift = ""
	}
	if revision == 0 {
		w.current, w.drift = 0, ""
	}
}

// move begins anew in another, empty directory. The process goes on with what
// it loaded from the old one.
func (w *world) move() {
	w.wipe(0)
	clear(w.wiped)
	w.record.Revisions, w.record.Loaded, w.record.Proven = nil, 0, 0
}

// killed is thrown through an action and caught by step.
type killed struct{ at string }

func (w *world) point(at string) {
	if w.kill != nil && w.kill(at) {
		panic(killed{at})
	}
}

// step asks what comes next and carries it out, if it is not killed before.
func (w *world) step() (s Step) {
	// What is recorded must be a copy of its own, as a file is.
	w.record.Generations = append([]Generation(nil), w.record.Generations...)
	w.record.Revisions = append([]Revision(nil), w.record.Revisions...)
	s = Next(w.facts(), w.d, w.now)
	w.steps = append(w.steps, s)
	w.guard(s)
	defer func() {
		if caught := recover(); caught != nil {
			if _, ok := caught.(killed); !ok {
				panic(caught)
			}
		}
		w.look(s)
	}()
	w.do(s)
	return s
}

func (w *world) do(s Step) {
	r := &w.record
	switch s.Action {
	case Request:
		w.request(s)
	case Stage, Repair:
		if w.diskFull {
			r.SetBack(Stage, s.Generation, "no space left on device", true, w.d, w.now)
			return
		}
		v := Revision{Number: s.Revision, Generation: s.Generation, Bundle: s.Bundle, Bridge: s.Bridge, CRL: s.CRL, Staple: s.Staple, StagedAt: w.now}
		w.dirs[s.Revision] = v
		w.point("staged")
		r.Stage(v)
	case Check:
		w.check(s)
	case Activate, Restore:
		w.load(s)
	case Prove:
		if w.down {
			r.Fail(s.Revision, Prove, "nothing answers", r.Revision(s.Revision).Away, w.d, w.now)
			return
		}
		if w.process == s.Revision && !w.liar[r.Revision(s.Revision).Generation] {
			r.Prove(s.Revision)
			return
		}
		r.Fail(s.Revision, Prove, "the process serves something else", false, w.d, w.now)
	case Commit:
		r.Commit(s.Revision, w.now)
		w.stood = true
	case Release:
		if w.unwell {
			r.Linger("the link to its master is down", w.now)
			return
		}
		w.over[r.Slot.ID] = true
		r.LetGo()
	case Remove:
		delete(w.dirs, s.Revision)
		w.point("removed")
		r.Remove(s.Revision)
	case DestroyKey:
		delete(w.keys, s.Generation)
		w.point("destroyed")
		r.Destroy(s.Generation)
	}
	w.point("done")
}

func (w *world) request(s Step) {
	r := &w.record
	if r.Generation(s.Generation) == nil {
		g := Generation{Number: s.Generation, Algorithm: w.d.Algorithm, KeyBorn: w.now, AskedAt: w.now, Wanted: w.d.Terms}
		if s.NewKey {
			w.made++
			w.keys[s.Generation] = w.made
		} else {
			w.keys[s.Generation] = w.keys[s.KeyOf]
			g.KeyBorn = r.Generation(s.KeyOf).KeyBorn
		}
		w.point("key saved")
		r.Ask(g)
		w.point("asked")
	}
	if w.serverDown {
		r.SetBack(Request, s.Generation, "no server answers", true, w.d, w.now)
		return
	}
	if w.refusal != "" {
		r.SetBack(Request, s.Generation, w.refusal, false, w.d, w.now)
		return
	}
	known, ok := w.issued[s.Generation]
	if ok && known.key != w.keys[s.Generation] {
		w.bad = append(w.bad, fmt.Sprintf("generation %d was asked for with two keys", s.Generation))
		r.Refuse(s.Generation, "conflict")
		return
	}
	if !ok {
		terms := w.d.Terms
		if w.badLeaf {
			terms = "something else"
		}
		known = issuedLeaf{w.keys[s.Generation], Leaf{Serial: fmt.Sprint(s.Generation), Terms: terms,
			NotBefore: w.now.Add(-time.Minute - w.backdate), NotAfter: w.now.Add(w.lifetime - w.backdate)}}
		w.issued[s.Generation], w.roots[s.Generation] = known, w.root
		w.point("issued")
	}
	if !w.now.Before(known.leaf.NotAfter) {
		r.Refuse(s.Generation, "it ran out already")
		r.SetBack(Request, s.Generation, "it ran out already", false, w.d, w.now)
		return
	}
	r.Issue(s.Generation, known.leaf)
}

func (w *world) check(s Step) {
	r := &w.record
	v := r.Revision(s.Revision)
	g := r.Generation(v.Generation)
	switch {
	case g != nil && (!g.Valid(w.now) || g.Leaf.Terms != g.Wanted):
		r.Fail(s.Revision, Check, "not as asked for", false, w.d, w.now)
		if s := r.Standing(); s == nil || s.Generation != v.Generation {
			r.Refuse(v.Generation, "not as asked for")
		}
	case w.unfit[v.CRL.Digest[1]]:
		r.Misfit(s.Revision, "its number is lower than that of the one in use", w.d, w.now)
	case w.badCheck:
		r.Fail(s.Revision, Check, "a client does not know the issuer", false, w.d, w.now)
	case w.down && r.Standing() != nil && !r.Urgent(w.d, w.now):
		r.Fail(s.Revision, Check, "nothing answers", true, w.d, w.now)
	default:
		r.Check(s.Revision)
		r.Meet(s.Revision, w.down, !w.unwell)
	}
}

// start lets the process run again: with the files that it finds.
func (w *world) start() {
	if v, ok := w.dirs[w.current]; w.down && ok {
		w.process = v.Number
	}
	w.down = false
}

func (w *world) load(s Step) {
	r := &w.record
	w.point("before switch")
	if _, ok := w.dirs[s.Revision]; !ok { // a restore writes what is gone anew
		if w.diskFull {
			r.Fail(s.Revision, s.Action, "no space left on device", true, w.d, w.now)
			return
		}
		w.dirs[s.Revision] = *r.Revision(s.Revision)
		delete(w.wiped, s.Revision)
	}
	if s.Begins.Revision != 0 {
		r.Begin(s.Begins)
	}
	r.Switch(s.Revision, w.now)
	w.point("noted")
	if w.current != s.Revision {
		w.drift = ""
	}
	w.current = s.Revision
	w.point("switched")
	if w.badReload {
		r.Fail(s.Revision, s.Action, "reload exits 1", false, w.d, w.now)
		return
	}
	if v := r.Revision(s.Revision); w.down {
		if r.Standing() != nil {
			r.Fail(s.Revision, s.Action, "nothing answers", v.Away, w.d, w.now)
			return
		}
	} else if !w.liar[v.Generation] {
		w.process = s.Revision
	}
	w.point("reloaded")
	r.Load(s.Revision)
}

// guard holds what must be true of a step before it is carried out.
func (w *world) guard(s Step) {
	wrong := func(format string, args ...any) { w.bad = append(w.bad, fmt.Sprintf(format, args...)) }
	r := w.record.Revision(s.Revision)
	switch s.Action {
	case Request:
		if w.record.Generation(s.Generation) == nil && s.Generation <= w.record.LastGeneration {
			wrong("generation %d is used again", s.Generation)
		}
	case Stage, Repair:
		if _, there := w.dirs[s.Revision]; there || s.Revision <= w.record.LastRevision {
			wrong("revision %d is used again", s.Revision)
		}
		if !s.Bridge.IsZero() && w.roots[s.Generation] != 'B' {
			wrong("generation %d is under root %c and gets the bridge to B", s.Generation, w.roots[s.Generation])
		}
	case Activate:
		if _, there := w.dirs[s.Revision]; !there {
			wrong("revision %d is activated, and is gone", s.Revision)
		}
		if !r.Checked {
			wrong("revision %d is activated unchecked", s.Revision)
		}
		if g := w.record.Generation(r.Generation); g != nil && w.current != s.Revision && !g.Valid(w.now) {
			wrong("revision %d is activated, and its certificate is not valid", s.Revision)
		}
		w.guardSlot(s, wrong)
	case Release:
		if w.current != w.process || w.record.Proven != w.current || !w.record.Revision(w.current).Committed() {
			wrong("the slot is let go, and the target is not back")
		}
	case Restore:
		if _, there := w.dirs[s.Revision]; !there && w.current == s.Revision {
			wrong("revision %d is written anew under a process's eyes", s.Revision)
		}
		if slices.Contains(w.d.Revoked, r.Generation) {
			wrong("it goes back to generation %d, which was revoked", r.Generation)
		}
		if g := w.record.Generation(r.Generation); !r.Committed() || (g != nil && w.current != s.Revision && !g.Valid(w.now)) {
			wrong("restore to revision %d, which is not valid", s.Revision)
		}
	case Commit:
		if w.record.Proven != s.Revision || w.process != s.Revision {
			wrong("revision %d is committed unproven", s.Revision)
		}
	case Remove:
		if standing := w.record.Standing(); r != nil && !r.ActivatedAt.IsZero() && (standing == nil || w.record.Proven != standing.Number || w.now.Before(standing.CommittedAt.Add(w.d.Grace))) {
			wrong("revision %d is removed within its grace", s.Revision)
		}
	}
}

// guardSlot holds that no member is taken out of its steady state without
// leave, unless it is about to run out.
func (w *world) guardSlot(s Step, wrong func(string, ...any)) {
	standing := w.record.Standing()
	if b := s.Begins; b.Revision != 0 {
		switch {
		case !w.d.NeedsSlot || w.record.Slot != nil || b.Revision != s.Revision:
			wrong("begins %+v for revision %d with %+v", b, s.Revision, w.record.Slot)
		case b.ID == "" && !w.record.Urgent(w.d, w.now) && !(standing != nil && w.d.OpenOnStale && w.record.Revision(s.Revision).CRL.None() && standing.CRL.ending(w.now)):
			wrong("revision %d goes without leave, and nothing is urgent", s.Revision)
		case b.ID != "" && (b.ID != w.d.Slot.ID || w.d.Slot.Revision != s.Revision || !w.now.Before(w.d.Slot.Until) || w.over[b.ID]):
			wrong("revision %d goes with slot %s, and granted is %+v", s.Revision, b.ID, w.d.Slot)
		}
		return
	}
	r := w.record.Revision(s.Revision)
	noticed := w.current == s.Revision && !r.ActivatedAt.IsZero() // it is a repetition
	again := noticed && r.Failed != nil && r.Failed.Step == Prove // of what was done
	gone := standing != nil && w.facts().Current == 0
	if w.d.NeedsSlot && w.record.Slot == nil && ((w.stood && !gone && !noticed) || again) {
		wrong("revision %d of a standing member is activated without leave", s.Revision)
	}
}

// grant gives the slot that is asked for, as a server does.
func (w *world) grant() bool {
	asked := w.steps[len(w.steps)-1].AsksSlot
	if asked == 0 || w.d.Slot.Revision == asked && w.now.Before(w.d.Slot.Until) {
		return false
	}
	w.d.Slot = Slot{ID: fmt.Sprintf("s%d-%d", asked, len(w.steps)), Revision: asked, Until: w.now.Add(30 * time.Second)}
	return true
}

// look holds what must be true whatever happened.
func (w *world) look(after Step) {
	wrong := func(format string, args ...any) {
		w.bad = append(w.bad, fmt.Sprintf("after %s of revision %d, generation %d: ", after.Action, after.Revision, after.Generation)+fmt.Sprintf(format, args...))
	}
	if w.current != 0 {
		if _, ok := w.dirs[w.current]; !ok && !w.wiped[w.current] {
			wrong("the link leads to revision %d, which is gone", w.current)
		}
	}
	for _, v := range []*Revision{w.record.Standing(), w.record.Revision(w.current)} {
		if v == nil {
			continue
		}
		if _, ok := w.dirs[v.Number]; !ok && !w.wiped[v.Number] {
			wrong("revision %d stands or is in use and is gone", v.Number)
		}
		if v.Generation != 0 && w.keys[v.Generation] == 0 {
			wrong("the key of generation %d, which stands or is in use, is gone", v.Generation)
		}
	}
	if v, ok := w.dirs[w.process]; w.process != 0 && ok {
		if rec := w.record.Revision(v.Number); rec != nil && !rec.Checked && !w.handed[v.Number] {
			wrong("the process loaded unchecked revision %d", v.Number)
		}
	}
}

// run steps until there is something to wait for, and returns that.
func (w *world) run(t testing.TB) Step {
	t.Helper()
	for range 100 {
		if s := w.step(); s.Action == Wait {
			return s
		}
	}
	t.Fatalf("no end after 100 steps: %s", w.log())
	return Step{}
}

// pass lets time go by, from each moment that is waited for to the next.
func (w *world) pass(t testing.TB, d time.Duration) Step {
	t.Helper()
	end := w.now.Add(d)
	for range 10_000 {
		s := w.run(t)
		if s.Until.IsZero() || s.Until.After(end) {
			w.now = end
			return w.run(t)
		}
		if !s.Until.After(w.now) {
			t.Fatalf("waits for %s, which is over at %s: %s", s.Until, w.now, s.Reason)
		}
		w.now = s.Until
	}
	t.Fatalf("no end of waiting: %s", w.log())
	return Step{}
}

func (w *world) log() (text string) {
	for _, s := range w.steps[max(0, len(w.steps)-30):] {
		text += fmt.Sprintf("\n  %s", describe(s))
	}
	return text
}

func describe(s Step) string {
	text := string(s.Action)
	if s.Revision != 0 {
		text += fmt.Sprintf(" revision %d", s.Revision)
	}
	if s.Generation != 0 {
		text += fmt.Sprintf(" generation %d", s.Generation)
	}
	if s.NewKey {
		text += " new key"
	}
	if !s.Bridge.IsZero() {
		text += fmt.Sprintf(" bridge %d", s.Bridge[1])
	}
	if !s.CRL.None() {
		text += fmt.Sprintf(" crl %d", s.CRL.Digest[1])
	}
	if !s.Staple.None() {
		text += fmt.Sprintf(" staple %d", s.Staple.Digest[1])
	}
	if s.KeyOf != 0 {
		text += fmt.Sprintf(" key of %d", s.KeyOf)
	}
	if s.Begins.Revision != 0 {
		text += fmt.Sprintf(" begins slot %q", s.Begins.ID)
	}
	if s.AsksSlot != 0 {
		text += fmt.Sprintf(" asks slot for %d", s.AsksSlot)
	}
	if s.Alarm {
		text += " ALARM"
	}
	if !s.Until.IsZero() {
		text += " until " + s.Until.Format("02 15:04:05")
	}
	if text += ": " + s.Reason; s.Action == Wait && s.Lists != "" {
		text += " [" + s.Lists + "]"
	}
	return text
}

// good says whether what is desired is in use, proven and valid; or why not.
func (w *world) good() string {
	v := w.record.Revision(w.current)
	switch {
	case v == nil:
		return "nothing is in use"
	case !v.Committed() || w.record.Proven != w.current || w.process != w.current:
		return fmt.Sprintf("revision %d is not proven and committed", w.current)
	case v.Bundle != w.d.Bundle:
		return "the bundle in use is another"
	case w.roots[v.Generation] == 'B' && v.Bridge != w.d.Bridge:
		return "the bridge in use is another"
	case w.roots[v.Generation] != 'B' && !v.Bridge.IsZero():
		return "a leaf under A carries a bridge"
	case v.CRL.Digest != w.d.CRL.Digest:
		return "the CRLs in use are others"
	case slices.Contains(w.d.Revoked, v.Generation) && w.d.Identity:
		return "the certificate in use was revoked"
	case w.drift != "":
		return w.drift
	}
	g := w.record.Generation(v.Generation)
	switch {
	case !w.d.Identity:
		return ""
	case g == nil || !g.Valid(w.now):
		return "no valid certificate is in use"
	case g.Leaf.Terms != w.d.Terms:
		return "the certificate in use has other terms"
	case g.Number <= w.d.RenewThrough:
		return "the certificate in use was to be renewed"
	}
	return ""
}

func (w *world) sound(t testing.TB) {
	t.Helper()
	for _, bad := range w.bad {
		t.Errorf("%s%s", bad, w.log())
	}
}
