package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Settings of retention have defaults, 0s is for ever, and what is too short to
// be meant is refused.
func TestRetentionSettings(t *testing.T) {
	const base = "listen: {agents: 'localhost:1'}\nadminSocket: s\npublicURL: http://localhost\nnames: [localhost]\nstore: s.db\nkek: {file: kek}\n"
	load := func(more string) (Config, error) {
		t.Helper()
		state := t.TempDir()
		if err := os.WriteFile(filepath.Join(state, "rotunda.yaml"), []byte(base+more), 0o600); err != nil {
			t.Fatal(err)
		}
		return LoadConfig(state)
	}
	config, err := load("")
	if keep := config.Retention.Keep(); err != nil || keep.Certificates != 90*24*time.Hour || keep.Checkpoints != 30*24*time.Hour || filepath.Base(config.Retention.Archive) != "archive" || !filepath.IsAbs(config.Retention.Archive) {
		t.Errorf("defaults: %+v, %v", config.Retention, err)
	}
	config, err = load("retention: {certificates: 0s, evidence: 7d, archive: /srv/a}\n")
	if keep := config.Retention.Keep(); err != nil || keep.Certificates != 0 || keep.Evidence != 7*24*time.Hour || config.Retention.Archive != "/srv/a" {
		t.Errorf("as said: %+v, %v", config.Retention, err)
	}
	for _, bad := range []string{"retention: {certificates: 1h}\n", "retention: {notices: 23h}\n", "retention: {certificates: -1d}\n", "retention: {keys: 1d}\n"} {
		if _, err := load(bad); err == nil {
			t.Errorf("%q is taken", strings.TrimSpace(bad))
		}
	}
}
