package fleettest

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/postgrestest"
	"github.com/rotunda-pki/rotunda/pki"
)

// laggingReplica: a standby receives commits and does not apply them, and then
// receives none. It is promoted when the primary is gone.
func laggingReplica(t *testing.T, did *counted) {
	primary := postgrestest.Run(t)
	network := newProxy(t, fmt.Sprintf("127.0.0.1:%d", primary.Port))
	_, port, err := net.SplitHostPort(network.address)
	if err != nil {
		t.Fatal(err)
	}
	standby := postgrestest.RunStandby(t, primary, "primary_conninfo=host=127.0.0.1 user=postgres port="+port)
	p := NewPlaneAt(t, both(t, primary.Database(t), primary, standby))
	hosts := fleetOf(p, 2)
	// Old keys stay: that they were destroyed would be entered at moments of its own.
	p.Apply("apiVersion: rotunda/v1\nkind: Profile\nmetadata: {name: files}\nspec: {lifetime: 24h, usages: [serverAuth], keyAge: 0s, grace: 1h}\n")
	p.Await("first issuance", Steady(len(hosts), 1))

	sql := func(server *postgrestest.Server, statement string) string {
		found, err := server.Exec(t.Context(), statement)
		p.must(err)
		return strings.Join(found, " ")
	}
	rotate := func(generation uint64) {
		p.must1(p.Rotate(t.Context(), Operator, &api.RotateRequest{Intent: "files", Reason: "drill"}))
		p.Await("a rotation", Steady(len(hosts), generation))
	}
	sql(standby, "SELECT pg_wal_replay_pause()")
	rotate(2)
	written := sql(primary, "SELECT pg_current_wal_lsn()")
	p.await("the standby has received what it does not apply", func() bool {
		return sql(standby, "SELECT pg_last_wal_receive_lsn() >= '"+written+"' AND pg_last_wal_replay_lsn() < '"+written+"'") == "t"
	})
	network.hold()
	rotate(3)
	before := p.lists(t)
	revoked := p.revokeOld(t)
	lost, size := p.log()
	witnessed(p, size, hosts...)
	issued := p.certificates()
	after := p.lists(t)

	p.must(primary.Kill())
	sql(standby, "SELECT pg_promote()")
	p.await("somebody notices that commits are lost", func() bool {
		words, err := p.RolledBack(t.Context())
		return err == nil && words != ""
	})
	p.holdsStill(t)
	gone := missing(p, issued, "")
	for _, one := range issued {
		if lacks := strings.Contains(strings.Join(gone, " "), one.Serial); one.Kind == "leaf" && lacks != (one.Generation == 3) {
			t.Errorf("generation %d is missing: %v", one.Generation, lacks)
		}
	}
	did.add("promoted: what was received and not applied is there, %d certificates and a revocation that were not are lost", len(gone))
	if n, err := p.PublishCRLs(t.Context()); err != nil || n != 0 {
		t.Errorf("%d lists are signed in a store that lost commits, %v", n, err)
	}

	p.must1(p.Restore(t.Context(), onSocket, &api.RestoreRequest{Go: true, Reason: "failover", Entries: lost}))
	p.await("what agents hold is on record", func() bool { return len(missing(p, issued, "")) == 0 })
	rotate(4)
	p.await("the lists are out", func() bool {
		n, err := p.PublishCRLs(t.Context())
		p.must(err)
		return n == 0
	})
	p.nothingWentBack(t, issued, revoked, after)
	if before[int(revoked.Shard())] >= after[int(revoked.Shard())] {
		t.Error("no list was lost: the revocation came too late")
	}
	did.add("refused until it was restored; then generation 4, serials and numbers of lists above all that were seen, and the revocation stands")
}

// revokeOld revokes a certificate that was replaced, and waits for its list.
func (p *Plane) revokeOld(t *testing.T) pki.Serial {
	t.Helper()
	for _, one := range p.certificates() {
		if one.Generation != 2 {
			continue
		}
		p.must1(p.Revoke(t.Context(), Operator, &api.RevokeRequest{Serial: one.Serial, Reason: "keyCompromise", Now: true}))
		serial, err := pki.ParseSerial(one.Serial)
		p.must(err)
		_, err = p.PublishCRLs(t.Context())
		p.must(err)
		return serial
	}
	t.Fatal("there is nothing to revoke")
	return pki.Serial{}
}

// lists are the numbers of the authority's lists, by shard.
func (p *Plane) lists(t *testing.T) map[int]int64 {
	t.Helper()
	heads, err := p.CRLHeads(t.Context(), p.IssuingNow().ID)
	p.must(err)
	numbers := map[int]int64{}
	for _, head := range heads {
		numbers[head.Shard] = head.Number
	}
	return numbers
}

// nothingWentBack compares a restored store with what was seen before.
func (p *Plane) nothingWentBack(t *testing.T, issued []*api.CertificateInfo, revoked pki.Serial, numbers map[int]int64) {
	t.Helper()
	highest := ""
	for _, one := range issued {
		highest = max(highest, one.Serial)
	}
	seen := map[string]bool{}
	for _, one := range p.certificates() {
		if seen[one.Serial] {
			t.Errorf("serial %s is there twice", one.Serial)
		}
		seen[one.Serial] = true
		if one.Generation == 4 && one.Serial <= highest {
			t.Errorf("serial %s is below %s, which was given out before", one.Serial, highest)
		}
		if one.Serial == revoked.String() && one.RevokedAt == nil {
			t.Error("a revocation is lost")
		}
	}
	for shard, number := range p.lists(t) {
		if number < numbers[shard] || shard == int(revoked.Shard()) && number == numbers[shard] {
			t.Errorf("the list of shard %d is number %d, one of number %d was seen", shard, number, numbers[shard])
		}
	}
}
