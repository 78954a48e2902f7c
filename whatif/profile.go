package whatif

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/graph"
	"github.com/rotunda-pki/rotunda/trust"
)

// The phases of a change of a profile.
const (
	Apply       trust.Phase = "apply"    // certificates that would not do any more are renewed
	NextRenewal trust.Phase = "renewals" // the others come to have it as they are renewed
)

// Reprofiled is a profile as a document would have it that nobody has applied,
// with the facts as they are.
type Reprofiled struct {
	Proposal
	Name   fleet.Name
	Before *fleet.Profile // nil: there is none of the name
	After  *fleet.Profile
	Facts  graph.Facts
	Seats  []Reseat // where it is used
	Stops  []string // why it can't be applied
	Doubts []Obstacle

	Issuer     string // that signs
	IssuerEnds time.Time
	Windows    map[fleet.Name]*fleet.Window
	// Verifies says which key algorithms a service meets as a client already.
	Verifies map[fleet.Name][]fleet.Algorithm
}

// Reseat is a placement that would have the profile.
type Reseat struct {
	Means
	Name         string
	Intent       fleet.Name
	Away         bool
	Formats      []fleet.Format
	KeyAtRestart bool // it takes a key of another type at a restart only
	NoCRL        bool // it never reads a CRL
	Rotates      bool // what it has would not do any more
	DueBy        time.Time
	Protocol     string // of its newest handshake: "TLS 1.2"; empty: not known
	Group        string
}

// Figure is one thing before and after a change.
type Figure struct{ What, Before, After string }

// Use is an intent that a change of a profile touches.
type Use struct {
	Intent     fleet.Name
	Service    fleet.Name
	Placements int
}

// Foretell says what would happen if the document were applied now.
func (r Reprofiled) Foretell(now time.Time) Foretold {
	today := graph.New(r.Facts, now)
	told := Foretold{Breaks: r.breaks(today), Obstacles: r.obstacles(today, now), Figures: r.figures(), Uses: r.uses(), Waves: r.waves(now)}
	if len(r.Stops) == 0 {
		told.Phases = r.phases()
	}
	for _, phase := range told.Phases {
		told.Takes += phase.Takes
	}
	if len(told.Phases) > 0 {
		told.Assumes = r.assumes()
	}
	reach := graph.Impact{}
	for _, use := range told.Uses {
		reach.Direct = append(reach.Direct, graph.Stake{Service: use.Service})
	}
	for _, one := range told.Breaks {
		reach.Edges = append(reach.Edges, one.Edge)
	}
	for _, one := range told.Obstacles {
		if one.Service != "" {
			reach.Direct = append(reach.Direct, graph.Stake{Service: one.Service})
		}
	}
	told.Ask = today.Contacts(reach)
	return told
}

func (r Reprofiled) rekeyed() bool { return r.Before != nil && r.Before.Algorithm != r.After.Algorithm }

func (r Reprofiled) loses(usage fleet.Usage) bool {
	return r.Before != nil && slices.Contains(r.Before.Usages, usage) && !slices.Contains(r.After.Usages, usage)
}

// breaks lists the edges on which a certificate would be shown that is not for
// that any more.
func (r Reprofiled) breaks(today *graph.Graph) (all []Break) {
	for _, edge := range today.Edges {
		one := Break{Edge: edge}
		for _, half := range []struct {
			usage    fleet.Usage
			from, to fleet.Name
			does     string
		}{{fleet.ServerAuth, edge.Server, edge.Client, "serves"}, {fleet.ClientAuth, edge.Client, edge.Server, "presents"}} {
			places := r.placesOf(half.from)
			if !r.loses(half.usage) || len(places) == 0 {
				continue
			}
			one.Reasons = append(one.Reasons, graph.Reason{Verdict: graph.Breaks, Places: places, Ask: half.from, Text: fmt.Sprintf(
				"%s would have %s without %s, and %s it: %s refuses that", half.from, graph.Count(len(places), "certificate"), half.usage, half.does, half.to)})
		}
		if len(one.Reasons) > 0 {
			all = append(all, one)
		}
	}
	return all
}

// placesOf are the placements of a service that would have the profile.
func (r Reprofiled) placesOf(service fleet.Name) (places []*graph.Place) {
	ids := map[string]bool{}
	for _, seat := range r.Seats {
		ids[seat.Place] = seat.Service == service
	}
	for i := range r.Facts.Places {
		if place := &r.Facts.Places[i]; ids[place.ID] {
			places = append(places, place)
		}
	}
	return places
}

func (r Reprofiled) obstacles(today *graph.Graph, now time.Time) []Obstacle {
	all := append(slices.Clone(r.Doubts), r.ofIssuer(now)...)
	for _, seat := range r.Seats {
		all = append(all, r.ofSeat(seat, now)...)
	}
	all = append(all, r.ofClients(today)...)
	slices.SortStableFunc(all, func(a, b Obstacle) int { return cmp.Or(byCertainty(a, b), strings.Compare(a.Who, b.Who)) })
	return all
}

// ofIssuer says whether lifetimes and renewals fit before the authority's end:
// its own renewal is due 2 × (lifetime + rideOut) before.
func (r Reprofiled) ofIssuer(now time.Time) []Obstacle {
	life, left := r.After.Lifetime.Std(), r.IssuerEnds.Sub(now)
	const remedy = "rotunda plan --change rotate-issuing; then rotunda trust rotate issuing"
	ends := r.IssuerEnds.UTC().Format("2006-01-02 15:04")
	switch {
	case len(r.Seats) == 0:
		return nil
	case left < life:
		return []Obstacle{{Apply, r.Issuer, fmt.Sprintf("ends at %s: certificates of %s would be cut short to %s", ends, r.After.Lifetime, fleet.Duration(left.Truncate(time.Minute))), remedy, "", true}}
	case left < 2*(life+r.After.RideOut.Std()):
		return []Obstacle{{Apply, r.Issuer, fmt.Sprintf("ends at %s, in less than twice lifetime and rideOut: it is to be replaced before", ends), remedy, "", false}}
	}
	return nil
}

func (r Reprofiled) ofSeat(seat Reseat, now time.Time) (all []Obstacle) {
	phase := NextRenewal
	if seat.Rotates {
		phase = Apply
	}
	note := func(certain bool, reason, remedy string) {
		all = append(all, Obstacle{phase, seat.Name, reason, remedy, seat.Service, certain})
	}
	switch {
	case seat.Away:
		note(true, awayWords(seat.AwaySince, now), "bring the agent back, or retire it (rotunda agent retire)")
	case seat.LeafAtRestart && seat.Restart == "":
		note(true, seat.Title+" takes a certificate only at a restart, and names no restartCommand", noRestart)
	case r.rekeyed() && seat.KeyAtRestart && seat.Restart == "":
		note(true, seat.Title+" takes a key of another type at its start only: what is renewed is not served, and is put back", noRestart)
	}
	if r.After.Revocation.CRL && (r.Before == nil || !r.Before.Revocation.CRL) && seat.NoCRL {
		note(false, seat.Title+" never reads a CRL: a revoked client is served until its certificate ends", "use a short lifetime without revocation.crl")
	}
	if r.rekeyed() && r.After.Algorithm == "ed25519" {
		for _, format := range []fleet.Format{fleet.FormatJKS, fleet.FormatPKCS12} {
			if slices.Contains(seat.Formats, format) {
				note(false, fmt.Sprintf("its %s keystore would hold an ed25519 key, which Java reads from version 15 on", format), "look at who reads it, or choose an ecdsa key")
			}
		}
	}
	if r.After.TLS.MinVersion == "1.3" && seat.Protocol == "TLS 1.2" {
		note(false, "its newest handshake was TLS 1.2, and 1.3 would be the least", "rotunda probe shows what it offers")
	}
	if groups := r.After.TLS.Groups; len(groups) > 0 && seat.Group != "" && !slices.Contains(groups, fleet.Group(seat.Group)) {
		note(false, fmt.Sprintf("its newest handshake was by %s, which would not be enough", seat.Group), "rotunda probe shows what it offers")
	}
	return all
}

// ofClients lists who would meet a key of an algorithm that nothing here shows
// him to verify: he meets it nowhere yet, or nobody here sees him.
func (r Reprofiled) ofClients(today *graph.Graph) (all []Obstacle) {
	if !r.rekeyed() {
		return nil
	}
	seen := map[fleet.Name]bool{}
	doubt := func(who, shows fleet.Name, usage fleet.Usage) {
		if seen[who] || len(r.placesOf(shows)) == 0 || !slices.Contains(r.After.Usages, usage) {
			return
		}
		seen[who] = true
		party := today.Party(who)
		name := string(who)
		why := fmt.Sprintf("meets no %s key yet: nothing here shows that it verifies one", r.After.Algorithm)
		switch {
		case party != nil && party.Outside:
			name, why = "outside party "+name, fmt.Sprintf("is an outside party: nobody here sees whether it verifies an %s key", r.After.Algorithm)
		case slices.Contains(r.Verifies[who], r.After.Algorithm):
			return
		}
		all = append(all, Obstacle{Apply, name, why, fmt.Sprintf("ask its owner, or try it on a part of %s first: rotunda rollout start --profile", shows), who, false})
	}
	for _, edge := range today.Edges {
		doubt(edge.Client, edge.Server, fleet.ServerAuth)
		doubt(edge.Server, edge.Client, fleet.ClientAuth)
	}
	return all
}

// figures are what the profile says now and would say, as far as it differs, and
// what follows from it.
func (r Reprofiled) figures() (all []Figure) {
	before := r.Before
	if before == nil {
		before = &fleet.Profile{}
	}
	say := func(what string, text func(*fleet.Profile) string) {
		one := Figure{what, text(before), text(r.After)}
		if r.Before == nil {
			one.Before = ""
		}
		if one.Before != one.After {
			all = append(all, one)
		}
	}
	say("key", func(p *fleet.Profile) string { return string(p.Algorithm) })
	say("lifetime", func(p *fleet.Profile) string { return p.Lifetime.String() })
	say("renewed after", func(p *fleet.Profile) string {
		opens, closes := p.RenewalWindow()
		return fmt.Sprintf("%s to %s", fleet.Duration(opens.Round(time.Second)), fleet.Duration(closes.Round(time.Second)))
	})
	say("rides out", func(p *fleet.Profile) string { return p.RideOut.String() })
	say("key age", func(p *fleet.Profile) string { return p.KeyAge.String() })
	say("usages", func(p *fleet.Profile) string { return listWords(p.Usages) })
	say("least TLS", func(p *fleet.Profile) string { return string(p.TLS.MinVersion) })
	say("groups", func(p *fleet.Profile) string { return cmp.Or(listWords(p.TLS.Groups), "any") })
	say("grace", func(p *fleet.Profile) string { return p.Grace.String() })
	say("CRLs", func(p *fleet.Profile) string {
		return map[bool]string{true: "delivered", false: "none"}[p.Revocation.CRL]
	})
	return append(all, Figure{"issuances a day", r.aDay(r.Before), r.aDay(r.After)})
}

func listWords[T ~string](list []T) string {
	var texts []string
	for _, one := range list {
		texts = append(texts, string(one))
	}
	return strings.Join(texts, ", ")
}

// aDay is how many certificates the placements take a day: each is renewed in
// the middle of its window on average.
func (r Reprofiled) aDay(p *fleet.Profile) string {
	if p == nil {
		return ""
	}
	opens, closes := p.RenewalWindow()
	if mean := (opens + closes) / 2; mean > 0 {
		return fmt.Sprintf("%.1f", float64(len(r.Seats))*float64(24*time.Hour)/float64(mean))
	}
	return "none"
}

func (r Reprofiled) uses() (all []Use) {
	counts := map[Use]int{}
	for _, seat := range r.Seats {
		counts[Use{Intent: seat.Intent, Service: seat.Service}]++
	}
	for use, n := range counts {
		use.Placements = n
		all = append(all, use)
	}
	slices.SortFunc(all, func(a, b Use) int { return strings.Compare(string(a.Intent), string(b.Intent)) })
	return all
}

// phases are what happens at once, and what comes with the next renewals.
func (r Reprofiled) phases() (plan []PhasePlan) {
	now := PhasePlan{Phase: Apply, Does: "what is in use would not do any more, and is renewed; members of a cluster by slots", Renewals: map[string]int{}}
	later := PhasePlan{Phase: NextRenewal, Does: "what is in use still does: each takes it with its next renewal, within its window", Renewals: map[string]int{}}
	clusters, restarts := map[string]*Restarts{}, map[string]*Restarts{}
	for _, seat := range r.Seats {
		if !seat.Rotates {
			later.Renewals["placement"]++
			if seat.DueBy.After(later.EndsBy) {
				later.EndsBy = seat.DueBy
			}
			continue
		}
		now.Renewals["placement"]++
		member(clusters, seat, "")
		if seat.Restart != "" && (seat.LeafAtRestart || r.rekeyed() && seat.KeyAtRestart) {
			member(restarts, seat, "it takes this only at a restart")
		}
	}
	if now.Renewals["placement"] > 0 {
		now.Takes = RenewTime
		for _, one := range clusters {
			if one.Cluster != "" {
				now.Takes = max(now.Takes, RenewTime*time.Duration((len(one.Members)+one.AtOnce-1)/one.AtOnce))
			}
		}
		for _, key := range slices.Sorted(maps.Keys(restarts)) {
			now.Restarts = append(now.Restarts, *restarts[key])
		}
		plan = append(plan, now)
	}
	if later.Renewals["placement"] > 0 {
		plan = append(plan, later)
	}
	return plan
}

// member adds a seat's process to its cluster.
func member(groups map[string]*Restarts, seat Reseat, cause string) {
	key := seat.Cluster + "\x00" + seat.Title
	if groups[key] == nil {
		groups[key] = &Restarts{Cluster: seat.Cluster, Kind: seat.Title, AtOnce: max(seat.AtOnce, 1), Cause: cause}
	}
	if one := groups[key]; !slices.Contains(one.Members, seat.Member) {
		one.Members = append(one.Members, seat.Member)
	}
}

func (r Reprofiled) assumes() []string {
	return []string{
		fmt.Sprintf("every host is connected, and a certificate is renewed and proven within %s", RenewTime),
		"members of a cluster follow each other, all others go side by side: apply has no waves and minds no window",
		fmt.Sprintf("no failure; rotunda rollout start --profile tries another profile on a part first, %s stays as it is then", r.Name),
	}
}
