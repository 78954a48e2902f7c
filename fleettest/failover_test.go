package fleettest

import (
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/agent"
	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/postgrestest"
)

// The server that agents talk to goes away, twice: they go on with the other, of
// which agent.yaml knows nothing, and each rotation comes about once.
func TestServerGoesAway(t *testing.T) {
	t.Parallel()
	first := NewPlaneAt(t, postgrestest.Run(t).Database(t))
	second := first.Another()
	hosts := fleetOf(first, 4)
	first.Await("first issuance", Steady(4, 1))
	first.Apply("apiVersion: rotunda/v1\nkind: Region\nmetadata: {name: eu}\nspec: {servers: ['" + first.Config.Listen.Agents + "', '" + second.Config.Listen.Agents + "']}\n")
	for _, host := range hosts {
		await(t, host, "the news", func(s agent.Status) bool { return len(s.Servers) == 2 })
	}
	for generation, turn := range []struct{ goes, stays *Plane }{{first, second}, {second, first}} {
		if generation > 0 {
			turn.stays.Start()
		}
		turn.goes.Stop()
		for _, host := range hosts {
			status := await(t, host, "the other server", func(s agent.Status) bool { return s.Connected && s.Server == turn.stays.Config.Listen.Agents })
			if status.Alarms != "" {
				t.Errorf("an agent raises %s", status.Alarms)
			}
		}
		if _, err := turn.stays.Rotate(t.Context(), Operator, &api.RotateRequest{All: true}); err != nil {
			t.Fatal(err)
		}
		for _, placement := range turn.stays.Await("a rotation by the server that is left", Steady(4, uint64(generation+2))) {
			if placement.Generation != uint64(generation+2) || placement.Rotations != uint64(generation+2) {
				t.Errorf("placement of agent %s is at generation %d after %d rotations", placement.Agent, placement.Generation, placement.Rotations)
			}
		}
		regions, err := turn.stays.ListRegions(t.Context(), Operator, &api.ListRegionsRequest{})
		first.must(err)
		alive := 0
		for _, server := range regions.Regions[1].Servers {
			if server.Alive {
				alive++
			}
		}
		if alive != 1 {
			t.Errorf("%d servers are said to be there: %v", alive, regions.Regions[1])
		}
	}
}

// await asks the host's agent until it stands as it should.
func await(t *testing.T, h *Host, what string, good func(agent.Status) bool) agent.Status {
	t.Helper()
	for deadline := time.Now().Add(Patience); ; time.Sleep(20 * time.Millisecond) {
		status, err := agent.AskStatus(t.Context(), h.Config.Socket)
		if err == nil && good(status) {
			return status
		}
		if time.Now().After(deadline) {
			t.Fatalf("never %s: %+v, %v", what, status, err)
		}
	}
}
