package probe

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Ticket is a session that a server gave to a client whose certificate it took,
// to be offered again when that is not to be trusted any more: many servers look
// at no certificate of whoever comes back with a session. It stands in memory
// only. TLS 1.2 sessions that only the server remembers are not among them.
type Ticket struct {
	spec     Spec
	session  session
	anchor   string
	protocol string
	taken    time.Time
}

// TicketResult is what a server made of a client that came back with a session
// of before its anchor was withdrawn, or why none could.
type TicketResult struct {
	Anchor   string     `json:"anchor"`             // fingerprint of what the session was taken under
	Protocol string     `json:"protocol,omitempty"` // that it was taken over
	Taken    time.Time  `json:"taken,omitzero"`
	Resumed  bool       `json:"resumed,omitempty"`  // the session was taken up; else a new one was begun
	Accepted Acceptance `json:"accepted,omitempty"` // of the client, either way
	Error    string     `json:"error,omitempty"`    // its refusal, in words
	// NoneGiven says that the server was seen to give no ticket to a client that
	// it took: there is none to come back with.
	NoneGiven bool `json:"noneGiven,omitempty"`
	// Untaken is why there is no ticket where the server may have given some to
	// others. It shows nothing.
	Untaken string `json:"untaken,omitempty"`
}

// Shown says whether it shows that no client comes back under the anchor.
func (r TicketResult) Shown() bool { return r.NoneGiven || r.Untaken == "" && r.Accepted == Rejected }

// TakeTickets shakes hands with the certificate of spec, which is under anchor
// (its fingerprint), and keeps the sessions: one of the newest protocol that the
// server speaks and, where clients may have that, one of TLS 1.2, for what keeps
// the one from coming back may let the other. A result says what became of each.
func TakeTickets(ctx context.Context, spec Spec, lowest uint16, anchor string) ([]*Ticket, []TicketResult, error) {
	if spec.Certificate == nil {
		return nil, nil, fault.New(fault.Internal, "take a ticket of %s: there is no client certificate to show", spec.Address)
	}
	var tickets []*Ticket
	var results []TicketResult
	for _, most := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
		spec.MinVersion, spec.MaxVersion = lowest, most
		ticket := &Ticket{spec: spec, anchor: anchor}
		seen, err := ticket.take(ctx)
		if err != nil {
			return nil, nil, err
		}
		if len(results) > 0 && seen.declined() {
			break // it speaks TLS 1.3 alone
		}
		result := ticket.taking(seen)
		if results = append(results, result); !result.Taken.IsZero() {
			tickets = append(tickets, ticket)
		}
		if lowest > tls.VersionTLS12 || seen.Protocol != tls.VersionName(tls.VersionTLS13) {
			break
		}
	}
	return tickets, results, nil
}

func (t *Ticket) take(ctx context.Context) (Observation, error) {
	spec := t.spec
	spec.ReadAcceptance, spec.session = true, &t.session
	t.spec.ReadAcceptance = true
	seen, err := Handshake(ctx, spec)
	t.protocol, t.taken = seen.Protocol, seen.Time
	return seen, err
}

// taking says whether there is a ticket now, and if not why.
func (t *Ticket) taking(seen Observation) TicketResult {
	result := TicketResult{Anchor: t.anchor, Protocol: seen.Protocol}
	switch {
	case seen.Outcome != Served:
		result.Untaken = fmt.Sprintf("%s at %s: %s", seen.Outcome, seen.Stage, seen.Error)
	case seen.Sent == "":
		result.Untaken = "the server asks for no certificate"
	case seen.Accepted != Accepted && seen.Accepted != Silent:
		result.Untaken = "the server did not take the client: " + orNone(seen.Error)
	case t.session.state == nil:
		result.NoneGiven = true
	default:
		result.Taken = seen.Time
	}
	return result
}

// lookTickets comes back with each session, and holds that the server refuses
// it. A new session by the same certificate is as bad. The handshakes around it
// and the trials show that the server accepts anybody at all.
func (p *proof) lookTickets(ctx context.Context) (Finding, bool) {
	for _, ticket := range p.expected.Tickets {
		spec, offered := ticket.offer()
		finding, ok := p.shake(ctx, spec, ticket.judge)
		if !ok {
			return finding, false
		}
		p.aside.tickets = append(p.aside.tickets, ticket.result(p.seen))
		if ticket.follow(p.seen, offered); finding.Cause != Fits {
			return finding, true
		}
	}
	return Finding{}, true
}

// offer is how to come back with the session.
func (t *Ticket) offer() (Spec, *session) {
	spec, offered := t.spec, t.session
	spec.session = &offered
	return spec, &offered
}

// Unoffered is the result of a ticket that a proof did not come to.
func (t *Ticket) Unoffered() TicketResult {
	return TicketResult{Anchor: t.anchor, Protocol: t.protocol, Taken: t.taken, Untaken: "it was not offered: the proof did not come to it"}
}

// follow keeps the newer ticket of a session that was taken up: a server may
// take each only once, and its clients go on with what they are given.
func (t *Ticket) follow(seen Observation, offered *session) {
	if seen.Resumed && offered.state != nil {
		t.session = *offered
	}
}

func (t *Ticket) result(seen Observation) TicketResult {
	result := TicketResult{Anchor: t.anchor, Protocol: t.protocol, Taken: t.taken, Resumed: seen.Resumed, Accepted: seen.Accepted, Error: seen.Error}
	if seen.Outcome == TLSFailed || seen.declined() { // in TLS 1.2 the server refuses before it has shown anything
		result.Accepted = Rejected
	}
	return result
}

func (t *Ticket) judge(seen Observation) Finding {
	result, taken := t.result(seen), t.taken.Format(time.RFC3339)
	switch {
	case result.Accepted == Rejected:
		return Finding{}
	case seen.Outcome != Served:
		return Finding{CausePath, fmt.Sprintf("%s was not reached to offer the ticket of %s (%s at %s): %s", seen.Address, taken, seen.Outcome, seen.Stage, seen.Error)}
	case seen.Resumed:
		return Finding{CauseTrusts, fmt.Sprintf("%s %s a session that was taken at %s over %s under anchor %s, which is not in the bundle: its tickets and session cache outlive the anchor; switch them off, or rotate its ticket keys, restart it and close its sessions",
			seen.Address, verb(result.Accepted), taken, t.protocol, brief(t.anchor))}
	}
	return Finding{CauseTrusts, fmt.Sprintf("%s takes up no session, and %s a client certificate under anchor %s in a new one", seen.Address, verb(result.Accepted), brief(t.anchor))}
}
