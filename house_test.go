package rotunda_test

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/rotunda-pki/rotunda"

// floors is the house from the ground up. A package may import packages of
// its own floor and of the floors below, never of one above.
var floors = [][]string{
	{"internal/fault", "internal/command", "internal/durable", "internal/socket", "internal/loopback", "internal/measure", "internal/retry", "internal/calmlog", "internal/rfc3339", "internal/terse", "internal/postgrestest", "internal/postgrestest/with", "pki", "audit"},
	{"archive", "spool", "capacity", "fleet", "ca", "ca/lint", "keys", "ocsp", "probe", "forward", "forensic", "witness"},
	{"store", "store/migrations", "store/storetest", "policy", "admission", "rotation", "schedule", "rollout", "trust", "graph", "whatif", "simulate", "api", "api/apiconnect", "internal/fleetload", "target"},
	{"control"},
	{"server", "reconcile", "agent"},
	{"cmd/rotunda", "bench", "fleettest", "sim", "target/targettest"},
}

func floorOf(path string) (int, bool) {
	for floor, packages := range floors {
		for _, p := range packages {
			if path == module+"/"+p {
				return floor, true
			}
		}
	}
	return 0, false
}

// TestImportsGoDownOnly holds the house: every package has a floor, and no
// import leads upstairs or to a command.
func TestImportsGoDownOnly(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "./...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		path, imports, _ := strings.Cut(line, " ")
		if path == module {
			continue
		}
		floor, known := floorOf(path)
		if !known {
			t.Errorf("%s has no floor: add it to floors, or move it to a room that has one", path)
		}
		for _, imported := range strings.Fields(imports) {
			if !strings.HasPrefix(imported, module+"/") {
				continue
			}
			below, ok := floorOf(imported)
			if !ok || below > floor || strings.HasPrefix(imported, module+"/cmd/") {
				t.Errorf("%s (floor %d) imports %s (floor %d)", path, floor+1, imported, below+1)
			}
		}
	}
}

// TestAgentStaysLight keeps out of the agent what only the control plane
// needs: the agent runs on every host.
func TestAgentStaysLight(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./agent").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for _, heavy := range []string{"modernc.org/sqlite", "cel.dev/cel-go/cel", "github.com/zmap/zlint/v3", module + "/store"} {
		if strings.Contains("\n"+string(out), "\n"+heavy+"\n") {
			t.Errorf("package agent depends on %s", heavy)
		}
	}
}
