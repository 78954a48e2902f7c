package control

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
)

const syntheticDocuments = `---
apiVersion: rotunda/v1
kind: Intent
metadata: {name: orders-tls}
spec:
  service: orders
  selector: {role: orders}
  profile: server
  identity: {dnsNames: ["{{ labels.host }}.orders.test.example"]}
  target: {kind: files, address: "127.0.0.1:1"}
  files: {directory: /srv/orders/tls}
  synthetic: {every: 10m}
`

// proves has the host take a generation and prove that it is served.
func (h *host) proves(generation uint64) *x509.Certificate {
	h.domain.t.Helper()
	_, request := csr(h.domain.t)
	leaf := leafOf(h.domain.t, h.issue(h.placement(), generation, request))
	err := h.report(&api.PlacementReport{
		State: api.State_STATE_STEADY, Generation: generation, LastGeneration: generation, Revision: generation, Level: api.Level_LEVEL_PROVEN,
		CommittedAt: timestamppb.New(h.domain.clock.now()), Evidence: h.observed(leaf),
	})
	if err != nil {
		h.domain.t.Fatal(err)
	}
	return leaf
}

// A synthetic intent rotates when its turn has come and not before, once, across
// restarts; where nothing is proven for three turns its region is said to be behind.
func TestSyntheticTurns(t *testing.T) {
	d := found(t)
	d.apply(strings.Replace(documents, documents[strings.Index(documents, "---\napiVersion: rotunda/v1\nkind: Intent"):], "", 1) + syntheticDocuments)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	turn := func() int {
		t.Helper()
		n, err := d.AdvanceSynthetics(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	behind := func() string {
		t.Helper()
		list, err := d.ListPlacements(t.Context(), operator, &api.ListPlacementsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(list.Behind, "\n")
	}
	if turn() != 0 {
		t.Error("asked to rotate before it has a certificate")
	}
	leaf := h.proves(1)
	d.clock.turn(9 * time.Minute)
	if turn() != 0 || h.desired().RenewThrough != 0 {
		t.Error("asked to rotate before its turn")
	}
	d.clock.turn(2 * time.Minute)
	if turn() != 1 || h.desired().RenewThrough != 1 || !h.desired().NewKey {
		t.Errorf("not asked for a new key when its turn has come: %v", h.desired())
	}
	d.restart()
	if turn() != 0 {
		t.Error("asked twice")
	}
	if words := behind(); words != "" {
		t.Errorf("behind in its first turn: %s", words)
	}
	err := h.report(&api.PlacementReport{
		State: api.State_STATE_FAILED, Generation: 1, LastGeneration: 1, Revision: 1, Level: api.Level_LEVEL_PROVEN,
		Failure: &api.Failure{Step: "request", Generation: 2}, Reason: "the policy says no", Evidence: h.observed(leaf),
	})
	if err != nil {
		t.Fatal(err)
	}
	d.clock.turn(25 * time.Minute)
	if turn() != 0 {
		t.Error("one that failed is asked for more")
	}
	if words := behind(); !strings.Contains(words, "no certificate that was issued after") || !strings.Contains(words, "the policy says no") {
		t.Errorf("three turns later: %q", words)
	}
	figures, err := d.Figures(t.Context())
	if err != nil || len(figures.Fleet.Synthetics) != 1 || !figures.Fleet.Synthetics[0].Behind {
		t.Errorf("figures: %+v %v", figures.Fleet.Synthetics, err)
	}
	h.proves(2)
	if words := behind(); words != "" {
		t.Errorf("after it healed: %q", words)
	}
}
