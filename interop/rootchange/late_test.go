package rootchange

import (
	"encoding/json"
	"fmt"
	"strings"
)

// putBackLate copies the store at prove and puts it back at drain, once all is
// renewed, the agents' own identities too, of which the copy knows nothing. It
// takes what they hold by a restore, and the change goes on to its end by what
// hosts show.
func (f *fleet) putBackLate(id string, r *row) {
	f.reaches(id, r, "prove")
	f.exchange(r, "state/", "copy-")
	f.reaches(id, r, "drain")
	f.witnessed()
	f.exchange(r, "copy-", "state/")
	f.restored()
	r.phases = append(r.phases, f.follow(id, nil)...)
}

// restored has the store take what the agents hold, once all have said it.
func (f *fleet) restored() {
	f.t.Helper()
	restore := []string{"restore", "--socket", f.path("state/admin.sock"), "-o", "json", "--reason", "an older copy was put back"}
	f.until("all agents have said what they hold", func() error {
		text, err := f.try(restore...)
		if err != nil {
			return err
		}
		var found struct {
			Agents []struct{ TestifiedAt string }
		}
		if err := json.Unmarshal([]byte(text), &found); err != nil {
			return err
		}
		heard := 0
		for _, agent := range found.Agents {
			if agent.TestifiedAt != "" {
				heard++
			}
		}
		if heard < len(hosts) {
			return fmt.Errorf("%d of %d", heard, len(hosts))
		}
		return nil
	})
	f.rotunda(append(restore, "--go", "--accept-unknown-revocations")...)
}

// reaches waits for a phase.
func (f *fleet) reaches(id string, r *row, phase string) {
	f.t.Helper()
	f.until("the change is at "+phase, func() error {
		now, err := f.status(id)
		if err == nil && now.Phase != phase {
			err = fmt.Errorf("at %s it waits for %s", now.Phase, strings.TrimSpace(now.waits()))
		}
		return err
	})
	r.phases = append(r.phases, phase)
}
