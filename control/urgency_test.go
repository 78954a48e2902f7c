package control

import (
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/admission"
	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// How urgent a request is follows from the certificate that is in use, not from
// one that was issued and never put in place; and nobody's is another's.
func TestAsks(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	other := d.enrolHost(map[string]string{"role": "orders", "host": "b"})
	placement := h.placement()
	asks := func(who *host) admission.Class {
		t.Helper()
		asks, err := d.Asks(t.Context(), who.caller, []*api.PlacementRequest{{PlacementId: placement, Generation: 3}})
		if err != nil || len(asks) != 1 {
			t.Fatal(asks, err)
		}
		return asks[0].Class(d.clock.now())
	}
	if got := asks(h); got != admission.First {
		t.Errorf("before there is any: %s", got)
	}
	h.holds(1)
	_, request := csr(t)
	report := &api.AgentReport{Placements: []*api.PlacementReport{{PlacementId: placement, State: api.State_STATE_STEADY, Generation: 1, LastGeneration: 1, Revision: 1, Level: api.Level_LEVEL_DELIVERED}}}
	if err := d.Report(t.Context(), h.caller, report); err != nil {
		t.Fatal(err)
	}
	if got := asks(h); got != admission.Renewal {
		t.Errorf("with a new one: %s", got)
	}
	d.clock.turn(22 * time.Hour)
	leafOf(t, h.issue(placement, 2, request))
	if got := asks(h); got != admission.Expiring {
		t.Errorf("with one that ends in two of its 24 hours: %s", got)
	}
	if got := asks(other); got != admission.First {
		t.Errorf("for another agent: %s", got)
	}
	_, err := d.Asks(t.Context(), h.caller, make([]*api.PlacementRequest, 257))
	wantCode(t, err, fault.Invalid)
	_, err = d.Asks(t.Context(), Caller{Kind: Operator, ID: "alice"}, nil)
	wantCode(t, err, fault.Forbidden)
}
