package simulate

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/schedule"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/whatif"
)

// anchors are those that a process trusts, or was given.
type anchors uint8

const (
	oldAnchor anchors = 1 << iota
	newAnchor
)

// intent is a declared intent with what follows from it for all its placements.
type intent struct {
	name     fleet.Name
	spec     *fleet.Intent
	profile  *fleet.Profile // nil: it delivers a bundle only
	service  int32
	needs    fleet.Level
	provable bool // of a leaf: a lying reload is seen
	means    whatif.Means
	broken   int     // placements at which a failure stands
	waiting  []int32 // placements that its breaker holds
	breakers int     // how often that opened
}

// service is a declared service, with the counts from which laws are checked.
type service struct {
	name       fleet.Name
	neighbours []int32 // who calls it, whom it calls, and itself
	blind      int     // placements whose process does not trust the new anchor
	old        int     // live leaves under the old authority
	places     int
}

// host is an agent's.
type host struct {
	region       string
	first, count int32 // its placements
	slow, away   bool
	anchors      anchors // that it was told of
	unbridge     bool
	adopted      anchors // that the agent itself trusts
	under        uint8   // which authority signed its identity
}

// place is a placement.
type place struct {
	host, intent, cluster, member int32 // cluster -1: none
	party, holder                 int32 // -1: none
	generation                    uint32
	notAfter                      int64
	issued                        uint8 // which authority signed the leaf that waits
	under                         uint8 // and the one in use: 0 old, 1 new
	state                         state
	tries                         uint8
	live, due, bridge, away       bool // a live old leaf; its renewal is due; it serves the bridge; it holds a slot
	leaf, restarts                bool // what is under way
	failed, silent, hand          bool // a failure stands; its end is not reported; a person must restart it
	trusts, given, next           anchors
}

// cluster is an invented one.
type cluster struct {
	name        string
	most        int
	size        int32
	holds, asks []turn
}

type turn struct {
	place int32
	at    int64
}

// inventor makes a fleet of documents.
type inventor struct {
	*world
	set    fleet.Set
	groups []group
}

// group is hosts with the same labels, and the intents that select them.
type group struct {
	intents  []int32
	clusters map[string]int32 // name that is declared → the one that is being filled
}

// invent makes up a fleet: hosts are dealt in turn to each selector that an
// intent has, until there are as many placements as asked for.
func (w *world) invent(set fleet.Set) error {
	v := &inventor{world: w, set: set}
	if err := v.read(); err != nil {
		return err
	}
	regions := []string{""}
	if declared := set.OfKind(fleet.KindRegion); len(declared) > 0 {
		regions = nil
		for _, d := range declared {
			regions = append(regions, string(d.Name))
		}
	}
	for len(w.places) < w.o.Fleet {
		g := &v.groups[len(w.hosts)%len(v.groups)]
		v.host(g, regions[len(w.hosts)/len(v.groups)%len(regions)])
	}
	return nil
}

// read takes services and intents as they are declared.
func (v *inventor) read() error {
	byName := map[fleet.Name]int32{}
	for _, d := range v.set.OfKind(fleet.KindService) {
		byName[d.Name] = int32(len(v.services))
		v.services = append(v.services, service{name: d.Name})
	}
	for name, i := range byName {
		declared, _ := v.set.Service(name)
		v.services[i].neighbours = append(v.services[i].neighbours, i)
		for _, client := range declared.Clients {
			if c, ok := byName[client]; ok && c != i {
				v.services[i].neighbours = append(v.services[i].neighbours, c)
				v.services[c].neighbours = append(v.services[c].neighbours, i)
			}
		}
	}
	for _, d := range v.set.OfKind(fleet.KindIntent) {
		in, _ := v.set.Intent(d.Name)
		one := intent{name: d.Name, spec: in, service: byName[in.Service]}
		if in.Identity != nil {
			one.profile, _ = v.set.Profile(in.Profile)
		}
		one.needs = fleet.TrustLevel(one.profile, in.Target, in.Proof)
		one.provable = in.Proof.Level == fleet.Proven
		if adapter, err := target.Lookup(in.Target.Kind); err == nil {
			serves := one.profile != nil && slices.Contains(one.profile.Usages, fleet.ServerAuth)
			one.means = whatif.MeansOf(in, adapter.Capabilities, serves)
		}
		one.means.Service, one.means.Kind, one.means.Cluster = in.Service, "placement", in.Target.Cluster
		v.intents = append(v.intents, one)
	}
	if len(v.intents) == 0 {
		return fault.New(fault.Invalid, "the documents declare no intents, so there is no fleet to invent").WithRemedy("-f names a directory of services and intents, as rotunda apply -f takes it")
	}
	v.group()
	return nil
}

// group finds the different selectors. Who selects all agents is on the hosts
// of each, or on hosts of its own where there is no other.
func (v *inventor) group() {
	labels := map[string]map[string]string{}
	for _, in := range v.intents {
		if !in.spec.AllAgents {
			labels[fmt.Sprint(in.spec.Selector)] = in.spec.Selector
		}
	}
	if len(labels) == 0 {
		labels[""] = nil
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		g := group{clusters: map[string]int32{}}
		for i, in := range v.intents {
			if in.spec.Selects(labels[key]) {
				g.intents = append(g.intents, int32(i))
			}
		}
		v.groups = append(v.groups, g)
	}
}

func (v *inventor) host(g *group, region string) {
	h := host{region: region, first: int32(len(v.places)), slow: v.random.Float64() < v.o.Rates.Slow, anchors: oldAnchor, adopted: oldAnchor}
	at := int32(len(v.hosts))
	targets := map[string]int32{}
	for _, i := range g.intents {
		in := &v.intents[i]
		for _, instance := range in.spec.Instances {
			if len(v.places) == v.o.Fleet {
				break
			}
			name := in.spec.Target.Name
			if name == "" {
				name = string(in.name) + "-" + string(instance)
			}
			if _, known := targets[name]; !known {
				targets[name] = int32(len(targets))
			}
			p := place{host: at, intent: i, cluster: -1, member: targets[name], party: -1, holder: -1, trusts: oldAnchor, given: oldAnchor, live: in.profile != nil}
			if in.spec.Target.Cluster != "" {
				p.cluster = v.cluster(g, in, at)
			}
			v.places = append(v.places, p)
			v.services[in.service].places++
		}
	}
	h.count = int32(len(v.places)) - h.first
	v.hosts = append(v.hosts, h)
}

// cluster is the one that is being filled of those with a declared name; a
// declared cluster stands for as many as there are members for.
func (v *inventor) cluster(g *group, in *intent, at int32) int32 {
	declared := in.spec.Target.Cluster
	i, known := g.clusters[declared]
	if !known || v.filled[i] != at && v.clusters[i].size >= int32(v.o.ClusterSize) {
		i = int32(len(v.clusters))
		name, _, _ := strings.Cut(strings.ReplaceAll(declared, " ", ""), "{{")
		name = strings.Trim(name, "-.") + "-" + fmt.Sprintf("%05d", i+1)
		v.clusters = append(v.clusters, cluster{name: strings.TrimPrefix(name, "-"), most: max(in.spec.Target.MaxUnavailable, 1)})
		v.filled = append(v.filled, -1)
		g.clusters[declared] = i
	}
	if v.filled[i] != at {
		v.clusters[i].size++
		v.filled[i] = at
	}
	return i
}

func hostName(h int32) string { return fmt.Sprintf("h%06d", h+1) }

func (w *world) placeName(p int32) string {
	return string(w.intents[w.places[p].intent].name) + " on agent " + hostName(w.places[p].host)
}

func placeID(p int32) string { return strconv.Itoa(int(p)) }

func placeUUID(p int32) uuid.UUID {
	return uuid.UUID{0: byte(p >> 24), 1: byte(p >> 16), 2: byte(p >> 8), 3: byte(p), 6: 0x80, 8: 0x80}
}

func placeOf(id uuid.UUID) int32 {
	return int32(id[0])<<24 | int32(id[1])<<16 | int32(id[2])<<8 | int32(id[3])
}

func (w *world) member(p int32) schedule.Member {
	return schedule.Member{Agent: hostName(w.places[p].host), Target: strconv.Itoa(int(w.places[p].member))}
}

// age gives each certificate an age, as if the fleet had been there for long:
// its renewal lies ahead, in the part of the window that is its member's.
func (w *world) age(p int32) {
	in := &w.intents[w.places[p].intent]
	life := in.profile.Lifetime.Std()
	opens, _ := in.profile.RenewalWindow()
	old := time.Duration(w.random.Float64() * float64(opens))
	w.places[p].notAfter = int64(life - old)
	w.plan(p)
}

// plan sets the ordinary renewal and the end of the leaf in use.
func (w *world) plan(p int32) {
	at := &w.places[p]
	profile := w.intents[at.intent].profile
	notAfter := w.time(at.notAfter)
	after, before := schedule.Window(profile, notAfter.Add(-profile.Lifetime.Std()), notAfter)
	if at.cluster >= 0 { // the parts of its members are disjoint
		share := before.Sub(after) / time.Duration(max(w.clusters[at.cluster].size, 1))
		after = after.Add(share * time.Duration(at.host%max(w.clusters[at.cluster].size, 1)))
		before = after.Add(share)
	}
	turn := after.Add(time.Duration(w.random.Float64() * float64(before.Sub(after))))
	w.push(max(int64(turn.Sub(w.o.Begin)), w.now), onRenew, p, at.generation)
	w.push(at.notAfter, onExpire, p, at.generation)
}

func placeIndex(id string) int32 {
	p, _ := strconv.Atoi(id) // it is placeID's own
	return int32(p)
}
