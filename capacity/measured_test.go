package capacity_test

import (
	"bytes"
	"context"
	"math"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/api/apiconnect"
	"github.com/rotunda-pki/rotunda/capacity"
	"github.com/rotunda-pki/rotunda/fleettest"
	"github.com/rotunda-pki/rotunda/internal/fleetload"
	"github.com/rotunda-pki/rotunda/internal/measure"
	"github.com/rotunda-pki/rotunda/store/storetest"
)

// What a run in this process may differ from what is reckoned. Its CPU time has
// the simulated agents' in it, and this machine's speed and neighbours; its
// pages are filled less evenly than those of many certificates.
const (
	cpuWithin   = 6
	bytesWithin = 1.6
)

// TestAgainstAMeasuredRun loads a real server with real agents, and compares
// what it used with what is reckoned for the same certificates.
func TestAgainstAMeasuredRun(t *testing.T) {
	storetest.NeedsFile(t)
	p := fleettest.NewPlane(t)
	load := loadOf(t, p)
	const agents, rounds = 20, 10
	before, entries := pages(t, p), logged(t, p)
	results, err := load.Renew(t.Context(), agents, rounds)
	if err != nil {
		t.Fatal(err)
	}
	const rotated = agents * (rounds + 1) // the first generation too
	p.Await("each agent's last report", func(all []*api.PlacementStatus) bool {
		done := 0
		for _, one := range all {
			if one.Generation == rounds+1 {
				done++
			}
		}
		return done == agents
	})
	each := float64(logged(t, p)-entries) / rotated
	// So many that what its one agent costs beside them is nothing.
	ask := capacity.Ask{Placements: 1_000_000, Agents: 1, Servers: 1, Cores: 2, Lifetime: time.Hour, RenewAt: 0.5}
	need, err := capacity.Reckon(ask, capacity.Measured())
	if err != nil {
		t.Fatal(err)
	}
	if reckoned := need.Entries / need.Renewals; math.Abs(reckoned-each) > 1e-4 {
		t.Errorf("a rotation entered %.3f entries in the log, %.3f are reckoned with", each, reckoned)
	}
	within(t, "bytes of a rotation", (pages(t, p)-before)/rotated, need.PerDay/86_400/need.Renewals, bytesWithin)
	within(t, "µs of a rotation", figure(t, results, "cpu.renew"), need.CPU/need.Renewals*1e6, cpuWithin)
}

func within(t *testing.T, what string, measured, reckoned, factor float64) {
	t.Helper()
	t.Logf("%s: measured %.0f, reckoned %.0f", what, measured, reckoned)
	if measured > reckoned*factor || reckoned > measured*factor {
		t.Errorf("%s: measured %.0f, reckoned %.0f: more than %g times apart", what, measured, reckoned, factor)
	}
}

func figure(t *testing.T, results []measure.Result, key string) float64 {
	t.Helper()
	for _, one := range results {
		if one.Key == key {
			return one.Value
		}
	}
	t.Fatalf("no %s was measured", key)
	return 0
}

func loadOf(t *testing.T, p *fleettest.Plane) *fleetload.Load {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", p.Config.AdminSocket)
	}}}
	t.Cleanup(client.CloseIdleConnections)
	run, err := fleetload.NewRun(t.Context(), apiconnect.NewOperatorServiceClient(client, "http://rotunda"), "")
	if err != nil {
		t.Fatal(err)
	}
	return &fleetload.Load{Run: run, Server: measure.Process(os.Getpid()), Say: func(string) {}}
}

// pages is how many bytes of the store's pages are in use.
func pages(t *testing.T, p *fleettest.Plane) float64 {
	t.Helper()
	var used float64
	row := storetest.Raw(t, p.Config.Store).QueryRow(`SELECT (c.page_count - f.freelist_count) * s.page_size FROM pragma_page_count c, pragma_freelist_count f, pragma_page_size s`)
	if err := row.Scan(&used); err != nil {
		t.Fatal(err)
	}
	return used
}

// logged is how many entries of the audit log are about placements.
func logged(t *testing.T, p *fleettest.Plane) int {
	t.Helper()
	list, err := p.ListAuditEntries(t.Context(), fleettest.Operator, &api.ListAuditEntriesRequest{Newest: true})
	if err != nil || len(list.Entries) == 1000 {
		t.Fatalf("%d entries, at most 999 are expected: %v", len(list.Entries), err)
	}
	entries := 0
	for _, entry := range list.Entries {
		if bytes.Contains(entry.Content, []byte(`"object":"Placement/`)) {
			entries++
		}
	}
	return entries
}
