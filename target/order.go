package target

import (
	"context"
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// OrderAct is something to be done at a server beside rotations.
type OrderAct string

// The acts. Connections outlive the trust in the certificates that they were
// opened with, and links within a cluster outlive whatever would keep them from
// coming about again.
const (
	CloseSessions  OrderAct = "close sessions"
	ReconnectLinks OrderAct = "reconnect links"
)

// Order is one of them.
type Order struct {
	Act OrderAct
	// Issuers are the issuing authorities whose clients' sessions are to be
	// closed. Empty: everybody's.
	Issuers []*x509.Certificate
	// Serials narrow that to the sessions of single certificates. Empty: all of
	// the issuers'.
	Serials []pki.Serial
	// Cluster says that others would miss the target.
	Cluster bool
}

// Outcome is how an order ended.
type Outcome string

// The outcomes.
const (
	Done       Outcome = "done"
	Partly     Outcome = "partly"     // words say what is left
	Impossible Outcome = "impossible" // not by this agent here; words say what would be needed
	Failed     Outcome = "failed"     // tried, and it did not come about
)

// Result is what came of an order.
type Result struct {
	Outcome Outcome
	Words   string
	Count   int64 // sessions closed, or links that came back
}

// CarryOut does what is ordered, over the target's control path. It may be
// repeated: what is closed twice was opened in between. It returns at ctx's end.
func (a Adapter) CarryOut(ctx context.Context, host Host, t Target, o Order) Result {
	do := a.reconnectLinks
	if o.Act == CloseSessions {
		do = a.closeSessions
	}
	switch {
	case do != nil && len(o.Serials) > 0 && !a.tellsSerials:
		return a.tellsNoSerials(o)
	case do == nil && len(o.Serials) == 0 && o.Act == CloseSessions && a.restartCloses && t.RestartCommand != "" && !o.Cluster:
		return a.closeByRestart(ctx, host, t)
	case do == nil:
		return a.noWay(o)
	case t.Control == nil:
		return Result{Outcome: Impossible, Words: fmt.Sprintf("target %s: agent.yaml names no control path to %s by; name it as targets.%s: %s", t.Name, o.Act, t.Name, a.Control)}
	}
	result, err := do(ctx, host, t, o)
	if err != nil {
		result.Outcome, result.Words = Failed, strings.TrimPrefix(result.Words+"; "+err.Error(), "; ")
		if code := fault.CodeOf(err); code == fault.Forbidden || code == fault.Invalid {
			result.Outcome = Impossible
		}
	}
	return result
}

func (a Adapter) closeByRestart(ctx context.Context, host Host, t Target) Result {
	_, err := a.Load(ctx, host, Act{Kind: ActRestart, Target: t, Command: t.RestartCommand, Reason: "sessions are to be closed"})
	if err != nil {
		return Result{Outcome: Failed, Words: err.Error()}
	}
	return Result{Outcome: Done, Words: fmt.Sprintf("restarted by command %q, which closed all sessions; how many is not known", t.RestartCommand)}
}

// tellsNoSerials says that single sessions can't be closed: to close everybody's
// for the sake of one is for an operator to decide.
func (a Adapter) tellsNoSerials(o Order) Result {
	return Result{Outcome: Impossible, Words: fmt.Sprintf("%s does not tell by which certificate a session was opened; everybody's can be closed: %s", a.Title, a.CloseSessionsBy)}
}

// noWay says that the agent can't, and who can.
func (a Adapter) noWay(o Order) Result {
	words := fmt.Sprintf("the agent has no way to %s of %s; ", o.Act, a.Title)
	switch {
	case o.Act == ReconnectLinks:
		words += "where its members have links, restart it member by member, and see that each comes back"
	case o.Cluster:
		words += "its own way: " + a.CloseSessionsBy + ". It is a member of a cluster, so do that by hand, one member at a time"
	default:
		words += "its own way: " + a.CloseSessionsBy + ". Do that by hand, or name a restartCommand in its intent where a restart is the way"
	}
	return Result{Outcome: Impossible, Words: words}
}
