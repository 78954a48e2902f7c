package fleettest

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/api/apiconnect"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// A server is killed at many moments of a restore: the store is rolled back as
// before and has nothing of it, or the restore is whole. Where it is as before
// the same call goes to its end.
func TestKilledRestoreIsWholeOrNothing(t *testing.T) {
	p := NewPlane(t)
	lost, revoked := p.rolledBackWithout()
	rolled := p.backup()
	before, whole := 0, 0
	for took := time.Duration(0); before < 3 || whole < 3; {
		p.putBack(rolled)
		process := p.startProcess()
		began := time.Now()
		answered := make(chan error, 1)
		go func() { answered <- p.restoreBySocket(lost) }()
		if took == 0 { // the first one goes to its end, and says how long that is
			p.must(<-answered)
			took = time.Since(began)
		} else {
			select {
			case <-time.After(took * time.Duration(1+(before+whole)%8) / 6):
			case <-answered:
			}
		}
		kill(t, process)
		if p.restored(revoked) {
			whole++
			continue
		}
		before++
		process = p.startProcess()
		p.must(p.restoreBySocket(lost))
		kill(t, process)
		if !p.restored(revoked) {
			t.Fatal("the second try answered, and the store is as before")
		}
		if before+whole > 60 {
			t.Fatalf("of 60 kills %d came before the restore and %d after", before, whole)
		}
	}
	t.Logf("%d kills left the store as before, %d the whole restore", before, whole)
}

// rolledBackWithout puts back a copy from before certificates were revoked, and
// waits until a witness has said so. It returns the log that the store lost, and
// one of those certificates; the plane is stopped.
func (p *Plane) rolledBackWithout() (lost [][]byte, revoked pki.Serial) {
	p.t.Helper()
	hosts := fleetOf(p, 1)
	p.Await("first issuance", Steady(1, 1))
	var all []pki.Serial
	for range 50 {
		all = append(all, p.operatorCertificate("ann"))
	}
	p.log()
	copied := p.backup()
	for _, serial := range all {
		p.must1(p.Revoke(p.t.Context(), Operator, &api.RevokeRequest{Serial: serial.String(), Reason: "keyCompromise", Now: true}))
	}
	p.await("all lists are out, so that the log rests", func() bool {
		published, err := p.PublishCRLs(p.t.Context())
		p.must(err)
		return published == 0
	})
	lost, size := p.log()
	witnessed(p, size, hosts[0])
	p.Stop()
	p.putBack(copied)
	p.Start()
	p.await("the witness has testified to all of it", func() bool {
		if p.rolledBack() == "" {
			return false
		}
		plan, err := p.Restore(p.t.Context(), onSocket, &api.RestoreRequest{Entries: lost})
		p.must(err)
		return plan.Complete && plan.Agents[0].TestifiedAt != nil
	})
	hosts[0].Stop()
	p.Stop()
	return lost, all[0]
}

// restoreBySocket is rotunda restore --go on the server's host.
func (p *Plane) restoreBySocket(lost [][]byte) error {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", p.Config.AdminSocket)
	}}
	defer transport.CloseIdleConnections()
	client := apiconnect.NewOperatorServiceClient(&http.Client{Transport: transport}, "http://localhost")
	_, err := client.Restore(p.t.Context(), connect.NewRequest(&api.RestoreRequest{Go: true, Reason: "disk failed", Entries: lost}))
	return err
}

// restored says whether the store of the stopped plane is restored; anything
// between that and rolled back fails the test.
func (p *Plane) restored(revoked pki.Serial) bool {
	p.t.Helper()
	db, err := store.Open(p.t.Context(), p.Place(time.Now))
	p.must(err)
	defer db.Close()
	var epoch uint64
	var open, again, entered bool
	p.must(db.Read(p.t.Context(), func(tx *store.Tx) error {
		state, err := tx.RolledBack(p.t.Context())
		p.must(err)
		record, err := tx.Certificate(p.t.Context(), revoked)
		p.must(err)
		last, err := tx.LastRestore(p.t.Context())
		p.must(err)
		if entered = last != nil; entered {
			entry, err := tx.AuditEntryByID(p.t.Context(), last.EntryID)
			if err != nil || entry.Pending {
				p.t.Errorf("the restore's entry: %v, pending %v", err, entry.Pending)
			}
		}
		open, again = state != nil, !record.RevokedAt.IsZero()
		epoch, err = tx.Epoch(p.t.Context())
		return err
	}))
	whole := epoch == 2 && !open && again && entered
	if nothing := epoch == 1 && open && !again && !entered; whole == nothing {
		p.t.Fatalf("epoch %d, rolled back %v, revoked again %v, entered %v", epoch, open, again, entered)
	}
	return whole
}
