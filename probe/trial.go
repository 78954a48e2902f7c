package probe

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Trial is a client certificate by which a server's trust is tried.
type Trial struct {
	// Name says under what the certificate is, for people: "the throwaway
	// root", "CN=orders root A".
	Name        string
	Certificate *tls.Certificate
	// Accept says that the server has to accept it. Otherwise it has to
	// refuse it: silence is no refusal.
	Accept bool
	// Revoked says that it is refused because it was revoked, and for nothing
	// else: one of the same authority that was not has to be accepted beside it.
	Revoked bool
	// Anchor is the fingerprint of the root that it leads to, or Stranger.
	Anchor string
}

// Stranger stands for the fingerprint of a root that nobody knows.
const Stranger = "stranger"

// TrialResult is what a server made of a trial.
type TrialResult struct {
	Name     string     `json:"name"`
	Anchor   string     `json:"anchor,omitempty"`
	Sent     string     `json:"sent,omitempty"` // fingerprint; empty where the server did not ask
	Revoked  bool       `json:"revoked,omitempty"`
	Expected bool       `json:"expected"` // that it accepts
	Accepted Acceptance `json:"accepted,omitempty"`
	Error    string     `json:"error,omitempty"` // its refusal, in words
}

// judgeTrial holds one trial's handshake against the expectation, but for the
// server's word on the client, which counts for something only beside the
// others'.
func (e Expectation) judgeTrial(trial Trial, seen Observation) Finding {
	e.MustAccept = false
	if finding := e.Judge(seen); finding.Cause != Fits {
		return finding
	}
	if !seen.ClientAuth {
		return Finding{CauseClientAuth, fmt.Sprintf("%s does not ask clients for a certificate, so whether it accepts one under %s was not seen",
			seen.Address, trial.Name)}
	}
	return Finding{}
}

// judgeTrials holds the results of one pass against the expectation and
// against each other: by a server that takes everybody, or nobody, the answers
// that happen to be right show nothing.
func (e Expectation) judgeTrials(results []TrialResult) Finding {
	var faults, accepted, refused, served []string
	cause := Fits
	for _, r := range results {
		switch {
		case r.Expected && r.Accepted == Rejected:
			cause = CauseRejected
			faults = append(faults, fmt.Sprintf("rejects a client certificate under %s: %s", r.Name, r.Error))
		case r.Expected:
			accepted = append(accepted, r.Name)
		case r.Accepted == Rejected && !r.Revoked:
			refused = append(refused, r.Name)
		case r.Accepted == Rejected:
		case r.Revoked: // the least of the faults
			served = append(served, r.Name)
		default:
			cause = cmp.Or(cause, CauseTrusts)
			faults = append(faults, fmt.Sprintf("%s a client certificate under %s, which is not in the bundle", verb(r.Accepted), r.Name))
		}
	}
	if cause == Fits && len(served) > 0 {
		return Finding{CauseRevoked, fmt.Sprintf("%s serves a client whose certificate is on its CRL: %s", e.Spec.Address, strings.Join(served, ", "))}
	}
	if cause == Fits {
		return Finding{}
	}
	reason := e.Spec.Address + " " + strings.Join(faults, ", and ")
	if len(accepted) == 0 && !e.knownGood() && len(refused) > 0 {
		reason += "; a control failed: no certificate known good is accepted, so the refusal of " + strings.Join(refused, ", ") + " shows nothing"
	}
	if len(refused) == 0 && len(accepted) > 0 {
		reason += "; a control failed: nothing is refused, so the acceptance of " + strings.Join(accepted, ", ") + " shows nothing"
	}
	return Finding{cause, reason}
}

func verb(accepted Acceptance) string {
	if accepted == Accepted {
		return "accepts"
	}
	return "does not refuse"
}

// knownGood says whether each ordinary handshake of the proof is itself one
// with a certificate that has to be accepted.
func (e Expectation) knownGood() bool { return e.MustAccept && e.Spec.Certificate != nil }

// checkTrials refuses trials that could show nothing.
func (e Expectation) checkTrials() error {
	good, bad := e.knownGood(), false
	for _, trial := range e.Trials {
		if trial.Certificate == nil || len(trial.Certificate.Certificate) == 0 {
			return fault.New(fault.Internal, "prove %s: the trial under %s has no certificate", e.Spec.Address, trial.Name)
		}
		good, bad = good || trial.Accept, bad || !trial.Accept && !trial.Revoked
	}
	if len(e.Tickets) > 0 && len(e.Trials) == 0 {
		return fault.New(fault.Internal, "prove %s: a ticket that is refused shows nothing without trials as controls", e.Spec.Address)
	}
	if len(e.Trials) > 0 && !(good && bad) {
		return fault.New(fault.Internal, "prove %s: trials need a certificate that should be accepted and one that should be refused, as controls", e.Spec.Address)
	}
	return nil
}
