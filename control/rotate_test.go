package control

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"golang.org/x/mod/sumdb/note"
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
