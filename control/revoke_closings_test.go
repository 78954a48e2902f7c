package control

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/store"
)

// closingDomain has a service whose certificates are its clients', and one that
// takes them.
func closingDomain(t *testing.T) *domain {
	d := found(t)
	both := strings.NewReplacer("usages: [serverAuth]", "usages: [serverAuth, clientAuth]", `service == "orders" && `, "").Replace(documents)
	d.apply(both + "---" + takingDocuments)
	return d
}

// look is what a look after the newest commit finds ordered, sorted, and how
// many rows it read for all that agents have in common.
func look(t *testing.T, c *Control) (serials []string, rows int) {
	t.Helper()
	err := c.db.Read(t.Context(), func(tx *store.Tx) error {
		common, err := c.commonAt(t.Context(), tx)
		if err != nil {
			return err
		}
		for _, one := range common.closings {
			serials = append(serials, one.serials...)
		}
		rows = tx.RowsRead()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(serials)
	return serials, rows
}

// commit commits something that has nothing to do with revocations.
func (d *domain) commit() {
	d.t.Helper()
	if _, err := d.CreateToken(d.t.Context(), operator, &api.CreateTokenRequest{}); err != nil {
		d.t.Fatal(err)
	}
}

func (d *domain) publish() {
	d.t.Helper()
	if _, err := d.PublishCRLs(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
}

// A commit that has nothing to do with a revocation reads none of its parts,
// whether it waits, is on its way to the lists, or is over.
func TestCommitsReadNoRevocationAgain(t *testing.T) {
	const generations, allowed = 40, 10
	d := closingDomain(t)
	d.publish()
	h, _ := d.ordersHost("a")
	for generation := uint64(2); generation <= generations; generation++ {
		_, request := csr(t)
		h.issue(h.placement(), generation, request)
	}
	_, before := look(t, d.Control)
	calm := func(state string, listed int) {
		t.Helper()
		if serials, first := look(t, d.Control); first < before+generations || len(serials) != listed {
			t.Errorf("%s: the first look read %d rows after %d and found %d serials, not %d", state, first, before, len(serials), listed)
		}
		for range 3 {
			d.commit()
			if serials, again := look(t, d.Control); again > before+allowed || len(serials) != listed {
				t.Errorf("%s: a commit that changed nothing of it read %d rows, without a revocation %d; %d serials, not %d", state, again, before, len(serials), listed)
			}
		}
	}
	d.revoke(&api.RevokeRequest{Service: "orders", Reason: "keyCompromise"})
	calm("open", 0)
	_, request := csr(t)
	h.issue(h.placement(), generations+1, request)
	h.steady(generations + 1)
	d.advanceRevocations()
	calm("ended, on no list", 0)
	d.publish()
	calm("over", generations)

	_, other := d.ordersHost("b")
	d.revoke(&api.RevokeRequest{Serial: serialOf(t, other), Reason: "keyCompromise", Now: true})
	d.publish()
	if serials, rows := look(t, d.Control); len(serials) != generations+1 || rows > before+generations {
		t.Errorf("what is over is read again for another's list: %d rows, %d serials", rows, len(serials))
	}
}

// What is ordered follows each commit, on each of two servers.
func TestClosingsFollowEachCommit(t *testing.T) {
	d := closingDomain(t)
	d.publish()
	other := *d
	other.open()
	want := func(state string, serials ...string) {
		t.Helper()
		slices.Sort(serials)
		for i, c := range []*Control{d.Control, other.Control} {
			if got, _ := look(t, c); !slices.Equal(got, serials) {
				t.Errorf("%s: server %d orders %v, not %v", state, i, got, serials)
			}
		}
	}
	_, one := d.ordersHost("a")
	_, two := d.ordersHost("b")
	stolen, held := serialOf(t, one), serialOf(t, two)
	want("before")
	d.revoke(&api.RevokeRequest{Serial: stolen, Reason: "keyCompromise", Now: true})
	want("made, on no list")
	other.publish()
	want("listed by the other", stolen)
	d.revoke(&api.RevokeRequest{Serial: held, Reason: store.OnHold, Now: true})
	want("on hold, on no list", stolen)
	d.publish()
	want("on hold", stolen, held)
	_, three := d.ordersHost("c")
	d.revoke(&api.RevokeRequest{Serial: serialOf(t, three), Reason: superseded, Now: true})
	if _, err := d.CRL(t.Context(), d.issuingNow().ID, int(pkiShard(t, three))); err != nil {
		t.Fatal(err)
	}
	want("the whole list is behind with another: what is listed stays so", stolen, held)
	d.revoke(&api.RevokeRequest{Serial: held, Lift: true})
	d.publish()
	want("lifted", stolen)
	d.revoke(&api.RevokeRequest{Serial: held, Reason: "keyCompromise", Now: true})
	other.publish()
	want("revoked after all", stolen, held, held)
	d.apply(strings.Replace(takingDocuments, "clients: [orders]", "clients: []", 1))
	want("other documents", stolen, held, held)
	d.apply(documents) // its profile is no client's
	want("clients no more")
	d.clock.turn(2 * time.Hour)
	d.commit()
	want("after an hour")
	if n := len(d.commons.closings); n != 0 {
		t.Errorf("%d revocations are kept for ever", n)
	}
}

// A whole list rests when it is long. Till it is made anew a certificate that is
// on its shard's list alone comes back, and no session is closed.
func TestNoSessionIsClosedWhileTheWholeListRests(t *testing.T) {
	d := closingDomain(t)
	d.publish()
	_, leaf := d.ordersHost("a")
	d.revoke(&api.RevokeRequest{Serial: serialOf(t, leaf), Reason: "keyCompromise", Now: true})
	if _, err := d.CRL(t.Context(), d.issuingNow().ID, int(pkiShard(t, leaf))); err != nil {
		t.Fatal(err)
	}
	if serials, _ := look(t, d.Control); len(serials) != 0 {
		t.Errorf("ordered for %v, which hosts' list has not", serials)
	}
	d.publish()
	if serials, _ := look(t, d.Control); len(serials) != 1 {
		t.Errorf("ordered for %v once the whole list has it", serials)
	}
}
