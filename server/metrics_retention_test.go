package server_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/fleettest"
	"github.com/rotunda-pki/rotunda/pki"
)

// The metrics tell of the last pass, of the archives, and of one that is missing.
func TestRetentionMetrics(t *testing.T) {
	p := fleettest.NewPlane(t)
	for range 3 {
		key, err := pki.ECDSAP256.Generate()
		if err != nil {
			t.Fatal(err)
		}
		csr, err := pki.NewCSR(key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.IssueOperator(t.Context(), control.Caller{Kind: control.Socket}, &api.IssueOperatorRequest{Name: "ann", Csr: csr}); err != nil {
			t.Fatal(err)
		}
	}
	p.Stop()
	p.Now = func() time.Time { return time.Now().Add(600 * 24 * time.Hour) }
	p.Config.Retention.Archive = filepath.Join(p.Dir, "archive")
	p.Start()
	url := "http://" + p.Config.Listen.Metrics + "/metrics"
	if got := metrics(t, url); got["rotunda_retention_last_pass_timestamp_seconds"] != "" || got["rotunda_archives"] != "0" {
		t.Errorf("before a pass: %q, %q archives", got["rotunda_retention_last_pass_timestamp_seconds"], got["rotunda_archives"])
	}
	pass, err := p.Retain(t.Context())
	if err != nil || pass.Certificates < 2 {
		t.Fatal(pass, err)
	}
	got := metrics(t, url)
	at, err := strconv.ParseFloat(got["rotunda_retention_last_pass_timestamp_seconds"], 64)
	if took := p.Now().Sub(time.UnixMilli(int64(at * 1000))); err != nil || took < 0 || took > fleettest.Patience {
		t.Errorf("the last pass was %s ago: %v", took, err)
	}
	want := map[string]string{
		"rotunda_archives": strconv.Itoa(len(pass.Archives)), "rotunda_archived_certificates": strconv.Itoa(pass.Certificates),
		"rotunda_archives_damaged": "0", "rotunda_retention_last_pass_failed": "0",
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %q, want %s", name, got[name], value)
		}
	}
	if err := os.Remove(filepath.Join(p.Config.Retention.Archive, pass.Archives[0].File)); err != nil {
		t.Fatal(err)
	}
	if got := metrics(t, url); got["rotunda_archives_damaged"] != "1" {
		t.Errorf("%q archives are damaged, one is missing", got["rotunda_archives_damaged"])
	}
}
