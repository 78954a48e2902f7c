package control

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

// expired asks for a new identity by the host's old one.
func (h *host) expired(signer crypto.Signer) (*api.RenewIdentityRequest, crypto.Signer) {
	h.domain.t.Helper()
	key, request := csr(h.domain.t)
	digest := sha256.Sum256(append([]byte(pki.RenewExpired), request...))
	signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		h.domain.t.Fatal(err)
	}
	return &api.RenewIdentityRequest{Csr: request, Expired: h.identity().DER, Signature: signature}, key
}

func (d *domain) window(all bool, agents ...string) string {
	d.t.Helper()
	response, err := d.OpenEmergency(d.t.Context(), root, &api.OpenEmergencyRequest{
		All: all, Agents: agents, Lasts: durationpb.New(time.Hour), Reason: "all has expired",
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return response.Window.Id
}

// An expired identity renews itself while a window is open for it, and opens
// nothing else.
func TestExpiredIdentityRenewsInItsWindow(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "h"})
	other := d.enrolHost(map[string]string{"role": "orders", "host": "i"})
	retired := d.enrolHost(map[string]string{"role": "orders", "host": "j"})
	if _, err := d.RetireAgent(t.Context(), operator, &api.RetireAgentRequest{AgentId: retired.id}); err != nil {
		t.Fatal(err)
	}
	d.clock.turn(identityLife + time.Hour)
	nobody := Caller{Kind: Anonymous, Address: "192.0.2.1:1"}
	ask := func(h *host, signer crypto.Signer) (*api.RenewIdentityResponse, error) {
		request, _ := h.expired(signer)
		return d.RenewIdentity(t.Context(), nobody, request)
	}
	refuse := func(name string, h *host, signer crypto.Signer) {
		t.Helper()
		before := len(d.entries())
		if _, err := ask(h, signer); fault.CodeOf(err) != fault.Forbidden {
			t.Errorf("%s: %v", name, err)
		}
		if after := d.entries(); len(after) != before+1 || !strings.Contains(after[before], `"outcome":"refused"`) {
			t.Errorf("%s left no entry", name)
		}
	}
	refuse("no window", h, h.key)
	id := d.window(false, h.id)
	stolen, _ := csr(t)
	refuse("another key", h, stolen)
	refuse("another agent's key", h, other.key)
	refuse("another agent", other, other.key)
	response, err := ask(h, h.key)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := pki.ParseChainDER(response.Chain)
	if err != nil {
		t.Fatal(err)
	}
	if caller, err := d.Identify(t.Context(), chain.Leaf, ""); err != nil || caller.Kind != Agent || caller.ID != h.id {
		t.Errorf("the new identity is %v, %v", caller, err)
	}
	// The CSR of another can't be put under a signature.
	swapped, _ := other.expired(other.key)
	d.window(true)
	_, swapped.Csr = csr(t)
	if _, err := d.RenewIdentity(t.Context(), nobody, swapped); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("another's request: %v", err)
	}
	refuse("retired", retired, retired.key)
	if _, err := d.CloseEmergency(t.Context(), root, &api.CloseEmergencyRequest{Id: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(other, other.key); err != nil {
		t.Errorf("the other window was closed with it: %v", err)
	}
	d.clock.turn(2 * time.Hour)
	d.clock.turn(identityLife)
	refuse("after its end", other, other.key)
	for verb := range mayCall {
		if err := authorize(Caller{Kind: Expired, ID: h.id}, verb); (err == nil) != (verb == "agent.renew") {
			t.Errorf("an expired identity may %s: %v", verb, err)
		}
		if err := authorize(Caller{Kind: Emergency, ID: "safe"}, verb); (err == nil) != (verb == "emergency.use") {
			t.Errorf("an emergency credential may %s: %v", verb, err)
		}
	}
}
