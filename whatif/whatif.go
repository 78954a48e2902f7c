// Package whatif foretells a change of trust, or of a profile, over today's
// facts: what would break, who stands in the way, in which order and for how
// long.
//
// It is pure: facts and a time in, a forecast out.
package whatif

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/graph"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/schedule"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/trust"
)

// ProposalKind is a kind of change that somebody thinks of.
type ProposalKind string

// The kinds of proposal.
const (
	RotateRoot    ProposalKind = "rotate-root"
	RotateIssuing ProposalKind = "rotate-issuing"
	Failover      ProposalKind = "failover"
	WithdrawNow   ProposalKind = "withdraw" // an authority, as it is trusted now
	Reprofile     ProposalKind = "profile"  // a profile, as a file has it
)

// Proposal is a change that somebody thinks of.
type Proposal struct {
	Kind      ProposalKind
	Authority string // of WithdrawNow: name or id; of RotateIssuing: the region; of Reprofile: the file
}

func (p Proposal) String() string {
	return strings.TrimSuffix(string(p.Kind)+":"+p.Authority, ":")
}

// proposals is how a proposal is written.
const proposals = "it is rotate-root, rotate-issuing, rotate-issuing:REGION, failover, withdraw:AUTHORITY or profile:FILE"

// Parse reads rotate-root, rotate-issuing, rotate-issuing:REGION, failover, withdraw:AUTHORITY or
// profile:FILE.
func Parse(text string) (Proposal, error) {
	word, name, named := strings.Cut(text, ":")
	p := Proposal{ProposalKind(word), name}
	switch {
	case p.Kind == WithdrawNow && name == "":
		return p, fault.New(fault.Invalid, "withdraw of no authority").WithRemedy("name it: withdraw:AUTHORITY; rotunda get authorities lists them")
	case p.Kind == Reprofile && name == "":
		return p, fault.New(fault.Invalid, "a change of profile without its file").WithRemedy("name it: profile:FILE")
	case p.Kind == RotateIssuing && named && name == "":
		return p, fault.New(fault.Invalid, "an issuing authority of no region").WithRemedy("rotate-issuing, or rotate-issuing:REGION")
	case p.Kind == WithdrawNow, p.Kind == Reprofile:
		return p, nil
	case (p.Kind == RotateRoot || p.Kind == Failover) && named:
		return p, fault.New(fault.Invalid, "%s of %.80q: it is of the authority that signs now, and names none", word, name).WithRemedy("leave the name out: %s", word)
	case p.Kind == RotateRoot, p.Kind == RotateIssuing, p.Kind == Failover:
		return p, nil
	}
	return p, fault.New(fault.Invalid, "%.80q is no change that can be foretold", text).WithRemedy(proposals)
}

// Supposed is a change of trust that nobody has begun, with the facts as they
// are.
type Supposed struct {
	Proposal
	Facts graph.Facts
	Old   graph.Authority  // that goes
	Trust trust.Change     // as it would stand when it has just begun
	Means map[string]Means // by the names of parties and holders
	Signs []string         // whose key signs what before it begins, in words
	Stops []string         // why it can't be begun now
	You   string           // the operator who asks; empty: another
	Pace  time.Duration    // of the renewals; zero: DefaultOver

	Reissue rollout.Spec                 // how the renewals go; zero: all in one wave, at the usual pace
	Windows map[fleet.Name]*fleet.Window // that are declared, freezes too

	Bridge     bool   // a bridge belongs to it
	BridgeLess string // why there can be none; empty: there can
}

// Means is what is known of the process behind a party: what it takes at a
// restart only, and whether somebody can restart it.
type Means struct {
	Place     string // id of the placement; empty: an agent, an outside party, ...
	Service   fleet.Name
	Intent    fleet.Name
	Region    string // of its agent
	Kind      string // of what holds a certificate: placement, agent, server, operator
	Title     string // of the kind of target: "memcached"
	AwaySince time.Time
	Cluster   string
	Member    schedule.Member
	AtOnce    int // members that may be away at once; 0 means 1

	AddAtRestart, DropAtRestart, LeafAtRestart bool
	Restart                                    string // the command that restarts it; empty: there is none

	Depth int         // intermediates that it follows in a client's chain; 0: no limit
	Shown fleet.Level // how far it has come with the bundle of today
}

// MeansOf is what an intent's kind of server can do, by its row of the table,
// and what the intent names. Serves says whether its certificates are shown to
// clients.
func MeansOf(in *fleet.Intent, row target.Capabilities, serves bool) Means {
	means := Means{
		Title: row.Title, Restart: in.Target.RestartCommand, AtOnce: in.Target.MaxUnavailable,
		AddAtRestart:  row.AnchorAdd == target.AtRestart,
		DropAtRestart: row.AnchorRemove == target.AtRestart,
		LeafAtRestart: row.Leaf == target.AtRestart,
	}
	if serves && in.Target.ClientAuth != "none" {
		means.Depth = row.VerifyDepth
	}
	return means
}

// bridgeDepth is how many intermediates stand in a chain that a bridge helps:
// the issuing authority and the bridge.
const bridgeDepth = 2

// Foretold is what a change would meet with.
type Foretold struct {
	Breaks    []Break
	Obstacles []Obstacle
	Useless   []string    // at whom the bridge does not help, and why
	Levels    graph.Tally // relying parties, by the level that each must show
	Phases    []PhasePlan
	Takes     time.Duration
	Ends      time.Time // when all is over, inside windows and freezes, without what people do; zero: never
	Assumes   []string
	Ask       []graph.Contact
	Figures   []Figure // of a profile
	Uses      []Use    // of a profile
	Waves     []InWaves
}

// Obstacle is one thing about a party that stands in a phase's way.
type Obstacle struct {
	Phase   trust.Phase
	Who     string
	Reason  string
	Remedy  string
	Service fleet.Name
	Certain bool // false: it may
}

// Foretell says what a change would meet with if it were begun now.
func (s Supposed) Foretell(now time.Time) Foretold {
	today := graph.New(s.Facts, now)
	told := Foretold{Breaks: s.breaks(today), Obstacles: s.obstacles(now), Useless: s.useless()}
	if s.Trust.Roots {
		for _, party := range s.Trust.Parties {
			told.Levels.Add(party.Needs)
		}
	}
	told.Phases = s.walk(now)
	for _, phase := range told.Phases {
		told.Takes += phase.Takes
	}
	if len(told.Phases) > 0 {
		for i := range told.Phases {
			told.Phases[i].Unknown = s.unknown(told.Phases[i])
		}
		told.Waves = s.inWindows(told.Phases, now)
		told.Ends = s.schedule(told.Phases, s.reissueSpec(), now).End
		told.Assumes = s.assumes()
	}
	told.Ask = s.ask(today, told)
	return told
}

// hopeless says that it is no change that could go through the phases.
func (s Supposed) hopeless() bool { return s.Kind == WithdrawNow && len(s.Stops) > 0 }

// obstacles lists what can be seen today to stand in a phase's way, the
// earliest phase first. What an exception covers is none.
func (s Supposed) obstacles(now time.Time) (all []Obstacle) {
	for _, party := range s.Trust.Parties {
		if party.Excused != "" || !s.Trust.Roots {
			continue
		}
		all = append(all, s.ofParty(party, now)...)
	}
	for _, holder := range s.Trust.Managed(now) {
		said := func(o Obstacle) bool { return o.Who == holder.Name && holder.Away } // that it is away
		if why, remedy := s.cantRenew(holder, now); why != "" && !s.hopeless() && !slices.ContainsFunc(all, said) {
			all = append(all, Obstacle{trust.Reissue, holder.Name, why, remedy, s.Means[holder.Name].Service, true})
		}
	}
	slices.SortStableFunc(all, func(a, b Obstacle) int {
		return cmp.Or(slices.Index(trust.Phases, a.Phase)-slices.Index(trust.Phases, b.Phase), byCertainty(a, b), strings.Compare(a.Who, b.Who))
	})
	return all
}

func byCertainty(a, b Obstacle) int {
	switch {
	case a.Certain == b.Certain:
		return 0
	case a.Certain:
		return -1
	}
	return 1
}

func (s Supposed) ofParty(party trust.RelyingParty, now time.Time) (all []Obstacle) {
	means := s.Means[party.Name]
	first := trust.Prove
	if s.Trust.Published { // it has the new anchor already
		first = trust.Refuse
	}
	note := func(phase trust.Phase, certain bool, reason, remedy string) {
		all = append(all, Obstacle{phase, party.Name, reason, remedy, means.Service, certain})
	}
	if s.Kind == Failover && !s.Trust.Adopted(party) {
		why, remedy := s.cantFollow(party, trust.Prove, now)
		note(trust.Prove, true, cmp.Or(why, "has not shown that it trusts "+s.Trust.New), cmp.Or(remedy, "rotunda trust status"))
	}
	if why, remedy := s.cantFollow(party, first, now); why != "" {
		note(first, true, why, remedy)
	} else if trust.Rank(means.Shown) < trust.Rank(party.Needs) && means.Place != "" {
		note(first, false, fmt.Sprintf("has come only as far as %s with the bundle of today; %s will be wanted", orNothing(means.Shown), party.Needs)+inBrackets(party.Why),
			"rotunda describe placement "+means.Place)
	}
	if why, remedy := s.cantFollow(party, trust.Refuse, now); why != "" && first != trust.Refuse && len(all) == 0 {
		note(trust.Refuse, true, why, remedy)
	}
	for _, edge := range party.Blocked {
		note(first, false, "the path is blocked, so that no handshake will show its trust: "+edge, "open the path, or mend the address that the server's Service or intent names")
	}
	return all
}

func orNothing(level fleet.Level) string { return cmp.Or(string(level), "nothing") }

func inBrackets(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

// cantFollow says why a party can't be expected to adopt the bundle of a phase:
// with one anchor more, or with one less. Empty: it can.
func (s Supposed) cantFollow(party trust.RelyingParty, phase trust.Phase, now time.Time) (why, remedy string) {
	means := s.Means[party.Name]
	switch {
	case party.Ask != "":
		return "is an outside party: nobody here sees whom it trusts", "ask " + party.Ask + "; then apply " + party.Exception()
	case party.Away:
		return awayWords(means.AwaySince, now), "bring the agent back, or retire it (rotunda agent retire); or apply " + party.Exception()
	case means.Restart != "":
	case phase == trust.Prove && means.AddAtRestart:
		return means.Title + " takes an added CA only at a restart, and names no restartCommand", noRestart
	case phase == trust.Refuse && means.DropAtRestart:
		return means.Title + " takes a removed CA only at a restart, and names no restartCommand", noRestart
	}
	return "", ""
}

const noRestart = "name target.restartCommand in its intent, or restart it by hand once the bundle is there"

// cantRenew says why a holder can't be expected to get another certificate.
func (s Supposed) cantRenew(holder trust.Holder, now time.Time) (why, remedy string) {
	means := s.Means[holder.Name]
	switch {
	case holder.Away:
		return awayWords(means.AwaySince, now), cmp.Or(holder.Remedy, "bring the agent back")
	case means.LeafAtRestart && means.Restart == "":
		return means.Title + " takes a certificate only at a restart, and names no restartCommand", noRestart
	}
	return "", ""
}

func awayWords(since, now time.Time) string {
	if since.IsZero() {
		return "its agent is not connected"
	}
	return "its agent is not connected; it was last seen at " + trust.Clock(since, now)
}

// useless lists the servers that the bridge does not help.
func (s Supposed) useless() (all []string) {
	if !s.Bridge || s.BridgeLess != "" {
		return nil
	}
	for _, party := range s.Trust.Parties {
		if means := s.Means[party.Name]; means.Depth > 0 && means.Depth < bridgeDepth {
			all = append(all, fmt.Sprintf("%s: %s follows %s in a client's chain unless it is set to follow more, and the bridge makes %d",
				party.Name, means.Title, graph.Count(means.Depth, "intermediate"), bridgeDepth))
		}
	}
	return all
}

// ask is whom to speak with before: the owners of what breaks, and of what
// stands in the way.
func (s Supposed) ask(today *graph.Graph, told Foretold) []graph.Contact {
	var reach graph.Impact
	for _, one := range told.Breaks {
		reach.Edges = append(reach.Edges, one.Edge)
	}
	for _, one := range told.Obstacles {
		if one.Service != "" {
			reach.Direct = append(reach.Direct, graph.Stake{Service: one.Service})
		}
	}
	return today.Contacts(reach)
}
