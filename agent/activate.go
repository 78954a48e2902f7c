package agent

import (
	"context"
	"fmt"
	"path"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/durable"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/rotation"
	"github.com/rotunda-pki/rotunda/target"
)

// activate switches to a revision and makes the process load it. It is also how
// a restore goes. That the switch is coming is noted before it, so that nobody
// takes the process to serve what it served; and it may be repeated, so that a
// crash before the reload is made good by another.
func (p *placement) activate(ctx context.Context, w *wish, s rotation.Step) error {
	v := *p.record.Revision(s.Revision)
	change, err := p.difference(w, v)
	if err != nil {
		return err
	}
	if err := p.takeTickets(ctx, w, s, v); err != nil || ctx.Err() != nil {
		return err
	}
	if goes, err := p.note(ctx, w, s, v); err != nil || !goes {
		return err
	}
	p.e.reached(string(s.Action) + ": noted")
	loaded, acts, err := p.load(ctx, w, s, change)
	if err != nil {
		return p.failed(w, s.Action, v, err)
	}
	p.e.reached(string(s.Action) + ": loaded")
	trusts := p.taken(w, v, change, acts, loaded.Pending)
	return p.change(func(r *record) {
		r.Load(s.Revision)
		r.Trusts = trusts
		r.Level, r.Pending = levelOf(loaded.Level), loaded.Pending
		r.CRLLevel = crlLevel(v, loaded)
	})
}

// note records that the switch is coming, and with what leave. It says no where
// the switch must not be.
func (p *placement) note(ctx context.Context, w *wish, s rotation.Step, v rotation.Revision) (bool, error) {
	seen := p.ahead
	begins := s.Action == rotation.Activate && v.ActivatedAt.IsZero()
	if stale := seen.revision != v.Number || p.e.elapsed()-seen.at >= lookHolds; begins && stale && p.record.Standing() != nil {
		var problem error
		if seen, problem = p.lookAhead(ctx, w, v); ctx.Err() != nil {
			return false, nil
		}
		if problem != nil {
			return false, p.objected(w, v, problem)
		}
	}
	now := p.e.Now()
	do := func(r *record) {
		if begins && seen.revision == v.Number {
			r.Meet(v.Number, seen.away, seen.well)
		}
		r.Switch(v.Number, now)
		r.Level, r.CRLLevel, r.Pending = api.Level_LEVEL_UNSPECIFIED, api.Level_LEVEL_UNSPECIFIED, ""
	}
	if s.Begins.Revision == 0 {
		return true, p.change(do)
	}
	p.e.reached(string(s.Action) + ": to begin a slot")
	goes, err := p.begin(s.Begins, do)
	if goes {
		p.e.announce()
	}
	return goes, err
}

// load switches the link and carries out what the target needs then.
func (p *placement) load(ctx context.Context, w *wish, s rotation.Step, change target.Change) (target.Loaded, []target.Act, error) {
	l, err := openLayout(p.e.Host, p.record.Directory, p.owner(), true)
	if err != nil {
		return target.Loaded{}, nil, err
	}
	defer l.close()
	if s.Action == rotation.Restore {
		if err := p.mend(l, w, s.Revision); err != nil {
			return target.Loaded{}, nil, err
		}
	}
	if err := l.lead(s.Revision); err != nil {
		return target.Loaded{}, nil, fmt.Errorf("switch to revision %d: %w", s.Revision, err)
	}
	p.looked = time.Time{}
	p.e.reached(string(s.Action) + ": switched")
	t, err := p.reach(w)
	if err != nil {
		return target.Loaded{}, nil, err
	}
	var sum target.Loaded
	acts := w.adapter.Plan(t, change)
	for i, act := range acts {
		loaded, err := p.do(ctx, w, act)
		if err != nil {
			return target.Loaded{}, nil, err
		}
		if i > 0 && levelOf(sum.Level) < levelOf(loaded.Level) {
			loaded.Level = sum.Level // no more is loaded than the least of the acts shows
		}
		if loaded.Pending == "" {
			loaded.Pending = sum.Pending
		}
		sum = loaded
	}
	return sum, acts, nil
}

// reach is the target with the control path that agent.yaml names for it.
func (p *placement) reach(w *wish) (target.Target, error) {
	t := w.target
	var err error
	t.Control, err = p.e.Host.Control(t.Name, w.adapter.Kind)
	return t, err
}

// do carries out one act.
func (p *placement) do(ctx context.Context, w *wish, act target.Act) (target.Loaded, error) {
	limit, err := p.limit(w, act)
	if err != nil {
		return target.Loaded{}, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	return w.adapter.Load(ctx, p.e.Host.targetHost(), act)
}

// limit is how long an act may take. A restarted process has as long to answer
// as a proof may take, beside what a command or the server's own tool takes.
func (p *placement) limit(w *wish, act target.Act) (time.Duration, error) {
	if act.Command == "" {
		return w.proof.timeout + programPatience(act.Target), nil
	}
	command, err := p.e.Host.Command(act.Command)
	return w.proof.timeout + command.Timeout, err
}

// difference is how a revision differs from what the process last had.
func (p *placement) difference(w *wish, v rotation.Revision) (target.Change, error) {
	before := p.before(v)
	if before == nil {
		// Where the record was lost, a process may run with what it does not know.
		// Where the files moved, it runs with those of the old directory.
		first := v.Failed == nil && w.proof.level != api.Level_LEVEL_LOADED && !p.strays && p.record.Stood == nil
		return target.Change{First: first, Unknown: !first, Leaf: true, CRL: !v.CRL.None(), Staple: !v.Staple.None()}, nil
	}
	change := target.Change{
		Leaf: before.Generation != v.Generation || before.Bridge != v.Bridge,
		CRL:  before.CRL.Digest != v.CRL.Digest, Staple: before.Staple.Digest != v.Staple.Digest,
	}
	if before.Generation != 0 && v.Generation != 0 {
		was, is := p.record.Generation(before.Generation), p.record.Generation(v.Generation)
		change.KeyType = was == nil || is == nil || was.Algorithm != is.Algorithm
	}
	if before.Bundle != v.Bundle {
		was, err := p.drawer.bundle(before.Bundle)
		if err != nil { // not known any more: all of it may differ
			change.AnchorsAdded, change.AnchorsRemoved = true, true
			return change, nil
		}
		is, err := p.drawer.bundle(v.Bundle)
		if err != nil {
			return change, err
		}
		change.AnchorsAdded, change.AnchorsRemoved = missing(was, is), missing(is, was)
	}
	if change.None() { // edited files were put back, or a restore repeated
		change.Leaf = true
	}
	return change, nil
}

// before is the revision that the process may have loaded before this one: for
// a restore the newest that failed, else the one that stands.
func (p *placement) before(v rotation.Revision) *rotation.Revision {
	for i := len(p.record.Revisions) - 1; i >= 0; i-- {
		r := &p.record.Revisions[i]
		if r.Number == v.Number || r.ActivatedAt.IsZero() {
			continue
		}
		if v.Committed() || r.Committed() {
			return r
		}
	}
	return nil
}

// missing says whether b lacks an anchor or more that other has.
func missing(b, other pki.Bundle) bool {
	for _, anchor := range other.Anchors() {
		if !b.Contains(anchor) {
			return true
		}
	}
	return false
}

// mend writes files of a revision that is to be restored anew where someone
// edited them. Unlike a staged one it was shown to work, and there is no other.
func (p *placement) mend(l *layout, w *wish, revision uint64) error {
	staged := p.record.Files[revision]
	if l.differs(revision, staged) == "" {
		return nil
	}
	v := p.record.Revision(revision)
	b, err := p.drawer.bundle(v.Bundle)
	if err != nil {
		return err
	}
	files, _, err := p.files(w, *v, b)
	if err != nil {
		return err
	}
	if err := durable.Mkdir(l.root, revName(revision), 0o755, nil); err != nil {
		return err
	}
	facts := make([]fileFact, 0, len(staged))
	for _, was := range staged {
		if _, is, err := l.read(revision, was.Name); err == nil && sameFile(is, was) {
			facts = append(facts, was)
			continue
		}
		fact, err := p.rewrite(l, revision, was, files)
		if err != nil {
			return err
		}
		facts = append(facts, fact)
	}
	return p.change(func(r *record) { r.Files[revision] = facts })
}

func (p *placement) rewrite(l *layout, revision uint64, was fileFact, files []content) (fileFact, error) {
	for _, file := range files {
		if file.name != was.Name {
			continue
		}
		data, err := file.write()
		if err != nil {
			return was, err
		}
		at := path.Join(revName(revision), was.Name)
		if err := durable.RemoveAll(l.root, at); err != nil {
			return was, err
		}
		if err := durable.WriteFile(l.root, at, data, was.Mode, &durable.Owner{UID: was.UID, GID: was.GID}); err != nil {
			return was, err
		}
		_, fact, err := l.read(revision, was.Name)
		fact.Source = was.Source
		return fact, err
	}
	return was, fmt.Errorf("%s of revision %d can't be written anew: the intent does not want that file any more", was.Name, revision)
}

// failed records that a revision could not be loaded, or was not proven.
func (p *placement) failed(w *wish, action rotation.Action, v rotation.Revision, problem error) error {
	p.e.Log.Warn("step failed", "placement", p.id, "intent", w.intent, "action", string(action), "revision", v.Number, "error", problem.Error())
	now := p.e.Now()
	away := v.Away && (absent(problem) || (action == rotation.Activate && p.stillWrong(problem)))
	return p.change(func(r *record) {
		r.Fail(v.Number, action, problem.Error(), away, w.desired, now)
		if v.Committed() {
			return // a restore; the failure that it is for is noted
		}
		r.Failure = &failure{Step: action, Reason: problem.Error(), Generation: v.Generation, At: now, Evidence: r.Observed.digest()}
	})
}

// stillWrong says whether a problem is the one that the control path has anyway,
// which is no fault of the revision's.
func (p *placement) stillWrong(problem error) bool {
	wrong := p.contact.wrong()
	return wrong != nil && fault.CodeOf(wrong) == fault.CodeOf(problem)
}

// crlLevel is how far a load shows that the process has the CRLs of a revision.
func crlLevel(v rotation.Revision, loaded target.Loaded) api.Level {
	switch {
	case v.CRL.None():
		return api.Level_LEVEL_UNSPECIFIED
	case loaded.Pending != "":
		return api.Level_LEVEL_DELIVERED
	}
	return min(levelOf(loaded.Level), api.Level_LEVEL_LOADED)
}

func levelOf(level fleet.Level) api.Level {
	switch level {
	case fleet.Proven:
		return api.Level_LEVEL_PROVEN
	case fleet.Loaded:
		return api.Level_LEVEL_LOADED
	}
	return api.Level_LEVEL_DELIVERED
}
