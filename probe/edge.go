package probe

import "fmt"

// EdgeVerdict is what one handshake says of a client's way to a server.
type EdgeVerdict string

// The verdicts. Only EdgeBroken says anything against certificates or trust.
const (
	EdgeFits    EdgeVerdict = "ok"      // verified, by the name that the client asks for
	EdgeBroken  EdgeVerdict = "tls"     // reached, and one side does not take the other
	EdgeBlocked EdgeVerdict = "path"    // not reached: refused, no route, no such name, no answer
	EdgeUnclear EdgeVerdict = "unclear" // something answers, and it does not come to a word on certificates
)

// JudgeEdge says whether a client that looked with its own bundle, name and
// certificate can talk to the server, and in words why not. A server that asks
// for a certificate where the client has none to show decides nothing.
func JudgeEdge(seen Observation) (EdgeVerdict, string) {
	switch {
	case seen.Outcome.PathBlocked():
		return EdgeBlocked, fmt.Sprintf("%s is not reached (%s): %s", seen.Address, seen.Outcome, seen.Error)
	case seen.Outcome == TLSFailed && seen.ClientAuth && seen.Sent == "":
		return EdgeUnclear, fmt.Sprintf("%s asks for a client certificate, and there is none to show", seen.Address)
	case seen.Outcome == TLSFailed:
		return EdgeBroken, fmt.Sprintf("the handshake with %s fails: %s", seen.Address, seen.Error)
	case seen.Outcome != Served:
		return EdgeUnclear, fmt.Sprintf("%s does not speak TLS (%s): %s", seen.Address, seen.Outcome, seen.Error)
	case seen.Trust == "":
		return EdgeUnclear, fmt.Sprintf("%s was not verified: there is no bundle", seen.Address)
	case seen.Trust != Trusted:
		return EdgeBroken, fmt.Sprintf("can't verify %s: %s", seen.Address, seen.Trust)
	case seen.Sent != "" && seen.Accepted == Rejected:
		return EdgeBroken, fmt.Sprintf("%s refuses the client's certificate: %s", seen.Address, seen.Error)
	}
	return EdgeFits, fmt.Sprintf("verified %s", seen.Address)
}
