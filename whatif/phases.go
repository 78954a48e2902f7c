package whatif

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/graph"
	"github.com/rotunda-pki/rotunda/schedule"
	"github.com/rotunda-pki/rotunda/trust"
)

// What a foretold time goes by. Measured rolls are faster (etcd: 2-3 s a
// member); a slot has to be asked for, and each restart is proven.
const (
	DeliverTime = 30 * time.Second // until a connected host has a new bundle and has shown it
	RestartTime = 30 * time.Second // of one member
	RenewTime   = time.Minute      // of one certificate, from its turn to its proof
)

// Prepare is what comes before the phases of a change: its keys and signatures.
const Prepare trust.Phase = "prepare"

// PhasePlan is one phase of a change that nobody has begun.
type PhasePlan struct {
	Phase    trust.Phase
	Does     string
	Parties  graph.Tally // who must show something, by the level
	Restarts []Restarts
	Renewals map[string]int // by kind of holder
	Operator []string       // what an operator does for it
	Waits    []trust.Wait   // who holds it up, as things are
	Takes    time.Duration  // without what people do
	EndsBy   time.Time      // of Drain: when it has ended though nobody did anything
	Begins   time.Time      // inside windows and freezes, as if people did at once what is theirs; zero: never
	Ends     time.Time      // zero: never, or nobody can say
	Unknown  []string       // what of its time can't be known
}

// Restarts are members of a cluster that restart, some at a time.
type Restarts struct {
	Cluster string // empty: of none, each by itself
	Kind    string
	Members []schedule.Member
	AtOnce  int
	Cause   string
}

func (r Restarts) takes() time.Duration {
	if r.Cluster == "" {
		return RestartTime
	}
	atOnce := max(r.AtOnce, 1)
	return RestartTime * time.Duration((len(r.Members)+atOnce-1)/atOnce)
}

// walk leads the change through its phases by Next, so that the same gates
// decide. At each it notes what is to be done and who holds it up, and then
// supposes that this was seen to.
func (s Supposed) walk(now time.Time) (plan []PhasePlan) {
	if s.hopeless() {
		return nil
	}
	if s.Kind != WithdrawNow {
		plan = append(plan, PhasePlan{Phase: Prepare, Does: s.does(Prepare), Operator: s.Signs})
	}
	w := walker{Supposed: s, t: s.Trust, now: now}
	w.t.Parties, w.t.Holders, w.t.Conditions = slices.Clone(s.Trust.Parties), slices.Clone(s.Trust.Holders), nil
	for range 10 * len(trust.Phases) { // each round goes on; a mistake here must not hang a server
		step := w.t.Next(now)
		if step.Phase == trust.Done {
			break
		}
		if i := len(plan) - 1; i < 0 || plan[i].Phase != step.Phase {
			plan = append(plan, s.enter(step.Phase, now))
		}
		w.suppose(step, &plan[len(plan)-1])
	}
	return plan
}

// enter is a phase with what is known of it beforehand.
func (s Supposed) enter(phase trust.Phase, now time.Time) PhasePlan {
	p := PhasePlan{Phase: phase, Does: s.does(phase)}
	switch phase {
	case trust.Prove, trust.Refuse:
		if !s.Trust.Roots {
			break
		}
		for _, party := range s.Trust.Parties {
			p.Parties.Add(party.Needs)
		}
		p.Restarts = s.restarts(phase, now)
		p.Takes = DeliverTime
	case trust.Reissue:
		p.Renewals = map[string]int{}
		for _, holder := range s.Trust.Managed(now) {
			p.Renewals[cmp.Or(s.Means[holder.Name].Kind, "placement")]++
		}
		p.Restarts = s.restarts(phase, now)
		p.Takes = s.work(now)
	}
	var longest time.Duration // clusters restart side by side
	for _, one := range p.Restarts {
		longest = max(longest, one.takes())
	}
	p.Takes += longest
	return p
}

func (s Supposed) does(phase trust.Phase) string {
	switch phase {
	case Prepare:
		if s.Kind == Failover {
			return s.Trust.New + " is in the bundles already, and the authority that will sign under it is ready"
		}
		return "the new authority's keys are made, and what they need is signed"
	case trust.Distribute:
		return fmt.Sprintf("%s goes into every bundle that has %s", s.Trust.New, s.Trust.Old)
	case trust.Prove:
		if !s.Trust.Roots {
			return s.Trust.New + " signs from now on; everybody trusts the root above it already"
		}
		return fmt.Sprintf("every relying party shows that it trusts %s; then it signs", s.Trust.New)
	case trust.Reissue:
		return "every managed certificate is renewed under " + s.Trust.New
	case trust.Drain:
		return "nothing live needs " + s.Trust.Old + " any more"
	case trust.Unbridge:
		return "nobody serves the bridge any more"
	case trust.Withdraw:
		return s.Trust.Old + " leaves the bundles; from here on there is no way back"
	case trust.Refuse:
		return fmt.Sprintf("every relying party shows that it refuses what is under %s; then its key is destroyed", s.Trust.Old)
	case trust.Retire:
		return "the key of " + s.Trust.Old + " is destroyed"
	}
	return ""
}

// restarts are those that a phase causes and that Rotunda can do, by cluster.
func (s Supposed) restarts(phase trust.Phase, now time.Time) []Restarts {
	groups := map[string]*Restarts{}
	add := func(means Means, needed bool, cause string) {
		if !needed || means.Restart == "" {
			return
		}
		key := means.Cluster + "\x00" + means.Title
		if groups[key] == nil {
			groups[key] = &Restarts{Cluster: means.Cluster, Kind: means.Title, AtOnce: max(means.AtOnce, 1), Cause: cause}
		}
		if one := groups[key]; !slices.Contains(one.Members, means.Member) {
			one.Members = append(one.Members, means.Member)
		}
	}
	if phase == trust.Reissue {
		for _, holder := range s.Trust.Managed(now) {
			means := s.Means[holder.Name]
			add(means, means.LeafAtRestart, "it takes a certificate only at a restart")
		}
	} else {
		for _, party := range s.Trust.Parties {
			means := s.Means[party.Name]
			add(means, phase == trust.Prove && means.AddAtRestart, "it takes an added CA only at a restart")
			add(means, phase == trust.Refuse && means.DropAtRestart, "it takes a removed CA only at a restart")
		}
	}
	var all []Restarts
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		slices.SortFunc(groups[key].Members, func(a, b schedule.Member) int {
			return cmp.Or(strings.Compare(a.Agent, b.Agent), strings.Compare(a.Target, b.Target))
		})
		all = append(all, *groups[key])
	}
	return all
}

// walker is a change on its way through supposed facts.
type walker struct {
	Supposed
	t   trust.Change
	now time.Time
}

// suppose notes what a step shows, and makes the facts what they are when it
// has been seen to.
func (w *walker) suppose(step trust.Step, p *PhasePlan) {
	held := false
	if step.Phase == trust.Drain {
		w.drain(p)
	}
	for _, wait := range step.Waits {
		switch {
		case wait.Who != "" && step.Action != "": // it says so again when nothing else is to be done
		case w.Means[wait.Who].Kind == "operator" && step.Phase == trust.Drain:
			held = true
		case wait.Who != "":
			p.Waits = append(p.Waits, wait)
			held = true
		default: // an operator has to let it go on
			p.Operator = append(p.Operator, wait.Remedy+": "+wait.Reason)
			w.t.Paused, w.t.Through = "", trust.Done
		}
	}
	if step.Action == "" {
		if held {
			w.seenTo(step.Phase)
		}
		return
	}
	w.act(step)
}

// drain says which operators have to renew what they hold, and when all that
// is live has ended by itself.
func (w *walker) drain(p *PhasePlan) {
	var operators []string
	for _, holder := range w.t.Live(w.now) {
		if w.Means[holder.Name].Kind == "operator" {
			name := strings.TrimPrefix(holder.Name, "operator ")
			if s, _, _ := strings.Cut(name, " ("); s == w.You && s != "" {
				name += ", that is you"
			}
			operators = append(operators, name)
		}
		if holder.NotAfter.After(p.EndsBy) {
			p.EndsBy = holder.NotAfter
		}
	}
	if len(operators) > 0 {
		p.Operator = append(p.Operator, "rotunda operator renew, each of: "+strings.Join(operators, ", "))
	}
}

func (w *walker) act(step trust.Step) {
	switch step.Action {
	case trust.PublishBoth:
		w.t.Published = true
		w.adopt(trust.Prove)
	case trust.ActivateNew:
		w.t.Active = true
		w.renewed(func(h trust.Holder) bool { return h.Asked }) // these renew themselves
	case trust.RenewHolder:
		w.renewed(func(trust.Holder) bool { return true })
		for i := range w.t.Holders {
			w.t.Holders[i].Asked = true
		}
	case trust.DropBridge:
		w.t.Bridged = false
	case trust.PublishNew:
		w.t.Withdrawn = true
		w.adopt(trust.Refuse)
	case trust.RetireOld:
		w.t.Retired = true
	}
}

// adopt lets each party that can have the bundle of the phase.
func (w *walker) adopt(phase trust.Phase) {
	for i := range w.t.Parties {
		party := &w.t.Parties[i]
		why, _ := w.cantFollow(*party, phase, w.now)
		party.Has, party.Link = party.Needs, ""
		if why != "" {
			party.Has = ""
			if !party.Away && party.Ask == "" { // the gate says so of these
				party.Why = why
			}
		}
	}
}

// renewed takes out the holders that have another certificate then.
func (w *walker) renewed(which func(trust.Holder) bool) {
	w.t.Holders = slices.DeleteFunc(w.t.Holders, func(h trust.Holder) bool {
		why, _ := w.cantRenew(h, w.now)
		return h.ID != "" && which(h) && why == ""
	})
}

// seenTo supposes that whoever held a phase up does so no more.
func (w *walker) seenTo(phase trust.Phase) {
	switch phase {
	case trust.Prove, trust.Withdraw, trust.Refuse:
		for i := range w.t.Parties {
			w.t.Parties[i].Has, w.t.Parties[i].Link = w.t.Parties[i].Needs, ""
		}
	case trust.Reissue:
		w.t.Holders = slices.DeleteFunc(w.t.Holders, func(h trust.Holder) bool { return h.ID != "" })
	case trust.Drain:
		w.t.Holders = nil
	case trust.Unbridge:
		w.t.Bridging = nil
	}
}
