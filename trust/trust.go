// Package trust decides how an authority is replaced: which phase the facts
// show a change to be in, what it does next, and who holds it up.
//
// It is pure: facts and a time in, decisions and reasons out.
package trust

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
)

// Phase is how far a change of trust has come. It is derived from facts,
// stored nowhere, and may go back when a fact does.
//
//	distribute ─ prove ─ reissue ─ drain ─ unbridge ─ withdraw ─ refuse ─ retire ─ done
//
// Up to unbridge the change can be turned back, which is the same change with
// its ends exchanged.
type Phase string

// The phases, in their order.
const (
	Distribute Phase = "distribute" // the new anchor goes into each bundle that has the old one
	Prove      Phase = "prove"      // each relying party adopts it
	Reissue    Phase = "reissue"    // the new authority signs; each managed certificate is renewed
	Drain      Phase = "drain"      // nothing live needs the old anchor any more
	Unbridge   Phase = "unbridge"   // nobody serves the bridge any more
	Withdraw   Phase = "withdraw"   // the old anchor leaves the bundles
	Refuse     Phase = "refuse"     // each relying party refuses what is under the old one
	Retire     Phase = "retire"     // its key is destroyed
	Done       Phase = "done"
)

// Phases are all of them in their order.
var Phases = []Phase{Distribute, Prove, Reissue, Drain, Unbridge, Withdraw, Refuse, Retire, Done}

// Before says whether p comes before other.
func (p Phase) Before(other Phase) bool {
	return slices.Index(Phases, p) < slices.Index(Phases, other)
}

// Change is a change of trust as the facts show it: from one authority to
// another. A change that was turned back has its ends exchanged.
type Change struct {
	Old, New string // names of the authorities that sign
	// Roots says that the anchor changes with them. Where only the issuing
	// authority is replaced nobody has to adopt or to refuse anything.
	Roots   bool
	Through Phase  // the last phase that an operator let it enter
	Back    bool   // it was turned back
	Paused  string // by whom, when and why; empty: it is not
	Forced  map[Phase]string
	// Standby says that the new authority is kept for later: everything is made
	// ready for it, and nothing signed.
	Standby bool
	// Foreign says that the old authority's key is not here, and never was: who
	// lives on certificates of it is not recorded, and unless it is Provable nothing
	// can be signed by which a refusal would show.
	Foreign bool
	// Provable says of a foreign one that an authority under it has its key here:
	// canaries under it show who refuses it.
	Provable bool

	Published  bool // each bundle that has the old anchor has the new one too
	Active     bool // the new authority signs
	Bridged    bool // somebody is still to show the bridge
	Withdrawn  bool // no bundle has the old anchor
	Retired    bool // the old authority is withdrawn, its key destroyed
	Parties    []RelyingParty
	Holders    []Holder
	Bridging   []string // who still serves the bridge
	Renewing   string   // the rollout that renews what Rotunda can; empty: none is under way
	Stopped    string   // who ended it, when and why; empty: nobody did, or it was let go on since
	Conditions []string // what else stands in the way, such as another change that withdraws
}

// RelyingParty is one who must trust the new anchor, and later refuse the old
// one: a placement with the bundle it was given, or an agent.
type RelyingParty struct {
	ID      string      // of a placement; empty: another
	Name    string      // "redis on agent db-1", "agent db-1"
	Has     fleet.Level // how far it has come with the bundle that it should have now; empty: not at all
	Needs   fleet.Level // the highest level that one of its kind can show
	Since   time.Time   // when it was last heard of what Has says; zero: never
	Away    bool        // its agent is not connected
	Why     string      // what its agent last said of it
	Link    string      // what is not well with its links to others of its kind; empty: nothing
	Blocked []string    // whom it can't look at, since the path is blocked; that holds nothing
	Ask     string      // of a party without an agent: whom to ask
	Subject string      // of an exception that means it: "agent/ID", "service/NAME"
	Excused string      // the exception that lets it pass: who owns it and until when
}

// Exception is the document that lets a party pass without having adopted, in the
// words that stand in it.
func (p RelyingParty) Exception() string { return Exception("trust-adopt", p.Subject) }

// Exception is a document of the rule for a subject, in the words that stand in it.
func Exception(rule, subject string) string {
	if subject != "" {
		rule += ", subject: " + subject + ","
	}
	return "an Exception of rule " + rule + " with an owner and an end"
}

// Wants is the level that a party has to show now. Once a root without a key
// is withdrawn, that nobody takes what is under it can't be proven.
func (t Change) Wants(p RelyingParty) fleet.Level {
	if t.unprovable(p) {
		return fleet.Loaded
	}
	return p.Needs
}

func (t Change) unprovable(p RelyingParty) bool {
	return t.Foreign && !t.Provable && t.Withdrawn && Rank(p.Needs) > Rank(fleet.Loaded)
}

// Adopted says whether a party has shown what it has to show now.
func (t Change) Adopted(p RelyingParty) bool {
	return Rank(p.Has) >= Rank(t.Wants(p)) && p.Link == ""
}

// Rank orders the levels of proof; that of nothing shown is 0.
func Rank(level fleet.Level) int {
	return slices.Index([]fleet.Level{"", fleet.Delivered, fleet.Loaded, fleet.Proven}, level)
}

// Holder has a live certificate that the old authority signed.
type Holder struct {
	ID       string // of a placement that Rotunda can renew; empty: it can't
	Name     string // "redis on agent db-1", "operator alice"
	NotAfter time.Time
	Asked    bool   // its renewal was asked for
	Away     bool   // its agent is not connected
	Remedy   string // what an operator can do where Rotunda can't
	Excused  string
}

// Action is what a change of trust does next. Each may be repeated.
type Action string

// The actions.
const (
	PublishBoth Action = "publish both" // old and new anchor into the bundles
	ActivateNew Action = "activate"     // the new authority signs from now on
	RenewHolder Action = "renew"        // of Step.Holders
	DropBridge  Action = "drop the bridge"
	PublishNew  Action = "withdraw" // the old anchor out of the bundles
	RetireOld   Action = "retire"   // the old authority's key is destroyed
)

// Step is where a change stands: what is to be done, and for all that is
// not, who holds it up and what to do.
type Step struct {
	Phase   Phase
	Action  Action   // empty: nothing
	Holders []Holder // of RenewHolder
	Waits   []Wait
	// Laws that a forced step sets aside, in words.
	SetAside []string
	// Unprovable are the parties that would be shown to refuse the old
	// authority, were its key here.
	Unprovable []string
}

// Wait is one reason why a change does not go on.
type Wait struct {
	Who    string // empty: the change itself
	Reason string
	Remedy string
}

func (w Wait) String() string {
	return strings.TrimPrefix(w.Who+" ", " ") + w.Reason
}

// Next derives the phase and what comes next.
func (t Change) Next(now time.Time) Step {
	step := Step{Phase: t.phase(now)}
	if step.Phase == Done {
		return step
	}
	if t.Paused != "" {
		step.Waits = append(step.Waits, Wait{Reason: "it is paused: " + t.Paused, Remedy: "rotunda trust advance"})
	}
	for _, condition := range t.Conditions {
		step.Waits = append(step.Waits, Wait{Reason: condition})
	}
	action, waits := t.gate(step.Phase, now)
	if why, forced := t.Forced[step.Phase]; forced && len(waits) > 0 {
		step.SetAside = append(step.SetAside, fmt.Sprintf("%s (%s)", t.law(step.Phase), why))
		action, waits = t.act(step.Phase), nil
	}
	step.Waits = append(step.Waits, waits...)
	if enters := entered[action]; action != "" && t.Through.Before(enters) {
		step.Waits = append(step.Waits, t.held(enters))
		action = ""
	}
	for _, party := range t.Parties {
		if t.unprovable(party) {
			step.Unprovable = append(step.Unprovable, party.Name)
		}
	}
	if t.Paused != "" || len(t.Conditions) > 0 {
		action = ""
	}
	step.Action = action
	if action == RenewHolder {
		step.Holders = t.unasked(now)
	}
	return step
}

// held says that all is ready, and an operator's word is missing.
func (t Change) held(enters Phase) Wait {
	switch {
	case t.Standby:
		return Wait{Reason: fmt.Sprintf("every relying party has adopted %s: it stands by", t.New), Remedy: "rotunda trust failover puts it in the place of " + t.Old}
	case t.Foreign && enters == Withdraw:
		return Wait{
			Reason: fmt.Sprintf("all that %s needs is there as far as it is known here; who else lives on certificates of %s is not, since they were signed elsewhere", enters, t.Old),
			Remedy: "ask the owner of " + t.Old + ", look at rotunda graph, then: rotunda trust advance",
		}
	}
	return Wait{
		Reason: fmt.Sprintf("all that %s needs is there, and operators have let it go up to %s", enters, t.Through),
		Remedy: "rotunda trust advance",
	}
}

// entered is the phase that an action enters: an operator must have let it.
var entered = map[Action]Phase{
	PublishBoth: Prove, ActivateNew: Reissue, RenewHolder: Reissue, DropBridge: Unbridge, PublishNew: Withdraw, RetireOld: Retire,
}

// phase is the first one whose work is not done.
func (t Change) phase(now time.Time) Phase {
	switch {
	case t.Retired:
		return Done
	case t.Roots && t.Withdrawn:
		return Refuse
	case t.Roots && !t.Published:
		return Distribute
	case !t.Active || t.Foreign && len(t.lagging(now, "")) > 0: // nobody proves a foreign root's successor by getting a leaf
		return Prove
	case t.any(now, Holder.managed):
		return Reissue
	case t.any(now, Holder.live):
		return Drain
	case t.Bridged || len(t.Bridging) > 0:
		return Unbridge
	case !t.Roots:
		return Retire
	}
	return Withdraw
}

// act is the one action that ends a phase.
func (t Change) act(phase Phase) Action {
	switch phase {
	case Distribute:
		return PublishBoth
	case Prove:
		return ActivateNew
	case Reissue, Drain:
		return PublishNew
	case Unbridge:
		return DropBridge
	case Withdraw:
		return PublishNew
	case Refuse, Retire:
		return RetireOld
	}
	return ""
}

// gate says whether the phase's action may go, and if not, who holds it up.
func (t Change) gate(phase Phase, now time.Time) (Action, []Wait) {
	switch phase {
	case Distribute:
		return PublishBoth, nil
	case Prove:
		if waits := t.lagging(now, "trusts %s"); len(waits) > 0 {
			return "", waits
		}
		return ActivateNew, nil
	case Reissue:
		return t.reissue(now)
	case Drain:
		return "", t.draining(now)
	case Unbridge:
		if t.Bridged {
			return DropBridge, nil
		}
		var waits []Wait
		for _, name := range t.Bridging {
			waits = append(waits, Wait{Who: name, Reason: "still serves the bridge"})
		}
		return "", waits
	case Withdraw:
		// A party that has come since, or fell back, is no reason to undo
		// anything; but nothing goes on without it.
		if waits := t.lagging(now, "trusts %s"); len(waits) > 0 {
			return "", waits
		}
		return PublishNew, nil
	case Refuse:
		if waits := t.lagging(now, "has let go of %s"); len(waits) > 0 {
			return "", waits
		}
		return RetireOld, nil
	case Retire:
		return RetireOld, nil
	}
	return "", nil
}

// lagging lists who has not adopted the bundle that it should have now.
func (t Change) lagging(now time.Time, what string) (waits []Wait) {
	if !t.Roots {
		return nil
	}
	authority := t.New
	if t.Withdrawn {
		authority = t.Old
	}
	for _, party := range t.Parties {
		wants := t.Wants(party)
		if t.Adopted(party) || party.Excused != "" {
			continue
		}
		wait := Wait{Who: party.Name}
		claim := strings.Replace(what, "%s", authority, 1)
		switch {
		case party.Has == "":
			wait.Reason = "has not shown that it " + claim
		case party.Link != "" && Rank(party.Has) >= Rank(wants):
			wait.Reason = claim + ", but " + party.Link
		default:
			wait.Reason = fmt.Sprintf("has only shown that it %s as %s since %s; %s is wanted", claim, party.Has, Clock(party.Since, now), wants)
		}
		wait.Remedy = "rotunda status"
		if party.ID != "" {
			wait.Remedy = "rotunda describe placement " + party.ID + " shows the evidence"
			if party.Has != "" {
				wait.Remedy += "; rotunda rotate --placement " + party.ID + " has it proven anew"
			}
		}
		if party.Why != "" {
			wait.Reason += " (" + party.Why + ")"
		}
		switch {
		case party.Ask != "":
			wait.Reason = "can't show that it " + claim + ": it has no agent"
			wait.Remedy = "ask " + party.Ask + "; then apply " + party.Exception()
		case party.Away:
			wait.Reason += "; its agent is not connected"
			wait.Remedy = "bring the agent back, retire it (rotunda agent retire), or apply " + party.Exception()
		}
		waits = append(waits, wait)
	}
	return waits
}

func (t Change) reissue(now time.Time) (Action, []Wait) {
	var waits []Wait
	for _, holder := range t.Holders {
		if !holder.Asked || !holder.managed(now) {
			continue
		}
		wait := Wait{Who: holder.Name, Reason: "is still to be renewed under " + t.New, Remedy: holder.Remedy}
		if holder.Away {
			wait.Reason += "; its agent is not connected"
		}
		waits = append(waits, wait)
	}
	switch {
	case t.Renewing != "":
		return "", append(waits, Wait{Who: "rollout " + t.Renewing, Reason: "renews them", Remedy: "rotunda rollout status " + t.Renewing + " says what it waits for"})
	case t.Stopped != "":
		return "", append(waits, Wait{
			Reason: "nothing renews what is left under " + t.Old + ": " + t.Stopped,
			Remedy: "rotunda trust advance renews the rest; rotunda trust back turns the change back",
		})
	case t.any(now, Holder.unasked):
		return RenewHolder, waits
	}
	return "", waits
}

func (t Change) draining(now time.Time) (waits []Wait) {
	for _, holder := range t.Live(now) {
		waits = append(waits, Wait{
			Who: holder.Name, Reason: fmt.Sprintf("has a live certificate under %s until %s", t.Old, holder.NotAfter.UTC().Format("2006-01-02 15:04")),
			Remedy: holder.Remedy,
		})
	}
	return waits
}

// Live are the holders whose certificates still need the old authority.
func (t Change) Live(now time.Time) []Holder { return t.those(now, Holder.live) }

// Managed are those of Live that Rotunda renews itself.
func (t Change) Managed(now time.Time) []Holder { return t.those(now, Holder.managed) }

func (t Change) unasked(now time.Time) []Holder { return t.those(now, Holder.unasked) }

func (h Holder) live(now time.Time) bool    { return now.Before(h.NotAfter) && h.Excused == "" }
func (h Holder) managed(now time.Time) bool { return h.ID != "" && h.live(now) }
func (h Holder) unasked(now time.Time) bool { return !h.Asked && h.managed(now) }

func (t Change) those(now time.Time, is func(Holder, time.Time) bool) (some []Holder) {
	for _, holder := range t.Holders {
		if is(holder, now) {
			some = append(some, holder)
		}
	}
	return some
}

// any is whether there are those, without a list of a hundred thousand.
func (t Change) any(now time.Time, is func(Holder, time.Time) bool) bool {
	return slices.ContainsFunc(t.Holders, func(h Holder) bool { return is(h, now) })
}

// law is the one that a forced step of the phase sets aside.
func (t Change) law(phase Phase) string {
	switch phase {
	case Prove:
		return "trust before leaf: not every relying party has adopted " + t.New
	case Reissue, Drain, Withdraw, Unbridge:
		return "leaf before distrust: live certificates still need " + t.Old
	case Refuse:
		return "proof, not hope: not every relying party has shown that it refuses " + t.Old
	}
	return ""
}

// Clock is a time in words: without its day where that is clear.
func Clock(at, now time.Time) string {
	if at.IsZero() {
		return "ever"
	}
	if now.Sub(at) < 20*time.Hour {
		return at.UTC().Format("15:04")
	}
	return at.UTC().Format("2006-01-02 15:04")
}
