package control

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// BenchmarkIssue is the server's share of one issuance without the wire, with
// 64 in flight.
func BenchmarkIssue(b *testing.B) {
	d := found(b)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	placement := h.placement()
	csrs := make([][]byte, b.N)
	for i := range csrs {
		_, csrs[i] = csr(b)
	}
	var generation atomic.Uint64
	b.SetParallelism(32)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := generation.Add(1)
			response, err := d.Issue(context.Background(), h.caller, &api.IssueRequest{Requests: []*api.PlacementRequest{
				{PlacementId: placement, Generation: n, Csr: csrs[n-1]},
			}})
			if err != nil {
				b.Error(err)
			} else if result := response.Results[0]; result.ErrorCode != "" {
				b.Error(result.Error)
			}
		}
	})
}

// BenchmarkAdvanceRollouts is one pass that finds nothing to do, over a rollout
// of ten thousand placements in clusters of three.
func BenchmarkAdvanceRollouts(b *testing.B) {
	d := found(b)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "web", "host": "a"})
	report, err := proto.Marshal(&api.PlacementReport{Generation: 1, State: api.State_STATE_STEADY, Level: api.Level_LEVEL_PROVEN, BundleDigest: strings.Repeat("0", 64)})
	if err != nil {
		b.Fatal(err)
	}
	err = d.db.Write(b.Context(), func(tx *store.Tx) error {
		for i := range 10_000 {
			p := store.Placement{ID: newID(), Intent: "orders-tls", AgentID: h.id, Instance: fmt.Sprint(i), Target: fmt.Sprint(i), Cluster: fmt.Sprint("c", i/3)}
			if err := errors.Join(tx.InsertPlacement(b.Context(), p), tx.SetPlacementReport(b.Context(), p.ID, store.Reported{Report: report, Generation: 1})); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	begun, err := d.StartRollout(b.Context(), operator, &api.StartRolloutRequest{All: true, Spec: &api.RolloutSpec{Steps: []string{"100%"}, AtOnce: 100, PerMinute: 1000}})
	if err != nil || begun.Rollout.Placements != 10_000 {
		b.Fatalf("%d placements, %v", begun.GetRollout().GetPlacements(), err)
	}
	if did, _, err := d.AdvanceRollouts(b.Context()); err != nil || did != 100 {
		b.Fatalf("%d asked, %v", did, err)
	}
	b.ResetTimer()
	for b.Loop() {
		if did, _, err := d.AdvanceRollouts(b.Context()); err != nil || did != 0 {
			b.Fatalf("%d done, %v", did, err)
		}
	}
}

// BenchmarkAdvanceTrust is one look at a change of roots for which ten thousand
// hosts are still to adopt the new one, and which therefore does nothing.
func BenchmarkAdvanceTrust(b *testing.B) {
	d := found(b)
	d.apply(documents)
	bundle, err := pki.NewBundle([]*x509.Certificate{d.rootNow()})
	if err != nil {
		b.Fatal(err)
	}
	report, err := proto.Marshal(&api.PlacementReport{Generation: 1, State: api.State_STATE_STEADY, Level: api.Level_LEVEL_LOADED, BundleDigest: bundle.Digest().String()})
	if err != nil {
		b.Fatal(err)
	}
	err = d.db.Write(b.Context(), func(tx *store.Tx) error {
		for i := range 10_000 {
			a := store.Agent{ID: newID(), State: fleet.AgentActive, Labels: map[string]string{"role": "orders", "host": fmt.Sprint("h", i)}, EnrolledAt: tx.Now}
			p := store.Placement{ID: newID(), Intent: "orders-tls", AgentID: a.ID, Instance: "main", Target: "orders-tls"}
			err := errors.Join(tx.InsertAgent(b.Context(), a), tx.SetAgentAnchors(b.Context(), a.ID, bundle.Digest().String()),
				tx.InsertPlacement(b.Context(), p), tx.SetPlacementReport(b.Context(), p.ID, store.Reported{Report: report, Generation: 1}),
				tx.PutAdoption(b.Context(), store.Adoption{PlacementID: p.ID, BundleDigest: bundle.Digest().String(), Level: "loaded", At: tx.Now}))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	d.begin("root", "done")
	if acted, err := d.AdvanceTrust(b.Context()); err != nil || acted != 1 {
		b.Fatalf("%d acts, %v", acted, err)
	}
	b.ResetTimer()
	for b.Loop() {
		if acted, err := d.AdvanceTrust(b.Context()); err != nil || acted != 0 {
			b.Fatalf("%d acts, %v", acted, err)
		}
	}
}

// BenchmarkDesired is what one look of one agent costs, when a commit has woken
// a thousand of them.
func BenchmarkDesired(b *testing.B) {
	d := found(b)
	d.apply(documents)
	var hosts []*host
	for i := range 20 {
		hosts = append(hosts, d.enrolHost(map[string]string{"role": "orders", "host": fmt.Sprint("h", i)}))
	}
	for i := 0; b.Loop(); i++ {
		if _, err := d.Desired(b.Context(), hosts[i%len(hosts)].caller); err != nil {
			b.Fatal(err)
		}
	}
}
