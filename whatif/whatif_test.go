package whatif

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/graph"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/schedule"
	"github.com/rotunda-pki/rotunda/trust"
)

// Two roots, an issuing authority under each, and bundles of one and of both.
var (
	noon = time.Date(2030, 1, 2, 14, 2, 0, 0, time.UTC)

	rootA = graph.Anchor{Fingerprint: pki.Fingerprint{1}, Name: "root-a"}
	rootB = graph.Anchor{Fingerprint: pki.Fingerprint{2}, Name: "root-b"}

	twoRoots = []graph.Authority{
		{ID: "a", Name: "root-a", Anchor: rootA}, {ID: "ia", Name: "issuing-a", Parent: "a", Anchor: rootA},
		{ID: "b", Name: "root-b", Anchor: rootB}, {ID: "ib", Name: "issuing-b", Parent: "b", Anchor: rootB},
	}
	threeBundles = map[string][]graph.Anchor{"A": {rootA}, "B": {rootB}, "AB": {rootA, rootB}}
)

func party(name string, clients ...fleet.Name) graph.Party {
	return graph.Party{Name: fleet.Name(name), Owner: fleet.Owner{Team: name + "-team", Contact: name + "@example.com"}, Clients: clients}
}

func outsider(name string) graph.Party {
	p := party(name)
	p.Outside = true
	return p
}

// spot is a place that serves under issuing, and trusts a bundle.
func spot(service, agent, issuing, bundle string, change ...func(*graph.Place)) graph.Place {
	p := graph.Place{
		ID: service + "/" + agent, Intent: service, Agent: agent, Instance: "main", Service: fleet.Name(service), State: "steady",
		Bundle: bundle, Adopted: fleet.Proven, Observer: agent, Shown: fleet.Proven,
	}
	if issuing != "" {
		p.Generation, p.Authority, p.Serves, p.NotAfter = 1, issuing, true, noon.Add(time.Hour)
		p.Root = map[string]graph.Anchor{"ia": rootA, "ib": rootB}[issuing]
	}
	for _, c := range change {
		c(&p)
	}
	return p
}

func bridged(p *graph.Place) { p.Bridged = []graph.Anchor{rootA} }

func relying(name string, has, needs fleet.Level) trust.RelyingParty {
	return trust.RelyingParty{Name: name, Has: has, Needs: needs, Since: noon}
}

func TestParseProposal(t *testing.T) {
	for text, want := range map[string]Proposal{
		"rotate-root": {Kind: RotateRoot}, "rotate-issuing": {Kind: RotateIssuing}, "rotate-issuing:eu": {RotateIssuing, "eu"}, "failover": {Kind: Failover}, "withdraw:root-a": {WithdrawNow, "root-a"}, "profile:fleet/web.yaml": {Reprofile, "fleet/web.yaml"},
	} {
		if got, err := Parse(text); err != nil || got != want || got.String() != text {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"":                 "is no change that can be foretold (it is rotate-root, rotate-issuing, rotate-issuing:REGION, failover, withdraw:AUTHORITY or profile:FILE)",
		"rotate":           `"rotate" is no change`,
		"Rotate-Root":      "is no change",
		"withdraw":         "withdraw of no authority (name it",
		"withdraw:":        "withdraw of no authority",
		"rotate-root:root": "leave the name out: rotate-root",
		"rotate-root:":     "leave the name out",
		"rotate-root:%s":   `"%s"`,
		"rotate-issuing:":  "of no region",
		"failover:root":    "failover of \"root\": it is of the authority that signs now, and names none",
		"profile":          "a change of profile without its file (name it: profile:FILE)",
	} {
		if _, err := Parse(text); fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// supposed is a change of a fleet in which web and bank call orders, with a
// relying party, a holder and means for each place.
func supposed(proposal string, places ...graph.Place) Supposed {
	p, _ := Parse(proposal)
	s := Supposed{
		Proposal: p, Means: map[string]Means{}, Bridge: p.Kind == RotateRoot, Old: twoRoots[0],
		Trust: trust.Change{Old: "root-a", New: "root-b", Roots: true, Through: trust.Drain, Bridged: p.Kind == RotateRoot},
		Facts: graph.Facts{
			Services:    []graph.Party{party("orders", "web", "bank"), party("web"), outsider("bank")},
			Authorities: twoRoots, Bundles: threeBundles, Places: places,
		},
	}
	for _, one := range places {
		name := one.Intent + " on agent " + one.Agent
		s.Means[name] = Means{Place: one.ID, Service: one.Service, Kind: "placement", Title: "thing", Member: schedule.Member{Agent: one.Agent, Target: one.Intent}, Shown: one.Adopted}
		s.Trust.Parties = append(s.Trust.Parties, relying(name, "", fleet.Loaded))
		if one.Generation > 0 && noon.Before(one.NotAfter) {
			s.Trust.Holders = append(s.Trust.Holders, trust.Holder{ID: one.ID, Name: name, NotAfter: one.NotAfter})
		}
	}
	return s
}

// means changes what is known of a party.
func (s Supposed) means(name string, change func(*Means)) Supposed {
	one := s.Means[name]
	change(&one)
	s.Means[name] = one
	return s
}

// away says that a party's agent is not connected.
func (s Supposed) away(name string) Supposed {
	for i := range s.Trust.Parties {
		s.Trust.Parties[i].Away = s.Trust.Parties[i].Away || s.Trust.Parties[i].Name == name
	}
	for i := range s.Trust.Holders {
		s.Trust.Holders[i].Away = s.Trust.Holders[i].Away || s.Trust.Holders[i].Name == name
	}
	return s.means(name, func(m *Means) { m.AwaySince = noon.Add(-time.Hour) })
}

func broken(told Foretold) (all []string) {
	for _, one := range told.Breaks {
		for _, reason := range one.Reasons {
			all = append(all, fmt.Sprintf("%s>%s %s", one.Client, one.Server, reason.Text))
		}
	}
	return all
}

func obstructed(told Foretold) (all []string) {
	for _, one := range told.Obstacles {
		doubt := "?"
		if one.Certain {
			doubt = "!"
		}
		all = append(all, fmt.Sprintf("%s%s %s %s", one.Phase, doubt, one.Who, one.Reason))
	}
	return all
}

func TestWhatBreaks(t *testing.T) {
	orders, web := spot("orders", "h1", "ia", "A"), spot("web", "h2", "", "A")
	atRestart := func(m *Means) { m.AddAtRestart = true }
	for name, c := range map[string]struct {
		s    Supposed
		want []string
	}{
		"nothing: all can follow": {supposed("rotate-root", orders, web), nil},
		"withdrawn while it is served": {supposed("withdraw:root-a", orders, web),
			[]string{"web>orders web would not trust root-a, under which orders would show 1 certificate"}},
		"withdrawn, and the client has another bundle":  {supposed("withdraw:root-a", spot("orders", "h1", "ib", "AB"), spot("web", "h2", "", "AB")), nil},
		"withdrawn, what breaks already is not counted": {supposed("withdraw:root-a", orders, spot("web", "h2", "", "B")), nil},
		"withdrawn, and a bridge led to it alone": {supposed("withdraw:root-a", spot("orders", "h1", "ib", "AB", bridged), web),
			[]string{"web>orders web would not trust root-b, under which orders would show 1 certificate"}},
		"a client that is away is helped by the bridge": {supposed("rotate-root", orders, web).away("web on agent h2"), nil},
		"and is not where there is none": {func() Supposed {
			s := supposed("rotate-root", orders, web).away("web on agent h2")
			s.BridgeLess = "both have one subject"
			return s
		}(), []string{"web>orders web would not trust root-b, under which orders would show 1 certificate"}},
		"nor where chains are followed less deep": {
			supposed("rotate-root", orders, web).means("web on agent h2", atRestart).means("web on agent h2", func(m *Means) { m.Depth = 1 }),
			[]string{"web>orders web would not trust root-b, under which orders would show 1 certificate"}},
		"a server that is away still shows what is under the old root": {supposed("rotate-root", orders, web).away("orders on agent h1"),
			[]string{"web>orders web would not trust root-a, under which orders would show 1 certificate"}},
		"an issuing authority is another's business": {func() Supposed {
			s := supposed("rotate-issuing", orders, web).away("orders on agent h1")
			s.Trust.Roots = false
			return s
		}(), nil},
		"an issuing authority withdrawn": {func() Supposed {
			s := supposed("withdraw:issuing-a", orders, web)
			s.Old, s.Trust.Roots = twoRoots[1], false
			return s
		}(), []string{
			"bank>orders orders shows 1 certificate under issuing-a: nobody could revoke it, and who reads CRLs refuses it when the last one of issuing-a ends",
			"web>orders orders shows 1 certificate under issuing-a: nobody could revoke it, and who reads CRLs refuses it when the last one of issuing-a ends",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := broken(c.s.Foretell(noon)); !slices.Equal(got, c.want) {
				t.Errorf("breaks\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func TestWhoStandsInTheWay(t *testing.T) {
	cache := spot("cache", "h1", "ia", "A")
	const name = "cache on agent h1"
	for text, c := range map[string]struct {
		s    Supposed
		want []string
	}{
		"nobody": {supposed("rotate-root", cache), nil},
		"one takes a removed CA at a restart": {supposed("rotate-root", cache).means(name, func(m *Means) { m.Title, m.DropAtRestart = "memcached", true }),
			[]string{"refuse! " + name + " memcached takes a removed CA only at a restart, and names no restartCommand"}},
		"and somebody restarts it": {supposed("rotate-root", cache).means(name, func(m *Means) { m.DropAtRestart, m.Restart = true, "restart-cache" }), nil},
		"one takes no CA at all but at a restart": {supposed("rotate-root", cache).means(name, func(m *Means) { m.Title, m.AddAtRestart, m.DropAtRestart = "etcd", true, true }),
			[]string{"prove! " + name + " etcd takes an added CA only at a restart, and names no restartCommand"}},
		"one is away": {supposed("rotate-root", cache).away(name), []string{"prove! " + name + " its agent is not connected; it was last seen at 13:02"}},
		"one is away that trusts the root already": {func() Supposed {
			s := supposed("rotate-issuing", cache).away(name)
			s.Trust.Roots = false
			return s
		}(), []string{"reissue! " + name + " its agent is not connected; it was last seen at 13:02"}},
		"one has not loaded the bundle of today": {supposed("rotate-root", cache).means(name, func(m *Means) { m.Shown = fleet.Delivered }),
			[]string{"prove? " + name + " has come only as far as delivered with the bundle of today; loaded will be wanted"}},
		"its path is blocked": {func() Supposed {
			s := supposed("rotate-root", cache).means(name, func(m *Means) { m.Title, m.DropAtRestart = "memcached", true })
			s.Trust.Parties[0].Blocked = []string{"cache can't look at db"}
			return s
		}(), []string{
			"prove? " + name + " the path is blocked, so that no handshake will show its trust: cache can't look at db",
			"refuse! " + name + " memcached takes a removed CA only at a restart, and names no restartCommand",
		}},
		"an exception covers it": {func() Supposed {
			s := supposed("rotate-root", cache).away(name)
			s.Trust.Parties[0].Excused, s.Trust.Holders[0].Excused = "burnt", "burnt"
			return s
		}(), nil},
		"an outside party": {func() Supposed {
			s := supposed("rotate-root", cache)
			s.Trust.Parties = append(s.Trust.Parties, trust.RelyingParty{Name: "outside party bank", Needs: fleet.Delivered, Ask: "desk@bank.example"})
			s.Means["outside party bank"] = Means{Service: "bank"}
			return s
		}(), []string{"prove! outside party bank is an outside party: nobody here sees whom it trusts"}},
		"a certificate is taken at a restart": {supposed("rotate-root", cache).means(name, func(m *Means) { m.Title, m.LeafAtRestart = "thing", true }),
			[]string{"reissue! " + name + " thing takes a certificate only at a restart, and names no restartCommand"}},
	} {
		t.Run(text, func(t *testing.T) {
			told := c.s.Foretell(noon)
			if got := obstructed(told); !slices.Equal(got, c.want) {
				t.Errorf("obstacles\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			for _, one := range told.Obstacles {
				if one.Remedy == "" {
					t.Errorf("no remedy for %v", one)
				}
			}
		})
	}
}

func TestForetoldPhases(t *testing.T) {
	s := supposed("rotate-root", spot("etcd", "h1", "ia", "A"), spot("etcd", "h2", "ia", "A"), spot("etcd", "h3", "ia", "A"), spot("cache", "h4", "ia", "A"))
	for _, host := range []string{"h1", "h2", "h3"} {
		s.means("etcd on agent "+host, func(m *Means) {
			m.Title, m.Cluster, m.AddAtRestart, m.DropAtRestart, m.Restart = "etcd", "c1", true, true, "restart-etcd"
		})
	}
	s.means("cache on agent h4", func(m *Means) { m.Title, m.DropAtRestart = "memcached", true })
	s.Signs = []string{"sign it"}
	s.Trust.Parties = append(s.Trust.Parties, relying("agent h1", "", fleet.Loaded))
	s.Trust.Holders = append(s.Trust.Holders, trust.Holder{ID: "agent/h1", Name: "agent h1", NotAfter: noon.Add(time.Hour), Asked: true},
		trust.Holder{Name: "operator alice", NotAfter: noon.Add(time.Hour), Remedy: "rotunda operator renew"},
		trust.Holder{Name: "orphan x", NotAfter: noon.Add(2 * time.Hour), Remedy: "stop what uses it"})
	s.Means["agent h1"], s.Means["operator alice"] = Means{Kind: "agent"}, Means{Kind: "operator"}
	told := s.Foretell(noon)

	var got []string
	for _, p := range told.Phases {
		line := string(p.Phase)
		if p.Parties != (graph.Tally{}) {
			line += fmt.Sprintf(" parties %d", p.Parties.Loaded)
		}
		for _, one := range p.Restarts {
			line += fmt.Sprintf(" restarts %s %s×%d", one.Kind, one.Cluster, len(one.Members))
		}
		if len(p.Renewals) > 0 {
			line += fmt.Sprint(" ", p.Renewals)
		}
		for _, one := range p.Operator {
			line += " operator(" + one + ")"
		}
		for _, one := range p.Waits {
			line += " waits(" + one.String() + ")"
		}
		if !p.EndsBy.IsZero() {
			line += " by itself " + p.EndsBy.Format("15:04")
		}
		if p.Takes > 0 {
			line += " " + p.Takes.String()
		}
		got = append(got, line)
	}
	want := []string{
		"prepare operator(sign it)",
		"distribute",
		"prove parties 5 restarts etcd c1×3 2m0s",
		"reissue map[agent:1 placement:4] 3m0s",
		"drain operator(rotunda operator renew, each of: alice) waits(orphan x has a live certificate under root-a until 2030-01-02 16:02) by itself 16:02",
		"unbridge operator(rotunda trust advance: all that unbridge needs is there, and operators have let it go up to drain)",
		"withdraw",
		"refuse parties 5 restarts etcd c1×3 waits(cache on agent h4 has not shown that it has let go of root-a (memcached takes a removed CA only at a restart, and names no restartCommand)) 2m0s",
	}
	if !slices.Equal(got, want) {
		t.Errorf("phases\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if told.Takes != 7*time.Minute || len(told.Assumes) == 0 {
		t.Errorf("takes %s, assumes %v", told.Takes, told.Assumes)
	}
}

// Whatever the facts are, the walk ends at the end of the change, in the order
// of the phases, and supposing leaves the facts alone.
func TestForetellingEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		flag := func(name string) bool { return rapid.Bool().Draw(t, name) }
		p := spot("orders", "h1", "ia", rapid.SampledFrom([]string{"A", "B", "AB", ""}).Draw(t, "bundle"))
		s := supposed(rapid.SampledFrom([]string{"rotate-root", "rotate-issuing", "withdraw:root-a"}).Draw(t, "kind"), p, spot("web", "h2", "", "A"))
		s.Trust.Roots, s.Trust.Published, s.Trust.Active, s.Trust.Bridged = s.Kind != RotateIssuing, flag("published"), flag("active"), flag("bridged")
		s.means("orders on agent h1", func(m *Means) {
			m.AddAtRestart, m.DropAtRestart, m.LeafAtRestart = flag("add"), flag("drop"), flag("leaf")
		})
		s.Trust.Holders[0].Asked = flag("asked")
		if flag("hand-made") {
			s.Trust.Holders[0].ID = ""
		}
		if flag("away") {
			s.away("orders on agent h1")
		}
		if flag("paused") {
			s.Trust.Paused = "by somebody"
		}
		if flag("broken link") && len(s.Trust.Parties) > 0 {
			s.Trust.Parties[0].Link = "its links within cluster c1 have not been seen to reconnect"
		}
		if flag("bridging") {
			s.Trust.Bridging = []string{"orders on agent h1"}
		}
		before := fmt.Sprintf("%+v", s)
		told := s.Foretell(noon)
		if after := fmt.Sprintf("%+v", s); after != before {
			t.Fatalf("facts were changed:\n%s\n%s", before, after)
		}
		phases := append([]trust.Phase{Prepare}, trust.Phases...)
		last := -1
		for _, plan := range told.Phases {
			at := slices.Index(phases, plan.Phase)
			if at <= last {
				t.Fatalf("phase %s after %s", plan.Phase, phases[last])
			}
			if len(plan.Waits) > len(s.Trust.Parties)+len(s.Trust.Holders) {
				t.Fatalf("at %s somebody is waited for twice: %v", plan.Phase, plan.Waits)
			}
			if last = at; plan.Does == "" {
				t.Fatalf("phase %s has no words", plan.Phase)
			}
		}
		if end := told.Phases[len(told.Phases)-1].Phase; end != trust.Refuse && end != trust.Retire {
			t.Fatalf("it ends at %s", end)
		}
	})
}
