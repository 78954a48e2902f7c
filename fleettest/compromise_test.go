package fleettest

import (
	"testing"

	"github.com/rotunda-pki/rotunda/api"
)

// A service is answered to while its control plane comes and goes: every host ends
// with a new key, the old certificates are on lists that every host has in use, and
// both dates are set.
func TestCompromiseGoesOnThroughRestarts(t *testing.T) {
	t.Parallel()
	p := NewPlane(t)
	hosts := fleetOf(p, 3)
	p.Await("first certificates", Steady(3, 1))
	p.Apply(`
apiVersion: rotunda/v1
kind: Profile
metadata: {name: files}
spec: {lifetime: 24h, usages: [serverAuth], keyAge: 0s, grace: 1s, revocation: {crl: true}}
`)
	begun, err := p.Compromise(t.Context(), Operator, &api.CompromiseRequest{Service: "files", Note: "a drill"})
	if err != nil {
		t.Fatal(err)
	}
	look := func() *api.Compromise {
		t.Helper()
		list, err := p.ListCompromises(t.Context(), Operator, &api.ListCompromisesRequest{Id: begun.Compromise.Id})
		if err != nil {
			t.Fatal(err)
		}
		return list.Compromises[0]
	}
	p.Await("the canary of the rollout", func(now []*api.PlacementStatus) bool {
		for _, one := range now {
			if one.Generation > 1 {
				return true
			}
		}
		return false
	})
	hosts[0].Stop()
	p.Stop()
	p.Start()
	if one := look(); one.EndedAt != nil {
		t.Fatal("it is over while a host is away")
	}
	hosts[0].Start()
	one := awaitCompromise(p, begun.Compromise.Id)
	if one.ContainedAt == nil || one.RecoveredAt == nil {
		t.Errorf("over without a date: %v", one)
	}
	for _, step := range one.Steps {
		if step.Of != 3 || step.Done != 3 {
			t.Errorf("step %s: %d of %d, want 3 of 3", step.Name, step.Done, step.Of)
		}
	}
}
