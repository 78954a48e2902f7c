package storetest

import (
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// testHosts: agents with what they hold, many at once, are what is found of each
// by itself; nobody's placements are another's.
func testHosts(_ *testing.T, b *bench) {
	b.withPlacements("placement-2", "placement-1")
	other := leaf(3)
	other.PlacementID, other.AgentID, other.Generation = "placement-3", "agent-2", 7
	b.write(func(tx *store.Tx) error {
		if err := tx.InsertAgent(b.ctx, agent("agent-2")); err != nil {
			return err
		}
		if err := tx.InsertAgent(b.ctx, agent("agent-3")); err != nil {
			return err
		}
		return tx.InsertPlacement(b.ctx, store.Placement{ID: "placement-3", Intent: "orders-db", AgentID: "agent-2", Instance: "i", Target: "etcd"})
	})
	b.withCertificates(leaf(1), leaf(2), other)
	b.write(func(tx *store.Tx) error {
		for _, one := range []pki.Serial{serial(2), serial(1)} {
			if err := tx.RevokeCertificate(b.ctx, one, "superseded"); err != nil {
				return err
			}
		}
		return nil
	})
	b.read(func(tx *store.Tx) error {
		hosts, err := tx.Hosts(b.ctx, []string{"agent-2", "agent-1", "nobody", "agent-3", "agent-1"})
		same(b, len(hosts), 3)
		for id, host := range hosts {
			alone, err := tx.Agent(b.ctx, id)
			if err != nil {
				return err
			}
			same(b, host.Agent, alone)
			placements, err := tx.AgentPlacements(b.ctx, id)
			if err != nil {
				return err
			}
			same(b, len(host.Placements), len(placements))
			for i, held := range host.Placements {
				same(b, held.Placement, placements[i])
				newest, err := tx.NewestPlacementCertificate(b.ctx, held.ID)
				if fault.CodeOf(err) == fault.NotFound {
					err = nil
				}
				if err != nil {
					return err
				}
				same(b, held.Newest, newest.Issued())
			}
		}
		same(b, hosts["agent-1"].Placements[0].Revoked, []uint64{1, 2})
		same(b, hosts["agent-1"].Placements[1].Newest, store.Issued{})
		same(b, hosts["agent-2"].Placements[0].Newest.Generation, uint64(7))
		same(b, len(hosts["agent-2"].Placements[0].Revoked), 0)
		return err
	})
	b.pass(90 * time.Minute) // the first has expired
	b.writeNow()
	hosts := find(b, func(tx *store.Tx) (map[string]store.Host, error) { return tx.Hosts(b.ctx, []string{"agent-1"}) })
	same(b, hosts["agent-1"].Placements[0].Revoked, []uint64{2})
	same(b, find(b, func(tx *store.Tx) (map[string]store.Host, error) { return tx.Hosts(b.ctx, nil) }), map[string]store.Host{})
}
