package fleettest

import (
	"log/slog"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/agent"
	"github.com/rotunda-pki/rotunda/witness"
)

// A host is sent what real witnesses cosigned of the log that it is shown; one
// that its agent.yaml names and that nobody asks is missing there.
func TestHostSeesCosignedLog(t *testing.T) {
	p := NewPlane(t)
	cosigner := func(name string) (key, url string) {
		root, err := os.OpenRoot(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		made, err := witness.CreateKey(root, name)
		if err != nil {
			t.Fatal(err)
		}
		state, err := witness.Open(root, []string{p.LogKey()}, time.Now, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		web := httptest.NewServer(state.Handler())
		t.Cleanup(func() { web.Close(); state.Close(); root.Close() })
		return made.VerifierKey(), web.URL
	}
	one, oneAt := cosigner("witness.example/w1")
	two, twoAt := cosigner("witness.example/w2")
	other, _ := cosigner("witness.example/w3")
	p.Stop()
	p.Config.Witnesses = witness.Config{Required: 2, Ask: []witness.Peer{{Name: "w1", Key: one, URL: oneAt}, {Name: "w2", Key: two, URL: twoAt}}}
	p.Start()
	content, lacking := p.NewHost(map[string]string{"role": "a"}), p.NewHost(map[string]string{"role": "b"})
	content.Config.Witnesses = agent.WitnessesConfig{Required: 2, Keys: []string{one, two}}
	lacking.Config.Witnesses = agent.WitnessesConfig{Required: 2, Keys: []string{one, other}}
	content.Start()
	lacking.Start()
	status := func(h *Host) agent.WitnessesStatus {
		status, err := agent.AskStatus(t.Context(), h.Config.Socket)
		if err != nil || status.Witnesses == nil {
			t.Fatalf("%+v, %v", status, err)
		}
		return *status.Witnesses
	}
	first := status(content).Shown
	p.await("all that was shown at first is cosigned", func() bool { return status(content).Cosigned >= max(first, 1) })
	p.await("one of two has cosigned it", func() bool { return status(lacking).Witnesses[0].Cosigned > 0 })
	if got := status(lacking); got.Cosigned != 0 || got.Awaited == 0 || got.Witnesses[1].Cosigned != 0 || got.Overdue {
		t.Errorf("nobody asks the second: %+v", got)
	}
}
