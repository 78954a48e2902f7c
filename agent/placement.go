package agent

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/rotation"
)

// placement is one place on this host where a certificate lives.
type placement struct {
	e  *Executor
	id string

	wished  atomic.Pointer[wished] // the newest desire
	shown   atomic.Pointer[api.PlacementReport]
	ready   atomic.Pointer[Readiness]
	targets []string // that it was ever of; held by e.mu

	// granting is held while a slot is begun, and while a desire is replaced.
	granting sync.Mutex

	mu       sync.Mutex      // held while it is worked on
	canaries canaries        // by which the trust of the process is tried
	tickets  map[string]held // by anchor: sessions from before it was withdrawn
	contact  contact         // what answers on the control path
	ahead    found           // by the last look before a switch
	wellAt   found           // when the member was last seen well after one
	retrial  retrial
	bridges  bridges
	beside   beside
	onList   onList
	edges    edges
	drawer   drawer
	opened   bool
	record   record
	unsaved  bool    // the record holds what the disk does not have yet
	last     *wished // that was acted on last
	looked   time.Time
	drift    string // found then
	strays   bool   // the directory holds revisions that the record does not know
	blocked  *blockage
	warned   string // of CRLs, in the log
}

// wished is a desire, or why it can't be one.
type wished struct {
	*wish
	err    error
	target string // whose worker it is for
	// arrived is when its slot came for the first time.
	arrived time.Duration
}

// blockage is trouble on this host that leaves nothing to derive a step from.
type blockage struct {
	err   error
	count int
	until time.Time
}

func newPlacement(e *Executor, id string) *placement {
	return &placement{e: e, id: id, drawer: drawer{root: e.State, dir: path.Join(placementsDir, id)}}
}

// want takes a desire; e.mu is held.
func (p *placement) want(d *api.DesiredPlacement) {
	w, err := parseWish(d)
	t := d.GetTarget()
	next := &wished{wish: w, err: err, target: t.GetKind() + "/" + t.GetName()}
	before := p.wished.Load()
	known := before != nil && before.wish != nil && !before.bare
	switch {
	case err != nil && before != nil:
		next.wish = before.ungranted() // what was begun goes on
	case err != nil:
		next.wish = nil
	case w.bare && known: // as before, but nothing new
		goesOn := before.ungranted()
		goesOn.desired.Orphan, goesOn.desired.Hold = w.desired.Orphan, w.desired.Hold
		next.wish, next.target = goesOn, before.target
	}
	p.settle(next)
}

// orphan takes it that nothing wants the placement any more; e.mu is held.
func (p *placement) orphan() {
	before := p.wished.Load()
	if before == nil || before.wish == nil || before.desired.Orphan {
		return
	}
	w := before.ungranted()
	w.desired.Orphan = true
	p.settle(&wished{wish: w, target: before.target})
}

// ungranted is a copy of the wish without its slot and orders: only what the
// newest desire shows is granted, or ordered.
func (w *wished) ungranted() *wish {
	if w.wish == nil {
		return nil
	}
	goesOn := *w.wish
	goesOn.slot, goesOn.orders = leave{}, nil
	return &goesOn
}

func (p *placement) settle(next *wished) {
	next.arrived = p.e.elapsed()
	if before := p.wished.Load(); before != nil && before.wish != nil && next.wish != nil && before.slot.id == next.slot.id {
		next.arrived = before.arrived
	}
	p.granting.Lock()
	defer p.granting.Unlock()
	if !slices.Contains(p.targets, next.target) {
		p.targets = append(p.targets, next.target)
	}
	p.wished.Store(next)
}

func (p *placement) target() string { return p.wished.Load().target }

// How often a placement is looked at to see whether it is still there, and how
// often files are read again to see whether someone edited them: often where
// they are put back, else as a report.
const (
	presenceInterval = time.Minute
	repairInterval   = time.Minute
	driftInterval    = 5 * time.Minute
)

// advance takes the placement as far as it can go now, and says when to look
// again.
func (p *placement) advance(ctx context.Context) time.Time { return p.advanceTo(ctx, nil) }

// place is advance, but that it leaves the first proof of all for later.
func (p *placement) place(ctx context.Context) {
	p.advanceTo(ctx, func(f rotation.Facts, s rotation.Step) bool {
		return s.Action == rotation.Prove && f.Standing() == nil
	})
}

// halt says whether to go no further than this step for now.
type halt func(rotation.Facts, rotation.Step) bool

// advanceTo is advance up to where halt says yes; nil never does.
func (p *placement) advanceTo(ctx context.Context, halt halt) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.e.Now()
	w := p.wished.Load()
	if p.blocked != nil && now.Before(p.blocked.until) && w == p.last {
		return p.blocked.until
	}
	until, err := p.proceed(ctx, w, halt)
	if ctx.Err() != nil {
		return time.Time{}
	}
	if err != nil {
		until = p.block(err)
	} else {
		p.blocked = nil
	}
	p.last = w
	return until
}

// proceed steps until there is something to wait for.
func (p *placement) proceed(ctx context.Context, w *wished, halt halt) (time.Time, error) {
	if !idForm.MatchString(p.id) {
		return time.Time{}, w.err
	}
	if err := p.open(); err != nil {
		return time.Time{}, err
	}
	if w.wish == nil {
		return time.Time{}, w.err
	}
	if err := p.move(w.wish); err != nil {
		return time.Time{}, err
	}
	var made progress
	for {
		p.greet(ctx, w.wish)
		p.fetchBridge(ctx, w.wish)
		p.fetchLists(ctx, w.wish)
		if ctx.Err() != nil {
			return time.Time{}, nil
		}
		facts, err := p.facts(w)
		if err != nil {
			return time.Time{}, err
		}
		step := p.next(w, facts)
		p.publish(w, facts, step)
		if halt != nil && halt(facts, step) {
			return time.Time{}, p.flush()
		}
		ordered := p.due(w, facts, step)
		if ordered == nil && step.Action == rotation.Wait {
			if err := p.flush(); err != nil {
				return time.Time{}, err
			}
			if tried, err := p.retry(ctx, w.wish); err != nil || ctx.Err() != nil {
				return time.Time{}, err
			} else if tried {
				continue
			}
			return earlier(earlier(earlier(step.Until, p.contact.again), p.retryAt(w.wish)), p.e.Now().Add(presenceInterval)), w.err
		}
		if err := p.goOn(ctx, w.wish, ordered, facts, step, &made); err != nil || ctx.Err() != nil {
			return time.Time{}, err
		}
		if newest := p.wished.Load(); newest != w {
			w, made = newest, progress{}
			if w.wish == nil {
				return time.Time{}, w.err
			}
		}
	}
}

// goOn carries out an order, where there is one, or else a step.
func (p *placement) goOn(ctx context.Context, w *wish, ordered *order, f rotation.Facts, s rotation.Step, made *progress) error {
	if ordered != nil {
		return p.obey(ctx, w, *ordered)
	}
	if err := made.next(f, s); err != nil {
		return fault.Wrap(fault.Internal, err, "placement %s: no progress", p.id)
	}
	return p.carryOut(ctx, w, s)
}

func lookInterval(w *wish) time.Duration {
	if w.desired.Repair {
		return repairInterval
	}
	return driftInterval
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// block reports trouble of the host's and puts the next try off.
func (p *placement) block(err error) time.Time {
	count := 1
	if p.blocked != nil {
		count += p.blocked.count
	}
	pause := min(time.Second<<min(count, 6), time.Minute)
	p.blocked = &blockage{err: err, count: count, until: p.e.Now().Add(pause)}
	p.e.Log.Error("placement is blocked", "placement", p.id, "error", err.Error(), "again", p.blocked.until)
	p.publishBlocked(err)
	return p.blocked.until
}

// next is what the rules derive. Where all that is known is that nothing new is
// wanted, there is nothing to derive it from.
func (p *placement) next(w *wished, f rotation.Facts) rotation.Step {
	switch {
	case w.bare && f.Slot != nil && f.Current != 0 && f.Loaded == f.Current && f.Proven == f.Current:
		return rotation.Step{Action: rotation.Release, Revision: f.Current, Reason: "the slot is over, and no intent wants this placement any more"}
	case w.bare && f.Slot != nil && f.Slot.ID != "":
		return rotation.Step{Action: rotation.Wait, Alarm: true, Reason: fmt.Sprintf(
			"slot %s is kept: the agent was stopped in the middle of revision %d, and how to end that is not said any more; look at the target, then rotunda slots release %s", f.Slot.ID, f.Slot.Revision, f.Slot.ID)}
	case w.bare && w.desired.Orphan:
		return rotation.Step{Action: rotation.Wait, Reason: "no intent wants this placement any more"}
	case w.bare:
		return rotation.Step{Action: rotation.Wait, Reason: "held: " + w.desired.Hold}
	}
	return rotation.Next(f, p.desired(w), p.e.Now())
}

// open reads the record, once.
func (p *placement) open() error {
	if p.opened {
		return nil
	}
	r, aside, err := p.drawer.open()
	if err != nil {
		return err
	}
	if aside != "" {
		p.e.Log.Error("record could not be read and was set aside; the placement begins anew", "placement", p.id, "file", p.drawer.path(aside))
	}
	if aside != "" { // a process may run with what is not known any more
		r.Stood = &rotation.Generation{}
		if err := p.drawer.save(&r); err != nil {
			return err
		}
	}
	p.record, p.opened = r, true
	return p.drawer.sweep(&p.record)
}

// change changes the record durably, or not at all.
func (p *placement) change(do func(r *record)) error {
	next := p.record.clone()
	do(&next)
	if err := p.drawer.save(&next); err != nil {
		return err
	}
	p.record, p.unsaved = next, false
	return nil
}

// changeSoon changes the record; the next change, or the next wait, makes it
// durable. It is for facts that may be lost, since the step that made them may
// be repeated and comes to the same: the server answers the same request with
// the same certificate, and what was staged is staged anew.
func (p *placement) changeSoon(do func(r *record)) error {
	next := p.record.clone()
	do(&next)
	p.record, p.unsaved = next, true
	return nil
}

// flush makes durable what was changed and is not yet.
func (p *placement) flush() error {
	if !p.unsaved {
		return nil
	}
	return p.change(func(*record) {})
}

// move begins anew in another directory where the intent names one. What is in
// the old one stays: a process may still read it.
func (p *placement) move(w *wish) error {
	if p.record.Directory == w.files.directory || w.desired.Orphan || w.bare {
		return nil
	}
	if p.record.Directory != "" {
		p.e.Log.Warn("files move to another directory; the old ones stay", "placement", p.id, "from", p.record.Directory, "to", w.files.directory)
	}
	p.looked = time.Time{}
	return p.change(func(r *record) {
		r.Directory, r.Revisions, r.Files = w.files.directory, nil, nil
		r.Loaded, r.Proven, r.Level, r.Pending = 0, 0, api.Level_LEVEL_UNSPECIFIED, ""
	})
}

func (p *placement) owner() marker { return marker{Agent: p.e.AgentID, Placement: p.id} }

// facts gathers what the record and the directory show now.
func (p *placement) facts(w *wished) (rotation.Facts, error) {
	f := rotation.Facts{Record: p.record.Record, Apart: p.apart(w.wish)}
	p.listFacts(w.wish, &f)
	if p.record.Directory == "" { // an orphan of which nothing was ever placed
		return f, nil
	}
	l, err := openLayout(p.e.Host, p.record.Directory, p.owner(), false)
	if err != nil {
		return f, err
	}
	if l == nil {
		for _, v := range p.record.Revisions {
			f.Gone = append(f.Gone, v.Number)
		}
		return f, nil
	}
	defer l.close()
	for _, v := range p.record.Revisions {
		if !l.whole(v.Number, p.record.Files[v.Number]) {
			f.Gone = append(f.Gone, v.Number)
		}
	}
	if f.Current, f.Drift, err = l.current(); err != nil {
		return f, err
	}
	staged, err := l.revisions()
	if err != nil {
		return f, err
	}
	for _, number := range staged {
		if p.record.Revision(number) == nil {
			f.Strays = append(f.Strays, number)
		}
	}
	p.strays = len(f.Strays) > 0
	if f.Current != 0 && p.record.Revision(f.Current) != nil {
		now := p.e.Now()
		if w != p.last || p.looked.IsZero() || now.Sub(p.looked) >= lookInterval(w.wish) || now.Before(p.looked) {
			p.looked, p.drift = now, l.differs(f.Current, p.record.Files[f.Current])
			p.last = w
		}
		f.Drift = p.drift
		if f.Drift == "" && slices.Contains(f.Gone, f.Current) {
			f.Drift = "files of " + revName(f.Current) + " are gone"
		}
		if f.Drift == "" && p.reshaped(w.wish, f.Current) {
			f.Drift = "the intent wants other files, owners or modes"
		}
	}
	return f, nil
}

// reshaped says whether the intent wants the same credential in other files.
func (p *placement) reshaped(w *wish, revision uint64) bool {
	v := p.record.Revision(revision)
	if v == nil || w.desired.Orphan || w.bare {
		return false
	}
	owner, err := ownerOf(p.e.Host, w.files)
	if err != nil {
		return false // said when something is to be staged
	}
	want := w.wantedNames(*v)
	have := p.record.Files[revision]
	if len(want) != len(have) {
		return true
	}
	for _, was := range have {
		mode := publicMode
		if secretFile(was.Name) {
			mode = w.files.mode
		}
		if !slices.Contains(want, was.Name) || was.Mode != mode || !owned(was, owner) {
			return true
		}
	}
	return false
}

// desired is what rotations go by: the wish, the host's own hold, and that
// other files are wanted, which is not for the profile to decline.
func (p *placement) desired(w *wished) rotation.Desired {
	d := w.desired
	p.dated(w.wish, &d)
	if wrong := p.contact.wrong(); wrong != nil {
		d.Hold = wrong.Error()
	}
	if hold := p.e.held(); hold != "" {
		d.Hold = hold
	}
	d.Slot = w.granted(p.e.Now(), p.e.elapsed())
	d.ClockOff = p.e.clockOff()
	if p.drift == "" && p.record.Loaded != 0 && p.reshaped(w.wish, p.record.Loaded) {
		d.Repair = true
	}
	return d
}

// carryOut does what a step says and makes its fact durable. An error means
// that the fact could not be recorded, or that this host is in trouble; that a
// step failed is a fact itself.
func (p *placement) carryOut(ctx context.Context, w *wish, s rotation.Step) error {
	p.e.Log.Info("step", "placement", p.id, "intent", w.intent, "action", string(s.Action), "generation", s.Generation, "revision", s.Revision, "reason", s.Reason)
	act := map[rotation.Action]func(context.Context, *wish, rotation.Step) error{
		rotation.Request:    p.request,
		rotation.Stage:      p.stage,
		rotation.Repair:     p.stage,
		rotation.Check:      p.check,
		rotation.Activate:   p.activate,
		rotation.Restore:    p.activate,
		rotation.Prove:      p.prove,
		rotation.Commit:     p.commit,
		rotation.Release:    p.release,
		rotation.Remove:     p.remove,
		rotation.DestroyKey: p.destroyKey,
	}[s.Action]
	if act == nil {
		return fault.New(fault.Internal, "placement %s: action %q is unknown", p.id, s.Action)
	}
	if err := act(ctx, w, s); err != nil {
		return fmt.Errorf("%s: %w", s.Action, err)
	}
	p.e.reached(string(s.Action) + ": recorded")
	return nil
}

// setBack records that an attempt failed, so that the next one is put off.
func (p *placement) setBack(w *wish, s rotation.Action, generation uint64, err error, transient bool) error {
	p.e.Log.Warn("step failed", "placement", p.id, "intent", w.intent, "action", string(s), "generation", generation, "error", err.Error())
	now := p.e.Now()
	return p.change(func(r *record) {
		r.SetBack(s, generation, err.Error(), transient, w.desired, now)
		r.Setback.After = fault.AfterOf(err)
		if !transient || s != rotation.Request {
			r.Failure = &failure{Step: s, Reason: err.Error(), Generation: generation, At: now}
		}
	})
}

// passing says whether an error may be over soon by itself.
func passing(err error) bool {
	code := fault.CodeOf(err)
	return code == fault.Unavailable || code == fault.Internal || errors.Is(err, context.DeadlineExceeded)
}
