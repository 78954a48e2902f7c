package policy

import (
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/fleet"
)

// placement is an intent expanded as control does it.
func placement(t *testing.T) fleet.Expanded {
	t.Helper()
	set := fleet.NewSet(documents(t, `
apiVersion: rotunda/v1
kind: Profile
metadata: {name: server}
spec: {lifetime: 36h, algorithm: ed25519, usages: [serverAuth, clientAuth]}
---
apiVersion: rotunda/v1
kind: Intent
metadata: {name: orders-db}
spec:
  service: orders
  profile: server
  allAgents: true
  identity: {commonName: cn, dnsNames: [a.example.com], ipAddresses: [10.0.0.1], spiffePath: /orders}
  files: {directory: /etc/orders}
`)...)
	profile, _ := set.Profile("server")
	intent := set[fleet.Key{Kind: fleet.KindIntent, Name: "orders-db"}]
	expanded, err := fleet.Expand(spiffeid.RequireTrustDomainFromString("example.org"), intent, profile, fleet.Agent{ID: "a1"}, "main")
	if err != nil {
		t.Fatal(err)
	}
	return expanded
}
