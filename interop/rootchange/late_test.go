package rootchange

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/rotunda-pki/rotunda/target/targettest"
)

// putBackLate copies the store at prove and puts it back at drain, once all is
// renewed, the agents' own identities too, of which the copy knows nothing. It
// lets no agent in, and the change holds by their names. When they have
// rejoined it still holds, by those placements that it has not seen adopt the
// root, since it never issued what they report: nothing is withdrawn on the word of a store that knows too little.
func (f *fleet) putBackLate(id string, r *row) {
	f.reaches(id, r, "prove", 0)
	f.exchange(r, "state/", "copy-")
	f.reaches(id, r, "drain", 0)
	f.exchange(r, "copy-", "state/")
	f.reaches(id, r, "prove", len(hosts))
	for host, id := range f.ids() {
		f.rejoin(host, id)
	}
	f.until("agents are back, and placements still hold the change", func() error {
		now, err := f.status(id)
		if err != nil {
			return err
		}
		if now.Phase != "prove" || len(now.Waits) < len(hosts) || strings.Contains(now.waits(), "not connected") {
			return fmt.Errorf("at %s it waits for %s", now.Phase, now.waits())
		}
		return nil
	})
}

// reaches waits for a phase, and for so many placements whose agents are away.
func (f *fleet) reaches(id string, r *row, phase string, away int) {
	f.t.Helper()
	f.until("the change is at "+phase, func() error {
		now, err := f.status(id)
		if err != nil {
			return err
		}
		if gone := strings.Count(now.waits(), "its agent is not connected"); now.Phase != phase || gone < away {
			return fmt.Errorf("at %s, %d are away: %s", now.Phase, gone, now.waits())
		}
		return nil
	})
	r.phases = append(r.phases, phase)
}

// ids is each host's agent.
func (d *domain) ids() map[string]string {
	d.t.Helper()
	var list struct {
		Agents []struct {
			ID     string
			Labels map[string]string
		}
	}
	text := d.rotunda("get", "agents", "-o", "json")
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list.Agents) != len(hosts) {
		d.t.Fatalf("get agents prints %s: %v", text, err)
	}
	ids := map[string]string{}
	for _, agent := range list.Agents {
		ids[agent.Labels["host"]] = agent.ID
	}
	return ids
}

// rejoin gives the agent on a host its identity back.
func (d *domain) rejoin(host, id string) {
	d.t.Helper()
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(d.rotunda("agent", "rejoin", id, "-o", "json")), &made); err != nil {
		d.t.Fatal(err)
	}
	targettest.Write(d.t, d.path(host+".token"), made.Token+"\n", 0o600, "")
	d.agents[host].kill()
	if err := d.agents[host].start(); err != nil {
		d.t.Fatal(err)
	}
}
