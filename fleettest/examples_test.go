package fleettest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/agent"
	"github.com/rotunda-pki/rotunda/fleet"
)

// TestHostsAllowWhatTheirDocumentsAsk holds the two halves of each example
// against each other: what the documents of a kind ask of a host, the host's
// part of agent.yaml allows.
func TestHostsAllowWhatTheirDocumentsAsk(t *testing.T) {
	hosts, err := filepath.Glob("../examples/hosts/*/agent.yaml")
	if err != nil || len(hosts) < 10 {
		t.Fatalf("%d hosts, %v", len(hosts), err)
	}
	for _, path := range hosts {
		kind := filepath.Base(filepath.Dir(path))
		t.Run(kind, func(t *testing.T) {
			rules := hostRules(t, path)
			asked := 0
			for _, in := range intents(t, filepath.Join("../examples", kind)) {
				if string(in.Target.Kind) != kind {
					continue // the host of a client, or a trust store
				}
				asked++
				if err := rules.AllowDirectory(in.Files.Directory); err != nil && !strings.Contains(err.Error(), "does not exist on this host") {
					t.Error(err)
				}
				if err := rules.AllowGroup(in.Files.Group); in.Files.Group != "root" && err != nil {
					t.Error(err)
				}
				if err := rules.AllowUser(in.Files.Owner); in.Files.Owner != "root" && err != nil {
					t.Error(err)
				}
				for _, command := range []string{in.Target.ReloadCommand, in.Target.RestartCommand} {
					if _, err := rules.Command(command); command != "" && err != nil {
						t.Error(err)
					}
				}
				control, err := rules.Control(in.Target.Name, in.Target.Kind)
				if err != nil || control == nil {
					t.Errorf("no control path for target %s: %v", in.Target.Name, err)
				}
			}
			if asked == 0 {
				t.Errorf("no intent of examples/%s is of its kind", kind)
			}
		})
	}
}

// hostRules reads a part of an agent.yaml as an administrator would add it to
// the whole.
func hostRules(t *testing.T, path string) *agent.HostRules {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	config, err := agent.ParseConfig(path, append([]byte("servers: [control.example.com:8443]\n"), content...))
	if err != nil {
		t.Fatal(err)
	}
	return config.HostRules()
}

func intents(t *testing.T, dir string) []*fleet.Intent {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: %d documents, %v", dir, len(paths), err)
	}
	var files []fleet.File
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, fleet.File{Path: path, Content: content})
	}
	documents, findings := fleet.ParseFiles(files)
	if fleet.HasErrors(findings) {
		t.Fatal(findings)
	}
	var found []*fleet.Intent
	for _, document := range documents {
		if in, ok := document.Spec.(*fleet.Intent); ok {
			found = append(found, in)
		}
	}
	return found
}
