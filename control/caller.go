package control

import (
	"context"
	"crypto/x509"
	"slices"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// CallerKind is what a caller was recognised as.
type CallerKind string

// The kinds of caller.
const (
	Operator  CallerKind = "operator"  // a client certificate recorded as an operator's
	Agent     CallerKind = "agent"     // a client certificate recorded as an agent's
	Socket    CallerKind = "socket"    // uid 0 or the server's own, on the admin socket
	Server    CallerKind = "server"    // the control plane itself
	Anonymous CallerKind = "anonymous" // nobody yet: enrolment
)

// Caller is who asks. The edge makes it; verbs believe it.
type Caller struct {
	Kind    CallerKind
	ID      string // operator's name or agent's id
	Serial  string // of its certificate
	UID     *int   // on the admin socket
	Address string
}

func (c Caller) String() string {
	if c.ID == "" {
		return string(c.Kind)
	}
	return string(c.Kind) + "/" + c.ID
}

func (c Caller) actor() audit.Actor {
	return audit.Actor{Kind: string(c.Kind), ID: c.ID, Serial: c.Serial, UID: c.UID, Address: c.Address}
}

// authorize is the one table of who may do what. Verbs of operators are open
// to all operators and to the socket; what an agent may touch beyond this
// (its own placements only) is checked beside the facts.
func authorize(caller Caller, verb string) error {
	allowed, known := mayCall[verb]
	if known && slices.Contains(allowed, caller.Kind) {
		return nil
	}
	return fault.New(fault.Forbidden, "%s may not %s", caller, verb).
		WithRemedy("call as one of: %v", allowed)
}

var (
	operators = []CallerKind{Operator, Socket}
	agents    = []CallerKind{Agent}
	anyone    = []CallerKind{Anonymous, Agent}
)

var mayCall = map[string][]CallerKind{
	"info": operators, "plan": operators, "apply": operators, "delete": operators, "list": operators,
	"policy.replay": operators,
	"token.create":  operators, "token.revoke": operators,
	"agent.label": operators, "agent.retire": operators,
	"operator.issue": operators, "rotate": operators, "resume": operators,
	"audit.list": operators,

	"agent.enrol": anyone,
	"agent.renew": agents, "agent.connect": agents, "agent.report": agents,
	"issue": agents, "bundle.fetch": agents, "audit.prove": agents,
}

// Identify says who holds the certificate, by its record: a valid chain alone
// opens nothing. The caller must have verified the chain and the possession of
// the key.
func (c *Control) Identify(ctx context.Context, cert *x509.Certificate, address string) (Caller, error) {
	serial, err := pki.SerialOf(cert)
	if err != nil {
		return Caller{}, fault.Wrap(fault.Forbidden, err, "client certificate")
	}
	caller := Caller{Serial: serial.String(), Address: address}
	err = c.db.Read(ctx, func(tx *store.Tx) error {
		record, err := tx.Certificate(ctx, serial)
		if err != nil {
			return fault.Wrap(fault.Forbidden, err, "client certificate %s has no record", serial)
		}
		if record.Fingerprint != pki.FingerprintOf(cert.Raw) {
			return fault.New(fault.Forbidden, "client certificate %s is not the one recorded", serial)
		}
		if !record.RevokedAt.IsZero() {
			return fault.New(fault.Forbidden, "client certificate %s was revoked: %s", serial, record.Reason)
		}
		switch record.Kind {
		case store.KindOperator:
			caller.Kind, caller.ID = Operator, record.Operator
			return nil
		case store.KindAgent:
			caller.Kind, caller.ID = Agent, record.AgentID
			_, err := activeAgent(ctx, tx, record.AgentID)
			return err
		}
		return fault.New(fault.Forbidden, "client certificate %s is a %s certificate, which opens nothing here", serial, record.Kind)
	})
	return caller, err
}

// activeAgent is the agent's record; agents that were retired are refused.
func activeAgent(ctx context.Context, tx *store.Tx, id string) (store.Agent, error) {
	agent, err := tx.Agent(ctx, id)
	if err == nil && agent.State != fleet.AgentActive {
		err = fault.New(fault.Forbidden, "agent %s is %s", id, agent.State).
			WithRemedy("an operator gives it its identity back with: rotunda agent rejoin %s", id)
	}
	return agent, err
}
