package probe

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"
)

// proof is a proof in the making.
type proof struct {
	expected Expectation
	started  time.Time
	verdict  Verdict
	kept     []Observation

	opened  time.Time // when the first handshake of the window began
	inside  int       // handshakes in the window
	flipped bool      // a window was broken
	newest  Finding   // of the newest handshake
	wrong   Finding   // of the newest one that did not fit
}

func (p *proof) run(ctx context.Context) {
	pace := time.NewTicker(max(p.expected.observe()/looksPerWindow, 10*time.Millisecond))
	defer pace.Stop()
	for {
		began := time.Now()
		finding, ok := p.look(ctx)
		if ok && p.weigh(finding, began) {
			if finding, ok = p.lookAside(ctx); ok && finding.Cause == Fits {
				p.verdict.Proven = true
				return
			}
			p.breakWindow(finding)
		}
		if ok && p.final(finding) {
			p.verdict.Finding = finding
			return
		}
		select {
		case <-ctx.Done():
			p.verdict.Finding = p.giveUp(ctx)
			return
		case <-pace.C:
		}
	}
}

// look shakes hands once, as most clients do. It is not ok when time was up.
func (p *proof) look(ctx context.Context) (Finding, bool) {
	spec := p.expected.Spec
	spec.MinVersion, spec.MaxVersion = 0, 0
	spec.ReadAcceptance = p.expected.MustAccept && spec.Certificate != nil
	return p.shake(ctx, spec, p.expected.Judge)
}

// lookAside looks where the window did not: at what clients of the older
// protocol are shown, and at what a client without a certificate may do.
func (p *proof) lookAside(ctx context.Context) (Finding, bool) {
	if p.expected.MinProtocol <= tls.VersionTLS12 {
		older := p.expected.Spec
		older.MinVersion, older.MaxVersion, older.ReadAcceptance = tls.VersionTLS12, tls.VersionTLS12, false
		if finding, ok := p.shake(ctx, older, p.expected.judgeOlder); !ok || finding.Cause != Fits {
			return finding, ok
		}
	}
	if p.expected.ClientAuth == ClientAuthUnchecked {
		return Finding{}, true
	}
	bare := p.expected.Spec
	bare.MinVersion, bare.MaxVersion, bare.Certificate, bare.ReadAcceptance = 0, 0, nil, true
	return p.shake(ctx, bare, func(seen Observation) Finding {
		if finding := p.expected.Judge(seen); finding.Cause != Fits {
			return finding
		}
		return p.expected.JudgeClientAuth(seen)
	})
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
	p.keep(seen, finding)
	p.verdict.Handshakes++
	if finding.Cause == Fits {
		p.verdict.Fitting++
	}
	return finding, true
}

// cutShort says whether a handshake had no answer because the proof's own time
// was over: it says nothing about the server, unless it is all there is.
func (p *proof) cutShort(ctx context.Context, seen Observation) bool {
	end, _ := ctx.Deadline()
	return seen.Outcome == Timeout && p.verdict.Handshakes > 0 && !time.Now().Before(end)
}

// weigh adds a handshake to the window and says whether it is complete.
func (p *proof) weigh(finding Finding, began time.Time) bool {
	if finding.Cause != Fits {
		p.breakWindow(finding)
		return false
	}
	if p.inside++; p.inside == 1 {
		p.opened = began
	}
	return p.inside >= minHandshakes && began.Sub(p.opened) >= p.expected.observe()
}

func (p *proof) breakWindow(finding Finding) {
	if finding.Cause == Fits {
		return
	}
	p.flipped = p.flipped || p.inside > 0
	p.wrong, p.inside = finding, 0
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
