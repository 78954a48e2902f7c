package control

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// desired is what is wanted at the host's only placement.
func (h *host) desired() *api.DesiredPlacement {
	h.domain.t.Helper()
	state, err := h.domain.Desired(h.domain.t.Context(), h.caller)
	if err != nil {
		h.domain.t.Fatal(err)
	}
	return state.Placements[0]
}

func (h *host) report(report *api.PlacementReport) error {
	report.PlacementId = h.placement()
	return h.domain.Report(h.domain.t.Context(), h.caller, &api.AgentReport{Placements: []*api.PlacementReport{report}})
}

func TestRotateIsDesiredState(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	_, request := csr(t)
	leafOf(t, h.issue(h.placement(), 1, request))
	if h.desired().RenewThrough != 0 {
		t.Fatal("a rotation is desired that nobody asked for")
	}
	dry, err := d.Rotate(t.Context(), operator, &api.RotateRequest{All: true, DryRun: true})
	if err != nil || len(dry.Placements) != 1 || h.desired().RenewThrough != 0 {
		t.Fatalf("dry run: %v, %v", dry, err)
	}
	for range 2 { // asked twice is asked once
		if _, err := d.Rotate(t.Context(), operator, &api.RotateRequest{Intent: "orders-tls", NewKey: true, Reason: "drill"}); err != nil {
			t.Fatal(err)
		}
	}
	if got := h.desired(); got.RenewThrough != 1 || !got.NewKey {
		t.Errorf("desired %v, want a new key through generation 1", got)
	}
	_, err = d.Rotate(t.Context(), operator, &api.RotateRequest{Intent: "nosuch"})
	wantCode(t, err, fault.NotFound)
	_, err = d.Rotate(t.Context(), operator, &api.RotateRequest{Intent: "orders-tls", All: true})
	wantCode(t, err, fault.Invalid)
}

func TestWindowLeavesRideOut(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	_, request := csr(t)
	leaf := leafOf(t, h.issue(h.placement(), 1, request))

	got := h.desired()

	after, before := got.RenewAfter.AsTime(), got.RenewBefore.AsTime()
	if got.WindowGeneration != 1 || !after.After(leaf.NotBefore) || !before.After(after) {
		t.Errorf("window %v to %v of generation %d", after, before, got.WindowGeneration)
	}
	if left := leaf.NotAfter.Sub(before); left < 4*time.Hour {
		t.Errorf("the window closes %s before expiry, the profile's rideOut is 4h", left)
	}
}

// Of many each has its turn, and a dry run shows the same. Asked again, a
// placement keeps its earlier time.
func TestRotationsHaveAPace(t *testing.T) {
	d := found(t)
	d.apply(documents)
	hosts := map[string]*host{}
	for _, name := range []string{"a", "b", "c"} {
		h := d.enrolHost(map[string]string{"role": "orders", "host": name})
		h.holds(1)
		if err := h.report(&api.PlacementReport{Generation: 1, Revision: 1}); err != nil {
			t.Fatal(err)
		}
		hosts[h.placement()] = h
	}
	begin := d.clock.now()
	rotate := func(over *durationpb.Duration, dry bool) *api.RotateResponse {
		t.Helper()
		response, err := d.Rotate(t.Context(), operator, &api.RotateRequest{All: true, Over: over, DryRun: dry})
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	dry, real := rotate(nil, true), rotate(nil, false)
	for i, id := range real.Placements {
		at, planned := real.Affected[i].RotateAt.AsTime(), dry.Affected[i].RotateAt.AsTime()
		want := begin.Add(time.Duration(i) * time.Second)
		if dry.Placements[i] != id || (at.Sub(want)).Abs() > time.Second/10 || at.Sub(planned).Abs() > time.Second/10 {
			t.Errorf("turn %d of %s at %s, planned for %s; want %s", i, id, at, planned, want)
		}
		desired := hosts[id].desired()
		if desired.RenewThrough != 1 || (i == 0) != (desired.RenewFrom == nil) || i > 0 && !desired.RenewFrom.AsTime().Equal(at) {
			t.Errorf("turn %d: through %d from %v", i, desired.RenewThrough, desired.RenewFrom)
		}
	}
	if real.Over.AsDuration() != 2*time.Second || dry.Over.AsDuration() != 2*time.Second {
		t.Errorf("over %s, in the dry run %s", real.Over.AsDuration(), dry.Over.AsDuration())
	}
	d.clock.turn(500 * time.Millisecond)
	later := rotate(durationpb.New(time.Hour), false)
	for i, id := range real.Placements {
		if got, want := hosts[id].desired().RenewFrom.AsTime(), real.Affected[i].RotateAt.AsTime(); i > 0 && !got.Equal(want) {
			t.Errorf("asked again, turn %d is at %s instead of %s", i, got, want)
		}
		if i > 0 && !later.Affected[i].RotateAt.AsTime().Equal(real.Affected[i].RotateAt.AsTime()) {
			t.Errorf("asked again, turn %d is shown at %s", i, later.Affected[i].RotateAt.AsTime())
		}
	}
	last := real.Placements[2]
	hosts[last].holds(2)
	if err := hosts[last].report(&api.PlacementReport{Generation: 2, Revision: 2}); err != nil {
		t.Fatal(err)
	}
	if got := hosts[last].desired(); got.RenewFrom != nil || hosts[last].status().RotateAt != nil {
		t.Errorf("after it came about: %v", got.RenewFrom)
	}
	_, err := d.Rotate(t.Context(), operator, &api.RotateRequest{All: true, Over: durationpb.New(-time.Second)})
	wantCode(t, err, fault.Invalid)
	_, err = d.Rotate(t.Context(), operator, &api.RotateRequest{All: true, Over: durationpb.New(365 * 24 * time.Hour)})
	wantCode(t, err, fault.Invalid)
}

// Members of a cluster are given parts of the window that don't overlap.
func TestMembersHavePartsOfTheWindow(t *testing.T) {
	d := found(t)
	d.apply(clusterOf("c1", 1))
	m := d.members(3)
	for i, one := range m {
		one.tell(d.Control)
		got := one.desired()
		for j, other := range m[:i] {
			o := other.desired()
			if got.RenewAfter.AsTime().Before(o.RenewBefore.AsTime()) && o.RenewAfter.AsTime().Before(got.RenewBefore.AsTime()) {
				t.Errorf("windows of members %d and %d: %s to %s, %s to %s", i, j,
					got.RenewAfter.AsTime(), got.RenewBefore.AsTime(), o.RenewAfter.AsTime(), o.RenewBefore.AsTime())
			}
		}
		if status := one.status(); !status.RenewAfter.AsTime().Equal(got.RenewAfter.AsTime()) {
			t.Errorf("status says %s, desired is %s", status.RenewAfter.AsTime(), got.RenewAfter.AsTime())
		}
	}
}

// An agent's clock has no say in the breaker: failures are dated when they are
// reported, as resumes are when they are asked for.
func TestBreakerGoesByTheServersClock(t *testing.T) {
	for name, skew := range map[string]time.Duration{"behind": -400 * 24 * time.Hour, "ahead": 400 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			d := found(t)
			d.apply(documents)
			a := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
			b := d.enrolHost(map[string]string{"role": "orders", "host": "b"})
			a.holds(1)
			var last *api.Failure
			fail := func(step string) {
				t.Helper()
				failure := &api.Failure{Step: step, Reason: "r", Generation: 2, At: timestamppb.New(d.clock.now().Add(skew))}
				last = failure
				for range 2 { // said again, it is the same failure
					if err := a.report(&api.PlacementReport{State: api.State_STATE_FAILED, Generation: 1, Failure: failure}); err != nil {
						t.Fatal(err)
					}
				}
			}
			held := func(when string, want bool) {
				t.Helper()
				hold := b.desired().Hold
				if (hold != "") != want || want && !strings.Contains(hold, "since "+d.clock.now().Format("15:")) {
					t.Errorf("%s: hold %q", when, hold)
				}
			}
			fail("prove")
			held("failed", true)
			if _, err := d.Resume(t.Context(), operator, &api.ResumeRequest{Intent: "orders-tls"}); err != nil {
				t.Fatal(err)
			}
			held("resumed", false)
			if err := a.report(&api.PlacementReport{State: api.State_STATE_FAILED, Generation: 1, Failure: last}); err != nil {
				t.Fatal(err)
			}
			held("resumed, and the old failure said again", false)
			fail("activate")
			held("failed again", true)
			d.restart()
			held("after a restart", true)
		})
	}
}

// A failure at one placement holds the others of its intent until it heals or
// an operator resumes.
func TestBreaker(t *testing.T) {
	d := found(t)
	d.apply(documents)
	a := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	b := d.enrolHost(map[string]string{"role": "orders", "host": "b"})
	a.holds(1)
	proof := a.observed(a.holds(2))
	failure := func() *api.Failure {
		return &api.Failure{Step: "prove", Reason: "served the old one", Generation: 2, At: timestamppb.New(d.clock.now()), Restored: true}
	}
	fail := func() {
		t.Helper()
		if err := a.report(&api.PlacementReport{State: api.State_STATE_FAILED, Generation: 1, Failure: failure()}); err != nil {
			t.Fatal(err)
		}
	}
	fail()
	if hold := b.desired().Hold; !strings.Contains(hold, "orders-tls") || !strings.Contains(hold, "prove") {
		t.Errorf("hold %q", hold)
	}
	if hold := a.desired().Hold; hold != "" {
		t.Errorf("the one that failed is held too, and can't heal: %q", hold)
	}
	attempt := a.desired().Attempt
	if _, err := d.Resume(t.Context(), operator, &api.ResumeRequest{Intent: "orders-tls"}); err != nil {
		t.Fatal(err)
	}
	if hold := b.desired().Hold; hold != "" {
		t.Errorf("held after resume: %q", hold)
	}
	if a.desired().Attempt <= attempt {
		t.Error("resume does not make the failed one try again")
	}
	fail() // again, after the resume
	if b.desired().Hold == "" {
		t.Error("a failure after the resume holds nothing")
	}
	if err := a.report(&api.PlacementReport{State: api.State_STATE_STEADY, Generation: 2, Revision: 2, Level: api.Level_LEVEL_PROVEN, Evidence: proof, CommittedAt: timestamppb.New(d.clock.now())}); err != nil {
		t.Fatal(err)
	}
	if hold := b.desired().Hold; hold != "" {
		t.Errorf("held after it healed: %q", hold)
	}
	if log := strings.Join(d.entries(), "\n"); !strings.Contains(log, "placement.failed") || !strings.Contains(log, "placement.rotated") {
		t.Error("failure or recovery has no audit entry")
	}
}

// The log's tree grows by all entries, its checkpoint is signed, and a proof
// leads from every size to every later one.
func TestAuditLogGrowsConsistently(t *testing.T) {
	d := found(t)
	verifier, err := note.NewVerifier(d.LogKey())
	if err != nil {
		t.Fatal(err)
	}
	checkpoints := []audit.Checkpoint{}
	for round := range 5 {
		for range round + 1 {
			d.token(nil)
		}
		if _, err := d.SequenceAudit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if round == 2 {
			d.restart()
			d.clock.turn(2 * sequencerLife) // the process before did not give its lease back
		}
		signed, err := d.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		checkpoint, err := audit.OpenCheckpoint(signed, d.Origin(), verifier)
		if err != nil {
			t.Fatal(err)
		}
		checkpoints = append(checkpoints, checkpoint)
	}
	for i, old := range checkpoints {
		for _, now := range checkpoints[i:] {
			proof, err := d.ProveConsistency(t.Context(), Caller{Kind: Agent}, &api.ProveConsistencyRequest{From: old.Size, To: now.Size})
			if err != nil {
				t.Fatal(err)
			}
			var hashes []audit.Hash
			for _, hash := range proof.Proof {
				hashes = append(hashes, audit.Hash(hash))
			}
			if err := audit.CheckConsistency(hashes, old, now); err != nil {
				t.Errorf("%d to %d: %v", old.Size, now.Size, err)
			}
		}
	}
	newest := checkpoints[len(checkpoints)-1]
	list, err := d.ListAuditEntries(t.Context(), operator, &api.ListAuditEntriesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	err = audit.VerifyLog(func(yield func([]byte, error) bool) {
		for _, entry := range list.Entries {
			if !yield(entry.Content, nil) {
				return
			}
		}
	}, newest)
	if err != nil {
		t.Error(err)
	}
}

// Two that failed at once don't hold each other: each goes on by itself, and
// the rest are held until both are well.
func TestFailuresDoNotHoldEachOther(t *testing.T) {
	d := found(t)
	d.apply(documents)
	var hosts []*host
	for _, name := range []string{"a", "b", "c"} {
		h := d.enrolHost(map[string]string{"role": "orders", "host": name})
		h.holds(1)
		hosts = append(hosts, h)
	}
	fail := func(h *host) {
		t.Helper()
		failure := &api.Failure{Step: "check", Reason: "nothing answers", Generation: 2, At: timestamppb.New(d.clock.now())}
		if err := h.report(&api.PlacementReport{State: api.State_STATE_FAILED, Generation: 1, Revision: 1, Failure: failure}); err != nil {
			t.Fatal(err)
		}
	}
	fail(hosts[0])
	fail(hosts[1])
	for i, want := range []bool{false, false, true} {
		if hold := hosts[i].desired().Hold; (hold != "") != want {
			t.Errorf("host %d: hold %q, want one: %v", i, hold, want)
		}
	}
	if _, err := d.Resume(t.Context(), operator, &api.ResumeRequest{Intent: "orders-tls"}); err != nil {
		t.Fatal(err)
	}
	fail(hosts[0])
	if hosts[1].desired().Hold == "" {
		t.Error("a failure from before the resume goes on as if it stood")
	}
}
