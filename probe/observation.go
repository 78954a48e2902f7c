package probe

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"time"

	"github.com/gowebpki/jcs"
)

// Outcome is how far a handshake came.
type Outcome string

// The outcomes. Refused, Unreachable and Timeout mean that the path to the
// server, or the server as a whole, is blocked; they say nothing about its
// certificates.
const (
	Served      Outcome = "served"      // showed a chain and proved to hold the leaf's key
	Refused     Outcome = "refused"     // nothing listens on the port
	Unreachable Outcome = "unreachable" // no route, no such name
	Timeout     Outcome = "timeout"     // no answer in time: filtered, or the process is frozen
	Closed      Outcome = "closed"      // connected, then hung up without a word of TLS
	NotTLS      Outcome = "not_tls"     // answers, but not with TLS
	TLSFailed   Outcome = "tls_failed"  // speaks TLS, and the handshake failed
)

// PathBlocked says whether the server was not reached at all.
func (o Outcome) PathBlocked() bool {
	return o == Refused || o == Unreachable || o == Timeout
}

// Stage is where an observation ended.
type Stage string

// The stages, in order.
const (
	StageConnect   Stage = "connect"
	StagePreamble  Stage = "preamble"
	StageHandshake Stage = "handshake"
	StageRead      Stage = "read"
)

// Acceptance is a server's word on the client certificate that it was sent,
// or on the absence of one.
type Acceptance string

// The acceptances. A server that asks for no certificate has nothing to
// accept, and one that was not read from has not spoken.
const (
	NotKnown Acceptance = ""      // not asked, or not waited for
	Accepted Acceptance = "yes"   // it went on: finished TLS 1.2, sent data or a ticket
	Rejected Acceptance = "no"    // alert or end of connection
	Silent   Acceptance = "quiet" // no rejection within the wait, and no word either
	// Undecided is a server that ended the conversation for a reason that has
	// nothing to do with certificates.
	Undecided Acceptance = "undecided"
)

// Leaf identifies the certificate that a server serves.
type Leaf struct {
	Serial      string    `json:"serial"`      // hex
	Fingerprint string    `json:"fingerprint"` // SHA-256 of the DER, hex
	SPKI        string    `json:"spki"`        // SHA-256 of the public key info, hex
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
}

// Observation is what one handshake showed. Times are UTC.
type Observation struct {
	Time       time.Time `json:"time"` // when the handshake began, to the microsecond
	Observer   string    `json:"observer,omitempty"`
	Address    string    `json:"address"`
	ServerName string    `json:"serverName,omitempty"`
	Preamble   Preamble  `json:"preamble,omitempty"`

	Outcome Outcome `json:"outcome"`
	Stage   Stage   `json:"stage"`           // where it ended
	Error   string  `json:"error,omitempty"` // in words

	// Leaf is set when a chain was seen. Only with Outcome Served has the
	// server also shown that it holds the leaf's key.
	Leaf  *Leaf    `json:"leaf,omitempty"`
	Chain []string `json:"chain,omitempty"` // fingerprints as served, leaf first, at most MaxChain
	// Bundle is the digest of what a client's way was verified with.
	Bundle string `json:"bundle,omitempty"`
	// Trust is "trusted", or why the chain is not; empty when there was
	// nothing to verify against.
	Trust string `json:"trust,omitempty"`

	Protocol string `json:"protocol,omitempty"` // "TLS 1.3"
	Group    string `json:"group,omitempty"`    // as crypto/tls names it: "X25519MLKEM768"
	Cipher   string `json:"cipher,omitempty"`

	// ClientAuth says that the server asked for a client certificate, and
	// Authorities which issuers it advertised, at most MaxAuthorities.
	ClientAuth  bool     `json:"clientAuth"`
	Authorities []string `json:"authorities,omitempty"`
	Sent        string   `json:"sent,omitempty"` // fingerprint of the client certificate sent
	// Resumed says that an earlier session was taken up: no certificate was
	// sent, and the server took the client for who it was then.
	Resumed  bool       `json:"resumed,omitempty"`
	Accepted Acceptance `json:"accepted,omitempty"`

	LatencyMicros int64 `json:"latencyMicros"` // from dialling to the end of the handshake

	// The rest stands in the last observation of a proof: what the proof's
	// other handshakes came to, so that one signed statement holds the verdict
	// with its controls.

	// Trials is what the server made of the Expectation's trials, in their
	// order.
	Trials []TrialResult `json:"trials,omitempty"`
	// Tickets is what it made of sessions from before an anchor was withdrawn,
	// and why there were none to try.
	Tickets []TicketResult `json:"tickets,omitempty"`
	// WithoutCertificate is what it made of a client that had none.
	WithoutCertificate Acceptance `json:"withoutCertificate,omitempty"`
	// RefusedProtocols is what it was offered and would not speak.
	RefusedProtocols []string `json:"refusedProtocols,omitempty"`
	// Says is the server's own word on what it serves, where it has one. It is
	// set by whoever asked the server, beside the proof and never instead.
	Says string `json:"says,omitempty"`

	// Certificates is the served chain, parsed, at most MaxChain.
	Certificates []*x509.Certificate `json:"-"`
}

// Trusted is the value of Observation.Trust for a chain that verifies.
const Trusted = "trusted"

// Limits on what is kept of what a server sends.
const (
	MaxChain       = 16
	MaxAuthorities = 64
	maxText        = 400
)

// Statement is the observation as RFC 8785 JSON: the exact bytes that an
// observer signs as evidence.
func (o Observation) Statement() ([]byte, error) {
	plain, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode observation of %s: %w", o.Address, err)
	}
	canonical, err := jcs.Transform(plain)
	if err != nil {
		return nil, fmt.Errorf("canonicalise observation of %s: %w", o.Address, err)
	}
	return canonical, nil
}
