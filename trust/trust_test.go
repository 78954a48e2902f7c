package trust

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rotunda-pki/rotunda/fleet"
)

var noon = time.Date(2030, 1, 2, 14, 2, 0, 0, time.UTC)

func relying(name string, has, needs fleet.Level) RelyingParty {
	return RelyingParty{Name: name, Has: has, Needs: needs, Since: noon}
}

func holder(name string) Holder {
	return Holder{ID: "id-" + name, Name: name, NotAfter: noon.Add(24 * time.Hour), Remedy: "rotunda status"}
}

// begun is a change of roots in which nothing has happened yet, at a fleet of
// one server that asks its clients for certificates, and an agent.
func begun() Change {
	return Change{
		Old: "root", New: "root-2", Roots: true, Through: Done,
		Parties: []RelyingParty{relying("redis on agent a", "", fleet.Proven), relying("agent a", "", fleet.Loaded)},
		Holders: []Holder{holder("redis on agent a")},
	}
}

func with(t Change, changes ...func(*Change)) Change {
	t.Parties, t.Holders = slices.Clone(t.Parties), slices.Clone(t.Holders)
	for _, change := range changes {
		change(&t)
	}
	return t
}

func published(t *Change) { t.Published = true }
func active(t *Change)    { published(t); t.Active = true }
func withdrawn(t *Change) { active(t); t.Withdrawn = true }
func drained(t *Change)   { t.Holders = nil }
func haveAdopted(t *Change) {
	for i := range t.Parties {
		t.Parties[i].Has = t.Parties[i].Needs
	}
}
func asked(t *Change)   { t.Holders[0].Asked = true }
func standby(t *Change) { t.Standby, t.Through = true, Prove }
func foreign(t *Change) { t.Foreign = true }
func through(p Phase) func(*Change) {
	return func(t *Change) { t.Through = p }
}

func TestTrustNext(t *testing.T) {
	for name, c := range map[string]struct {
		facts  Change
		phase  Phase
		action Action
		waits  string // of one wait
	}{
		"begun":                   {begun(), Distribute, PublishBoth, ""},
		"nobody has adopted":      {with(begun(), published), Prove, "", "redis on agent a has not shown that it trusts root-2"},
		"loaded is not proven":    {with(begun(), published, haveAdopted, func(t *Change) { t.Parties[0].Has = fleet.Loaded }), Prove, "", "has only shown that it trusts root-2 as loaded since 14:02; proven is wanted"},
		"its agent is away":       {with(begun(), published, func(t *Change) { t.Parties[1].Away = true }), Prove, "", "agent a has not shown that it trusts root-2; its agent is not connected"},
		"an agent is a party":     {with(begun(), published, haveAdopted, func(t *Change) { t.Parties[1].Has = "" }), Prove, "", "agent a has not shown"},
		"an exception":            {with(begun(), published, haveAdopted, func(t *Change) { t.Parties[0].Has, t.Parties[0].Excused = "", "x, of ann until 2030-02-01" }), Prove, ActivateNew, ""},
		"all have adopted":        {with(begun(), published, haveAdopted), Prove, ActivateNew, ""},
		"may not be activated":    {with(begun(), published, haveAdopted, through(Prove)), Prove, "", "all that reissue needs is there, and operators have let it go up to prove"},
		"the new one signs":       {with(begun(), active, haveAdopted), Reissue, RenewHolder, ""},
		"renewals go on":          {with(begun(), active, haveAdopted, asked), Reissue, "", "redis on agent a is still to be renewed under root-2"},
		"by hand":                 {with(begun(), active, haveAdopted, func(t *Change) { t.Holders[0].ID = "" }), Drain, "", "redis on agent a has a live certificate under root until 2030-01-03 14:02"},
		"expired":                 {with(begun(), active, haveAdopted, func(t *Change) { t.Holders[0].NotAfter = noon }), Withdraw, PublishNew, ""},
		"excused":                 {with(begun(), active, haveAdopted, func(t *Change) { t.Holders[0].Excused = "x" }), Withdraw, PublishNew, ""},
		"the bridge is served":    {with(begun(), active, haveAdopted, drained, func(t *Change) { t.Bridged = true }), Unbridge, DropBridge, ""},
		"one still serves it":     {with(begun(), active, haveAdopted, drained, func(t *Change) { t.Bridging = []string{"nginx on agent b"} }), Unbridge, "", "nginx on agent b still serves the bridge"},
		"drained":                 {with(begun(), active, haveAdopted, drained), Withdraw, PublishNew, ""},
		"not let go further":      {with(begun(), active, haveAdopted, drained, through(Drain)), Withdraw, "", "operators have let it go up to drain"},
		"a new host blocks":       {with(begun(), active, haveAdopted, drained, func(t *Change) { t.Parties = append(t.Parties, relying("new on agent n", "", fleet.Loaded)) }), Withdraw, "", "new on agent n has not shown"},
		"a regression undoes not": {with(begun(), active), Reissue, RenewHolder, ""},
		"withdrawn":               {with(begun(), withdrawn, drained), Refuse, "", "redis on agent a has not shown that it has let go of root"},
		"refused by all":          {with(begun(), withdrawn, drained, haveAdopted), Refuse, RetireOld, ""},
		"retired":                 {with(begun(), withdrawn, drained, haveAdopted, func(t *Change) { t.Retired = true }), Done, "", ""},
		"paused":                  {with(begun(), published, haveAdopted, func(t *Change) { t.Paused = "by ann" }), Prove, "", "it is paused: by ann"},
		"a condition":             {with(begun(), published, haveAdopted, func(t *Change) { t.Conditions = []string{"the store was rolled back"} }), Prove, "", "rolled back"},
		"forced":                  {with(begun(), published, func(t *Change) { t.Forced = map[Phase]string{Prove: "by ann"} }), Prove, ActivateNew, ""},
		"forced elsewhere":        {with(begun(), published, func(t *Change) { t.Forced = map[Phase]string{Drain: "by ann"} }), Prove, "", "has not shown"},
		"issuing: at once":        {with(begun(), func(t *Change) { t.Roots = false }), Prove, ActivateNew, ""},
		"issuing: reissue":        {with(begun(), func(t *Change) { t.Roots, t.Active = false, true }), Reissue, RenewHolder, ""},
		"stands by":               {with(begun(), published, haveAdopted, standby), Prove, "", "every relying party has adopted root-2: it stands by"},
		"stands by, and one lags": {with(begun(), published, standby), Prove, "", "has not shown"},
		"stands by, forced":       {with(begun(), published, haveAdopted, standby, func(t *Change) { t.Forced = map[Phase]string{Prove: "by ann"} }), Prove, "", "it stands by"},
		"foreign: one lags":       {with(begun(), active, drained, foreign), Prove, "", "has not shown that it trusts root-2"},
		"foreign: all trust it":   {with(begun(), active, haveAdopted, drained, foreign, through(Drain)), Withdraw, "", "who else lives on certificates of root is not"},
		"foreign: vouched for":    {with(begun(), active, haveAdopted, drained, foreign), Withdraw, PublishNew, ""},
		"foreign: unprovable":     {with(begun(), withdrawn, haveAdopted, drained, foreign, func(t *Change) { t.Parties[0].Has = fleet.Loaded }), Refuse, RetireOld, ""},
		"foreign: provable":       {with(begun(), withdrawn, haveAdopted, drained, foreign, func(t *Change) { t.Provable, t.Parties[0].Has = true, fleet.Loaded }), Refuse, "", "has only shown that it has let go of root as loaded"},
		"foreign: not loaded":     {with(begun(), withdrawn, haveAdopted, drained, foreign, func(t *Change) { t.Parties[0].Has = fleet.Delivered }), Refuse, "", "has only shown that it has let go of root as delivered since 14:02; loaded is wanted"},
		"issuing: drained":        {with(begun(), func(t *Change) { t.Roots, t.Active, t.Holders = false, true, nil }), Retire, RetireOld, ""},
	} {
		t.Run(name, func(t *testing.T) {
			step := c.facts.Next(noon)
			if step.Phase != c.phase || step.Action != c.action {
				t.Errorf("at %s: %q, want %s: %q; waits %v", step.Phase, step.Action, c.phase, c.action, step.Waits)
			}
			var said []string
			for _, wait := range step.Waits {
				said = append(said, wait.String())
			}
			if !strings.Contains(strings.Join(said, "\n"), c.waits) {
				t.Errorf("waits for %q, want %q", said, c.waits)
			}
			if step.Action == "" && step.Phase != Done && len(step.Waits) == 0 {
				t.Error("it does nothing and does not say why")
			}
			if n := len(step.Unprovable); (n > 0) != (name == "foreign: unprovable" || name == "foreign: not loaded") {
				t.Errorf("%d are unprovable", n)
			}
			if forced := step.SetAside; (len(forced) > 0) != (name == "forced") {
				t.Errorf("sets aside %q", forced)
			}
		})
	}
}

// world is a small fleet under a change of trust: what really is, of which the
// facts are a view.
type trustWorld struct {
	oldIn, newIn bool // the bundles
	newSigns     bool
	retired      bool
	party        [2]struct{ old, new bool } // what each process trusts
	leaf         [2]int                     // under which authority each serves: 1 old, 2 new
	flight       [2]int                     // issued and not in use yet; 0: nothing
	asked        [2]bool
	back         bool
}

func (w trustWorld) facts() Change {
	t := Change{Old: "A", New: "B", Roots: true, Through: Done, Back: w.back}
	oldIn, newIn, newSigns, under := w.oldIn, w.newIn, w.newSigns, 1
	if w.back {
		oldIn, newIn, newSigns, under = newIn, oldIn, !newSigns, 2
	}
	t.Published, t.Withdrawn, t.Active, t.Retired = newIn, !oldIn, newSigns, w.retired
	for i, p := range w.party {
		trustsOld, trustsNew := p.old, p.new
		if w.back {
			trustsOld, trustsNew = trustsNew, trustsOld
		}
		one := relying(fmt.Sprint("p", i), "", fleet.Proven)
		if trustsNew && !(t.Withdrawn && trustsOld) {
			one.Has = fleet.Proven
		}
		t.Parties = append(t.Parties, one)
		if w.leaf[i] == under || w.flight[i] == under {
			h := holder(fmt.Sprint("p", i))
			h.Asked = w.asked[i] || w.flight[i] > 0
			t.Holders = append(t.Holders, h)
		}
	}
	return t
}

// act is what the control plane does, by what it sees of the facts.
func (w trustWorld) act(sees func(*Change)) trustWorld {
	facts := w.facts()
	sees(&facts)
	step := facts.Next(noon)
	switch step.Action {
	case PublishBoth:
		w.oldIn, w.newIn = true, true
	case ActivateNew:
		w.newSigns = !w.back
	case RenewHolder:
		for _, h := range step.Holders {
			w.asked[h.ID[len(h.ID)-1]-'0'] = true
		}
	case PublishNew:
		w.oldIn, w.newIn = w.back, !w.back
	case RetireOld:
		w.retired = true
	}
	return w
}

// moves are all that can happen next: the control plane acts, a host takes the
// bundle of now, asks for a certificate, puts it to use, or never does; an
// operator turns the change back.
func (w trustWorld) moves(sees func(*Change)) (next []trustWorld) {
	add := func(change func(*trustWorld)) {
		n := w
		change(&n)
		if n != w {
			next = append(next, n)
		}
	}
	add(func(n *trustWorld) { *n = w.act(sees) })
	for i := range w.party {
		add(func(n *trustWorld) { n.party[i].old, n.party[i].new = w.oldIn, w.newIn })
		if w.asked[i] && w.flight[i] == 0 {
			add(func(n *trustWorld) {
				n.flight[i] = 1
				if w.newSigns {
					n.flight[i] = 2
				}
			})
		}
		if w.flight[i] > 0 {
			add(func(n *trustWorld) { n.asked[i], n.leaf[i], n.flight[i] = false, w.flight[i], 0 })
		}
	}
	if !w.back && w.oldIn && !w.retired {
		add(func(n *trustWorld) { n.back, n.asked = true, [2]bool{} })
	}
	return next
}

// broken says which law the world breaks: each process must trust what the
// other one serves.
func (w trustWorld) broken() string {
	for i := range w.party {
		for j := range w.party {
			trusted := w.party[j].old
			if w.leaf[i] == 2 {
				trusted = w.party[j].new
			}
			if !trusted {
				return fmt.Sprintf("p%d serves a leaf that p%d does not trust: %+v", i, j, w)
			}
		}
	}
	return ""
}

// explore walks through every reachable world.
func explore(sees func(*Change)) (worlds map[trustWorld]bool, broken string, stuck string) {
	from := trustWorld{oldIn: true, leaf: [2]int{1, 1}}
	for i := range from.party {
		from.party[i].old = true
	}
	worlds = map[trustWorld]bool{from: true}
	for queue := []trustWorld{from}; len(queue) > 0; queue = queue[1:] {
		w := queue[0]
		if why := w.broken(); why != "" && broken == "" {
			broken = why
		}
		moves := w.moves(sees)
		if len(moves) == 0 && !w.retired && stuck == "" {
			stuck = fmt.Sprintf("%+v: %v", w, w.facts().Next(noon))
		}
		for _, next := range moves {
			if !worlds[next] {
				worlds[next] = true
				queue = append(queue, next)
			}
		}
	}
	return worlds, broken, stuck
}

// Change before leaf and leaf before distrust, in every order of events, turned
// back at any moment: and no world is a dead end.
func TestTrustLawsInEveryOrder(t *testing.T) {
	worlds, broken, stuck := explore(func(*Change) {})
	if broken != "" || stuck != "" {
		t.Errorf("broken: %s; stuck: %s", broken, stuck)
	}
	ends := map[bool]int{}
	for w := range worlds {
		if w.retired {
			ends[w.back]++
		}
	}
	if ends[false] == 0 || ends[true] == 0 {
		t.Errorf("ends: %v of %d worlds", ends, len(worlds))
	}
	t.Logf("%d worlds", len(worlds))
}

// One who overlooks any of the facts that a gate rests on breaks a law.
func TestTrustNeedsEachFact(t *testing.T) {
	for name, blind := range map[string]func(*Change){
		"who has adopted":      haveAdopted,
		"one of the parties":   func(t *Change) { t.Parties = t.Parties[:1] },
		"loaded for proven":    func(t *Change) { t.Parties[0].Needs = "" },
		"who holds what":       drained,
		"one of the holders":   func(t *Change) { t.Holders = t.Holders[:min(len(t.Holders), 1)]; t.Parties = nil },
		"whether it was given": func(t *Change) { t.Published = true; haveAdopted(t) },
	} {
		t.Run(name, func(t *testing.T) {
			if _, broken, _ := explore(blind); broken == "" {
				t.Error("no law is broken without it")
			}
		})
	}
}

// Whatever is known, what is not done has a reason, and nothing goes past what
// operators let it.
func TestTrustSaysWhy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		level := rapid.SampledFrom([]fleet.Level{"", fleet.Delivered, fleet.Loaded, fleet.Proven})
		facts := Change{
			Old: "A", New: "B", Roots: rapid.Bool().Draw(t, "roots"), Through: rapid.SampledFrom(Phases).Draw(t, "through"),
			Published: rapid.Bool().Draw(t, "published"), Active: rapid.Bool().Draw(t, "active"), Withdrawn: rapid.Bool().Draw(t, "withdrawn"),
			Bridged: rapid.Bool().Draw(t, "bridged"),
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "parties") {
			facts.Parties = append(facts.Parties, RelyingParty{
				Name: fmt.Sprint("p", i), Has: level.Draw(t, "has"), Needs: level.Draw(t, "needs"), Away: rapid.Bool().Draw(t, "away"),
			})
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "holders") {
			h := holder(fmt.Sprint("h", i))
			h.Asked = rapid.Bool().Draw(t, "asked")
			if rapid.Bool().Draw(t, "by hand") {
				h.ID = ""
			}
			facts.Holders = append(facts.Holders, h)
		}
		step := facts.Next(noon)
		if step.Action == "" && len(step.Waits) == 0 {
			t.Fatalf("at %s it does nothing and does not say why", step.Phase)
		}
		if step.Action != "" && facts.Through.Before(entered[step.Action]) {
			t.Fatalf("it would %s, and may only enter %s", step.Action, facts.Through)
		}
		if step.Action == PublishNew && len(facts.Live(noon)) > 0 {
			t.Fatal("it would withdraw what is needed")
		}
		if step.Action == ActivateNew && facts.Roots && slices.ContainsFunc(facts.Parties, func(p RelyingParty) bool { return !facts.Adopted(p) }) {
			t.Fatal("it would sign under what is not trusted")
		}
	})
}
