package agent

import (
	"crypto"
	"crypto/x509"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/pki"
)

func mustKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := pki.ECDSAP256.Generate()
	check(t, err)
	return key
}

func mustAgentID(t testing.TB, p *plane, agent string) spiffeid.ID {
	t.Helper()
	id, err := pki.AgentID(p.domain, agent)
	check(t, err)
	return id
}

func mustChain(t testing.TB, ders [][]byte) pki.Chain {
	t.Helper()
	chain, err := pki.ParseChainDER(ders)
	check(t, err)
	return chain
}

func parseAll(t testing.TB, ders [][]byte) []*x509.Certificate {
	t.Helper()
	return mustChain(t, ders).Certificates()
}

// waitFor polls a condition that nothing announces.
func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
