package simulate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/trust"
	"github.com/rotunda-pki/rotunda/whatif"
)

// finish completes the report.
func (w *world) finish(set fleet.Set) {
	r := w.report
	w.sample()
	r.close(w.now)
	r.Ends, r.Seconds, r.Done = w.time(w.now), time.Duration(w.now).Seconds(), w.planner.over()
	if n := len(r.Steps); n > 1 && r.Done { // the last says only that it is over
		r.Steps = r.Steps[:n-1]
	}
	r.Placements, r.Hosts, r.Clusters, r.Services = len(w.places), len(w.hosts), len(w.clusters), len(w.services)
	slices.SortFunc(r.Breakers, func(a, b Breaker) int { return cmp.Or(b.Times-a.Times, cmp.Compare(a.Intent, b.Intent)) })
	if w.o.Change.Kind != Rotate {
		r.Obstacles = append(r.Obstacles, w.obstacles(set)...)
	}
	r.Assumes = append(r.Assumes, w.assumes()...)
}

// obstacles lets whatif say what about the documents stands in the way: over
// one party for each intent, and each outside.
func (w *world) obstacles(set fleet.Set) (all []Obstacle) {
	s := whatif.Supposed{Proposal: whatif.Proposal{Kind: whatif.ProposalKind(w.o.Change.Kind)}, Means: map[string]whatif.Means{}}
	s.Trust = trust.Change{Old: "root-1", New: "root-2", Roots: w.roots(), Through: trust.Drain}
	counts := make([]int, len(w.intents))
	for p := range w.places {
		counts[w.places[p].intent]++
	}
	for i := range w.intents {
		in := &w.intents[i]
		name := fmt.Sprintf("intent %s (%d placements)", in.name, counts[i])
		s.Means[name] = in.means
		s.Trust.Parties = append(s.Trust.Parties, trust.RelyingParty{ID: string(in.name), Name: name, Needs: in.needs, Has: in.needs})
		if in.profile != nil {
			s.Trust.Holders = append(s.Trust.Holders, trust.Holder{ID: string(in.name), Name: name, NotAfter: w.o.Begin.Add(longest)})
		}
	}
	for i := range w.services {
		declared, _ := set.Service(w.services[i].name)
		if declared.Outside && len(w.services[i].neighbours) > 1 {
			s.Trust.Parties = append(s.Trust.Parties, trust.RelyingParty{Name: "outside party " + string(w.services[i].name), Needs: fleet.Delivered, Ask: declared.Owner.Contact})
		}
	}
	for _, one := range s.Foretell(w.o.Begin).Obstacles {
		all = append(all, Obstacle{string(one.Phase), one.Who, one.Reason, one.Remedy})
	}
	return all
}

// assumes says what the simulation goes by that is in no document.
func (w *world) assumes() []string {
	said := []string{
		fmt.Sprintf("%.3g%% of the agents are slow, %.3g%% away for %s on average; %.3g%% of the attempts fail, %.3g%% of the reloads lie",
			100*w.o.Rates.Slow, 100*w.o.Rates.Away, fleet.Duration(w.o.AwayFor), 100*w.o.Rates.Fail, 100*w.o.Rates.Lie),
		fmt.Sprintf("a host hears of a change within %s, takes up to %s to request and stage, %s to reload or about %s to restart; a slow one ten times as long",
			whatif.DeliverTime/3, mostStage, mostReload, whatif.RestartTime),
		fmt.Sprintf("a declared cluster stands for as many clusters of %d members as there are hosts for; certificates have all ages", w.o.ClusterSize),
		"what failed is put back at once and tried again after a growing pause; its intent's breaker holds the others until then",
	}
	if w.o.Change.Kind != Rotate {
		said = append(said, fmt.Sprintf("an operator lets it go on after %s; what people are asked for (restarts by hand, answers of outside parties) is done after about %s", fleet.Duration(w.o.AdvanceAfter), fleet.Duration(w.o.ByHand)),
			"operators' own certificates, and servers', are not in it")
	}
	var agents []string
	for i := range w.services {
		if w.services[i].places == 0 {
			agents = append(agents, string(w.services[i].name))
		}
	}
	if len(agents) > 0 {
		said = append(said, "no placements of: "+strings.Join(agents, ", "))
	}
	return said
}
