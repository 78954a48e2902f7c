package control

import (
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/store"
)

// What an agent says in full once more is not stored once more, but for members of
// clusters; after anything else, and on another stream, it is.
func TestSaidBefore(t *testing.T) {
	for name, member := range map[string]bool{"alone": false, "a member of a cluster": true} {
		t.Run(name, func(t *testing.T) {
			d := found(t)
			var h *host
			if member {
				d.apply(clusterOf("c1", 1))
				h = d.members(1)[0].host
			} else {
				d.apply(documents)
				h = d.enrolHost(map[string]string{"role": "orders", "host": "a"})
			}
			placement := h.placement()
			report := func(full bool, reason string) (stored bool) {
				t.Helper()
				before := reportedAt(t, d, placement)
				d.clock.turn(time.Second)
				said := &api.AgentReport{Full: full, Placements: []*api.PlacementReport{{PlacementId: placement, State: api.State_STATE_WAITING, Reason: reason}}}
				if err := d.Report(t.Context(), h.caller, said); err != nil {
					t.Fatal(err)
				}
				return reportedAt(t, d, placement).After(before)
			}
			d.connect(h.caller)
			for i, step := range []struct {
				full   bool
				reason string
				stored bool
			}{
				{true, "a", true}, {true, "a", member}, {true, "a", member},
				{true, "b", true}, {true, "b", member},
				{false, "c", true}, {true, "b", true}, {true, "b", member},
				{false, "b", true}, {true, "b", true},
			} {
				if stored := report(step.full, step.reason); stored != step.stored {
					t.Errorf("step %d: stored %t, want %t", i, stored, step.stored)
				}
			}
			d.connect(h.caller)
			if !report(true, "b") {
				t.Error("on another stream it is taken for said")
			}
		})
	}
}

func reportedAt(t *testing.T, d *domain, placement string) (at time.Time) {
	t.Helper()
	err := d.db.Read(t.Context(), func(tx *store.Tx) error {
		one, err := tx.Placement(t.Context(), placement)
		at = one.ReportedAt
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return at
}
