package control

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/store"
)

// A decision that is kept is good only while all that it rests on stands: each
// change of that, by whatever verb, is seen by the very next issuance.
func TestKeptDecisionsEndWithWhatTheyRestOn(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*domain, *host) error
		code   fault.Code // none: it gets other names
	}{
		"the policy": {func(d *domain, h *host) error {
			d.apply(`
apiVersion: rotunda/v1
kind: Policy
metadata: {name: freeze}
spec: {rules: [{name: no-host-z, effect: deny, when: 'agent.labels["host"] == "z"'}]}
`)
			_, err := d.LabelAgent(d.t.Context(), operator, &api.LabelAgentRequest{AgentId: h.id, Set: map[string]string{"host": "z"}})
			return err
		}, fault.Forbidden},
		"the names": {func(d *domain, _ *host) error {
			d.apply(strings.Replace(documents, "{{ labels.host }}.orders", "moved.orders", 1))
			return nil
		}, ""},
		"labels": {func(d *domain, h *host) error {
			_, err := d.LabelAgent(d.t.Context(), operator, &api.LabelAgentRequest{AgentId: h.id, Set: map[string]string{"host": "moved"}})
			return err
		}, ""},
		"the intent is gone": {func(d *domain, _ *host) error {
			_, err := d.DeleteDocument(d.t.Context(), operator, &api.DeleteDocumentRequest{Kind: "Intent", Name: "orders-tls"})
			return err
		}, fault.Forbidden},
		"the selector": {func(d *domain, _ *host) error {
			d.apply(strings.Replace(documents, "selector: {role: orders}", "selector: {role: other}", 1))
			return nil
		}, fault.Forbidden},
		"the agent is retired": {func(d *domain, h *host) error {
			_, err := d.RetireAgent(d.t.Context(), operator, &api.RetireAgentRequest{AgentId: h.id})
			return err
		}, fault.Forbidden},
		"the certificate that was shown is revoked": {func(d *domain, h *host) error {
			serial := *h.caller.shown()
			return d.db.Write(d.t.Context(), func(tx *store.Tx) error {
				return tx.RevokeCertificate(d.t.Context(), serial, "keyCompromise")
			})
		}, fault.Forbidden},
	} {
		t.Run(name, func(t *testing.T) {
			d := found(t)
			d.apply(documents)
			h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
			h.caller.Serial = h.identity().Serial.String()
			placement := h.placement()
			_, first := csr(t)
			leafOf(t, h.issue(placement, 1, first))
			if _, kept := d.grants.Load(placement); !kept {
				t.Fatal("the decision is not kept, so this test shows nothing")
			}
			if err := c.change(d, h); err != nil {
				t.Fatal(err)
			}
			_, second := csr(t)
			response, err := d.Issue(t.Context(), h.caller, &api.IssueRequest{Requests: []*api.PlacementRequest{{PlacementId: placement, Generation: 2, Csr: second}}})
			if err != nil {
				wantCode(t, err, c.code)
				return
			}
			result := response.Results[0]
			if result.ErrorCode != string(c.code) {
				t.Errorf("got %q: %s, want %q", result.ErrorCode, result.Error, c.code)
			}
			if c.code == "" {
				if got := leafOf(t, result).DNSNames[0]; got != "moved.orders.test.example" {
					t.Errorf("issued for %s after the names changed", got)
				}
			}
		})
	}
}

// While an operator flips labels, no certificate is recorded under labels that
// the agent did not have at that moment.
func TestIssuanceRacesWithLabels(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	placement := h.placement()
	var group sync.WaitGroup
	stop := make(chan struct{})
	group.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			label := map[string]string{"host": string(rune('a' + i%2))}
			if _, err := d.LabelAgent(t.Context(), operator, &api.LabelAgentRequest{AgentId: h.id, Set: label}); err != nil {
				t.Error(err)
			}
		}
	})
	for generation := range uint64(60) {
		_, request := csr(t)
		result := h.issue(placement, generation+1, request)
		if result.ErrorCode != "" && result.ErrorCode != string(fault.Unavailable) {
			t.Errorf("%s: %s", result.ErrorCode, result.Error)
		}
	}
	close(stop)
	group.Wait()
	host := "a"
	for _, line := range d.entries() {
		switch {
		case strings.Contains(line, `"verb":"agent.label"`):
			_, rest, _ := strings.Cut(line, `"host":"`)
			host = rest[:1]
		case strings.Contains(line, `"verb":"issue"`) && !strings.Contains(line, `"`+host+`.orders.test.example"`):
			t.Fatalf("under label %s: %s", host, line)
		}
	}
}

// What a transaction saw and did not commit is not kept: other documents get
// the number of its state.
func TestRolledBackDocumentsAreNotKept(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	placement := h.placement()
	wide := source(strings.Replace(documents, "{{ labels.host }}.orders", "never.orders", 1))
	rolledBack := errors.New("rolled back")
	err := d.db.Write(t.Context(), func(tx *store.Tx) error {
		r, err := d.reviewFiles(t.Context(), tx, wide, false)
		if err != nil {
			return err
		}
		if _, err := d.carryOut(t.Context(), tx, operator, r, &api.ApplyRequest{Files: wide}); err != nil {
			return err
		}
		if err := d.placeAgent(t.Context(), tx, h.id); err != nil { // as an enrolment in the same commit would
			return err
		}
		return rolledBack
	})
	if !errors.Is(err, rolledBack) {
		t.Fatal(err)
	}
	d.apply(strings.Replace(documents, "lifetime: 24h", "lifetime: 12h", 1))
	_, request := csr(t)
	if got := leafOf(t, h.issue(placement, 1, request)).DNSNames[0]; got != "a.orders.test.example" {
		t.Errorf("issued for %s, which was never declared", got)
	}
}

// A slice may name one generation twice: it gets one certificate, or a conflict.
func TestOneGenerationTwiceInACall(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	placement := h.placement()
	_, one := csr(t)
	_, other := csr(t)
	response, err := d.Issue(t.Context(), h.caller, &api.IssueRequest{Requests: []*api.PlacementRequest{
		{PlacementId: placement, Generation: 1, Csr: one}, {PlacementId: placement, Generation: 1, Csr: one}, {PlacementId: placement, Generation: 1, Csr: other},
	}})
	if err != nil {
		t.Fatal(err)
	}
	r := response.Results
	if leafOf(t, r[0]).SerialNumber.Cmp(leafOf(t, r[1]).SerialNumber) != 0 || r[2].ErrorCode != string(fault.Conflict) {
		t.Errorf("results %v", r)
	}
	if n := d.countIssued(); n != 1 {
		t.Errorf("%d certificates of one generation", n)
	}
}

func TestGenerationsCannotBeUsedUp(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	_, request := csr(t)
	for _, number := range []uint64{mostSkipped + 1, 1 << 53, 1<<64 - 1} {
		if result := h.issue(h.placement(), number, request); result.ErrorCode != string(fault.Conflict) {
			t.Errorf("generation %d: %v", number, result)
		}
	}
	leafOf(t, h.issue(h.placement(), mostSkipped, request))
	_, lower := csr(t)
	leafOf(t, h.issue(h.placement(), 3, lower)) // one that was skipped
}
