package control

import (
	"slices"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// CallerKind is what a caller was recognised as.
type CallerKind string

// The kinds of caller.
const (
	Operator  CallerKind = "operator"  // a client certificate recorded as an operator's
	Agent     CallerKind = "agent"     // a client certificate recorded as an agent's
	Socket    CallerKind = "socket"    // uid 0 or the server's own, on the admin socket
	Server    CallerKind = "server"    // the control plane itself
	Token     CallerKind = "token"     // whoever spent an enrolment token; in the audit log only
	Witness   CallerKind = "witness"   // a client certificate that an authority here signed as an agent's, and of which the store has no record
	Expired   CallerKind = "expired"   // an agent by its expired certificate, while an operator lets it renew
	Emergency CallerKind = "emergency" // a client certificate recorded as an operator's for emergencies
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
	"operator.issue": operators, "rotate": operators, "resume": operators, "slot.release": operators,
	"audit.list": operators, "trust.prepare": operators, "trust.begin": operators, "trust.decide": operators,
	"rollout.start": operators, "rollout.decide": operators, "rollout.answer": {Operator, Socket, Server},
	"notice.retry": operators, "retention.run": operators,
	"revoke": operators, "compromise": operators, "authority.list": operators,
	"credential.end": {Operator}, "authority.import": operators,
	"authority.create": operators, "authority.decide": operators,

	"emergency.open": operators, "emergency.create": operators, "emergency.use": {Emergency},
	"restore": {Socket}, "agent.testify": {Agent, Witness},

	"agent.enrol": anyone,
	"agent.renew": {Agent, Expired}, "agent.connect": agents, "agent.report": agents,
	"issue": agents, "canary.issue": agents, "bundle.fetch": agents, "audit.prove": agents,
}
