package agent

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rotunda-pki/rotunda/api"
)

const (
	// maxTold bounds how many servers an agent takes from the control plane.
	maxTold = 256
	// maxPenalty bounds how often the time doubles that a server must be well.
	maxPenalty = 5
	// looksFor is how many looks in a row must find it well at least.
	looksFor = 3
	// looksAt is how many servers are looked at in one go.
	looksAt = 3
)

// servers picks which server to talk to. It knows those of agent.yaml, which it
// never loses, and those that the control plane named last. They stand in three
// circles: those of the agent's own region, those of no particular one, all
// others. An outer one is for when all of the inner ones fail, and is left
// again once one of these has been well for a while.
type servers struct {
	backoff backoff
	settle  time.Duration // how long a server must be well before the agent goes back to it
	host    string        // the agent's id: it spreads agents over a region's servers
	written []ServerAddress

	mu      sync.Mutex
	region  string
	list    []*endpoint // the most wanted first
	returns uint64      // to a nearer server, since the start
	chosen  choice
}

// choice is which server the agent talks to, or tries to, and why.
type choice struct {
	address, why string
	at           time.Time
}

// endpoint is one server.
type endpoint struct {
	address, region string
	written, told   bool // in agent.yaml, by the control plane
	circle, rank    int
	breaker

	// While the agent is further out: since when the server has been well at
	// each look, how many looks that were, and for how long it has to be.
	wellSince time.Time
	looks     int
	wait      time.Duration
	penalty   int       // how often the agent came back to it too soon, in a row
	cameBack  time.Time // when the agent came back to it last
}

func newServers(written []ServerAddress, p pace, host string) *servers {
	s := &servers{backoff: p.backoff, settle: p.settle, host: host, written: written}
	s.tell("", nil)
	return s
}

// tell takes the agent's region and the servers that the control plane names.
// What is known of a server that stays is kept.
func (s *servers) tell(region string, told []*api.RegionServer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := map[string]*endpoint{}
	for _, e := range s.list {
		before[e.address] = e
	}
	s.region, s.list = region, nil
	known := map[string]*endpoint{}
	add := func(address, region string) *endpoint {
		e := known[address]
		if e == nil {
			if e = before[address]; e == nil {
				e = &endpoint{address: address}
			}
			e.region, e.written, e.told = region, false, false
			known[address], s.list = e, append(s.list, e)
		}
		return e
	}
	for _, server := range told[:min(len(told), maxTold)] {
		if server.GetAddress() != "" {
			add(server.Address, server.Region).told = true
		}
	}
	for _, server := range s.written {
		e := add(server.Address, server.Region)
		e.written = true
	}
	s.sort()
}

// sort puts the servers in order. Within a circle those that the control plane
// names come first, for it is there that operators change them, in an order
// that is another for each agent; then those of agent.yaml in theirs.
func (s *servers) sort() {
	place := map[string]int{}
	for i, server := range s.written {
		place[server.Address] = i
	}
	for _, e := range s.list {
		e.rank = 0
		switch {
		case s.region != "" && e.region == s.region:
			e.circle = 0
		case e.written && (e.region == "" || s.region == ""):
			e.circle = 1
		default:
			e.circle = 2
		}
		if !e.told || e.circle == 1 {
			e.rank = 1 + place[e.address]
		}
	}
	slices.SortStableFunc(s.list, func(a, b *endpoint) int {
		return cmp.Or(cmp.Compare(a.circle, b.circle), cmp.Compare(a.rank, b.rank), strings.Compare(s.spread(a), s.spread(b)))
	})
}

// spread is a stable hash of agent and server (rendezvous hashing): a server
// that comes or goes moves no other's agents.
func (s *servers) spread(e *endpoint) string {
	sum := sha256.Sum256([]byte(s.host + "\x00" + e.address))
	return string(sum[:])
}

// next is the server to try and how long to wait before. A circle is left only
// when the breakers of all in it are open.
func (s *servers) next(now time.Time) (address string, rest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.pick(now)
	if e.address != s.chosen.address {
		s.chosen = choice{e.address, s.reason(e, now), now}
	}
	return e.address, max(0, e.rest.Sub(now))
}

func (s *servers) pick(now time.Time) *endpoint {
	for circle := range 3 {
		if e := s.pickOf(circle, now); e != nil {
			return e
		}
	}
	return slices.MinFunc(s.list, func(a, b *endpoint) int { return a.rest.Compare(b.rest) })
}

// pickOf is the server of a circle to try, nil when all of it is to be left
// alone: one whose breaker is closed, else one that may be tried again, else
// one that failed only once or twice and is soon tried again.
func (s *servers) pickOf(circle int, now time.Time) *endpoint {
	var half, soon *endpoint
	for _, e := range s.list {
		switch {
		case e.circle != circle:
		case !e.tripped && !e.resting(now):
			return e
		case e.tripped && !e.resting(now) && half == nil:
			half = e
		case !e.tripped && (soon == nil || e.rest.Before(soon.rest)):
			soon = e
		}
	}
	if half != nil {
		return half
	}
	return soon
}

// reason says why this one.
func (s *servers) reason(chosen *endpoint, now time.Time) string {
	var failing []string
	for _, e := range s.list {
		if e == chosen {
			break
		}
		if e.why != "" {
			failing = append(failing, fmt.Sprintf("%s is %s: %s", e.address, e.state(now), e.why))
		}
	}
	words := s.circleWords(chosen)
	if len(failing) > 0 {
		words += "; before it " + strings.Join(failing, "; ")
	}
	return words
}

func (s *servers) circleWords(e *endpoint) string {
	switch {
	case e.circle == 0:
		return "a server of the agent's region " + s.region
	case e.circle == 1 && s.region == "":
		return "the order of agent.yaml; the agent is of no region"
	case e.circle == 1:
		return "of no particular region, after those of region " + s.region
	case e.region == "":
		return "after those of agent.yaml"
	}
	return "of region " + e.region + ", not of the agent's own"
}

func (s *servers) find(address string) *endpoint {
	for _, e := range s.list {
		if e.address == address {
			return e
		}
	}
	return nil
}

// failed notes that a server did not serve, or stopped serving, after so long.
func (s *servers) failed(address string, now time.Time, took, atLeast time.Duration, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.find(address)
	if e == nil { // the control plane took it off the list
		return
	}
	e.fail(now, s.backoff, took, atLeast, why)
	e.wellSince, e.looks = time.Time{}, 0
	switch {
	case e.cameBack.IsZero():
	case now.Sub(e.cameBack) < (4*s.settle)<<e.penalty:
		e.penalty = min(e.penalty+1, maxPenalty)
	default:
		e.penalty = 0
	}
	e.cameBack = time.Time{}
}

// worked closes a server's breaker: it has served for a while.
func (s *servers) worked(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.find(address); e != nil {
		e.mend()
	}
}

// better are servers nearer than the one that the agent talks to, the most
// wanted first.
func (s *servers) better(than string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	circle := 3 // further out than all: no longer listed
	if e := s.find(than); e != nil {
		circle = e.circle
	}
	var addresses []string
	for _, e := range s.list {
		if e.circle < circle {
			addresses = append(addresses, e.address)
		}
	}
	return addresses[:min(len(addresses), looksAt)]
}

// looked takes in how a nearer server did at a look, and says whether it has
// been well for long enough to go back to it. How long that is is drawn anew
// each time that it gets well, so that a region's agents don't come home
// together, and doubles each time that it failed soon after.
func (s *servers) looked(address string, now time.Time, problem error) (home bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.find(address)
	switch {
	case e == nil:
		return false
	case problem != nil:
		e.wellSince, e.looks, e.why = time.Time{}, 0, problem.Error()
		if !e.tripped {
			e.tripped, e.since = true, now
		}
		return false
	case e.looks == 0:
		e.wellSince, e.wait = now, (s.settle+rand.N(s.settle+1))<<e.penalty
	}
	e.looks++
	if e.looks < looksFor || now.Sub(e.wellSince) < e.wait {
		return false
	}
	e.mend()
	e.wellSince, e.looks, e.cameBack = time.Time{}, 0, now
	s.returns++
	return true
}

// arrived notes that a stream to the server works.
func (s *servers) arrived(address string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.chosen.address == address {
		s.chosen.at = now
	}
}
