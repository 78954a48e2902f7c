package fleet

import (
	"testing"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// TestTransitions holds each status type to its diagram: every move that is
// not drawn is a conflict.
func TestTransitions(t *testing.T) {
	check(t, AgentState.To, []AgentState{AgentActive, AgentRetired}, map[[2]AgentState]bool{
		{AgentActive, AgentRetired}: true,
		{AgentRetired, AgentActive}: true,
	})
	check(t, TokenState.To, []TokenState{TokenOpen, TokenUsed, TokenExpired, TokenRevoked}, map[[2]TokenState]bool{
		{TokenOpen, TokenUsed}:    true,
		{TokenOpen, TokenExpired}: true,
		{TokenOpen, TokenRevoked}: true,
	})
	check(t, AuthorityState.To, []AuthorityState{AuthorityPrepared, AuthorityActive, AuthorityRetired, AuthorityWithdrawn}, map[[2]AuthorityState]bool{
		{AuthorityPrepared, AuthorityActive}:    true,
		{AuthorityPrepared, AuthorityWithdrawn}: true,
		{AuthorityActive, AuthorityRetired}:     true,
		{AuthorityRetired, AuthorityActive}:     true,
		{AuthorityRetired, AuthorityWithdrawn}:  true,
	})
	check(t, CertificateState.To, []CertificateState{CertificateLive, CertificateRevoked, CertificateExpired}, map[[2]CertificateState]bool{
		{CertificateLive, CertificateRevoked}: true,
		{CertificateLive, CertificateExpired}: true,
	})
}

func check[S status](t *testing.T, to func(S, S) error, states []S, drawn map[[2]S]bool) {
	t.Helper()
	for _, from := range append(states, "", "nonsense") {
		for _, next := range append(states, "", "nonsense") {
			err := to(from, next)
			if drawn[[2]S{from, next}] != (err == nil) {
				t.Errorf("%s %q to %q: %v", from.noun(), from, next, err)
			}
			if err != nil && fault.CodeOf(err) != fault.Conflict {
				t.Errorf("%s %q to %q: code %s", from.noun(), from, next, fault.CodeOf(err))
			}
		}
	}
}
