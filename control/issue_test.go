package control

import (
	"crypto/ecdsa"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

func leafOf(t testing.TB, result *api.IssueResult) *x509.Certificate {
	t.Helper()
	if result.ErrorCode != "" {
		t.Fatalf("issue: %s: %s", result.ErrorCode, result.Error)
	}
	leaf, err := x509.ParseCertificate(result.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func TestIssueGivesWhatIntentAndProfileSay(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	key, request := csr(t)

	result := h.issue(h.placement(), 1, request)

	leaf := leafOf(t, result)
	if got := leaf.DNSNames; len(got) != 1 || got[0] != "a.orders.test.example" {
		t.Errorf("names %v", got)
	}
	if !pki.KeyMatches(key, leaf) {
		t.Error("the certificate is not for the key")
	}
	chain, err := pki.ParseChainDER(result.Chain)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := d.DomainBundle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := chain.Verify(bundle, x509.ExtKeyUsageServerAuth, d.clock.now()); err != nil {
		t.Error(err)
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life != 24*time.Hour+time.Minute {
		t.Errorf("life %s, want 24h and 1m backdate", life)
	}
}

// A repeated request is the same request: also across a restart of the server.
func TestIssueTwiceIsOnce(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	placement := h.placement()
	_, request := csr(t)

	first := leafOf(t, h.issue(placement, 1, request))
	second := leafOf(t, h.issue(placement, 1, request))
	d.restart()
	third := leafOf(t, h.issue(placement, 1, request))

	if !first.Equal(second) || !first.Equal(third) {
		t.Error("the same request got different certificates")
	}
	if n := d.countIssued(); n != 1 {
		t.Errorf("%d certificates recorded, want 1", n)
	}
}

func (d *domain) countIssued() int {
	d.t.Helper()
	var n int
	err := d.db.Read(d.t.Context(), func(tx *store.Tx) error {
		certificates, err := tx.Certificates(d.t.Context(), store.CertificateQuery{Kind: store.KindLeaf})
		n = len(certificates)
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

// Every certificate that was released has a record and an audit entry, also
// those released while others were.
func TestNothingIssuedGoesUnrecorded(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	placement := h.placement()
	const n = 40
	released := make(chan string, n)
	for i := range n {
		_, request := csr(t)
		go func() { released <- leafOf(t, h.issue(placement, uint64(i+1), request)).SerialNumber.Text(16) }()
	}
	serials := map[string]bool{}
	for range n {
		serials[<-released] = true
	}
	d.restart()
	if got := d.countIssued(); got != n || len(serials) != n {
		t.Fatalf("%d released, %d recorded, want %d", len(serials), got, n)
	}
	log := strings.Join(d.entries(), "\n")
	for serial := range serials {
		if !strings.Contains(log, serial) {
			t.Errorf("certificate %s has no audit entry", serial)
		}
	}
}

func TestIssueRefusals(t *testing.T) {
	d := found(t)
	d.apply(documents)
	a := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	b := d.enrolHost(map[string]string{"role": "orders", "host": "b"})
	_, request := csr(t)
	leafOf(t, a.issue(a.placement(), 1, request))
	_, other := csr(t)
	broken := append([]byte{}, other...)
	broken[len(broken)-1] ^= 1
	weak, err := pki.RSA2048.Generate()
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := pki.NewCSR(weak)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name       string
		host       *host
		placement  string
		generation uint64
		csr        []byte
		code       fault.Code
		says       string
	}{
		{"another key for an issued generation", a, a.placement(), 1, other, fault.Conflict, "another key"},
		{"another agent's placement", b, a.placement(), 2, other, fault.Forbidden, "is not of agent"},
		{"no such placement", a, "01890000-0000-7000-8000-000000000000", 1, other, fault.NotFound, "placement"},
		{"generation 0", a, a.placement(), 0, other, fault.Invalid, "from 1"},
		{"a CSR whose signature is wrong", a, a.placement(), 2, broken, fault.Invalid, "not signed by the key"},
		{"a CSR that is none", a, a.placement(), 2, []byte("hello"), fault.Invalid, "PKCS #10"},
		{"a key of another kind than the profile's", a, a.placement(), 2, foreign, fault.Invalid, "rsa-2048"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := d.countIssued()
			result := c.host.issue(c.placement, c.generation, c.csr)
			if result.ErrorCode != string(c.code) || !strings.Contains(result.Error, c.says) {
				t.Errorf("got %s: %s; want %s with %q", result.ErrorCode, result.Error, c.code, c.says)
			}
			if len(result.Chain) != 0 || d.countIssued() != before {
				t.Error("a refused request got a certificate")
			}
			if c.code == fault.Conflict || c.code == fault.Forbidden {
				if last := lastOf(d.entries()); !strings.Contains(last, `"refused"`) {
					t.Errorf("the refusal has no audit entry; the last is %s", last)
				}
			}
		})
	}
}

func lastOf(lines []string) string { return lines[len(lines)-1] }

func TestPolicyRefusesByName(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	d.apply(`
apiVersion: rotunda/v1
kind: Policy
metadata: {name: freeze}
spec: {rules: [{name: no-host-z, effect: deny, when: 'agent.labels["host"] == "z"'}]}
`)
	if _, err := d.LabelAgent(t.Context(), operator, &api.LabelAgentRequest{AgentId: h.id, Set: map[string]string{"host": "z"}}); err != nil {
		t.Fatal(err)
	}
	_, request := csr(t)

	result := h.issue(h.placement(), 1, request)

	if result.ErrorCode != string(fault.Forbidden) || !strings.Contains(result.Error, "freeze/no-host-z") {
		t.Errorf("got %s: %s; want forbidden by freeze/no-host-z", result.ErrorCode, result.Error)
	}
}

// A retired agent gets nothing, though its certificate's chain is valid.
func TestRetiredAgentGetsNothing(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	placement := h.placement()
	if _, err := d.RetireAgent(t.Context(), operator, &api.RetireAgentRequest{AgentId: h.id}); err != nil {
		t.Fatal(err)
	}
	_, request := csr(t)
	_, err := d.Issue(t.Context(), h.caller, &api.IssueRequest{Requests: []*api.PlacementRequest{{PlacementId: placement, Generation: 1, Csr: request}}})
	wantCode(t, err, fault.Forbidden)
	if n := d.countIssued(); n != 0 {
		t.Errorf("%d certificates issued to a retired agent", n)
	}
}

// A profile that gets another algorithm is issued under at once, also where a
// grant of the one before is kept.
func TestIssueUnderAnotherAlgorithm(t *testing.T) {
	d, hosts := rolled(t, 1)
	d.apply(strings.Replace(documents, "lifetime: 24h", "algorithm: ecdsa-p384, lifetime: 24h", 1))
	for _, h := range hosts {
		if leaf := leafOf(t, h.asks(2, pki.ECDSAP384)); leaf.PublicKey.(*ecdsa.PublicKey).Params().BitSize != 384 {
			t.Errorf("issued for %v", leaf.PublicKey)
		}
		if result := h.asks(3, pki.ECDSAP256); !strings.Contains(result.Error, "wants ecdsa-p384") {
			t.Errorf("the one before: %v", result)
		}
	}
}
