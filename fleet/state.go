package fleet

import (
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// status is what the status types have in common.
type status interface {
	~string
	noun() string
}

// legal is the one table of transitions of each status type: from, to. A
// status that stands on the right only is an end.
var legal = map[string]map[string][]string{
	AgentState("").noun(): {
		string(AgentActive):  {string(AgentRetired)},
		string(AgentRetired): {string(AgentActive)},
	},
	TokenState("").noun(): {
		string(TokenOpen): {string(TokenUsed), string(TokenExpired), string(TokenRevoked)},
	},
	AuthorityState("").noun(): {
		string(AuthorityPrepared): {string(AuthorityActive), string(AuthorityWithdrawn)},
		string(AuthorityActive):   {string(AuthorityRetired)},
		string(AuthorityRetired):  {string(AuthorityActive), string(AuthorityWithdrawn)},
	},
	CertificateState("").noun(): {
		string(CertificateLive): {string(CertificateRevoked), string(CertificateExpired)},
	},
}

// move is the one function that moves a status.
func move[S status](from, next S) error {
	ways, known := legal[from.noun()], legal[from.noun()][string(from)]
	if slices.Contains(known, string(next)) {
		return nil
	}
	if len(ways[string(from)]) == 0 {
		return fault.New(fault.Conflict, "the %s is %s; it stays so and cannot become %s", from.noun(), quote(string(from)), quote(string(next)))
	}
	return fault.New(fault.Conflict, "the %s is %s; it can become %s, not %s", from.noun(), quote(string(from)), strings.Join(known, " or "), quote(string(next)))
}

// AgentState is the status of an agent.
//
//	active ──retire──▶ retired
//	   ▲                  │
//	   └──────rejoin──────┘
type AgentState string

// The states of an agent.
const (
	AgentActive  AgentState = "active"
	AgentRetired AgentState = "retired"
)

func (AgentState) noun() string { return "agent" }

// To says whether the agent may become next, and if not, why.
func (s AgentState) To(next AgentState) error { return move(s, next) }

// TokenState is the status of an enrolment token.
//
//	open ──enrol───▶ used
//	open ──time────▶ expired
//	open ──revoke──▶ revoked
type TokenState string

// The states of a token.
const (
	TokenOpen    TokenState = "open"
	TokenUsed    TokenState = "used"
	TokenExpired TokenState = "expired"
	TokenRevoked TokenState = "revoked"
)

func (TokenState) noun() string { return "token" }

// To says whether the token may become next, and if not, why.
func (s TokenState) To(next TokenState) error { return move(s, next) }

// AuthorityState is the status of an authority. A retired one issues no more
// and is still trusted; a withdrawn one is trusted no more. Until then a
// trust change can be turned back.
//
//	prepared ──activate──▶ active ──retire──▶ retired ──withdraw──▶ withdrawn
//	   │                     ▲                  │                      ▲
//	   │                     └────turn back─────┘                      │
//	   └──────────────────────give up──────────────────────────────────┘
type AuthorityState string

// The states of an authority.
const (
	AuthorityPrepared  AuthorityState = "prepared"
	AuthorityActive    AuthorityState = "active"
	AuthorityRetired   AuthorityState = "retired"
	AuthorityWithdrawn AuthorityState = "withdrawn"
)

func (AuthorityState) noun() string { return "authority" }

// To says whether the authority may become next, and if not, why.
func (s AuthorityState) To(next AuthorityState) error { return move(s, next) }

// CertificateState is the status of a certificate. One that was revoked stays
// so when its time ends.
//
//	live ──revoke──▶ revoked
//	live ──time────▶ expired
type CertificateState string

// The states of a certificate.
const (
	CertificateLive    CertificateState = "live"
	CertificateRevoked CertificateState = "revoked"
	CertificateExpired CertificateState = "expired"
)

func (CertificateState) noun() string { return "certificate" }

// To says whether the certificate may become next, and if not, why.
func (s CertificateState) To(next CertificateState) error { return move(s, next) }
