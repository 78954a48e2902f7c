package control

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

func (d *domain) beginTold(kind string, notice time.Duration, told bool) (*api.BeginTrustResponse, error) {
	return d.BeginTrust(d.t.Context(), operator, &api.BeginTrustRequest{
		Response: d.prepared(kind), Reason: "drill", Through: "done", Notice: durationpb.New(notice), Told: told,
	})
}

// A change of trust with a notice does nothing before it has run; owners are
// told before, at its first act, when a breaker holds its renewals, and at its
// end.
func TestOwnersKnowBeforeTrustChanges(t *testing.T) {
	for _, kind := range []string{"root", "issuing"} {
		t.Run(kind, func(t *testing.T) {
			d := found(t)
			hosts := d.parties(2)
			d.notified()
			first := d.issuingNow()
			entries := len(d.entries())
			begun, err := d.beginTold(kind, time.Hour, true)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(d.entries()) - entries; n != 2 { // it was prepared, and begun
				t.Errorf("%d entries of two verbs", n)
			}
			if len(begun.Change.Notices) != 1 || begun.Change.Notices[0].Event != "announced" {
				t.Errorf("notices %v", begun.Change.Notices)
			}
			d.clock.turn(2 * time.Hour)
			if d.act() {
				t.Fatal("it acts before the owner was reached")
			}
			waitsFor(t, d, begun.Change.Phase, "1 of 1 owners has not been reached since")
			d.reach()
			d.clock.turn(59 * time.Minute)
			if d.act() || d.issuingNow().ID != first.ID || len(d.anchorsNow()) != 1 {
				t.Fatal("it acts before the notice has run")
			}
			waitsFor(t, d, begun.Change.Phase, "owners were told at")
			d.clock.turn(2 * time.Minute)
			for turns := 0; d.change().EndedAt == nil; turns++ {
				if turns > 60 {
					t.Fatalf("it does not end: %v", d.change())
				}
				if !d.act() {
					hosts[turns%2].follow()
				}
			}
			d.wantTold("announced", "started", "done")
		})
	}
}

// Turned back while the notice runs, a change has touched nothing; its owners
// are told of that, and need not be waited for.
func TestTurnedBackWithinTheNotice(t *testing.T) {
	d := found(t)
	hosts := d.parties(1)
	key := d.rootKey
	dry, err := d.BeginTrust(t.Context(), operator, &api.BeginTrustRequest{Response: d.prepared("root"), Told: true, DryRun: true})
	if fault.CodeOf(err) != fault.Invalid {
		t.Errorf("a dry run says %v, %v", dry, err)
	}
	d.rootKey = key
	_, err = d.beginTold("root", time.Hour, false)
	d.rootKey = key
	wantCode(t, err, fault.Invalid)
	if !strings.Contains(err.Error(), "can't be told") {
		t.Errorf("refused: %v", err)
	}
	d.notified()
	if _, err := d.beginTold("root", time.Hour, false); err != nil {
		t.Fatal(err)
	}
	if err := d.decideTrust("back", "", "not today"); err != nil {
		t.Fatal(err)
	}
	for turns := 0; d.change().EndedAt == nil; turns++ {
		if turns > 20 {
			t.Fatalf("it does not end: %v", d.change())
		}
		if !d.act() {
			hosts[0].follow()
		}
	}
	d.wantTold("announced", "turned back", "done")
}

// A breaker that holds renewals of a change of trust is told once, and so is
// that it holds them no more.
func TestBreakerHoldsTrustChange(t *testing.T) {
	d := found(t)
	hosts := d.parties(2)
	d.notified()
	d.begin("issuing", "done")
	for d.act() {
	}
	if phase := d.change().Phase; phase != "reissue" {
		t.Fatalf("it is at %s", phase)
	}
	err := hosts[0].report(&api.PlacementReport{Generation: 1, Revision: 1, State: api.State_STATE_FAILED, Failure: &api.Failure{Step: "prove", Reason: "refused"}, Restores: 1})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		d.act()
	}
	d.wantTold("announced", "started", "held")
	if d.act() { // neither the change nor its rollout has anything left to do
		t.Error("it goes on though a breaker holds it")
	}
	for turns := 0; d.change().EndedAt == nil; turns++ {
		if turns > 60 {
			t.Fatalf("it does not end: %v", d.change())
		}
		if !d.act() {
			hosts[turns%2].follow()
		}
	}
	if got := d.told(); !slices.Equal(got, []string{"announced", "started", "held", "goes on", "done"}) {
		t.Errorf("told %q", got)
	}
}

func (d *domain) anchorsNow() []*x509.Certificate {
	d.t.Helper()
	bundle, err := d.DomainBundle(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return bundle.Anchors()
}
