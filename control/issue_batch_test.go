package control

import (
	"bytes"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// The requests of one call are decided by one look at the store, and each stands
// for itself all the same: one generation that is asked for twice is issued once,
// and another key does not get it; what must not be harms no neighbour.
func TestRequestsOfOneCallStandForThemselves(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h, other := d.enrolHost(map[string]string{"role": "orders", "host": "a"}), d.enrolHost(map[string]string{"role": "orders", "host": "b"})
	mine, theirs := h.placement(), other.placement()
	_, key := csr(t)
	_, second := csr(t)
	_, third := csr(t)
	for round := range 2 { // decided anew, then by decisions that are kept
		from := uint64(1 + 10*round)
		response, err := d.Issue(t.Context(), h.caller, &api.IssueRequest{Requests: []*api.PlacementRequest{
			{PlacementId: mine, Generation: from, Csr: key},
			{PlacementId: mine, Generation: from, Csr: key},
			{PlacementId: mine, Generation: from, Csr: second},
			{PlacementId: theirs, Generation: from, Csr: third},
			{PlacementId: "nosuch", Generation: from, Csr: third},
			{PlacementId: mine, Generation: from + 1, Csr: second},
			{PlacementId: mine, Generation: from + 2000, Csr: second},
		}})
		if err != nil {
			t.Fatal(err)
		}
		r := response.Results
		for i, want := range []fault.Code{"", "", fault.Conflict, fault.Forbidden, fault.NotFound, "", fault.Conflict} {
			if r[i].ErrorCode != string(want) {
				t.Errorf("request %d: %q %s, want %q", i, r[i].ErrorCode, r[i].Error, want)
			}
		}
		if t.Failed() {
			return
		}
		if !bytes.Equal(r[0].Chain[0], r[1].Chain[0]) || bytes.Equal(r[0].Chain[0], r[5].Chain[0]) {
			t.Error("one generation has two certificates, or two have one")
		}
		if n := d.countIssued(); n != 2*(round+1) {
			t.Errorf("%d certificates, want %d", n, 2*(round+1))
		}
	}
}
