package probe

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
)

// aside is what one pass of looks aside came to.
type aside struct {
	trials  []TrialResult
	tickets []TicketResult
	bare    Acceptance
	refused []string
}

// tell writes it into the observation that stands for a proof.
func (o *Observation) tell(a aside) {
	o.Trials, o.WithoutCertificate, o.RefusedProtocols = a.trials, a.bare, a.refused
	o.Tickets = a.tickets
}

// lookAside looks where the ordinary handshakes do not: at what clients of an
// older protocol are shown, at what a client without a certificate may do, and
// at whom the server trusts, also where one comes back with an old session.
func (p *proof) lookAside(ctx context.Context) (Finding, bool) {
	p.aside = aside{}
	for _, look := range []func(context.Context) (Finding, bool){p.lookOlder, p.lookTooOld, p.lookBare, p.lookTrials, p.lookTickets} {
		if finding, ok := look(ctx); !ok || finding.Cause != Fits {
			return finding, ok
		}
	}
	return Finding{}, true
}

// lookOlder looks at what a client of TLS 1.2 is shown, where it may have that.
func (p *proof) lookOlder(ctx context.Context) (Finding, bool) {
	if p.expected.MinProtocol > tls.VersionTLS12 {
		return Finding{}, true
	}
	older := p.expected.Spec
	older.MinVersion, older.MaxVersion, older.ReadAcceptance = tls.VersionTLS12, tls.VersionTLS12, false
	return p.shake(ctx, older, p.expected.judgeOlder)
}

// lookTooOld offers what is below the lowest protocol, and nothing else.
func (p *proof) lookTooOld(ctx context.Context) (Finding, bool) {
	if p.expected.MinProtocol <= tls.VersionTLS10 {
		return Finding{}, true
	}
	old := p.expected.Spec
	old.MinVersion, old.MaxVersion, old.ReadAcceptance, old.anySuite = tls.VersionTLS10, p.expected.MinProtocol-1, false, true
	finding, ok := p.shake(ctx, old, p.expected.judgeTooOld)
	if ok && finding.Cause == Fits {
		for version := old.MinVersion; version <= old.MaxVersion; version++ {
			p.aside.refused = append(p.aside.refused, tls.VersionName(version))
		}
	}
	return finding, ok
}

func (p *proof) lookBare(ctx context.Context) (Finding, bool) {
	if p.expected.ClientAuth == ClientAuthUnchecked {
		return Finding{}, true
	}
	bare := p.expected.Spec
	bare.MinVersion, bare.MaxVersion, bare.Certificate, bare.ReadAcceptance = 0, 0, nil, true
	return p.shake(ctx, bare, func(seen Observation) Finding {
		if finding := p.expected.Judge(seen); finding.Cause != Fits {
			return finding
		}
		p.aside.bare = seen.Accepted
		return p.expected.JudgeClientAuth(seen)
	})
}

// lookTrials tries every certificate before it judges, for each is a control
// of the others.
func (p *proof) lookTrials(ctx context.Context) (Finding, bool) {
	for _, trial := range p.expected.Trials {
		spec := p.expected.Spec
		spec.MinVersion, spec.MaxVersion, spec.Certificate, spec.ReadAcceptance = 0, 0, trial.Certificate, true
		finding, ok := p.shake(ctx, spec, func(seen Observation) Finding { return p.expected.judgeTrial(trial, seen) })
		if !ok || finding.Cause != Fits {
			return finding, ok
		}
		p.aside.trials = append(p.aside.trials, TrialResult{
			Name: trial.Name, Anchor: trial.Anchor, Revoked: trial.Revoked, Sent: p.seen.Sent, Expected: trial.Accept, Accepted: p.seen.Accepted, Error: p.seen.Error,
		})
	}
	return p.expected.judgeTrials(p.aside.trials), true
}

// judgeOlder judges a handshake that offered an old protocol only. A server
// that declines it is right to.
func (e Expectation) judgeOlder(seen Observation) Finding {
	if seen.declined() {
		return Finding{}
	}
	for _, rule := range []func(Observation) Finding{e.judgeOutcome, e.judgeLeaf, e.judgeChain, e.judgeTrust} {
		if finding := rule(seen); finding.Cause != Fits {
			finding.Reason = "over " + tls.VersionName(tls.VersionTLS12) + ": " + finding.Reason
			return finding
		}
	}
	return Finding{}
}

// judgeTooOld judges a handshake that offered only protocols below the lowest.
func (e Expectation) judgeTooOld(seen Observation) Finding {
	switch {
	case seen.declined():
		return Finding{}
	case seen.Leaf != nil:
		return Finding{CauseProtocol, fmt.Sprintf("%s speaks %s with a client that has nothing newer, expected %s or newer",
			seen.Address, orNone(seen.Protocol), tls.VersionName(e.MinProtocol))}
	}
	finding := e.judgeOutcome(seen)
	finding.Reason = "offered " + tls.VersionName(e.MinProtocol-1) + " or older: " + finding.Reason
	return finding
}

// declined says whether the server would not speak what it was offered. It may
// say so by an alert, or just hang up as some do. That it hangs up on the
// offer, and not the network on both, is seen by the handshakes before and
// after, and by its doing so in each pass. To be silent, or away, is not to
// decline: such a server says nothing.
func (o Observation) declined() bool {
	return o.Leaf == nil && o.Stage == StageHandshake && (o.Outcome == TLSFailed || o.Outcome == Closed)
}

// everySuite is all that can be offered below TLS 1.3: a server that has only
// weak suites left for an old protocol speaks it all the same.
func everySuite() []uint16 {
	var all []uint16
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		all = append(all, suite.ID)
	}
	return all
}
