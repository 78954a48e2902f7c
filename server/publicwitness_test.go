package server_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/fleettest"
	"github.com/rotunda-pki/rotunda/witness"
)

// With cosignatures required, everybody is shown a checkpoint that has them and
// none before; the control plane works meanwhile, and metrics show the age of
// what waits.
func TestPublicCheckpointWaitsForCosignatures(t *testing.T) {
	p := fleettest.NewPlane(t)
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cosigner, err := witness.CreateKey(root, "witness.example/w1")
	if err != nil {
		t.Fatal(err)
	}
	state, err := witness.Open(root, []string{p.LogKey()}, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	open := make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-open:
			state.Handler().ServeHTTP(w, r)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer web.Close()
	p.Stop()
	p.Config.Witnesses = witness.Config{Required: 1, Ask: []witness.Peer{{Name: "w1", Key: cosigner.VerifierKey(), URL: web.URL}}}
	p.Start()
	p.Token(map[string]string{"role": "files"})
	checkpoint, figures := "http://"+p.Config.Listen.Public+"/log/checkpoint", "http://"+p.Config.Listen.Metrics+"/metrics"
	await := func(what string, so func() bool) {
		t.Helper()
		limit := time.After(fleettest.Patience)
		for !so() {
			_, next := p.Changed()
			if so() {
				return
			}
			select {
			case <-next:
			case <-limit:
				t.Fatalf("%s: not within %s", what, fleettest.Patience)
			}
		}
	}
	await("the witness fails", func() bool { return metrics(t, figures)[`rotunda_audit_witness_failing{witness="w1"}`] == "1" })
	if code, body := get(t, checkpoint); code != http.StatusNotFound {
		t.Errorf("before anybody has cosigned: %d %s", code, body)
	}
	got := metrics(t, figures)
	if got["rotunda_audit_published_size"] != "0" || got["rotunda_audit_unpublished_seconds"] == "0" || got[`rotunda_audit_witness_alarm{witness="w1"}`] != "0" {
		t.Errorf("metrics %v", got)
	}
	close(open)
	var body []byte
	await("a checkpoint is published", func() bool {
		var code int
		code, body = get(t, checkpoint)
		return code == http.StatusOK
	})
	names, err := audit.Cosigners(body, p.LogVerifier(), []audit.Cosigner{cosigner})
	if err != nil || len(names) != 1 || !bytes.Contains(body, []byte("— "+p.Origin()+" ")) {
		t.Errorf("%s\n%v, %v", body, names, err)
	}
	await("the witness is current", func() bool {
		return metrics(t, figures)["rotunda_audit_unpublished_seconds"] == "0" && metrics(t, figures)[`rotunda_audit_witness_failing{witness="w1"}`] == "0"
	})
}
