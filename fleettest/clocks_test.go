package fleettest

import (
	"bytes"
	"crypto/x509"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/postgrestest"
)

// hours is how far clocks are off: more than any backdate.
const hours = 5 * time.Hour

func clocks(t *testing.T, did *counted) {
	databaseIsOff(t, did)
	serverWasOff(t, did)
}

// databaseIsOff has a server find its own clock hours off the database's, both
// ways.
func databaseIsOff(t *testing.T, did *counted) {
	db := postgrestest.Run(t)
	if err := db.SetClock(0); err != nil {
		t.Fatal(err)
	}
	p, a := onPostgres(t, db.Database(t))
	issuer := p.issuer()
	process := p.startProcess()
	var count counter
	stop := make(chan struct{})
	wait := a.load(p, stop, count.add)
	count.more(t, 30, "while the clocks agree")
	if answer := p.askOCSP(a, issuer, 1); bytes.Equal(answer, ocsp.TryLaterErrorResponse) {
		t.Error("OCSP while the clocks agree: try later")
	}
	for i, ahead := range []time.Duration{hours, -hours} {
		count.more(t, 30, "while the clocks agree")
		p.must(db.SetClock(ahead))
		a.refused.more(t, 16, "refusals while they do not")
		before, _ := count.now()
		a.refused.more(t, 30, "refusals while they do not")
		if after, _ := count.now(); after != before {
			t.Errorf("%d certificates by a clock that is %s off", after-before, ahead)
		}
		if words := p.readyz(); !strings.HasPrefix(words, "503 ") || !strings.Contains(words, "off the database's") {
			t.Errorf("/readyz by a clock that is %s off: %s", ahead, words)
		}
		if answer := p.askOCSP(a, issuer, uint64(i+2)); !bytes.Equal(answer, ocsp.TryLaterErrorResponse) {
			t.Errorf("OCSP by a clock that is %s off: %x", ahead, answer)
		}
		p.must(db.SetClock(0))
		p.await("it is ready again", func() bool { return strings.HasPrefix(p.readyz(), "200 ") })
	}
	count.more(t, 30, "while the clocks agree again")
	close(stop)
	wait()
	says := refusal{"off the database's: nothing is written", "set the clocks right"}
	for words, n := range a.refused.words {
		if !says.in(words) {
			t.Errorf("%d callers were told %q", n, words)
		}
	}
	a.settle(p, did)
	kill(t, process)
	for generation, der := range a.answers {
		leaf, err := x509.ParseCertificate(der)
		p.must(err)
		if off := time.Since(leaf.NotBefore); off < 0 || off > hours {
			t.Errorf("generation %d is dated %s ago", generation, off)
		}
	}
	did.add("%d refused while the database's clock was %s ahead or back, OCSP: tryLater, and none dated by it", a.refused.n, hours)
}

// issuer is what signs, without the plane that says so.
func (p *Plane) issuer() *x509.Certificate {
	p.t.Helper()
	p.Start()
	defer p.Stop()
	return p.IssuingNow().Certificate
}

// readyz is what a load balancer is told: the status and its words.
func (p *Plane) readyz() string {
	p.t.Helper()
	response, err := http.Get("http://" + p.Config.Listen.Public + "/readyz")
	p.must(err)
	defer response.Body.Close()
	words, err := io.ReadAll(response.Body)
	p.must(err)
	return response.Status + " " + string(words)
}

// askOCSP asks the plane's server about a certificate that it gave.
func (p *Plane) askOCSP(a *asking, issuer *x509.Certificate, generation uint64) []byte {
	p.t.Helper()
	a.mu.Lock()
	leaf, err := x509.ParseCertificate(a.answers[generation])
	a.mu.Unlock()
	p.must(err)
	request, err := ocsp.CreateRequest(leaf, issuer, nil)
	p.must(err)
	at := "http://" + p.Config.Listen.Public + leaf.OCSPServer[0][strings.Index(leaf.OCSPServer[0][len("http://"):], "/")+len("http://"):]
	response, err := http.Post(at, "application/ocsp-request", bytes.NewReader(request))
	p.must(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	p.must(err)
	return body
}

// offset is a clock that can be moved.
type offset struct{ ns atomic.Int64 }

func (o *offset) set(by time.Duration) { o.ns.Store(int64(by)) }
func (o *offset) now() time.Time       { return time.Now().Add(time.Duration(o.ns.Load())) }

// serverWasOff has a server and an agent with clocks of their own, which nothing
// but a parameter gives a process: so they run in this one.
func serverWasOff(t *testing.T, did *counted) {
	var server, host offset
	p := NewPlane(t)
	p.Stop()
	p.Now = server.now
	p.Start()
	h := p.NewHost(map[string]string{"role": "files", "host": "h0"})
	h.Now = host.now
	declare(p, h)
	a := p.newAsking()
	h.Start()
	p.Await("first issuance", inPlace(1))
	client := api.NewAgentServiceClient(a.dial())
	p.must(a.ask(client, a.take()))

	server.set(hours)
	p.must1(p.Rotate(t.Context(), Operator, &api.RotateRequest{Intent: "files", Reason: "drill"}))
	p.await("the agent says that the clocks are apart", func() bool { return strings.Contains(p.agents()["h0"].Alarm, "clock") })
	p.must(a.ask(client, a.take()))
	p.revokeOne(t, a)
	ahead, heads := p.headOf(t), p.lists(t)

	server.set(0)
	for range 2 {
		err := a.ask(client, a.take())
		if says := (refusal{"this host's clock shows", "set the clock right"}); err == nil || !says.in(err.Error()) {
			t.Errorf("a clock that stands %s before the last commit: %v", hours, err)
		}
	}
	if _, err := p.PublishCRLs(t.Context()); err != nil {
		t.Logf("lists: %v", err)
	}
	if now := p.headOf(t); now != ahead {
		t.Errorf("a list of %s was signed after one of %s", now, ahead)
	}
	if got := p.Placements(); !inPlace(1)(got) || inPlace(2)(got) {
		t.Errorf("the agent's certificate was touched: %v", got)
	}

	server.set(hours + time.Minute)
	host.set(hours + time.Minute)
	p.Await("clocks that agree", inPlace(2))
	p.must(a.ask(client, a.take()))
	p.revokeOne(t, a)
	if now := p.headOf(t); now.Before(ahead) {
		t.Errorf("a list of %s was signed after one of %s", now, ahead)
	}
	for shard, number := range p.lists(t) {
		if number < heads[shard] {
			t.Errorf("the list of shard %d went from number %d to %d", shard, heads[shard], number)
		}
	}
	did.add("with clocks of their own, in one process: an agent %s off held its renewal and said so; a server %s behind its last commit refused, no list is older than the one before", hours, hours)
}

// inPlace is a condition: an agent has the generation or a newer one in place.
func inPlace(generation uint64) func([]*api.PlacementStatus) bool {
	return func(placements []*api.PlacementStatus) bool {
		for _, one := range placements {
			if one.Generation >= generation && one.State == api.State_STATE_STEADY {
				return true
			}
		}
		return false
	}
}

// headOf is the newest date of the authority's lists.
func (p *Plane) headOf(t *testing.T) (newest time.Time) {
	t.Helper()
	heads, err := p.CRLHeads(t.Context(), p.IssuingNow().ID)
	p.must(err)
	for _, head := range heads {
		if head.ThisUpdate.After(newest) {
			newest = head.ThisUpdate
		}
	}
	return newest
}

// revokeOne revokes a leaf of those that were asked for, and publishes that.
func (p *Plane) revokeOne(t *testing.T, a *asking) {
	t.Helper()
	for _, one := range p.certificates() {
		if one.Placement == a.placement && one.RevokedAt == nil {
			p.must1(p.Revoke(t.Context(), Operator, &api.RevokeRequest{Serial: one.Serial, Reason: "superseded", Now: true}))
			_, err := p.PublishCRLs(t.Context())
			p.must(err)
			return
		}
	}
	t.Fatal("there is nothing to revoke")
}
