package control

import (
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/ca"
)

// Where a profile has lists delivered, status says whose list is missing, ends soon or
// has ended among the roots that are trusted: no server can sign it.
func TestRootsWithoutListsAreNamed(t *testing.T) {
	d := found(t)
	said := func(want ...string) {
		t.Helper()
		list, err := d.ListPlacements(t.Context(), operator, &api.ListPlacementsRequest{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.RootLists) != len(want) {
			t.Fatalf("%q, want %q", list.RootLists, want)
		}
		for i, words := range want {
			if !strings.Contains(list.RootLists[i], words) {
				t.Errorf("%q, want %q", list.RootLists[i], words)
			}
		}
	}
	root, key := d.foreignWithKey("corp", 2*365*24*time.Hour)
	if _, err := d.ImportAuthority(t.Context(), operator, &api.ImportAuthorityRequest{Name: "corp", Root: root.Raw, Trusted: true}); err != nil {
		t.Fatal(err)
	}
	said() // nobody gets lists
	d.apply(listedDocuments)
	said("authority corp has no CRL: rotunda authority crl corp --install FILE; processes that get lists refuse what is under it")
	other, _ := d.foreignWithKey("other", 365*24*time.Hour)
	tried, err := d.ImportAuthority(t.Context(), operator, &api.ImportAuthorityRequest{Name: "other", Root: other.Raw, Trusted: true, DryRun: true})
	if err != nil || !strings.Contains(strings.Join(tried.Warnings, "\n"), "refuse what is under it, canaries too, until its owner's CRL is here") {
		t.Errorf("another one is imported without a word: %v, %v", tried, err)
	}
	list, err := ca.SignRootCRL(d.clock.now(), root, key, 7, ca.NewEntries(ca.WholeList))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.PutRootList(t.Context(), operator, &api.PutRootListRequest{Authority: "corp", Crl: list}); err != nil {
		t.Fatal(err)
	}
	said()
	d.clock.turn(355 * 24 * time.Hour)
	said("the CRL of authority root ends at ", "the CRL of authority corp ends at ")
	d.clock.turn(12 * 24 * time.Hour)
	said("the CRL of authority root ended at ", "the CRL of authority corp ended at ")
}

const listedDocuments = `
apiVersion: rotunda/v1
kind: Profile
metadata: {name: listed}
spec: {lifetime: 24h, usages: [serverAuth], revocation: {crl: true}}
`
