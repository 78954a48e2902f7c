package control

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/store"
)

const otherService = `
apiVersion: rotunda/v1
kind: Service
metadata: {name: other}
spec: {owner: {team: t, contact: t@test.example, runbook: "https://test.example/other"}}
`

// What is wrong on a host is found by whose files are about it, and stands in
// nobody else's way.
func TestErrorsOfHostsAreTheirIntents(t *testing.T) {
	d := found(t)
	d.apply(documents)
	d.enrolHost(map[string]string{"role": "orders"}) // without the label that the names take
	for name, c := range map[string]struct {
		files  string
		errors bool
	}{
		"the intent's own":  {documents, true},
		"another service":   {otherService, false},
		"a policy":          {otherService + "---\napiVersion: rotunda/v1\nkind: Policy\nmetadata: {name: more}\nspec: {rules: [{name: no, effect: deny, when: 'service == \"other\"'}]}\n", true},
		"its profile":       {otherService + strings.Replace(profileIn(t, documents), "24h", "23h", 1), true},
		"a profile of none": {otherService + strings.Replace(profileIn(t, documents), "name: server", "name: none", 1), false},
	} {
		found := d.plan(c.files)
		var errors []string
		for _, finding := range found.Findings {
			if finding.Severity == api.Finding_ERROR {
				errors = append(errors, finding.Rule)
			}
		}
		if c.errors != (len(errors) > 0) {
			t.Errorf("%s: errors %q", name, errors)
		}
	}
}

// profileIn is the profile of documents, as a document after others.
func profileIn(t *testing.T, documents string) string {
	t.Helper()
	for part := range strings.SplitSeq(documents, "---\n") {
		if strings.Contains(part, "kind: Profile") {
			return "---\n" + part
		}
	}
	t.Fatal("no profile")
	return ""
}

// More agents than are looked at together get their placements, and lose them.
func TestLargeFleetIsPlaced(t *testing.T) {
	d := found(t)
	const many = 2*pageOfFleet + 1
	d.write(func(tx *store.Tx) error {
		for i := range many {
			agent := store.Agent{ID: fmt.Sprintf("a%05d", i), State: fleet.AgentActive, Labels: map[string]string{"role": "orders", "host": fmt.Sprint("h", i)}, EnrolledAt: tx.Now}
			if err := tx.InsertAgent(t.Context(), agent); err != nil {
				return err
			}
		}
		return nil
	})
	d.apply(documents)
	count := func() (placed, orphans int) {
		d.write(func(tx *store.Tx) error {
			placed, orphans = 0, 0
			placements, err := tx.Placements(t.Context())
			for _, placement := range placements {
				placed++
				if placement.Orphan {
					orphans++
				}
			}
			return err
		})
		return placed, orphans
	}
	if placed, orphans := count(); placed != many || orphans != 0 {
		t.Errorf("%d placements, %d of them orphans, want %d", placed, orphans, many)
	}
	d.apply(otherService)
	d.apply(strings.Replace(documents, "selector: {role: orders}", "selector: {role: others}", 1))
	if placed, orphans := count(); placed != many || orphans != many {
		t.Errorf("%d placements, %d of them orphans, want all of %d", placed, orphans, many)
	}
}
