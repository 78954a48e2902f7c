// Package probe looks at running TLS servers from the outside: what they
// serve, to whom, and whether that is what it should be.
//
// Handshake looks once and says what it saw as an Observation. Prove looks
// again and again until a server has shown one expected certificate, and
// nothing else, for a while. A reload's own answer, a file on a disk or a
// resumed session proves nothing here: every handshake is a full one on a
// connection of its own.
//
// What is served and what is accepted are two facts. The certificate of a
// server that demands client certificates is seen, and its hold of the key
// verified, before it refuses the client; so it can be proven without one.
// Whom it trusts is proven by Trials: certificates that it has to accept and
// certificates that it has to refuse, each a control of the others.
//
// In TLS 1.3 a rejection arrives with the first read, and some servers take
// anybody into TLS to refuse them there. So each protocol has one harmless
// thing to say, and what is heard decides:
//
//	none       nothing is said: a ticket, a greeting or silence is no rejection
//	http       GET /: nginx's 400 that names the client certificate rejects, any other answer accepts
//	redis      PING: any answer accepts, also -NOAUTH
//	memcached  version: any answer accepts
//	amqp       the protocol's header: Connection.Start accepts
//	mqtt       CONNECT with a clean session: a CONNACK of any code accepts
//	nats       CONNECT without a user, and PING: any answer accepts, also -ERR
//	mysql      a login of no known user: the denial accepts
//	postgres   the start of a login: a question for the password accepts; the FATAL
//	           that demands a certificate rejects; pg_hba.conf's other ones decide nothing
//
// An alert or the end of the connection in its place rejects. What a server
// makes of an account that a certificate stands for is not looked at.
//
// Servers are not trusted to behave. One that answers with garbage, drop by
// drop, without end or not at all costs bounded memory and bounded time.
package probe

import (
	"crypto/tls"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// DefaultTimeout bounds a handshake whose Spec names no Timeout.
const DefaultTimeout = 5 * time.Second

// Spec says whom to shake hands with, and how.
type Spec struct {
	// Address is host:port. A host name is resolved anew each time.
	Address string
	// ServerName is sent as SNI (unless it is an IP address), and is what
	// the chain is verified for. Empty: no SNI, and names are not verified.
	ServerName string
	// Preamble is what the protocol says before TLS begins.
	Preamble Preamble
	// Certificate is sent whenever the server asks for one, whatever issuers
	// the server advertises. nil: the demand is answered with none.
	Certificate *tls.Certificate
	// Roots is what the served chain is verified against. Empty: it is not.
	Roots pki.Bundle
	// MinVersion and MaxVersion bound the protocol that is offered. Zero:
	// TLS 1.0 and TLS 1.3, so that an old server is seen rather than guessed.
	MinVersion, MaxVersion uint16
	// ReadAcceptance waits after the handshake for the server's word on the
	// client certificate: in TLS 1.3 a rejection comes only then.
	ReadAcceptance bool
	// Timeout bounds everything from the name's resolution to the last read.
	// Zero: DefaultTimeout.
	Timeout time.Duration
	// Observer goes into the Observation: who looked.
	Observer string
	// Now is the clock for the Observation's time and the chain's validity.
	Now func() time.Time

	// session is offered for resumption, and kept when the server gives one.
	// nil: none is, so that no handshake is a resumed one.
	session *session

	// anySuite offers every cipher suite that there is, the broken ones too.
	anySuite bool
}

func (s Spec) timeout() time.Duration {
	if s.Timeout <= 0 {
		return DefaultTimeout
	}
	return s.Timeout
}

func (s Spec) check() error {
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil || host == "" {
		return fault.New(fault.Invalid, "address %q is not host:port", s.Address).
			WithRemedy("write it like db1.example:2379 or [2001:db8::1]:2379")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fault.New(fault.Invalid, "address %q: the port must be a number from 1 to 65535", s.Address)
	}
	if !slices.Contains(Preambles(), s.Preamble) {
		return fault.New(fault.Invalid, "preamble %q is unknown", string(s.Preamble)).
			WithRemedy("use one of %s, or none", preambleList())
	}
	if s.Now == nil {
		return fault.New(fault.Internal, "probe %s: no clock was passed in", s.Address)
	}
	if s.MinVersion != 0 && s.MaxVersion != 0 && s.MinVersion > s.MaxVersion {
		return fault.New(fault.Invalid, "lowest TLS version %s is above the highest, %s",
			tls.VersionName(s.MinVersion), tls.VersionName(s.MaxVersion))
	}
	return nil
}
