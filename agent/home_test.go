package agent

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rotunda-pki/rotunda/api"
)

// at waits until the agent's stream is to the server.
func (r *running) at(t *testing.T, server string) {
	t.Helper()
	r.isReady(t)
	waitFor(t, "the stream to "+server, func() bool {
		link := r.syncer.link.Load()
		return link != nil && link.server == server
	})
}

// A region goes away and comes back: its agents go to another region, stay
// there while nobody at home is well, and come home once.
func TestRegionGoesAndComesBack(t *testing.T) {
	p := newPlane(t)
	eu1, stop1 := p.serve(t, "127.0.0.1:0")
	eu2, stop2 := p.serve(t, "127.0.0.1:0")
	us, stopUS := p.serve(t, "127.0.0.1:0")
	p.desired.Region = "eu"
	p.desired.Servers = append(regionServers("eu", eu1, eu2), regionServers("us", us)...)
	config := configFor(t.TempDir(), us) // agent.yaml knows none of its region
	config.Socket = t.TempDir() + "/agent.sock"
	a := start(t, config, p.token(""))
	a.at(t, us)
	waitFor(t, "home", func() bool { link := a.syncer.link.Load(); return link != nil && link.server != us })
	first := map[string]func(){eu1: stop1, eu2: stop2}
	at := a.syncer.link.Load().server
	first[at]()
	other := map[string]string{eu1: eu2, eu2: eu1}[at]
	a.at(t, other) // its region has another
	first[other]()
	a.at(t, us)

	said, err := AskStatus(t.Context(), config.Socket)
	check(t, err)
	if !said.Connected || said.Server != us || said.Region != "eu" || said.Servers[0].Circle != "own region" || !strings.Contains(said.Why, "not of the agent's own; before it") || said.Returns != 1 {
		t.Errorf("it says %+v", said)
	}
	for _, one := range said.Servers[:2] {
		if one.Breaker == BreakerClosed || one.Problem == "" || one.From != "control plane" {
			t.Errorf("of a server that is away it says %+v", one)
		}
	}
	p.set(func() { p.unwell[eu1] = true })
	p.serve(t, eu1)
	sessions := a.syncer.sessions.Load()
	p.set(func() { p.looks = map[string]int{} })
	waitFor(t, "looks", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.looks[eu1] > 20
	})
	if got := a.syncer.link.Load(); got == nil || got.server != us || a.syncer.sessions.Load() != sessions {
		t.Error("it left a good server for one that is not well")
	}
	p.set(func() { p.unwell[eu1] = false })
	a.at(t, eu1)
	if now := a.syncer.sessions.Load(); now != sessions+1 {
		t.Errorf("%d streams on the way home", now-sessions)
	}
	stopUS() // nobody misses it
	p.push(func(*api.DesiredState) {})
	if said := a.syncer.status(); said.Server != eu1 || said.Servers[0].Failures != 0 && said.Servers[1].Failures != 0 || said.Returns != 2 {
		t.Errorf("at home it says %+v", said)
	}
}

// A home that takes streams and drops them again does not get the agent back.
func TestHomeThatDropsStreams(t *testing.T) {
	p, bad := newPlane(t), newPlane(t)
	bad.root, bad.issuing, bad.trusted, bad.logSigner, bad.log, bad.logKey = p.root, p.issuing, p.trusted, p.logSigner, p.log, p.logKey
	us, _ := p.serve(t, "127.0.0.1:0")
	eu, _ := bad.serve(t, "127.0.0.1:0")
	p.desired.Region = "eu"
	p.desired.Servers = append(regionServers("eu", eu), regionServers("us", us)...)
	bad.fault = func(method string) error {
		if method == "Sync" {
			return status.Error(codes.Unavailable, "the store does not answer")
		}
		return nil
	}
	a := start(t, configFor(t.TempDir(), us), p.token(""))
	a.at(t, us)
	waitFor(t, "a try to come home", func() bool { return a.syncer.status().Returns > 0 })
	waitFor(t, "a second one", func() bool { return a.syncer.status().Returns > 1 })
	a.at(t, us)
	waitFor(t, "looks at home", func() bool {
		return len(a.syncer.status().Servers) > 0 && !a.syncer.status().Servers[0].WellSince.IsZero()
	})
	if home := a.syncer.status().Servers[0]; home.Home.Sub(home.WellSince) < 4*quick.settle {
		t.Errorf("after two failures it goes home again within %s", home.Home.Sub(home.WellSince))
	}
}

// The servers that the control plane named are found again after a restart,
// and those of agent.yaml are never lost.
func TestServersAreKept(t *testing.T) {
	p := newPlane(t)
	one, stopOne := p.serve(t, "127.0.0.1:0")
	two, stopTwo := p.serve(t, "127.0.0.1:0")
	config := configFor(t.TempDir(), one)
	a := start(t, config, p.token(""))
	a.at(t, one)
	p.push(func(d *api.DesiredState) { d.Servers = regionServers("eu", two) })
	waitFor(t, "the news", func() bool { return len(a.syncer.status().Servers) == 2 })
	a.stop(t)
	stopOne()
	a = start(t, config, "")
	a.at(t, two)
	p.push(func(d *api.DesiredState) { d.Servers = regionServers("eu", "127.0.0.1:1") }) // nobody is there
	waitFor(t, "the news", func() bool { return a.syncer.status().Servers[1].Address == "127.0.0.1:1" })
	if got := a.syncer.link.Load(); got == nil || got.server != two {
		t.Error("it left a server that serves because it is off the list")
	}
	p.serve(t, one)
	stopTwo()
	a.at(t, one)
}

// An agent comes back when it was told to, and not before.
func TestServerSaysWhenToComeBack(t *testing.T) {
	p := newPlane(t)
	address, _ := p.serve(t, "127.0.0.1:0")
	const pause = 400 * time.Millisecond
	var refused time.Time
	p.fault = func(method string) error {
		if method != "Sync" || !refused.IsZero() {
			return nil
		}
		refused = time.Now()
		return retryIn(t, pause)
	}
	a := start(t, configFor(t.TempDir(), address), p.token(""))
	a.at(t, address)
	if took := time.Since(refused); took < pause {
		t.Errorf("came back after %s", took)
	}
}
