package main

import (
	"context"

	"github.com/rotunda-pki/rotunda/internal/fleetload"
)

// documents are a service with one intent.
const documents = `apiVersion: rotunda/v1
kind: Service
metadata: {name: bench}
spec: {owner: {team: bench, contact: bench@bench.example, runbook: https://bench.example/runbook}}
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: bench}
spec: {lifetime: 24h, usages: [serverAuth]}
---
apiVersion: rotunda/v1
kind: Policy
metadata: {name: bench}
spec:
  rules:
    - {name: own-names, effect: allow, when: 'service == "bench" && names.dnsNames.all(n, n.endsWith(".bench.example"))'}
---
apiVersion: rotunda/v1
kind: Intent
metadata: {name: bench}
spec:
  service: bench
  selector: {host: bench}
  profile: bench
  identity: {dnsNames: ["{{ labels.host }}.bench.example"]}
  files: {directory: DIRECTORY}
`

// rounds are those of which a figure is the median.
const rounds = 5

// issuance measures the server's CPU time for one certificate, RPC and all, at
// several depths, one at a time and in batches, beside what its parts alone cost
// here and now.
func (b *bench) issuance(ctx context.Context, count int) ([]Result, error) {
	return b.loaded(ctx, func(load *fleetload.Load) ([]Result, error) {
		return load.Issue(ctx, fleetload.Issuing{
			Agents: 64, Certificates: count, Rounds: rounds, Calls: []fleetload.Calls{{InFlight: 1, Batch: 1}, {InFlight: 16, Batch: 1}, {InFlight: 64, Batch: 1}, {InFlight: 2, Batch: 50}},
		})
	})
}

// loaded measures a server of its own under a load.
func (b *bench) loaded(ctx context.Context, measured func(*fleetload.Load) ([]Result, error)) ([]Result, error) {
	server, err := b.server(ctx)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	load, err := b.load(ctx, server)
	if err != nil {
		return nil, err
	}
	return measured(load)
}

// load is a load of simulated agents on the server.
func (b *bench) load(ctx context.Context, server *process) (*fleetload.Load, error) {
	run, err := fleetload.NewRun(ctx, b.operator(), b.agents)
	if err != nil {
		return nil, err
	}
	return &fleetload.Load{Run: run, Server: server.number(), Say: func(string) {}}, nil
}
