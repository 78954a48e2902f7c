package fleettest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
)

// documented are the commands of the runbook that begin with the words.
func documented(t *testing.T, words string) []string {
	t.Helper()
	text, err := os.ReadFile("../docs/runbooks/break-glass.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if command, ok := strings.CutPrefix(strings.TrimSpace(line), "rotunda "+words); ok && strings.HasPrefix(line, "    ") {
			parts := strings.SplitN(words+command, `"`, 3) // at most one text in quotes, at the end
			arguments := strings.Fields(parts[0])
			if len(parts) > 1 {
				arguments = append(arguments, parts[1])
			}
			return arguments
		}
	}
	t.Fatalf("the runbook has no command rotunda %s", words)
	return nil
}

// The control plane is off until all has expired. It is started, and one
// documented command on its host brings the fleet back.
func TestAllHasExpired(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "rotunda")
	if output, err := exec.Command("go", "build", "-o", binary, "../cmd/rotunda").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	const life = 15 * time.Second
	p := newPlane(t, life)
	var hosts []*Host
	for _, name := range []string{"h0", "h1", "h2"} {
		hosts = append(hosts, p.NewHost(map[string]string{"role": "files", "host": name}))
	}
	tree := t.TempDir()
	for _, host := range hosts {
		host.Config.Allow.Directories = []string{tree}
	}
	short := strings.ReplaceAll(documents, "lifetime: 24h", "lifetime: 15s, rideOut: 1s, backdate: 0s")
	p.Apply(strings.ReplaceAll(short, "TREE", tree))
	for _, host := range hosts {
		host.Start()
	}
	p.Await("first issuance", Steady(3, 1))
	ids := p.agents()
	p.must1(p.RetireAgent(t.Context(), Operator, &api.RetireAgentRequest{AgentId: ids["h2"].Id}))
	p.Stop()
	<-time.After(life + time.Second) // nothing is issued meanwhile
	p.Start()
	p.await("expired agents are refused by name", func() bool {
		return len(p.refusals("agent.renew")) >= 2
	})
	if now := p.agents(); now["h0"].Connected || now["h1"].Connected {
		t.Fatal("an agent came in by an expired identity")
	}

	command := exec.Command(binary, documented(t, "emergency open")...)
	command.Env = append(os.Environ(), "ROTUNDA_SOCKET="+p.Config.AdminSocket)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command.Args, err, output)
	}
	p.await("the agents are back", func() bool {
		now := p.agents()
		return now["h0"].Connected && now["h1"].Connected
	})
	// What failed for want of a server is tried again within a minute.
	p.within(2*time.Minute, "what had expired is renewed", func() bool {
		renewed := 0
		for _, one := range p.Placements() {
			if one.Generation >= 2 {
				renewed++
			}
		}
		return renewed == 2
	})
	if now := p.agents(); now["h2"].Connected || now["h2"].State != "retired" {
		t.Error("an agent that was retired is back")
	}
	status := exec.Command(binary, "status")
	status.Env = command.Env
	output, err := status.CombinedOutput()
	if err != nil || !strings.Contains(string(output), "EMERGENCY: until ") || strings.Contains(string(output), "; 0 were") {
		t.Errorf("status: %v\n%s", err, output)
	}
	closing := exec.Command(binary, documented(t, "emergency close")...)
	closing.Env = command.Env
	if output, err := closing.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", closing.Args, err, output)
	}
	for verb, want := range map[string]int{"emergency.open": 1, "emergency.close": 1} {
		if got := len(p.verbs(verb)); got != want {
			t.Errorf("%d entries of %s", got, verb)
		}
	}
}

// refusals are the refused entries of a verb, pending ones too.
func (p *Plane) refusals(verb string) (found []string) {
	p.t.Helper()
	list, err := p.ListAuditEntries(p.t.Context(), Operator, &api.ListAuditEntriesRequest{Newest: true, Limit: 1000})
	p.must(err)
	for _, entry := range list.Entries {
		if text := string(entry.Content); strings.Contains(text, `"verb":"`+verb+`"`) && strings.Contains(text, `"outcome":"refused"`) {
			found = append(found, text)
		}
	}
	return found
}
