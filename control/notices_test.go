package control

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// notified makes the owner of service orders one who can be told.
func (d *domain) notified() {
	d.t.Helper()
	d.apply(strings.Replace(documents, "owner: {team: shop", `owner: {notify: "https://hooks.test.example/shop", team: shop`, 1))
}

// told are the events of which owners are told, the oldest first.
func (d *domain) told() (events []string) {
	d.t.Helper()
	for _, n := range d.allNotices() {
		events = append(events, n.Event)
	}
	return events
}

func (d *domain) allNotices() (notices []*api.Notice) {
	d.t.Helper()
	list, err := d.ListNotices(d.t.Context(), operator, &api.ListNoticesRequest{Sent: true})
	if err != nil {
		d.t.Fatal(err)
	}
	slices.Reverse(list.Notices)
	return list.Notices
}

// reach lets each notice that is due be taken.
func (d *domain) reach() {
	d.t.Helper()
	posts, err := d.TakeNotices(d.t.Context(), time.Minute)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, post := range posts {
		if err := d.NoticeSent(d.t.Context(), post); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *domain) wantTold(events ...string) {
	d.t.Helper()
	if got := d.told(); !slices.Equal(got, events) {
		d.t.Errorf("told %q, want %q", got, events)
	}
}

// A rollout with a notice touches nobody before it has run; its owner is told
// before, at the start, when a breaker holds it and holds it no more, and at
// the end, each once, whoever looks how often.
func TestOwnersKnowBefore(t *testing.T) {
	d, hosts := rolled(t, 3)
	d.notified()
	spec := &api.RolloutSpec{Steps: []string{"1", "100%"}, Notice: durationpb.New(30 * time.Minute)}
	dry := d.start(&api.StartRolloutRequest{Intent: "orders-tls", Spec: spec, DryRun: true})
	d.wantTold()
	entries := len(d.entries())
	begun := d.start(&api.StartRolloutRequest{Intent: "orders-tls", Spec: spec})
	if n := len(d.entries()) - entries; n != 1 {
		t.Errorf("%d entries of one verb", n)
	}
	d.wantTold("announced")
	for _, r := range []*api.RolloutInfo{dry.Rollout, begun.Rollout} {
		if text := r.Reasons[0].Text; !strings.Contains(text, "1 of 1 owners has not been reached yet; it begins at") {
			t.Errorf("reason %q", text)
		}
	}
	d.reach()
	d.clock.turn(29 * time.Minute)
	d.restart()
	d.advance()
	if ids := asked(hosts); len(ids) > 0 {
		t.Fatalf("%v are asked before the notice has run", ids)
	}
	if text := d.rollout("orders-tls").Rollout.Reasons[0].Text; !strings.Contains(text, "owners were told at") {
		t.Errorf("reason %q", text)
	}
	d.clock.turn(2 * time.Minute)
	d.advance()
	d.wantTold("announced", "started")
	canary := hosts[begun.Members[0].Placement]
	if ids := asked(hosts); len(ids) != 1 {
		t.Fatalf("asked %v", ids)
	}
	if err := canary.report(&api.PlacementReport{Generation: 1, Revision: 1, State: api.State_STATE_FAILED, Failure: &api.Failure{Step: "prove", Reason: "refused"}, Restores: 1}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		d.advance()
		d.restart()
	}
	d.wantTold("announced", "started", "held")
	canary.gets(2)
	for range 3 {
		d.advance()
	}
	d.wantTold("announced", "started", "held", "goes on")
	for _, h := range hosts {
		if h != canary {
			h.gets(2)
		}
	}
	for range 3 {
		d.advance()
	}
	d.wantTold("announced", "started", "held", "goes on", "done")
}

// Who asks to wait for owners has to be able to tell them; the gate holds until
// each was reached, and a rollback waits for nobody.
func TestOwnersAreReachedFirst(t *testing.T) {
	d, hosts := rolled(t, 2)
	spec := &api.RolloutSpec{Steps: []string{"100%"}, Told: true}
	for _, spec := range []*api.RolloutSpec{spec, {Notice: durationpb.New(time.Minute)}} {
		_, err := d.StartRollout(t.Context(), operator, &api.StartRolloutRequest{Intent: "orders-tls", Spec: spec})
		wantCode(t, err, fault.Invalid)
		if !strings.Contains(err.Error(), "the owner of service orders can't be told") {
			t.Errorf("refused: %v", err)
		}
	}
	_, err := d.StartRollout(t.Context(), operator, &api.StartRolloutRequest{Intent: "orders-tls", Spec: &api.RolloutSpec{Notice: durationpb.New(-1)}})
	wantCode(t, err, fault.Invalid)
	d.notified()
	d.start(&api.StartRolloutRequest{Intent: "orders-tls", Spec: spec})
	d.clock.turn(24 * time.Hour)
	if d.advance(); len(asked(hosts)) > 0 {
		t.Fatal("somebody is asked before the owner was reached")
	}
	d.reach()
	if d.advance(); len(asked(hosts)) != 2 {
		t.Fatalf("asked %v, want both", asked(hosts))
	}
	for _, h := range hosts {
		h.gets(2)
	}
	if _, err := d.decide("orders-tls", "rollback"); err != nil {
		t.Fatal(err)
	}
	if d.advance(); len(asked(hosts)) != 2 {
		t.Errorf("the rollback asks %v, want both at once", asked(hosts))
	}
	d.wantTold("announced", "started", "rolled back", "started")
}

// A notice and what it tells of are one: of a write that is cut off neither is
// there, and the next pass does both, once.
func TestNoticeCommitsWithItsCause(t *testing.T) {
	d, hosts := rolled(t, 2)
	d.notified()
	d.start(&api.StartRolloutRequest{Intent: "orders-tls"})
	var planned *due
	err := d.db.Read(t.Context(), func(tx *store.Tx) (err error) {
		planned, err = d.dueInRollouts(t.Context(), tx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = d.db.Write(t.Context(), func(tx *store.Tx) error {
		if _, _, err := d.advanceAll(t.Context(), tx, planned); err != nil {
			return err
		}
		return fault.New(fault.Unavailable, "killed")
	})
	wantCode(t, err, fault.Unavailable)
	d.restart()
	d.wantTold()
	if n := len(asked(hosts)); n > 0 {
		t.Fatalf("%d are asked", n)
	}
	d.advance()
	d.wantTold("started")
	if n := len(asked(hosts)); n != 1 {
		t.Errorf("%d are asked", n)
	}
}

// Where nobody can be told nothing is written, and passes find rest.
func TestNobodyToTell(t *testing.T) {
	d, hosts := rolled(t, 2)
	begun := d.start(&api.StartRolloutRequest{Intent: "orders-tls"})
	d.advance()
	h := hosts[begun.Members[0].Placement]
	if err := h.report(&api.PlacementReport{Generation: 1, Revision: 1, State: api.State_STATE_FAILED, Failure: &api.Failure{Step: "prove", Reason: "refused"}, Restores: 1}); err != nil {
		t.Fatal(err)
	}
	d.advance()
	before := d.turnOfRollouts()
	for range 3 {
		if did := d.advance(); did != 0 {
			t.Errorf("%d is done", did)
		}
	}
	if after := d.turnOfRollouts(); after != before {
		t.Errorf("the turn went from %d to %d: each pass writes", before, after)
	}
	d.wantTold()
}

func (d *domain) turnOfRollouts() (turn uint64) {
	d.t.Helper()
	err := d.db.Read(d.t.Context(), func(tx *store.Tx) (err error) {
		turn, err = tx.RolloutTurn(context.Background())
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return turn
}

// A rollout whose window lies ahead is announced with when it opens, one that
// begins at once is told where it does.
func TestAnnouncedWhereAWindowLiesAhead(t *testing.T) {
	d, _ := rolled(t, 1)
	d.notified()
	d.clock.turn(time.Until(time.Now().UTC().Truncate(24 * time.Hour).Add(36 * time.Hour))) // noon
	begun := d.start(&api.StartRolloutRequest{Intent: "orders-tls", Spec: &api.RolloutSpec{Windows: []string{"nights"}}})
	d.wantTold("announced")
	var body []byte
	err := d.db.Read(t.Context(), func(tx *store.Tx) error {
		notices, err := tx.ChangeNotices(t.Context(), begun.Rollout.Id)
		if err == nil {
			body = notices[0].Body
		}
		return err
	})
	if err != nil || !strings.Contains(string(body), `T22:00:00Z","show":"rotunda rollout status orders-tls"`) {
		t.Errorf("%s, %v", body, err)
	}
	d.advance()
	d.wantTold("announced")
	d.clock.turn(10*time.Hour + time.Minute)
	d.advance()
	d.wantTold("announced", "started")
}
