package server_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleettest"
	"github.com/rotunda-pki/rotunda/forward"
)

// A real agent's first rotation is in the metrics, from issuance to expiry.
func TestMetrics(t *testing.T) {
	p := fleettest.NewPlane(t)
	if err := p.DeclareSink(t.Context(), forward.Config{Name: "siem", Kind: forward.KindOTLP}); err != nil {
		t.Fatal(err)
	}
	host := p.NewHost(map[string]string{"role": "files", "host": "h"})
	p.Apply(strings.ReplaceAll(documents, "TREE", host.Tree()))
	host.Start()
	p.Await("first issuance", fleettest.Steady(1, 1))
	url := "http://" + p.Config.Listen.Metrics + "/metrics"
	got := metrics(t, url)
	for name, want := range map[string]string{
		"rotunda_certificates_issued_total":           "1",
		"rotunda_certificates_refused_total":          "0",
		"rotunda_rotations_total":                     "1",
		"rotunda_rotations_failed_total":              "0",
		"rotunda_agent_streams":                       "1",
		`rotunda_placements{state="steady"}`:          "1",
		`rotunda_placements_shown{level="delivered"}`: "1",
		`rotunda_audit_sink_taken{sink="siem"}`:       "0",
		`rotunda_audit_sink_failing{sink="siem"}`:     "0",
		"rotunda_rotation_seconds_count":              "0", // nothing listens, so nothing is proven
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %s", name, got[name], want)
		}
	}
	if lag, err := strconv.Atoi(got[`rotunda_audit_sink_lag{sink="siem"}`]); err != nil || lag == 0 {
		t.Errorf("the sink that was sent nothing lags by %d: %v", lag, err)
	}
	if got[`rotunda_audit_sink_lag_seconds{sink="siem"}`] == "0" {
		t.Error("what it lags by has no age")
	}
	for _, name := range []string{"rotunda_next_expiry_timestamp_seconds", "go_goroutines", "process_cpu_seconds_total"} {
		if got[name] == "" {
			t.Errorf("%s is missing", name)
		}
	}
	offset := false
	for name := range got {
		offset = offset || strings.HasPrefix(name, "rotunda_agent_clock_offset_seconds{agent=")
	}
	if !offset {
		t.Error("no agent's clock offset")
	}
	host.Stop()
	p.Await("the agent's absence", func(placements []*api.PlacementStatus) bool {
		return strings.Contains(placements[0].Reason, "not connected")
	})
	if got := metrics(t, url)["rotunda_agent_streams"]; got != "0" {
		t.Errorf("%s streams, the agent is gone", got)
	}
}

func metrics(t *testing.T, url string) map[string]string {
	t.Helper()
	values := map[string]string{}
	for _, line := range lines(fetch(t, url)) {
		if name, value, ok := strings.Cut(line, " "); ok && !strings.HasPrefix(line, "#") {
			values[name] = value
		}
	}
	return values
}
