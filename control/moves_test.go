package control

import (
	"errors"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/store"
)

// moved says whether a look finds that the store has moved.
func (d *domain) moved() bool {
	d.t.Helper()
	before, next := d.Moved()
	if err := d.LookForMoves(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
	after, _ := d.Moved()
	select {
	case <-next:
		if after <= before {
			d.t.Errorf("who waits is told of the move of %d after that of %d", after, before)
		}
		return true
	default:
		if after != before {
			d.t.Error("nobody is told of a move")
		}
		return false
	}
}

// A store moves by what may change the desires of others, and by nothing else:
// with each move the streams of all agents look.
func TestMovesAreWhatConcernsOthers(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	if !d.moved() || d.moved() {
		t.Fatal("documents and an agent are a move, once")
	}
	placement := h.placement()
	d.moved() // where making it was one
	leaf := leafOf(t, h.issue(placement, 1, func() []byte { _, request := csr(t); return request }()))
	steady := func() *api.PlacementReport {
		return &api.PlacementReport{PlacementId: placement, State: api.State_STATE_STEADY, Generation: 1, LastGeneration: 1, Revision: 1, Level: api.Level_LEVEL_DELIVERED}
	}
	failed := steady()
	failed.Failure = &api.Failure{Step: "prove", Reason: "another leaf is served"}
	for _, step := range []struct {
		name  string
		does  func() error
		moves bool
	}{
		{"a certificate", func() error { return nil }, false},
		{"a stream", func() error { _, err := d.Connect(t.Context(), h.caller, &api.Hello{Boot: 1}); return err }, false},
		{"a report", func() error { return h.report(steady()) }, false},
		{"the log grows", func() error { _, err := d.SequenceAudit(t.Context()); return err }, false},
		{"a server is there", func() error { return d.SayHere(t.Context()) }, false},
		{"a beat after long", func() error {
			d.clock.turn(presenceWriteEvery)
			return errors.Join(d.Report(t.Context(), h.caller, &api.AgentReport{}), d.WritePresence(t.Context()))
		}, false},
		{"a failure", func() error { return h.report(failed) }, true},
		{"its end", func() error { return h.report(steady()) }, true},
		{"a revocation", func() error { d.revoke(&api.RevokeRequest{Serial: serialOf(t, leaf), Now: true}); return nil }, true},
	} {
		if err := step.does(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if moves := d.moved(); moves != step.moves {
			t.Errorf("%s moves the store: %t", step.name, moves)
		}
	}
}

// An agent that says something new is told at once what that changes for it.
func TestReportWakesItsOwnStream(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	placement := h.placement()
	h.issue(placement, 1, func() []byte { _, request := csr(t); return request }())
	wake, stop := d.WatchAgent(h.id)
	defer stop()
	said := &api.PlacementReport{PlacementId: placement, State: api.State_STATE_STEADY, Generation: 1, LastGeneration: 1, Revision: 1, Level: api.Level_LEVEL_DELIVERED}
	for _, want := range []bool{true, false} { // and not for the same once more
		if err := h.report(said); err != nil {
			t.Fatal(err)
		}
		select {
		case <-wake:
			if !want {
				t.Error("woken by what it had said before")
			}
		default:
			if want {
				t.Error("not woken by what it says")
			}
		}
	}
}

// A beat costs the store nothing, but one every ten minutes.
func TestQuietAgentIsWrittenSeldom(t *testing.T) {
	d := found(t)
	h := d.enrolHost(nil)
	if _, err := d.Connect(t.Context(), h.caller, &api.Hello{Boot: 1}); err != nil {
		t.Fatal(err)
	}
	seen := func() (at time.Time) {
		err := d.db.Read(t.Context(), func(tx *store.Tx) error {
			agent, err := tx.Agent(t.Context(), h.id)
			at = agent.SeenAt
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	beat := func() {
		if err := errors.Join(d.Report(t.Context(), h.caller, &api.AgentReport{}), d.WritePresence(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	connected := seen()
	for range 9 {
		d.clock.turn(time.Minute)
		beat()
	}
	if at := seen(); !at.Equal(connected) {
		t.Errorf("written %s after the stream began", at.Sub(connected))
	}
	d.clock.turn(time.Minute)
	beat()
	if at := seen(); at.Sub(connected) < presenceWriteEvery {
		t.Errorf("ten minutes later it was seen %s after the stream began", at.Sub(connected))
	}
	spoke := seen()
	d.clock.turn(time.Hour)
	if err := d.WritePresence(t.Context()); err != nil || !seen().Equal(spoke) {
		t.Errorf("who is connected and silent is written as seen at %s (%v)", seen(), err)
	}
}
