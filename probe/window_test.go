package probe

import (
	"context"
	"crypto/tls"
	"slices"
	"testing"
	"time"
)

func TestWindowIsCompleteWhenAllWasSeenForLongEnough(t *testing.T) {
	t0 := time.Now()
	const observe = 300 * time.Millisecond
	for _, c := range []struct {
		looks, passes int
		after         time.Duration // of the newest ordinary handshake's begin
		due, complete bool
	}{
		{1, 0, 0, true, false},
		{2, 1, 100 * time.Millisecond, false, false},
		{2, 1, 150 * time.Millisecond, true, false},
		{7, 1, 300 * time.Millisecond, true, false},
		{7, 2, 299 * time.Millisecond, false, false},
		{7, 2, 300 * time.Millisecond, false, true},
		{2, 2, time.Hour, false, false}, // too few, however slow
		{3, 2, time.Hour, false, true},
	} {
		w := window{opened: t0, looks: c.looks, passes: c.passes}
		began := t0.Add(c.after)
		if due, complete := w.passDue(began, observe), w.complete(began, observe); due != c.due || complete != c.complete {
			t.Errorf("%+v: a pass is due %t, complete %t", c, due, complete)
		}
	}
}

func TestWindowsPace(t *testing.T) {
	t0 := time.Now()
	for _, c := range []struct {
		looks   int
		observe time.Duration
		want    time.Duration // after the window was opened
	}{
		{1, 300 * time.Millisecond, 50 * time.Millisecond},
		{6, 300 * time.Millisecond, 300 * time.Millisecond}, // the last one ends it
		{6, 100 * time.Millisecond, 100*time.Millisecond + 2*time.Nanosecond},
		{3, time.Millisecond, 30 * time.Millisecond},
	} {
		if got := (window{opened: t0, looks: c.looks}).due(t0.Add(time.Hour), c.observe, 100).Sub(t0); got != c.want {
			t.Errorf("look %d of %s is due after %s", c.looks, c.observe, got)
		}
	}
	// A server that goes on being wrong is asked less and less often.
	for broken, want := range map[int]time.Duration{
		8: 50 * time.Millisecond, 9: 100 * time.Millisecond, 11: 200 * time.Millisecond, 15: longestPause, 1000: longestPause,
	} {
		if got := (window{}).due(t0, 300*time.Millisecond, broken).Sub(t0); got != want {
			t.Errorf("after %d broken windows the next look is after %s, want %s", broken, got, want)
		}
	}
	if got := (window{}).due(t0, 300*time.Millisecond, 0).Sub(t0); got != 50*time.Millisecond {
		t.Errorf("after a wrong answer the next is due after %s", got)
	}
}

// TestAsidesStandInsideTheWindow: the proof begins and ends with what most
// clients see, and everything aside is seen twice in between.
func TestAsidesStandInsideTheWindow(t *testing.T) {
	t.Parallel()
	court := newCourt(t)
	own := court.ca.leaf(t)
	server := newGuard(t, court.leaf, map[string]*tls.Certificate{"own": &own, "A": &court.a, "B": &court.b, "T": &court.t}, only("own", "A"))
	expected := patient(court.expect(server.address))
	expected.Spec.Certificate, expected.MustAccept = &own, true // read, so that it has come when the proof is over
	verdict, _ := Prove(context.Background(), expected)
	came := server.visitors()
	if !verdict.Proven || len(came) != verdict.Handshakes {
		t.Fatalf("%d came: %+v", len(came), verdict)
	}
	if came[0] != "own" || came[len(came)-1] != "own" || server.count("own") < minHandshakes {
		t.Errorf("the window is not held by ordinary handshakes: %q", came)
	}
	asides := slices.DeleteFunc(slices.Clone(came), func(name string) bool { return name == "own" })
	pass := []string{"1.2", "old", "", "A", "B", "T"}
	if !slices.Equal(asides, slices.Concat(pass, pass)) {
		t.Errorf("aside came %q", asides)
	}
	if early := came[1:7]; !slices.Equal(early, pass) {
		t.Errorf("the first pass does not follow the first handshake: %q", came)
	}
}

// TestEndOfTimeIsNotTheServersWord: what the proof's own end cut off counts
// for nothing.
func TestEndOfTimeIsNotTheServersWord(t *testing.T) {
	over, cancel := context.WithDeadline(context.Background(), time.Now())
	defer cancel()
	going, cancelGoing := context.WithTimeout(context.Background(), time.Hour)
	defer cancelGoing()
	for _, c := range []struct {
		ctx        context.Context
		handshakes int
		seen       Observation
		want       bool
	}{
		{over, 1, Observation{Outcome: Timeout}, true},
		{over, 1, Observation{Outcome: Served, Accepted: Silent}, true},
		{over, 1, Observation{Outcome: Served, Accepted: Rejected}, false},
		{over, 0, Observation{Outcome: Timeout}, false},
		{going, 1, Observation{Outcome: Timeout}, false},
		{going, 1, Observation{Outcome: Served, Accepted: Silent}, false},
	} {
		p := proof{verdict: Verdict{Handshakes: c.handshakes}}
		if got := p.cutShort(c.ctx, c.seen); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}
