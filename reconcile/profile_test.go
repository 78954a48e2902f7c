package reconcile_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleettest"
)

const larger = `
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: larger}
spec: {algorithm: ecdsa-p384, lifetime: 12h, usages: [serverAuth]}
`

// Real agents of a slice renew under another profile, each once, and under their
// own again when that is rolled back; others are left alone.
func TestProfileOverAgents(t *testing.T) {
	p := fleettest.NewPlane(t)
	root := t.TempDir()
	for i := range 3 {
		host := p.NewHost(map[string]string{"role": "cache", "host": fmt.Sprint("h", i), "rack": fmt.Sprint(min(i, 1))})
		host.Config.Allow.Directories = []string{root}
		host.Start()
	}
	p.Apply(strings.ReplaceAll(cluster, "TREE", root) + larger)
	p.Await("first issuance", fleettest.Steady(3, 1))
	_, err := p.StartRollout(t.Context(), fleettest.Operator, &api.StartRolloutRequest{
		Name: "try", Intent: "cache", Spec: &api.RolloutSpec{Profile: "larger", Slice: map[string]string{"rack": "1"}, Steps: []string{"1", "100%"}, PerMinute: 1000},
	})
	if err != nil {
		t.Fatal(err)
	}
	is := func(name, state string) func([]*api.PlacementStatus) bool {
		return func([]*api.PlacementStatus) bool {
			r, err := p.DescribeRollout(t.Context(), fleettest.Operator, &api.DescribeRolloutRequest{Rollout: name})
			return err == nil && r.Rollout.State == state
		}
	}
	p.Await("it is done", is("try", "done"))
	for _, placement := range p.Placements() {
		tried, generation := placement.ProfileOverride.GetProfile() == "larger", placement.Generation
		if tried != (generation == 2) || generation > 2 {
			t.Errorf("profile %q at generation %d", placement.ProfileOverride.GetProfile(), generation)
		}
	}
	if _, err := p.DecideRollout(t.Context(), fleettest.Operator, &api.DecideRolloutRequest{Rollout: "try", Act: "rollback", Reason: "drill"}); err != nil {
		t.Fatal(err)
	}
	placements := p.Await("it is taken back", is("try-rollback", "done"))
	for _, placement := range placements {
		if placement.ProfileOverride != nil || placement.Generation == 2 {
			t.Errorf("profile %q at generation %d", placement.ProfileOverride.GetProfile(), placement.Generation)
		}
	}
}
