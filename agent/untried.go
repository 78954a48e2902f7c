package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/rotation"
)

// A proof does not wait for the control plane: where canaries can't be had, the
// revision stands by what else was shown, and whom the process trusts is tried
// later. That this is still to be done stands in the record.

// retrials is how often trust that could not be tried is tried again.
var retrials = backoff{2 * time.Second, 5 * time.Minute}

// retrial is when the trust of a process is tried again, in memory.
type retrial struct {
	revision uint64
	tries    int
	streams  uint64    // that the control plane had opened by then
	again    time.Time // zero: not set yet
}

// owes says whether the revision in use was proven without canaries that could
// not be had, so that nobody knows yet whom the process trusts.
func (p *placement) owes(w *wish) bool {
	return p.record.Untried != 0 && p.record.Untried == p.record.Proven && w.tries() && !w.bare && !w.desired.Orphan
}

// retryAt is when trust is tried again; zero: it need not be. A stream that has
// opened since begins the row anew: what was missing may be had now. All agents
// of a fleet may see that at once, so each waits a little of its own.
func (p *placement) retryAt(w *wish) time.Time {
	if !p.owes(w) {
		return time.Time{}
	}
	streams := p.e.streams.Load()
	if r := &p.retrial; r.again.IsZero() || r.revision != p.record.Untried || r.streams != streams {
		*r = retrial{revision: p.record.Untried, streams: streams, again: p.e.Now().Add(retrials.after(0))}
	}
	return p.retrial.again
}

// retry tries the trust of the process again where that is due, and says whether
// something came of it. Only a verdict changes what is recorded.
func (p *placement) retry(ctx context.Context, w *wish) (bool, error) {
	at := p.retryAt(w)
	if at.IsZero() || p.e.Now().Before(at) {
		return false, nil
	}
	v := *p.record.Revision(p.record.Proven)
	p.canaries = canaries{}
	if p.fetchCanaries(ctx, w, v.Bundle); ctx.Err() != nil {
		return false, nil
	}
	var look *probe.Observation
	problem := p.canaries.err
	if problem == nil { // the process is left alone where there is nothing to try it by
		look, problem = p.observe(ctx, w, v)
	}
	if ctx.Err() != nil {
		return false, nil
	}
	p.retrial.tries++
	p.retrial.again = p.e.Now().Add(retrials.after(p.retrial.tries))
	if problem != nil && (look == nil || fault.CodeOf(problem) == fault.Unavailable) {
		p.e.Log.Info("whom the process trusts could not be tried", "placement", p.id, "error", problem.Error(), "again", p.retrial.again)
		return false, nil
	}
	seen, err := p.testify(ctx, w, look)
	if err != nil || ctx.Err() != nil {
		return false, err
	}
	p.e.reached("retry: tried")
	return true, p.conclude(w, v, look, seen, problem)
}

// conclude records the verdict. A process that trusts whom it should not, or not
// whom it should, is no longer proven: the rules load it once more, and say so.
func (p *placement) conclude(w *wish, v rotation.Revision, look *probe.Observation, seen *evidence, problem error) error {
	now := p.e.Now()
	if problem != nil {
		p.e.Log.Warn("the process does not trust as its bundle says", "placement", p.id, "revision", v.Number, "error", problem.Error())
	}
	return p.change(func(r *record) {
		r.Untried, r.Observed = 0, seen
		if problem != nil {
			r.Proven = 0
			r.Fail(v.Number, rotation.Prove, fmt.Sprintf("tried later, when canaries could be had: %v", problem), false, w.desired, now)
			return
		}
		r.obeys(refusesRevoked(look))
		r.Sessions = r.unrefused(look)
	})
}

// Reachable is told that a server of the control plane can be reached again.
func (e *Executor) Reachable() {
	e.streams.Add(1)
	notify(e.regroup)
}
