package probe

import (
	"context"
	"fmt"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Ticket is a session that a server gave to a client whose certificate it took,
// to be tried again when that is not to be trusted any more: many servers look
// at no certificate of whoever comes back with a session. It stands in memory
// only. TLS 1.2 sessions that only the server remembers are not among them.
type Ticket struct {
	spec    Spec
	session session
	anchor  string
	taken   time.Time
}

// TicketResult is what a server made of a client that came back.
type TicketResult struct {
	Anchor   string     `json:"anchor"` // that the session was taken under
	Taken    time.Time  `json:"taken"`
	Resumed  bool       `json:"resumed"`            // the session was taken up; else a new one was begun
	Accepted Acceptance `json:"accepted,omitempty"` // of the client, either way
	Error    string     `json:"error,omitempty"`    // its refusal, in words
}

// TakeTicket shakes hands with the certificate of spec, which is under anchor
// (its fingerprint), and keeps the session. Without a ticket, where the server
// gives none or does not take the client, there is none to try later, and the
// observation says which.
func TakeTicket(ctx context.Context, spec Spec, anchor string) (*Ticket, Observation, error) {
	if spec.Certificate == nil {
		return nil, Observation{}, fault.New(fault.Internal, "take a ticket of %s: there is no client certificate to show", spec.Address)
	}
	ticket := &Ticket{anchor: anchor}
	spec.ReadAcceptance, spec.session = true, &ticket.session
	seen, err := Handshake(ctx, spec)
	if err != nil || seen.Accepted != Accepted || seen.Sent == "" || ticket.session.state == nil {
		return nil, seen, err
	}
	spec.session = nil
	ticket.spec, ticket.taken = spec, seen.Time
	return ticket, seen, nil
}

// Try comes back with the session, once more each time, and holds that the
// server refuses it. A new session by the same certificate is as bad. That
// shows something only beside a proof of the same time, whose controls show
// that the server accepts anybody at all.
func (t *Ticket) Try(ctx context.Context) (TicketResult, Finding, error) {
	spec, offered := t.spec, t.session
	spec.session = &offered
	seen, err := Handshake(ctx, spec)
	if err != nil {
		return TicketResult{}, Finding{}, err
	}
	result := TicketResult{Anchor: t.anchor, Taken: t.taken, Resumed: seen.Resumed, Accepted: seen.Accepted, Error: seen.Error}
	if seen.Outcome == TLSFailed { // in TLS 1.2 the server refuses before it has shown anything
		result.Accepted = Rejected
	}
	return result, t.judge(result, seen), nil
}

func (t *Ticket) judge(result TicketResult, seen Observation) Finding {
	taken := t.taken.Format(time.RFC3339)
	switch {
	case result.Accepted == Rejected:
		return Finding{}
	case seen.Outcome != Served:
		return Finding{CausePath, fmt.Sprintf("%s was not reached to try the ticket of %s (%s at %s): %s", seen.Address, taken, seen.Outcome, seen.Stage, seen.Error)}
	case seen.Resumed:
		return Finding{CauseTrusts, fmt.Sprintf("%s %s a session that was taken at %s under anchor %s: tickets and session caches outlive the anchor; switch them off, or restart it",
			seen.Address, verb(result.Accepted), taken, brief(t.anchor))}
	}
	return Finding{CauseTrusts, fmt.Sprintf("%s takes up no session, and %s a client certificate under anchor %s in a new one", seen.Address, verb(result.Accepted), brief(t.anchor))}
}
