package control

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// wantKeyGone checks that the log says, once, that the authority's key is gone,
// and which key that was.
func wantKeyGone(t *testing.T, d *domain, gone *ca.Authority) {
	t.Helper()
	spki, err := pki.SPKIHashOf(gone.Certificate.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	found := d.entriesOf(t, verbAuthorityKeyGone, "Authority/"+gone.ID)
	if len(found) != 1 || found[0].Detail["spki"] != spki.String() || found[0].Detail["lastCRL"] == nil || len(textIn(found[0].Detail, "sealedSha256")) != 64 {
		t.Errorf("entries of the end of %s: %v", gone.ID, found)
	}
}

// entriesOf are the log's entries of a verb on an object.
func (d *domain) entriesOf(t testing.TB, verb, object string) (found []audit.Entry) {
	t.Helper()
	for _, line := range d.entries() {
		entry, err := audit.Decode([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		if entry.Verb == verb && entry.Object == object {
			found = append(found, entry)
		}
	}
	return found
}

// The entry's digest is of the key as the store had it, so a copy of the store can
// be held against it; and the entry is there exactly when the key is not.
func TestDestroyedAuthorityKeyIsEntered(t *testing.T) {
	d := found(t)
	now := d.issuingNow()
	var digest string
	d.write(func(tx *store.Tx) error {
		key, err := tx.AuthorityKey(t.Context(), now.ID)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(key.Sealed)
		digest = hex.EncodeToString(sum[:])
		record, err := tx.Authority(t.Context(), now.ID)
		if err != nil {
			return err
		}
		for range 2 { // the second time there is none
			if err := destroyAuthorityKey(t.Context(), tx, operator, record, "test"); err != nil {
				return err
			}
		}
		return nil
	})
	found := d.entriesOf(t, verbAuthorityKeyGone, "Authority/"+now.ID)
	if len(found) != 1 || found[0].Detail["sealedSha256"] != digest || found[0].Detail["by"] != "test" {
		t.Errorf("entries: %v", found)
	}
}

// A key that an agent says is gone is entered once, however often it says so. One
// that is in use, or was never issued, is none of those.
func TestDestroyedKeyOfPlacementIsEntered(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	first := h.holds(1)
	h.holds(2)
	said := func(generations ...uint64) *api.PlacementReport {
		report := &api.PlacementReport{Generation: 2, LastGeneration: 2}
		for _, generation := range generations {
			report.Destroyed = append(report.Destroyed, &api.DestroyedKey{Generation: generation, At: timestamppb.New(d.clock.now())})
		}
		return report
	}
	for _, report := range []*api.PlacementReport{said(), said(1, 2, 9), said(1), said(1)} {
		if err := h.report(report); err != nil {
			t.Fatal(err)
		}
	}
	entries := d.entriesOf(t, verbPlacementKeyGone, "Placement/"+h.placement())
	if len(entries) != 1 {
		t.Fatalf("%d entries, want 1: %v", len(entries), entries)
	}
	spki, err := pki.SPKIHashOf(first.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	detail := entries[0].Detail
	if numberIn(detail, "generation") != 1 || detail["spki"] != spki.String() || detail["how"] != "unlinked" || detail["keyInUse"] != false ||
		entries[0].Actor.ID != h.id || !strings.HasPrefix(textIn(detail, "destroyedAt"), "20") {
		t.Errorf("entry: %v", entries[0])
	}
}
