package control

import (
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// When the issuing authority itself has expired nothing is signed by it; another
// under the same root takes its place all the same, and signs.
func TestExpiredIssuerIsReplaced(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h, _ := d.ordersHost("a")
	d.clock.turn(4 * 365 * 24 * time.Hour)
	d.restart()
	key, request := csr(t)
	_, err := d.ServerIdentity(t.Context(), "s1", key.Public(), []string{"localhost"}, nil, time.Hour)
	wantCode(t, err, fault.Unavailable)
	words, err := d.IssuerEnded(t.Context())
	if err != nil || !strings.Contains(words, "rotunda trust rotate issuing") {
		t.Fatalf("nobody says that it has expired: %q %v", words, err)
	}
	if got := h.issue(h.placement(), 2, request); got.ErrorCode == "" {
		t.Errorf("issued by an authority that has expired: %v", got)
	}
	change := d.begin("issuing", "")
	for d.act() {
	}
	if words, err = d.IssuerEnded(t.Context()); err != nil || words != "" {
		t.Fatalf("after a change of the issuing authority: %q %v; %s", words, err, said(d.ofChange(change.Id)))
	}
	if _, err := d.ServerIdentity(t.Context(), "s1", key.Public(), []string{"localhost"}, nil, time.Hour); err != nil {
		t.Error(err)
	}
	list, err := d.ListPlacements(t.Context(), operator, &api.ListPlacementsRequest{})
	if err != nil || len(list.Emergencies) != 0 {
		t.Errorf("afterwards: %v %v", list.GetEmergencies(), err)
	}
}
