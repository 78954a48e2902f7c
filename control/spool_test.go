package control

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/spool"
	"github.com/rotunda-pki/rotunda/store"
)

// cutOffHost is a host whose certificate of generation 1 is known, at a server that
// is then cut off from its store.
func cutOffHost(t *testing.T) (*domain, *host) {
	t.Helper()
	d := found(t)
	d.apply(documents + twoRegions)
	h := d.known("eu")
	h.nextBy(1)
	d.loseStore()
	return d, h
}

// known is a host that shows a certificate, as agents do.
func (d *domain) known(region string) *host {
	d.t.Helper()
	h := d.hostIn(region)
	err := d.db.Read(d.t.Context(), func(tx *store.Tx) error {
		identities, err := tx.AgentIdentities(d.t.Context(), h.id)
		h.caller.Serial = identities[0].Serial.String()
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return h
}

// loseStore makes a server of one that goes on without its store by what it shows
// now.
func (d *domain) loseStore() {
	d.t.Helper()
	s := &d.cutOff
	s.Spooling = Spooling{Dir: d.t.TempDir(), On: true, For: time.Hour, Most: 100}
	owner, err := d.spoolOwner(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	if s.spool, _, err = spool.Open(s.Dir, owner); err != nil {
		d.t.Fatal(err)
	}
	if s.snapshot, err = d.readSnapshot(d.t.Context(), nil); err != nil {
		d.t.Fatal(err)
	}
	s.contact = time.Now()
	s.cut.Store(true)
}

// renew asks for a generation without the store.
func (h *host) renew(generation uint64, csr []byte) *api.IssueResult {
	h.domain.t.Helper()
	response, err := h.domain.IssueCutOff(h.caller, &api.IssueRequest{Requests: []*api.PlacementRequest{{PlacementId: h.placementOnce(), Generation: generation, Csr: csr}}})
	if err != nil {
		return &api.IssueResult{ErrorCode: string(fault.CodeOf(err)), Error: fault.Public(err)}
	}
	return response.Results[0]
}

func (h *host) placementOnce() string {
	for id, stood := range h.domain.cutOff.snapshot.stood {
		if stood.AgentID == h.id {
			return id
		}
	}
	return "none"
}

func (d *domain) handedIn() {
	d.t.Helper()
	if err := d.comeBack(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
	if d.CutOff() {
		d.t.Fatal("it is cut off yet")
	}
}

// What is renewed is what was issued before, by the region's own authority; the same
// generation and key get the same again, another key is a conflict.
func TestRenewedWithoutTheStore(t *testing.T) {
	d := found(t)
	d.apply(documents + twoRegions)
	d.ownAuthority("eu", 0)
	h := d.known("eu")
	h.nextBy(1)
	d.loseStore()
	_, request := csr(t)
	first := h.renew(2, request)
	if by := d.issuerOf(leafOf(t, first)); by != "issuing-eu" {
		t.Errorf("signed by %s", by)
	}
	if again := h.renew(2, request); string(again.Chain[0]) != string(first.Chain[0]) {
		t.Error("asked again, another certificate came")
	}
	_, other := csr(t)
	if got := h.renew(2, other); got.ErrorCode != string(fault.Conflict) {
		t.Errorf("another key: %v", got)
	}
	if names := pki.NamesOf(leafOf(t, first)).Strings(); strings.Join(names, " ") != "eu.orders.test.example" {
		t.Errorf("names %q", names)
	}
	if n := d.countIssued(); n != 1 {
		t.Errorf("%d entries before it is handed in", n)
	}
	d.handedIn()
	if record, err := d.record(leafOf(t, first)); err != nil || record.Generation != 2 || !record.RevokedAt.IsZero() {
		t.Errorf("%+v %v", record, err)
	}
	if n := d.countIssued(); n != 2 {
		t.Errorf("%d entries", n)
	}
	if got := h.issue(h.placement(), 2, request); string(got.Chain[0]) != string(first.Chain[0]) {
		t.Errorf("the store gives another: %v", got)
	}
}

// What the snapshot does not hold is refused, and so is what goes beyond the limits.
func TestNotRenewedWithoutTheStore(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*domain, *host)
		number uint64
		says   string
	}{
		"too long ago":         {func(d *domain, _ *host) { d.cutOff.contact = time.Now().Add(-2 * time.Hour) }, 2, "it may go on for 1h0m0s (spool.for)"},
		"too many":             {func(d *domain, _ *host) { d.cutOff.Most = 0 }, 2, "(spool.most)"},
		"a generation before":  {func(*domain, *host) {}, 1, "generation 1 of placement"},
		"far ahead":            {func(*domain, *host) {}, 2000, "is too far ahead"},
		"another's":            {func(d *domain, h *host) { h.caller.ID = "other" }, 2, "is not known here as one of agent other"},
		"an unknown identity":  {func(d *domain, h *host) { h.caller.Serial = strings.Repeat("0", 32) }, 2, "the agent's certificate is not known"},
		"no identity":          {func(d *domain, h *host) { h.caller.Serial = "" }, 2, "the agent's certificate is not known"},
		"the clock went back":  {func(d *domain, _ *host) { d.clock.turn(-time.Hour) }, 2, "clock stands"},
		"the store is back":    {func(d *domain, _ *host) { d.cutOff.cut.Store(false) }, 2, "the store is back"},
		"it is not handed in":  {func(d *domain, _ *host) { d.cutOff.handing = fault.New(fault.Conflict, "odd") }, 2, "is not handed in yet: odd"},
		"another may be given": {func(d *domain, h *host) { _, r := csr(d.t); d.tryOne(h, 2, r) }, 2, "may have another certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			d, h := cutOffHost(t)
			c.change(d, h)
			_, request := csr(t)
			got := h.renew(c.number, request)
			if got.ErrorCode == "" || !strings.Contains(got.Error, c.says) || d.cutOff.spool.Len() != 0 {
				t.Errorf("%v; %d spooled", got, d.cutOff.spool.Len())
			}
		})
	}
}

// tryOne signs what a store that goes away may have recorded.
func (d *domain) tryOne(h *host, generation uint64, request []byte) *order {
	d.t.Helper()
	o := &order{caller: h.caller, request: &api.PlacementRequest{PlacementId: h.placementOnce(), Generation: generation, Csr: request}}
	o.readCSR()
	var err error
	if o.grant, err = d.grantCutOff(o.request.PlacementId, d.cutOff.snapshot.stood[o.request.PlacementId]); err != nil {
		d.t.Fatal(err)
	}
	if d.signOrder(o); o.err != nil {
		d.t.Fatal(o.err)
	}
	d.attempt([]*order{o})
	return o
}

// What differs from when the newest certificate was issued is no renewal.
func TestChangedIsNoRenewal(t *testing.T) {
	for name, change := range map[string]func(*domain, *host){
		"names": func(d *domain, _ *host) {
			d.apply(strings.ReplaceAll(documents, "{{ labels.host }}.orders", "{{ labels.host }}-2.orders"))
		},
		"profile": func(d *domain, _ *host) {
			d.apply(strings.ReplaceAll(documents, "profile: server", "profile: other") + "---\napiVersion: rotunda/v1\nkind: Profile\nmetadata: {name: other}\nspec: {lifetime: 24h, usages: [serverAuth]}\n")
		},
		"labels": func(d *domain, h *host) {
			if _, err := d.LabelAgent(d.t.Context(), operator, &api.LabelAgentRequest{AgentId: h.id, Set: map[string]string{"more": "x"}}); err != nil {
				d.t.Fatal(err)
			}
		},
		"revoked": func(d *domain, h *host) {
			d.revoke(&api.RevokeRequest{Placement: h.placement(), Reason: "keyCompromise", Now: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := found(t)
			d.apply(documents)
			h := d.known("eu")
			h.nextBy(1)
			change(d, h)
			d.loseStore()
			_, request := csr(t)
			if got := h.renew(2, request); got.ErrorCode != string(fault.Unavailable) || !strings.Contains(got.Error, "only renews what it knows") {
				t.Errorf("%v", got)
			}
		})
	}
}

// A first certificate is none, and an agent without one is not known.
func TestFirstIsNoRenewal(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.known("eu")
	placement := h.placement()
	d.loseStore()
	_, request := csr(t)
	got, err := d.IssueCutOff(h.caller, &api.IssueRequest{Requests: []*api.PlacementRequest{{PlacementId: placement, Generation: 1, Csr: request}}})
	if err != nil || !strings.Contains(got.Results[0].Error, "is not known here") {
		t.Errorf("%v %v", got, err)
	}
}

// A certificate that may have been recorded when the store went away is the one that
// is spooled: it gets one record, whether it had it or not.
func TestTriedAndSpooledIsOne(t *testing.T) {
	for name, recorded := range map[string]bool{"recorded": true, "not recorded": false} {
		t.Run(name, func(t *testing.T) {
			d, h := cutOffHost(t)
			_, request := csr(t)
			o := d.tryOne(h, 2, request)
			if recorded {
				if err := d.recordOrders(t.Context(), []*order{o}); err != nil || o.err != nil || o.moved {
					t.Fatal(err, o.err, o.moved)
				}
				d.attempt([]*order{o}) // the store's answer did not come
			}
			got := h.renew(2, request)
			if string(got.Chain[0]) != string(o.issued.DER) {
				t.Fatal("another certificate of the same generation")
			}
			d.handedIn()
			if record, err := d.record(leafOf(t, got)); err != nil || record.Generation != 2 || !record.RevokedAt.IsZero() || d.countIssued() != 2 {
				t.Errorf("%+v, %v, %d entries", record, err, d.countIssued())
			}
		})
	}
}

// What was spooled before a restore, or by an authority that signs no more, is
// recorded as revoked.
func TestSpooledBeforeAnEnd(t *testing.T) {
	for name, c := range map[string]struct {
		end    func(*domain, *host)
		reason string
	}{
		"restored": {func(d *domain, _ *host) { d.write(func(tx *store.Tx) error { return tx.RaiseEpoch(d.t.Context()) }) }, "superseded"},
		"authority": {func(d *domain, _ *host) {
			d.write(func(tx *store.Tx) error {
				record, err := tx.AuthorityByName(d.t.Context(), "issuing")
				if err != nil {
					return err
				}
				return moveAuthority(d.t.Context(), tx, record, "retired")
			})
		}, "superseded"},
		"identity": {func(d *domain, h *host) {
			d.revoke(&api.RevokeRequest{Serial: h.caller.Serial, Reason: "keyCompromise", Now: true})
		}, "keyCompromise"},
		"stopped": {func(d *domain, _ *host) {
			d.ownAuthority("us", 0)
			if _, err := d.useAuthority("issuing", true, "x"); err != nil {
				d.t.Fatal(err)
			}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d, h := cutOffHost(t)
			_, request := csr(t)
			got, placement := h.renew(2, request), h.placement()
			d.clock.turn(time.Minute)
			c.end(d, h)
			d.handedIn()
			if record, err := d.record(leafOf(t, got)); err != nil || record.Reason != c.reason || record.RevokedAt.IsZero() != (c.reason == "") {
				t.Errorf("%+v, %v", record, err)
			}
			if entries := d.entriesOf(t, "issue", "Placement/"+placement); len(entries) != 2 {
				t.Errorf("%d entries", len(entries))
			}
		})
	}
}

// A spool that can't be written gives no certificate away, and one that can't be
// emptied is no reason to stay cut off: what it holds is known.
func TestSpoolFails(t *testing.T) {
	d, h := cutOffHost(t)
	_, request := csr(t)
	if got := h.renew(2, request); got.ErrorCode != "" {
		t.Fatal(got)
	}
	d.cutOff.spool.Close()
	_, request = csr(t)
	if got := h.renew(3, request); got.ErrorCode != string(fault.Unavailable) || len(got.Chain) != 0 || !strings.Contains(got.Error, "the spool in") {
		t.Errorf("%v", got)
	}
	if got := h.renew(3, request); len(got.Chain) != 0 {
		t.Error("asked again it is given all the same")
	}
	if state, _ := d.Spooled(); !state.Failing {
		t.Error("it is not said to fail")
	}
	if err := d.comeBack(t.Context()); err == nil || !d.CutOff() {
		t.Errorf("a spool that can't be read counts as handed in: %v", err)
	}
}

// A server starts beside a full disk while the store is there: only what it would spool
// needs room. Once there is some, the spool is emptied of what was handed in. A limit on
// files binds all that a process writes, so it is another's than that of the other tests.
func TestStartsWithoutRoomForTheSpool(t *testing.T) {
	const alone = "TEST_WITHOUT_ROOM"
	if os.Getenv(alone) == "" {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		child.Env = append(os.Environ(), alone+"=1")
		if output, err := child.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, output)
		}
		return
	}
	d, h := cutOffHost(t)
	_, request := csr(t)
	if got := h.renew(2, request); got.ErrorCode != "" {
		t.Fatal(got)
	}
	dir := d.cutOff.Dir
	d.closeSpool()
	d.cutOff.cut.Store(false)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	// Nothing is to be handed in through a store whose files may not grow either.
	d.handInSpool(dir)
	full := syscall.Rlimit{Cur: 100, Max: limit.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full); err != nil {
		t.Fatal(err)
	}
	err := d.openSpool(t.Context(), Spooling{Dir: dir})
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatalf("on a full disk it does not start: %v", err)
	}
	defer d.closeSpool()
	if state, _ := d.Spooled(); !state.Failing || d.cutOff.spool.Len() != 1 {
		t.Fatalf("%d certificates in the spool: %+v", d.cutOff.spool.Len(), state)
	}
	err = d.comeBack(t.Context())
	if state, _ := d.Spooled(); err != nil || state.Failing || d.cutOff.spool.Len() != 0 {
		t.Errorf("with room again %d certificates are in the spool: %v", d.cutOff.spool.Len(), err)
	}
	if n := d.countIssued(); n != 2 {
		t.Errorf("%d entries", n)
	}
}

// handInSpool is what a process did that was killed before it emptied the spool.
func (d *domain) handInSpool(dir string) {
	d.t.Helper()
	owner, err := d.spoolOwner(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	s, held, err := spool.Open(dir, owner)
	if err != nil {
		d.t.Fatal(err)
	}
	defer s.Close()
	if err := d.handIn(d.t.Context(), held); err != nil {
		d.t.Fatal(err)
	}
}
