package probe

import (
	"context"
	"fmt"
	"time"
)

// proof is a proof in the making.
type proof struct {
	expected Expectation
	started  time.Time
	verdict  Verdict
	kept     []Observation

	window  window
	flipped bool        // a window was broken
	newest  Finding     // of the newest handshake
	seen    Observation // the newest handshake
	broken  int         // windows, so far
	wrong   Finding     // the newest one that did not fit
	against Observation // the handshake that shows it
	aside   aside       // what the newest looks aside came to
}

// window is a run of handshakes of which every one fitted.
type window struct {
	opened time.Time // when its first handshake began
	looks  int       // ordinary handshakes
	passes int       // times that everything aside was looked at
}

// Everything aside is looked at when the window is young and when it is old,
// for a worker that is on its way out may still answer in between.
const passesPerWindow = 2

// passDue says whether to look aside after an ordinary handshake that began
// then.
func (w window) passDue(began time.Time, observe time.Duration) bool {
	return w.passes == 0 || w.passes < passesPerWindow && began.Sub(w.opened) >= observe/2
}

// complete says whether an ordinary handshake that began then is the last that
// was wanted.
func (w window) complete(began time.Time, observe time.Duration) bool {
	return w.looks >= minHandshakes && w.passes == passesPerWindow && began.Sub(w.opened) >= observe
}

// due is when the next ordinary handshake begins, after so many windows that
// were broken.
func (w window) due(began time.Time, observe time.Duration, broken int) time.Time {
	pace := max((observe+looksPerWindow-1)/looksPerWindow, 10*time.Millisecond)
	if w.looks == 0 {
		return began.Add(pause(pace, broken))
	}
	return w.opened.Add(time.Duration(w.looks) * pace)
}

// How long a server may go on giving wrong answers before it is asked less
// often, and how seldom at last. A reload is over within the first; whoever is
// wrong for longer is not to be hammered until the end of the proof.
const (
	quickWindows = 8
	longestPause = 500 * time.Millisecond
)

func pause(pace time.Duration, broken int) time.Duration {
	for ; broken > quickWindows && pace < longestPause; broken -= 2 {
		pace = min(2*pace, longestPause)
	}
	return pace
}

func (p *proof) run(ctx context.Context) {
	for {
		began := time.Now()
		finding, ok := p.round(ctx, began)
		switch {
		case p.verdict.Proven:
			return
		case ok && p.final(finding):
			p.verdict.Finding = finding
			return
		}
		if !ok || !sleep(ctx, time.Until(p.window.due(began, p.expected.observe(), p.broken))) {
			p.verdict.Finding = p.giveUp(ctx)
			return
		}
	}
}

// sleep says whether it slept to the end.
func sleep(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

// round is one ordinary handshake and, where they are due, the looks aside.
// It is not ok when time was up.
func (p *proof) round(ctx context.Context, began time.Time) (Finding, bool) {
	observe := p.expected.observe()
	finding, ok := p.look(ctx)
	if !ok || finding.Cause != Fits {
		p.breakWindow(finding)
		return finding, ok
	}
	if p.window.looks == 0 {
		p.window.opened = began
	}
	p.window.looks++
	if p.window.complete(began, observe) {
		p.verdict.Proven = true
		return Finding{}, true
	}
	if !p.window.passDue(began, observe) {
		return Finding{}, true
	}
	if finding, ok = p.lookAside(ctx); ok && finding.Cause == Fits {
		p.window.passes++
	}
	p.breakWindow(finding)
	return finding, ok
}

// look shakes hands once, as most clients do. It is not ok when time was up.
func (p *proof) look(ctx context.Context) (Finding, bool) {
	spec := p.expected.Spec
	spec.MinVersion, spec.MaxVersion = 0, 0
	spec.ReadAcceptance = p.expected.MustAccept && spec.Certificate != nil
	return p.shake(ctx, spec, p.expected.Judge)
}

func (p *proof) shake(ctx context.Context, spec Spec, judge func(Observation) Finding) (Finding, bool) {
	if ctx.Err() != nil {
		return Finding{}, false
	}
	seen, err := Handshake(ctx, spec)
	if err != nil || p.cutShort(ctx, seen) {
		return Finding{}, false
	}
	finding := judge(seen)
	p.seen = seen
	p.keep(seen, finding)
	p.verdict.Handshakes++
	if finding.Cause == Fits {
		p.verdict.Fitting++
	}
	return finding, true
}

// cutShort says whether a handshake had no answer because the proof's own time
// was over: it says nothing about the server, unless it is all there is. Nor
// does the silence of one whose end was not waited for.
func (p *proof) cutShort(ctx context.Context, seen Observation) bool {
	end, _ := ctx.Deadline()
	over := ctx.Err() != nil || !time.Now().Before(end)
	return over && p.verdict.Handshakes > 0 && (seen.Outcome == Timeout || seen.Accepted == Silent)
}

// breakWindow begins anew, where something did not fit.
func (p *proof) breakWindow(finding Finding) {
	if finding.Cause == Fits {
		return
	}
	p.flipped = p.flipped || p.window.passes > 0
	p.broken++
	p.wrong, p.against = finding, p.seen
	p.against.tell(p.aside)
	p.window, p.aside = window{}, aside{}
}

// final says whether a wrong answer will stay one.
func (p *proof) final(finding Finding) bool {
	switch finding.Cause {
	case CauseLeaf, CauseChain, CauseTrust, CauseClientAuth:
		return p.expected.Immediate
	}
	return false
}

// giveUp says why time ran out.
func (p *proof) giveUp(ctx context.Context) Finding {
	took := time.Since(p.started).Round(time.Millisecond)
	address := p.expected.Spec.Address
	switch {
	case p.verdict.Handshakes == 0:
		return Finding{CausePath, fmt.Sprintf("%s: stopped before the first handshake: %v", address, context.Cause(ctx))}
	case p.wrong.Cause == Fits:
		return Finding{CauseTime, fmt.Sprintf("%s: all %d handshakes fitted, but %s of them were not seen before the end (%v)",
			address, p.verdict.Fitting, p.expected.observe(), context.Cause(ctx))}
	case p.flipped:
		return Finding{p.wrong.Cause, fmt.Sprintf("%s; it flips: %d of %d handshakes in %s were as expected",
			p.wrong.Reason, p.verdict.Fitting, p.verdict.Handshakes, took)}
	}
	return Finding{p.wrong.Cause, fmt.Sprintf("%s; still so after %d handshakes in %s",
		p.wrong.Reason, p.verdict.Handshakes, took)}
}

// keep holds on to the first observation and to the last of each run of ones
// that were judged alike.
func (p *proof) keep(seen Observation, finding Finding) {
	alike := len(p.kept) > 1 && finding.Cause == p.newest.Cause
	if alike || len(p.kept) == maxObservations {
		p.kept[len(p.kept)-1] = seen
	} else {
		p.kept = append(p.kept, seen)
	}
	p.newest = finding
}

// evidence is what was kept, with the handshake that the verdict rests on last.
func (p *proof) evidence() []Observation {
	if len(p.kept) == 0 {
		return nil
	}
	last := &p.kept[len(p.kept)-1]
	switch {
	case p.verdict.Proven || p.wrong.Cause == Fits:
		last.tell(p.aside)
	case len(p.kept) == maxObservations || last.Time.Equal(p.against.Time):
		*last = p.against
	default:
		p.kept = append(p.kept, p.against)
	}
	return p.kept
}
