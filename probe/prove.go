package probe

import (
	"context"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// What Prove does unless the Expectation says otherwise.
const (
	DefaultObserve      = 300 * time.Millisecond
	DefaultProofTimeout = 10 * time.Second

	minHandshakes   = 3  // ordinary ones in the window, however slow they are
	looksPerWindow  = 6  // ordinary handshakes are begun this often, if they are fast
	maxObservations = 64 // kept of one proof
)

// Verdict is what a proof came to.
type Verdict struct {
	Proven     bool
	Finding                  // why not; empty when proven
	Handshakes int           // in all
	Fitting    int           // of them, as expected
	Took       time.Duration // from the first handshake to the verdict
}

// Prove shakes hands until the server has shown what is expected, and nothing
// else, in all handshakes of a window of at least Observe; or until time is
// up. The window begins and ends with an ordinary handshake. The looks aside
// (an older protocol, a client without a certificate, the trials) stand inside
// it, once near its beginning and once in its second half. One wrong answer
// begins all of it anew: a server that flips is never proven.
//
// The observations are the first one and the last of each run of ones that
// were judged alike, at most 64; they are evidence for the verdict. The last
// holds what the looks aside came to. It is the handshake that completed the
// window, or else the newest that did not fit.
func Prove(ctx context.Context, expected Expectation) (Verdict, []Observation) {
	if err := expected.check(); err != nil {
		return Verdict{Finding: Finding{CausePath, err.Error()}}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, expected.timeout())
	defer cancel()
	p := &proof{expected: expected, started: time.Now()}
	p.run(ctx)
	p.verdict.Took = time.Since(p.started)
	return p.verdict, p.evidence()
}

func (e Expectation) timeout() time.Duration {
	if e.Timeout <= 0 {
		return DefaultProofTimeout
	}
	return e.Timeout
}

func (e Expectation) observe() time.Duration {
	if e.Observe <= 0 {
		return DefaultObserve
	}
	return e.Observe
}

func (e Expectation) check() error {
	if len(e.Chain) == 0 {
		return fault.New(fault.Internal, "prove %s: no chain to expect was passed in", e.Spec.Address)
	}
	switch e.ClientAuth {
	case ClientAuthUnchecked, ClientAuthRequired, ClientAuthOptional, ClientAuthNone:
	default:
		return fault.New(fault.Invalid, "clientAuth %q is unknown", string(e.ClientAuth)).
			WithRemedy("use required, optional or none")
	}
	if e.observe() >= e.timeout() {
		return fault.New(fault.Invalid, "proof of %s: it is to be observed for %s, which does not fit into its timeout of %s",
			e.Spec.Address, e.observe(), e.timeout()).WithRemedy("raise proof.timeout or lower proof.observe")
	}
	if err := e.checkTrials(); err != nil {
		return err
	}
	return e.Spec.check()
}
