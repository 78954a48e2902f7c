package control

import (
	"bytes"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
)

func (h *host) canaries(placement string) ([]*api.Canary, error) {
	_, request := csr(h.domain.t)
	response, err := h.domain.IssueCanaries(h.domain.t.Context(), h.caller, &api.IssueCanariesRequest{PlacementId: placement, Csr: request})
	return response.GetCanaries(), err
}

// A canary is a client of no name but its own, for ten minutes, recorded and
// entered before it leaves; and it opens nothing here.
func TestCanary(t *testing.T) {
	d := found(t)
	d.apply(clusterOf("c1", 1))
	h := d.members(1)[0]
	canaries, err := h.canaries(h.id)
	if err != nil || len(canaries) != 1 {
		t.Fatalf("%d canaries, %v", len(canaries), err)
	}
	cert, err := x509.ParseCertificate(canaries[0].Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	left := cert.NotAfter.Sub(d.clock.now())
	if left > 10*time.Minute || left < 9*time.Minute || len(cert.DNSNames)+len(cert.IPAddresses) != 0 || cert.Subject.CommonName != "" ||
		!slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) ||
		len(cert.URIs) != 1 || !strings.HasPrefix(cert.URIs[0].String(), "spiffe://test.example/rotunda/canary/") {
		t.Errorf("canary of %s for %v %v", left, cert.ExtKeyUsage, pki.NamesOf(cert).Strings())
	}
	if want := pki.FingerprintOf(d.rootNow().Raw).String(); canaries[0].Anchor != want || canaries[0].Authority == "" {
		t.Errorf("anchor %s of authority %q, want %s", canaries[0].Anchor, canaries[0].Authority, want)
	}
	for _, der := range canaries[0].Chain {
		if bytes.Equal(der, d.rootNow().Raw) {
			t.Error("the root is in the chain")
		}
	}
	listed, err := d.ListCertificates(t.Context(), operator, &api.ListCertificatesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := pki.SerialOf(cert)
	if !slices.ContainsFunc(listed.Certificates, func(c *api.CertificateInfo) bool {
		return c.Serial == serial.String() && c.Kind == "canary" && c.Agent == h.host.id && c.Intent == "db"
	}) {
		t.Error("it has no record")
	}
	if last := lastOf(d.entries()); !strings.Contains(last, `"canary.issue"`) || !strings.Contains(last, serial.String()) || !strings.Contains(last, h.id) {
		t.Errorf("the last entry is %s", last)
	}
	_, err = d.Identify(t.Context(), cert, "192.0.2.1:1")
	wantCode(t, err, fault.Forbidden)
	if !strings.Contains(err.Error(), "is a canary certificate, which opens nothing here") {
		t.Errorf("refused for another reason: %v", err)
	}
	if generation := h.desired().WindowGeneration; generation != 1 {
		t.Errorf("the placement's newest certificate is of generation %d now", generation)
	}
}

// Certificates of no kind but an agent's and an operator's open anything.
func TestOnlyAgentsAndOperatorsAreLetIn(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	key, _ := csr(t)
	server, err := d.ServerIdentity(t.Context(), "s1", key.Public(), []string{"localhost"}, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	serverLeaf, err := x509.ParseCertificate(server[0])
	if err != nil {
		t.Fatal(err)
	}
	for kind, cert := range map[string]*x509.Certificate{"leaf": h.holds(1), "server": serverLeaf} {
		_, err := d.Identify(t.Context(), cert, "192.0.2.1:1")
		wantCode(t, err, fault.Forbidden)
		if !strings.Contains(err.Error(), "is a "+kind+" certificate") {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestCanariesAreRefused(t *testing.T) {
	d := found(t)
	d.apply(clusterOf("c1", 1) + "---" + strings.Replace(documents, "name: names", "name: others", 1))
	m := d.members(2)
	plain := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	refused := func(h *host, placement string, code fault.Code, entered bool) {
		t.Helper()
		before := len(d.entries())
		_, err := h.canaries(placement)
		wantCode(t, err, code)
		log := d.entries()
		if (len(log) > before) != entered || entered && !strings.Contains(lastOf(log), `"refused"`) {
			t.Errorf("%d entries more, the last is %s", len(log)-before, lastOf(log))
		}
	}
	refused(m[0].host, m[1].id, fault.Forbidden, true)                 // another agent's
	refused(plain, plain.placement(), fault.Forbidden, true)           // nobody is asked for a certificate there
	refused(m[0].host, strings.Repeat("x", 99), fault.NotFound, false) // none
	_, err := d.IssueCanaries(t.Context(), operator, &api.IssueCanariesRequest{PlacementId: m[0].id})
	wantCode(t, err, fault.Forbidden)
	_, err = d.IssueCanaries(t.Context(), m[0].caller, &api.IssueCanariesRequest{PlacementId: m[0].id, Csr: []byte("x")})
	wantCode(t, err, fault.Invalid)
	d.apply(strings.Replace(clusterOf("c1", 1), "selector: {role: db}", "selector: {role: other}", 1))
	refused(m[0].host, m[0].id, fault.Forbidden, true) // an orphan
	if _, err := d.RetireAgent(t.Context(), operator, &api.RetireAgentRequest{AgentId: m[1].host.id}); err != nil {
		t.Fatal(err)
	}
	refused(m[1].host, m[1].id, fault.Forbidden, true) // nobody any more
}

// A placement has a budget of canaries, and takes none of another's.
func TestCanariesHaveABudget(t *testing.T) {
	d := found(t)
	d.apply(clusterOf("c1", 1))
	m := d.members(2)
	for i := range canaryBurst {
		if _, err := m[0].canaries(m[0].id); err != nil {
			t.Fatalf("canary %d: %v", i, err)
		}
	}
	_, err := m[0].canaries(m[0].id)
	wantCode(t, err, fault.Unavailable)
	if _, err := m[1].canaries(m[1].id); err != nil {
		t.Errorf("another placement: %v", err)
	}
	_, err = m[1].canaries(m[0].id) // refused before it costs anything
	wantCode(t, err, fault.Forbidden)
	d.clock.turn(time.Minute)
	for range canariesAMinute {
		if _, err := m[0].canaries(m[0].id); err != nil {
			t.Error(err)
		}
	}
	_, err = m[0].canaries(m[0].id)
	wantCode(t, err, fault.Unavailable)
}
