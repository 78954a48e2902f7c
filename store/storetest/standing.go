package storetest

import (
	"fmt"
	"testing"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// testStanding: each fact that a decision rests on changes the standing, and
// nothing else does.
func testStanding(t *testing.T, b *bench) {
	b.withPlacements("p1")
	first := leaf(2)
	first.PlacementID, first.Generation = "p1", 7
	b.withCertificates(first)
	look := func() store.Standing {
		t.Helper()
		var standing store.Standing
		b.read(func(tx *store.Tx) error {
			stood, err := tx.Standings(b.ctx, []string{"p1"})
			if newest := stood["p1"].Newest; newest != 7 {
				t.Errorf("newest generation %d, want 7", newest)
			}
			standing = stood["p1"].Standing
			return err
		})
		return standing
	}
	before := look()
	agent := before.AgentID
	if before.Orphan || before.AgentState != fleet.AgentActive || agent == "" {
		t.Errorf("standing %+v", before)
	}
	b.write(func(tx *store.Tx) error { return tx.SetAgentSeen(b.ctx, agent) })
	same(b, look(), before)
	for name, change := range map[string]func(*store.Tx) error{
		"labels":    func(tx *store.Tx) error { return tx.SetAgentLabels(b.ctx, agent, map[string]string{"new": "label"}) },
		"documents": func(tx *store.Tx) error { return tx.RaiseDocumentState(b.ctx) },
		"orphan":    func(tx *store.Tx) error { return tx.SetPlacementOrphan(b.ctx, "p1", true) },
		"retired": func(tx *store.Tx) error {
			return tx.SetAgentState(b.ctx, agent, fleet.AgentActive, fleet.AgentRetired)
		},
	} {
		was := look()
		b.write(change)
		if look() == was {
			t.Errorf("%s: changed, and the standing is the same", name)
		}
	}
}

// testUnrevoked: what is revoked, and what has no record, is not among them.
func testUnrevoked(t *testing.T, b *bench) {
	var all []pki.Serial
	var certificates []store.Certificate
	for i := range byte(17) {
		certificates = append(certificates, leaf(i+10))
		all = append(all, certificates[i].Serial)
	}
	b.withCertificates(certificates...)
	b.write(func(tx *store.Tx) error { return tx.RevokeCertificate(b.ctx, all[3], "keyCompromise") })
	for _, n := range []int{0, 1, 3, 4, 5, 17} {
		b.read(func(tx *store.Tx) error {
			found, err := tx.Unrevoked(b.ctx, append([]pki.Serial{serial(9)}, all[:n]...))
			for i, serial := range all[:n] {
				if found[serial] != (i != 3) {
					t.Errorf("%d of %d: %v", i, n, found[serial])
				}
			}
			if found[serial(9)] {
				t.Error("a certificate without a record stands")
			}
			return err
		})
	}
	b.read(func(tx *store.Tx) error {
		found, err := tx.Unrevoked(b.ctx, nil)
		if len(found) != 0 {
			t.Errorf("of nothing: %v", found)
		}
		return err
	})
}

// testStandings: of many placements each has its own, and those that are not
// there have none, whatever their number is rounded up to.
func testStandings(t *testing.T, b *bench) {
	var ids []string
	for i := range 65 {
		ids = append(ids, fmt.Sprintf("p%02d", i))
	}
	b.withPlacements(ids...)
	first := leaf(2)
	first.PlacementID, first.Generation = ids[3], 7
	b.withCertificates(first)
	for _, n := range []int{0, 1, 2, 4, 5, 16, 17, 64, 65} {
		b.read(func(tx *store.Tx) error {
			stood, err := tx.Standings(b.ctx, append([]string{"nosuch"}, ids[:n]...))
			if len(stood) != n {
				t.Errorf("%d standings of %d", len(stood), n)
			}
			for i, id := range ids[:n] {
				one, exists := stood[id]
				if want := map[int]uint64{3: 7}[i]; !exists || one.Newest != want || one.AgentID == "" {
					t.Errorf("%s: %+v, exists: %v", id, one, exists)
				}
			}
			return err
		})
	}
	b.read(func(tx *store.Tx) error {
		stood, err := tx.Standings(b.ctx, nil)
		if len(stood) != 0 {
			t.Errorf("of nothing: %v", stood)
		}
		return err
	})
}

// testSigning: of each region its own authority signs, else the one of no region,
// else the first by name; and never one that is stopped, that the caller can't sign
// with, or that is not active.
func testSigning(t *testing.T, b *bench) {
	b.withPlacements("p1") // its agent is in eu
	one := func(id, name, region string, state fleet.AuthorityState) {
		a := authority()
		a.ID, a.Name, a.Region, a.State = id, name, region, state
		b.write(func(tx *store.Tx) error { return tx.InsertAuthority(b.ctx, a) })
	}
	signs := func(region string, unable ...string) string {
		t.Helper()
		return find(b, func(tx *store.Tx) (string, error) { return tx.SigningAuthority(b.ctx, region, unable) })
	}
	same(b, signs("eu"), "")
	one("5", "z", "eu", fleet.AuthorityPrepared)
	same(b, signs("eu"), "")
	one("9", "c", "us", fleet.AuthorityActive)
	one("1", "b", "asia", fleet.AuthorityActive)
	same(b, signs("eu"), "1")
	one("3", "d", "", fleet.AuthorityActive)
	same(b, signs("eu"), "3")
	one("7", "e", "eu", fleet.AuthorityActive)
	same(b, []string{signs("eu"), signs("us"), signs("asia"), signs(""), signs("mars")}, []string{"7", "9", "1", "3", "3"})
	same(b, []string{signs("eu", "7"), signs("eu", "7", "3"), signs("eu", "3", "1", "7"), signs("eu", "1", "3", "7", "9")}, []string{"3", "1", "9", ""})
	same(b, signs("us", "99", "3"), "9")

	issuer := func(unable ...string) string {
		t.Helper()
		stood := find(b, func(tx *store.Tx) (map[string]store.Stood, error) {
			return tx.Standings(b.ctx, []string{"p1"}, unable...)
		})
		return stood["p1"].Issuer
	}
	same(b, []string{issuer(), issuer("7"), issuer("7", "3")}, []string{"7", "3", "1"})
	stop := func(tx *store.Tx) error { return tx.StopAuthority(b.ctx, "7", "ann", "flood") }
	b.write(stop)
	b.refuse(fault.Conflict, stop)
	b.refuse(fault.Conflict, func(tx *store.Tx) error { return tx.StopAuthority(b.ctx, "5", "ann", "is not active") })
	same(b, []string{signs("eu"), issuer()}, []string{"3", "3"})
	stopped := find(b, func(tx *store.Tx) (store.Authority, error) { return tx.Authority(b.ctx, "7") }).Stopped
	if stopped.By != "ann" || stopped.Why != "flood" || stopped.At.IsZero() {
		t.Errorf("stopped: %+v", stopped)
	}
	start := func(tx *store.Tx) error { return tx.StartAuthority(b.ctx, "7") }
	b.write(start)
	b.refuse(fault.Conflict, start)
	same(b, []string{signs("eu"), issuer()}, []string{"7", "7"})

	// A region has one that signs.
	b.refuse(fault.Conflict, func(tx *store.Tx) error {
		return tx.SetAuthorityState(b.ctx, "5", fleet.AuthorityPrepared, fleet.AuthorityActive)
	})
}
