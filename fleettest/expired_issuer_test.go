package fleettest

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/pki"
)

// The issuing authority itself has expired while all was off. The server starts,
// says so, and has a certificate again once another takes its place.
func TestServerStartsUnderAnExpiredIssuer(t *testing.T) {
	p := NewPlane(t)
	p.Stop()
	later := 3 * 365 * 24 * time.Hour
	p.Now = func() time.Time { return time.Now().Add(later) }
	p.Start()
	dial := func() error {
		bundle, err := p.DomainBundle(t.Context())
		p.must(err)
		conn, err := tls.Dial("tcp", p.Config.Listen.Agents, &tls.Config{RootCAs: bundle.Pool(), ServerName: "localhost", Time: p.Now, NextProtos: []string{"h2"}})
		if err != nil {
			return err
		}
		return conn.Close()
	}
	if dial() == nil {
		t.Fatal("a server without a certificate shakes hands")
	}
	list, err := p.ListPlacements(t.Context(), onSocket, &api.ListPlacementsRequest{})
	p.must(err)
	if len(list.Emergencies) != 1 || !strings.Contains(list.Emergencies[0], "expired at") || !strings.Contains(list.Emergencies[0], "rotunda trust rotate issuing") {
		t.Errorf("status says: %q", list.Emergencies)
	}
	prepared, err := p.PrepareTrust(t.Context(), onSocket, &api.PrepareTrustRequest{Kind: "issuing"})
	p.must(err)
	request, err := ca.ParseCeremonyRequest(prepared.Request)
	p.must(err)
	next, err := pki.ECDSAP256.Generate()
	p.must(err)
	signed, _, err := ca.HoldCeremony(p.Now(), request, ca.CeremonyKeys{Old: p.FirstKey, New: next})
	p.must(err)
	response, err := signed.Encode()
	p.must(err)
	p.must1(p.BeginTrust(t.Context(), onSocket, &api.BeginTrustRequest{Response: response, Reason: "it has expired"}))
	p.await("a certificate under the new authority", func() bool { return dial() == nil })
	list, err = p.ListPlacements(t.Context(), onSocket, &api.ListPlacementsRequest{})
	p.must(err)
	if len(list.Emergencies) != 0 {
		t.Errorf("status still says: %q", list.Emergencies)
	}
}
