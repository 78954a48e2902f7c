package reconcile_test

import (
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/fleettest"
)

// What verbs enter gets its place in the log by itself, and the checkpoint over
// it is signed and whole; also what was left pending by a stop.
func TestEntriesGetTheirPlace(t *testing.T) {
	p := fleettest.NewPlane(t)
	for range 20 {
		p.Token(nil)
	}
	p.Stop()
	p.Start()
	p.Token(nil)
	var entries []*api.AuditEntry
	p.Await("all entries in their place", func([]*api.PlacementStatus) bool {
		list, err := p.ListAuditEntries(t.Context(), fleettest.Operator, &api.ListAuditEntriesRequest{Newest: true})
		if err != nil {
			t.Fatal(err)
		}
		entries = list.Entries
		return len(entries) > 21 && !entries[len(entries)-1].Pending
	})
	verifier, err := note.NewVerifier(p.LogKey())
	if err != nil {
		t.Fatal(err)
	}
	signed, err := p.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checkpoint, err := audit.OpenCheckpoint(signed, p.Origin(), verifier)
	if err != nil {
		t.Fatal(err)
	}
	if checkpoint.Size != uint64(len(entries)) {
		t.Errorf("the checkpoint is of %d entries, the log has %d", checkpoint.Size, len(entries))
	}
	err = audit.VerifyLog(func(yield func([]byte, error) bool) {
		for _, entry := range entries {
			if !yield(entry.Content, nil) {
				return
			}
		}
	}, checkpoint)
	if err != nil {
		t.Error(err)
	}
}
