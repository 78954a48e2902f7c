package probe

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/pki"
)

// Expectation is what a server should show.
type Expectation struct {
	// Spec says how to look. Its ReadAcceptance and protocol bounds are
	// Prove's to set; its Timeout bounds each single handshake.
	Spec Spec

	// Chain is the chain that should be served, leaf first, exactly.
	Chain []pki.Fingerprint
	// Known names certificates that the server may show instead: "generation
	// 4". The expected leaf may be among them.
	Known map[pki.Fingerprint]string

	// MinProtocol is the lowest protocol version that may be negotiated.
	MinProtocol uint16
	// Groups is the key exchange groups of which one must be used, as
	// crypto/tls names them. Empty: any.
	Groups []string
	// ClientAuth is what the server should make of a client without a
	// certificate. Empty: not looked at.
	ClientAuth ClientAuth
	// MustAccept says that the server has to accept Spec.Certificate. Without
	// it a rejection is recorded and counts for nothing.
	MustAccept bool
	// Trials is the client certificates by which the server's trust is tried,
	// each in a handshake of its own. A refusal shows something only where
	// one known good is accepted, and an acceptance only where one is refused.
	// So there must be one of each kind, or none at all; MustAccept counts as
	// one known good.
	Trials []Trial
	// Tickets is sessions of before an anchor was withdrawn, which the server
	// has to refuse. The trials are their controls, so that there must be some.
	Tickets []*Ticket

	// Observe is how long the server has to show this and nothing else.
	Observe time.Duration
	// Timeout bounds the whole proof.
	Timeout time.Duration
	// Immediate says that the server takes what it serves from its files at
	// each handshake: a wrong certificate is final, not a reload under way.
	Immediate bool
}

// ClientAuth says what a server demands of its clients.
type ClientAuth string

// The demands.
const (
	ClientAuthUnchecked ClientAuth = ""
	ClientAuthRequired  ClientAuth = "required" // refuses a client without a certificate
	ClientAuthOptional  ClientAuth = "optional" // asks, and takes one without
	ClientAuthNone      ClientAuth = "none"     // does not ask
)

// Cause is a kind of reason why something is not proven.
type Cause string

// The causes. CausePath says nothing about the server's certificates.
const (
	Fits            Cause = ""
	CausePath       Cause = "path"        // not reached: refused, unreachable, timeout
	CauseTLS        Cause = "tls"         // reached, and no handshake came about
	CauseLeaf       Cause = "leaf"        // another leaf
	CauseChain      Cause = "chain"       // the right leaf under another chain
	CauseTrust      Cause = "trust"       // does not validate against the bundle
	CauseProtocol   Cause = "protocol"    // too old a protocol
	CauseGroup      Cause = "group"       // another key exchange group
	CauseClientAuth Cause = "client_auth" // demands more or less of clients than it should
	CauseRejected   Cause = "rejected"    // does not accept the client certificate
	CauseTrusts     Cause = "trusts"      // accepts a client certificate that it should refuse
	CauseRevoked    Cause = "revoked"     // all fitted, but that it accepts a client certificate that was revoked
	CauseTime       Cause = "time"        // all fitted, for too short a time
)

// Finding is what an observation, or a proof, comes to.
type Finding struct {
	Cause  Cause
	Reason string // in words; empty when it fits
}

// Judge holds an observation against the expectation, in the order in which
// an operator would ask. It does not look at ClientAuth, for which a client
// without a certificate is needed.
func (e Expectation) Judge(seen Observation) Finding {
	for _, rule := range []func(Observation) Finding{
		e.judgeOutcome, e.judgeLeaf, e.judgeChain, e.judgeTrust, e.judgeProtocol, e.judgeGroup, e.judgeAcceptance,
	} {
		if finding := rule(seen); finding.Cause != Fits {
			return finding
		}
	}
	return Finding{}
}

func (e Expectation) judgeOutcome(seen Observation) Finding {
	switch {
	case seen.Outcome == Served:
		return Finding{}
	case seen.Outcome.PathBlocked():
		return Finding{CausePath, fmt.Sprintf("%s was not reached (%s at %s): %s", seen.Address, seen.Outcome, seen.Stage, seen.Error)}
	}
	text := fmt.Sprintf("%s: no TLS handshake (%s): %s", seen.Address, seen.Outcome, seen.Error)
	if seen.Leaf != nil {
		text += "; it showed " + e.describe(seen.Leaf) + " without holding its key"
	}
	return Finding{CauseTLS, text}
}

func (e Expectation) judgeLeaf(seen Observation) Finding {
	if seen.Leaf.Fingerprint == e.Chain[0].String() {
		return Finding{}
	}
	return Finding{CauseLeaf, fmt.Sprintf("served %s, expected %s", e.describe(seen.Leaf), e.name(e.Chain[0].String()))}
}

func (e Expectation) judgeChain(seen Observation) Finding {
	if slices.EqualFunc(seen.Chain, e.Chain, func(served string, wanted pki.Fingerprint) bool { return served == wanted.String() }) {
		return Finding{}
	}
	return Finding{CauseChain, fmt.Sprintf("served the expected leaf with the chain %s, expected %s",
		briefs(seen.Chain), briefs(texts(e.Chain)))}
}

func (e Expectation) judgeTrust(seen Observation) Finding {
	if seen.Trust == Trusted || e.Spec.Roots.Empty() {
		return Finding{}
	}
	return Finding{CauseTrust, fmt.Sprintf("served %s, which the bundle %s does not trust: %s",
		e.describe(seen.Leaf), brief(e.Spec.Roots.Digest().String()), seen.Trust)}
}

func (e Expectation) judgeProtocol(seen Observation) Finding {
	if e.MinProtocol == 0 || versionOf(seen.Protocol) >= e.MinProtocol {
		return Finding{}
	}
	return Finding{CauseProtocol, fmt.Sprintf("served the expected certificate over %s, expected %s or newer",
		seen.Protocol, tls.VersionName(e.MinProtocol))}
}

func (e Expectation) judgeGroup(seen Observation) Finding {
	if len(e.Groups) == 0 || slices.Contains(e.Groups, seen.Group) {
		return Finding{}
	}
	return Finding{CauseGroup, fmt.Sprintf("served the expected certificate with key exchange %s, expected %s",
		orNone(seen.Group), strings.Join(e.Groups, " or "))}
}

func (e Expectation) judgeAcceptance(seen Observation) Finding {
	if !e.MustAccept || seen.Sent == "" || seen.Accepted != Rejected {
		return Finding{}
	}
	return Finding{CauseRejected, fmt.Sprintf("served the expected certificate and rejected the client certificate %s: %s",
		brief(seen.Sent), seen.Error)}
}

// JudgeClientAuth holds what a server made of a client without a certificate
// against what it should.
func (e Expectation) JudgeClientAuth(seen Observation) Finding {
	refused := seen.Accepted == Rejected
	var got string
	switch {
	case seen.Accepted == Undecided:
		return Finding{CauseClientAuth, fmt.Sprintf("%s ended the talk with a client without a certificate before one was demanded or not: %s", seen.Address, seen.Error)}
	case !seen.ClientAuth:
		got = "does not ask clients for a certificate"
	case refused:
		got = "refuses clients without a certificate"
	default:
		got = "asks for a certificate and serves clients without one"
	}
	fits := map[ClientAuth]bool{
		ClientAuthUnchecked: true,
		ClientAuthRequired:  seen.ClientAuth && refused,
		ClientAuthOptional:  seen.ClientAuth && !refused,
		ClientAuthNone:      !seen.ClientAuth,
	}[e.ClientAuth]
	if fits {
		return Finding{}
	}
	return Finding{CauseClientAuth, fmt.Sprintf("%s %s, expected clientAuth %s", seen.Address, got, e.ClientAuth)}
}

// describe names a certificate that was served.
func (e Expectation) describe(leaf *Leaf) string {
	return fmt.Sprintf("%s (expires %s)", e.name(leaf.Fingerprint), leaf.NotAfter.Format(time.RFC3339))
}

// name is "generation 4's certificate 3f9a…" or "certificate 3f9a…".
func (e Expectation) name(fingerprint string) string {
	for known, label := range e.Known {
		if known.String() == fingerprint {
			return label + "'s certificate " + brief(fingerprint)
		}
	}
	return "certificate " + brief(fingerprint)
}

func texts(fingerprints []pki.Fingerprint) []string {
	var all []string
	for _, fingerprint := range fingerprints {
		all = append(all, fingerprint.String())
	}
	return all
}

func briefs(fingerprints []string) string {
	var all []string
	for _, fingerprint := range fingerprints {
		all = append(all, brief(fingerprint))
	}
	return "[" + strings.Join(all, " ") + "]"
}

func brief(fingerprint string) string {
	if len(fingerprint) <= 12 {
		return fingerprint
	}
	return fingerprint[:12] + "…"
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

// versionOf reads back what tls.VersionName wrote; 0 when it is none of ours.
func versionOf(name string) uint16 {
	for version := uint16(tls.VersionTLS10); version <= tls.VersionTLS13; version++ {
		if tls.VersionName(version) == name {
			return version
		}
	}
	return 0
}
