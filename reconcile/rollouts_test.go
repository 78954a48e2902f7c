package reconcile_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/fleettest"
	"github.com/rotunda-pki/rotunda/reconcile"
)

// Real agents of a cluster roll out in two waves, each let through by a webhook,
// and each placement rotates once.
func TestRolloutOverAgents(t *testing.T) {
	p := fleettest.NewPlane(t)
	const members = 3
	root := t.TempDir()
	for i := range members {
		host := p.NewHost(map[string]string{"role": "cache", "host": fmt.Sprint("h", i)})
		host.Config.Allow.Directories = []string{root}
		host.Start()
	}
	p.Apply(strings.ReplaceAll(cluster, "TREE", root))
	p.Await("first issuance", fleettest.Steady(members, 1))
	var posted atomic.Int32
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(body), `"rollout":"cache"`) {
			t.Errorf("the gate was asked %s", body)
		}
		posted.Add(1)
		fmt.Fprintln(w, "error rate is nothing")
	}))
	defer gate.Close()
	_, err := p.StartRollout(t.Context(), fleettest.Operator, &api.StartRolloutRequest{Intent: "cache", Spec: &api.RolloutSpec{
		Steps: []string{"1", "100%"}, PerMinute: 1000, Health: true, Adoption: true, Gates: []*api.RolloutGate{{Name: "errors", Webhook: gate.URL}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var rollout *api.DescribeRolloutResponse
	p.Await("the rollout is done", func([]*api.PlacementStatus) bool {
		rollout, err = p.DescribeRollout(t.Context(), fleettest.Operator, &api.DescribeRolloutRequest{Rollout: "cache"})
		return err == nil && rollout.Rollout.State == "done"
	})
	p.Await("each rotated once", fleettest.Steady(members, 2))
	if posted.Load() != 2 || len(rollout.Answers) != 2 || rollout.Answers[0].Words != "error rate is nothing" {
		t.Errorf("the gate was asked %d times: %v", posted.Load(), rollout.Answers)
	}
	for i, member := range rollout.Members {
		if i > 0 && member.AskedAt.AsTime().Before(rollout.Members[i-1].SettledAt.AsTime()) {
			t.Errorf("two of a cluster at once: %v", rollout.Members)
		}
	}
}

// A webhook that refuses, or can't be reached, refuses the wave in words.
func TestGateThatRefuses(t *testing.T) {
	p := fleettest.NewPlane(t)
	root := t.TempDir()
	host := p.NewHost(map[string]string{"role": "cache", "host": "h"})
	host.Config.Allow.Directories = []string{root}
	host.Start()
	p.Apply(strings.ReplaceAll(cluster, "TREE", root))
	p.Await("first issuance", fleettest.Steady(1, 1))
	started, err := p.StartRollout(t.Context(), fleettest.Operator, &api.StartRolloutRequest{All: true, Spec: &api.RolloutSpec{Gates: []*api.RolloutGate{{Name: "a"}, {Name: "b"}}}})
	if err != nil {
		t.Fatal(err)
	}
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "errors are up", http.StatusConflict) }))
	gone := httptest.NewServer(nil)
	gone.Close()
	defer gate.Close()
	gates := &reconcile.Gates{Client: http.DefaultClient}
	gates.Ask(t.Context(), p.Control, []control.GateAsk{
		{Rollout: started.Rollout.Id, Name: "all", Wave: 1, Gate: "a", Webhook: gate.URL, Facts: []byte("{}")},
		{Rollout: started.Rollout.Id, Name: "all", Wave: 1, Gate: "b", Webhook: gone.URL, Facts: []byte("{}")},
	}, slog.New(slog.DiscardHandler))
	gates.Wait()
	rollout, err := p.DescribeRollout(t.Context(), fleettest.Operator, &api.DescribeRolloutRequest{Rollout: "all"})
	if err != nil {
		t.Fatal(err)
	}
	if a := rollout.Answers; len(a) != 2 || a[0].Passed || a[0].Words != "errors are up" || a[1].Passed || !strings.Contains(a[1].Words, "can't be asked") {
		t.Errorf("answers %v", rollout.Answers)
	}
}
