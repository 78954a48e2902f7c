package control

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// tried is what a decision on a rollout would mean, and that it meant nothing yet.
func (d *domain) tried(name, act string) *api.DecideRolloutResponse {
	d.t.Helper()
	before, log, notices := d.rollout(name), len(d.entries()), len(d.allNotices())
	turn := d.turnOfRollouts()
	done, err := d.DecideRollout(d.t.Context(), operator, &api.DecideRolloutRequest{Rollout: name, Act: act, Reason: "pager rings", DryRun: true})
	if err != nil {
		d.t.Fatal(err)
	}
	after := d.rollout(name)
	before.Rollout.EstimatedEnd, after.Rollout.EstimatedEnd = nil, nil // it goes with the clock
	if !proto.Equal(before, after) || len(d.entries()) != log || len(d.allNotices()) != notices || d.turnOfRollouts() != turn || done.AuditId != "" {
		d.t.Errorf("a dry run of %s changed something: %v, then %v; %d entries, then %d", act, before, after, log, len(d.entries()))
	}
	return done
}

// A dry run of a decision says what it would mean, and for whom; what is decided then
// means just that.
func TestRolloutDecisionsAreTried(t *testing.T) {
	d, hosts := rolled(t, 4)
	d.start(&api.StartRolloutRequest{Service: "orders", Spec: &api.RolloutSpec{Steps: []string{"1", "3", "100%"}}})
	d.advance()
	hosts[asked(hosts)[0]].gets(2)
	d.advance()
	d.advance()
	moving := asked(hosts)
	for _, c := range []struct{ act, want string }{
		{"pause", "nobody is asked any more, until it is resumed: 1 are not asked yet; 2 under way get there"},
		{"abort", "it ends: 1 that are not asked keep what they have; 2 under way get there; 1 that are there stay as they are: nothing is taken back; the owners of the services that it touched are told"},
		{"rollback", "it ends: 1 that are not asked keep what they have; 3 that it asked rotate once more, to what the documents say now, in 2 waves, the newest first; the owners of the services that it touched are told"},
	} {
		done := d.tried("orders", c.act)
		if got := strings.Join(done.Effects, "; "); got != c.want {
			t.Errorf("%s: %q, want %q", c.act, got, c.want)
		}
		if len(done.Moving) != 2 || len(moving) != 2 {
			t.Errorf("%s: %d under way: %v", c.act, len(done.Moving), done.Moving)
		}
		if again := len(done.Again); (c.act == "rollback") != (again == 3) || c.act == "rollback" && done.Rollback.Placements != 3 {
			t.Errorf("%s rotates %d again: %v", c.act, again, done.Rollback)
		}
	}
	if _, err := d.decide("orders", "pause"); err != nil {
		t.Fatal(err)
	}
	if got := d.tried("orders", "resume").Effects; len(got) != 1 || got[0] != "it goes on with wave 2, under its conditions: 1 are not asked yet" {
		t.Errorf("resume: %q", got)
	}
	_, err := d.DecideRollout(t.Context(), operator, &api.DecideRolloutRequest{Rollout: "orders", Act: "pause", DryRun: true})
	wantCode(t, err, fault.Conflict)
	_, err = d.DecideRollout(t.Context(), operator, &api.DecideRolloutRequest{Rollout: "orders", Act: "abort"})
	wantCode(t, err, fault.Invalid) // without a reason; one that is only tried needs none
	if _, err = d.DecideRollout(t.Context(), operator, &api.DecideRolloutRequest{Rollout: "orders", Act: "abort", DryRun: true}); err != nil {
		t.Error(err)
	}
	tried := d.tried("orders", "rollback")
	back, err := d.decide("orders", "rollback")
	if err != nil || len(back.Again) != len(tried.Again) || strings.Join(back.Effects, "") != strings.Join(tried.Effects, "") {
		t.Fatalf("%v, %v; tried %v", err, back, tried)
	}
	err = d.db.Read(t.Context(), func(tx *store.Tx) error {
		_, err := findRollout(t.Context(), tx, "orders-rollback")
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Before anybody was asked there is nothing to rotate again.
func TestRollbackOfNobodyIsTried(t *testing.T) {
	d, _ := rolled(t, 2)
	d.start(&api.StartRolloutRequest{Service: "orders"})
	done := d.tried("orders", "rollback")
	if done.Rollback != nil || !strings.Contains(strings.Join(done.Effects, "; "), "it has asked nobody: there is nothing to rotate again") {
		t.Errorf("%q, %v", done.Effects, done.Rollback)
	}
}
