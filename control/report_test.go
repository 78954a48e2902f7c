package control

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/probe"
	"github.com/rotunda-pki/rotunda/store"
)

// holds has the generation issued to the host's only placement.
func (h *host) holds(generation uint64) *x509.Certificate {
	h.domain.t.Helper()
	_, request := csr(h.domain.t)
	return leafOf(h.domain.t, h.issue(h.placement(), generation, request))
}

// observed is evidence, signed by the agent, of a process that serves the leaf.
func (h *host) observed(leaf *x509.Certificate) *api.Evidence {
	h.domain.t.Helper()
	statement, err := probe.Observation{
		Time: h.domain.clock.now(), Observer: h.id, Address: "127.0.0.1:1", Outcome: probe.Served,
		Leaf: &probe.Leaf{Fingerprint: pki.FingerprintOf(leaf.Raw).String()},
	}.Statement()
	if err != nil {
		h.domain.t.Fatal(err)
	}
	return h.sign(statement)
}

func (h *host) sign(statement []byte) *api.Evidence {
	h.domain.t.Helper()
	digest := sha256.Sum256(statement)
	signature, err := h.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		h.domain.t.Fatal(err)
	}
	return &api.Evidence{Statement: statement, Signature: signature}
}

func (h *host) status() *api.PlacementStatus {
	h.domain.t.Helper()
	described, err := h.domain.DescribePlacement(h.domain.t.Context(), operator, &api.DescribePlacementRequest{Id: h.placement()})
	if err != nil {
		h.domain.t.Fatal(err)
	}
	return described.Status
}

// What an agent says is taken only as far as the store and its evidence bear it
// out, and what can't be is refused whole, with an audit entry.
func TestClaimsThatCannotBeAreRefused(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	other := d.enrolHost(map[string]string{"role": "orders", "host": "b"})
	leaf := h.holds(1)
	good := func() *api.PlacementReport {
		return &api.PlacementReport{State: api.State_STATE_STEADY, Generation: 1, LastGeneration: 1, Revision: 1, Level: api.Level_LEVEL_DELIVERED}
	}
	if err := h.report(good()); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		lie  func(*api.PlacementReport)
		code fault.Code
	}{
		"a generation never issued":    {func(r *api.PlacementReport) { r.Generation = 2 }, fault.Conflict},
		"another serial":               {func(r *api.PlacementReport) { r.Serial = strings.Repeat("7", 32) }, fault.Conflict},
		"the last number there is":     {func(r *api.PlacementReport) { r.LastGeneration = 1<<64 - 1 }, fault.Conflict},
		"a number far ahead":           {func(r *api.PlacementReport) { r.LastGeneration = 5000 }, fault.Conflict},
		"a bundle that nobody made":    {func(r *api.PlacementReport) { r.BundleDigest = strings.Repeat("ab", 32) }, fault.NotFound},
		"a digest that is none":        {func(r *api.PlacementReport) { r.BundleDigest = "x" }, fault.Invalid},
		"more than anyone has to say":  {func(r *api.PlacementReport) { r.Reason = strings.Repeat("x", 200<<10) }, fault.Invalid},
		"evidence that others signed":  {func(r *api.PlacementReport) { r.Evidence = other.sign(h.observed(leaf).Statement) }, fault.Invalid},
		"evidence that is not JSON":    {func(r *api.PlacementReport) { r.Evidence = h.sign([]byte("proven")) }, fault.Invalid},
		"evidence of another observer": {func(r *api.PlacementReport) { r.Evidence = h.sign([]byte(`{"observer":"` + other.id + `"}`)) }, fault.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			before, entries := h.status(), len(d.entries())
			lie := good()
			lie.Revision = 9
			c.lie(lie)
			err := h.report(lie)
			if c.code == fault.Invalid {
				wantCode(t, err, c.code)
			} else if err != nil {
				t.Errorf("a doubt about one placement ends the whole stream: %v", err)
			}
			now := h.status()
			if now.Revision != before.Revision || now.LastGeneration != before.LastGeneration {
				t.Errorf("refused, and stored: %v", now)
			}
			if doubted := strings.Contains(now.Reason, "newest report is refused"); doubted != (c.code != fault.Invalid) {
				t.Errorf("its reason says %q", now.Reason)
			}
			if err := h.report(good()); err != nil || strings.Contains(h.status().Reason, "refused") {
				t.Errorf("after a report that fits: %q, %v", h.status().Reason, err)
			}
			log := d.entries()
			if name != "more than anyone has to say" && (len(log) != entries+1 || !strings.Contains(lastOf(log), `"refused"`)) {
				t.Errorf("%d entries more, the last is %s", len(log)-entries, lastOf(log))
			}
		})
	}
	twice := good()
	twice.PlacementId = h.placement()
	err := d.Report(t.Context(), h.caller, &api.AgentReport{Placements: []*api.PlacementReport{twice, twice}})
	wantCode(t, err, fault.Invalid)
}

func TestReportsOfOthersPlacementsAreRefused(t *testing.T) {
	d := found(t)
	d.apply(documents)
	a := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	b := d.enrolHost(map[string]string{"role": "orders", "host": "b"})
	b.holds(1)
	own := &api.PlacementReport{PlacementId: b.placement(), Generation: 1, Revision: 1, Level: api.Level_LEVEL_DELIVERED}
	forged := &api.PlacementReport{PlacementId: a.placement(), Generation: 1, Level: api.Level_LEVEL_PROVEN}
	err := d.Report(t.Context(), b.caller, &api.AgentReport{Placements: []*api.PlacementReport{own, forged}})
	wantCode(t, err, fault.Forbidden)
	if a.status().ReportedAt != nil || b.status().ReportedAt != nil {
		t.Error("a report that was refused is half stored")
	}
}

// "Proven" needs evidence, signed by the agent, that shows this certificate.
func TestProvenNeedsEvidenceOfThisCertificate(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	old, leaf := h.holds(1), h.holds(2)
	claim := func(evidence *api.Evidence) api.Level {
		t.Helper()
		if err := h.report(&api.PlacementReport{Generation: 2, Revision: 2, Level: api.Level_LEVEL_PROVEN, Evidence: evidence}); err != nil {
			t.Fatal(err)
		}
		return h.status().Level
	}
	if got := claim(nil); got != api.Level_LEVEL_LOADED {
		t.Errorf("without evidence: %s", got)
	}
	if got := claim(h.observed(old)); got != api.Level_LEVEL_LOADED {
		t.Errorf("with evidence of the generation before: %s", got)
	}
	if got := claim(h.observed(leaf)); got != api.Level_LEVEL_PROVEN {
		t.Errorf("with evidence of this one: %s", got)
	}
	if got := h.status().NotAfter.AsTime(); !got.Equal(leaf.NotAfter) {
		t.Errorf("expiry %s, the certificate's is %s", got, leaf.NotAfter)
	}
}

// A statement is kept in its exact bytes, dated no later than the server's now.
func TestEvidenceIsKeptAsSigned(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	h.holds(1)
	late := h.sign([]byte(`{"outcome":"served","time":"2999-01-01T00:00:00Z"}`))
	next := h.sign([]byte(`{"outcome":"tls_failed","time":"` + d.clock.now().Add(time.Second).Format(time.RFC3339Nano) + `"}`))
	for _, evidence := range []*api.Evidence{late, next} {
		d.clock.turn(time.Minute)
		if err := h.report(&api.PlacementReport{Generation: 1, Evidence: evidence}); err != nil {
			t.Fatal(err)
		}
	}
	described, err := d.DescribePlacement(t.Context(), operator, &api.DescribePlacementRequest{Id: h.placement()})
	if err != nil || len(described.Evidence) != 2 {
		t.Fatalf("evidence %v, %v", described.GetEvidence(), err)
	}
	for _, one := range described.Evidence {
		if one.At.AsTime().After(d.clock.now()) {
			t.Errorf("evidence of the future: %v", one)
		}
		if one.Verdict == "served" && string(one.Statement) != string(late.Statement) {
			t.Errorf("statement %q", one.Statement)
		}
	}
}

// A switch is no rotation: only what was committed is entered as rotated, with
// the level that was shown and the evidence of this very certificate.
func TestOnlyCommittedRotationsAreEntered(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	leaf := h.holds(1)
	entries := len(d.entries())
	switched := &api.PlacementReport{State: api.State_STATE_ROTATING, Generation: 1, Revision: 1, Level: api.Level_LEVEL_LOADED}
	if err := h.report(switched); err != nil {
		t.Fatal(err)
	}
	if log := d.entries(); len(log) != entries {
		t.Fatalf("a switch that nobody has proven is entered: %s", lastOf(log))
	}
	proof := h.observed(leaf)
	committed := &api.PlacementReport{
		State: api.State_STATE_STEADY, Generation: 1, Revision: 1, Level: api.Level_LEVEL_PROVEN, Evidence: proof,
		CommittedAt: timestamppb.New(d.clock.now()),
	}
	if err := h.report(committed); err != nil {
		t.Fatal(err)
	}
	last := lastOf(d.entries())
	for _, want := range []string{"placement.rotated", `"level":"proven"`, evidenceDigest(proof)} {
		if !strings.Contains(last, want) {
			t.Errorf("the entry %s has no %s", last, want)
		}
	}
}

func TestReportsAreCountedOnce(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	leaf := h.holds(1)
	report := &api.PlacementReport{
		State: api.State_STATE_STEADY, Generation: 1, Revision: 1, Level: api.Level_LEVEL_PROVEN, Evidence: h.observed(leaf), Took: durationpb.New(300 * time.Millisecond),
		CommittedAt: timestamppb.New(d.clock.now()),
	}
	failed := &api.PlacementReport{Generation: 1, Revision: 1, Failure: &api.Failure{Step: "check", Reason: "r", Generation: 2, At: timestamppb.New(d.clock.now())}}
	for _, one := range []*api.PlacementReport{report, report, failed, failed} {
		if err := h.report(one); err != nil {
			t.Fatal(err)
		}
	}
	figures, err := d.Figures(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if figures.Issued != 1 || figures.Rotated != 1 || figures.Failed != 1 || figures.Took.Count != 1 || figures.Took.Buckets[500*time.Millisecond] != 1 || figures.Took.Buckets[250*time.Millisecond] != 0 {
		t.Errorf("figures %+v", figures)
	}
	if !figures.Fleet.NextExpiry.Equal(leaf.NotAfter) {
		t.Errorf("next expiry %s, want %s", figures.Fleet.NextExpiry, leaf.NotAfter)
	}
}

// A retired agent's stream that is still open changes nothing any more, and
// neither does one under an identity that a rejoin revoked.
func TestOpenStreamsEndWithTheIdentity(t *testing.T) {
	d := found(t)
	d.apply(documents)
	id, secret := d.token(map[string]string{"role": "orders", "host": "a"})
	key, request := csr(t)
	enrolled, err := d.enrolWith(id, secret, request)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(enrolled.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	caller, err := d.Identify(t.Context(), cert, "192.0.2.1:1")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{d, enrolled.AgentId, key, caller}
	placement := h.placement()
	d.rejoin(h.id)
	_, again := csr(t)
	_, err = d.Desired(t.Context(), caller)
	wantCode(t, err, fault.Forbidden)
	wantCode(t, d.Report(t.Context(), caller, &api.AgentReport{}), fault.Forbidden)
	wantCode(t, d.Report(t.Context(), caller, &api.AgentReport{Placements: []*api.PlacementReport{{PlacementId: placement}}}), fault.Forbidden)
	_, err = d.RenewIdentity(t.Context(), caller, &api.RenewIdentityRequest{Csr: again})
	wantCode(t, err, fault.Forbidden)
	_, err = d.Connect(t.Context(), caller, &api.Hello{Boot: 99})
	wantCode(t, err, fault.Forbidden)
	_, err = d.Issue(t.Context(), caller, &api.IssueRequest{Requests: []*api.PlacementRequest{{PlacementId: placement, Generation: 1, Csr: again}}})
	wantCode(t, err, fault.Forbidden)
	_, err = d.Identify(t.Context(), cert, "192.0.2.1:1")
	wantCode(t, err, fault.Forbidden)
}

// A newer stream of an agent ends the one before it.
func TestNewerStreamReplacesTheOlder(t *testing.T) {
	d := found(t)
	h := d.enrolHost(nil)
	first, err := d.Connect(t.Context(), h.caller, &api.Hello{Boot: 1})
	if err != nil {
		t.Fatal(err)
	}
	second, err := d.Connect(t.Context(), h.caller, &api.Hello{Boot: 2})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-first.Replaced:
	default:
		t.Error("the first stream goes on")
	}
	first.Leave() // late, as it is in life
	select {
	case <-second.Replaced:
		t.Error("the second stream is ended too")
	default:
	}
	if connected, ok := d.presence.of(h.id); !ok || connected.boot != 2 {
		t.Error("the end of the first took the second away")
	}
	second.Leave()
	if d.presence.count() != 0 {
		t.Error("still there")
	}
}

// The leaf proves nothing of the bundle beside it: a bundle is proven only by a
// client certificate that was accepted beside one that was refused. What was
// proven so stays, while the bundle is the same.
func TestProvenLeafProvesNoBundle(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	leaf := h.holds(1)
	good := probe.TrialResult{Name: "authority issuing", Sent: "aa", Expected: true, Accepted: probe.Accepted}
	bad := probe.TrialResult{Name: "a throwaway root", Sent: "bb", Accepted: probe.Rejected}
	taken, silent, another := bad, good, good
	another.Name = "authority issuing-2"
	taken.Accepted, silent.Accepted = probe.Accepted, probe.Silent
	level := func(trials ...probe.TrialResult) string {
		t.Helper()
		statement, err := probe.Observation{
			Time: d.clock.now(), Observer: h.id, Address: "127.0.0.1:1", Outcome: probe.Served, Trials: trials,
			Leaf: &probe.Leaf{Fingerprint: pki.FingerprintOf(leaf.Raw).String()},
		}.Statement()
		if err != nil {
			t.Fatal(err)
		}
		digest := h.desired().BundleDigest
		err = h.report(&api.PlacementReport{
			State: api.State_STATE_STEADY, Generation: 1, Revision: 1, Level: api.Level_LEVEL_PROVEN,
			BundleDigest: digest, Evidence: h.sign(statement),
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := h.status().Level; got != api.Level_LEVEL_PROVEN {
			t.Errorf("the leaf is %s", got)
		}
		var all []store.Adoption
		if err := d.db.Read(t.Context(), func(tx *store.Tx) error {
			var err error
			all, err = tx.PlacementAdoptions(t.Context(), h.placement())
			return err
		}); err != nil || len(all) != 1 || all[0].BundleDigest != digest {
			t.Fatalf("adoptions %v, %v", all, err)
		}
		return all[0].Level
	}
	for _, c := range []struct {
		name, want string
		trials     []probe.TrialResult
	}{
		{"no trial", "loaded", nil},
		{"nothing refused", "loaded", []probe.TrialResult{good}},
		{"nothing accepted", "loaded", []probe.TrialResult{bad}},
		{"everybody is taken", "loaded", []probe.TrialResult{good, taken}},
		{"one too many is taken", "loaded", []probe.TrialResult{good, bad, taken}},
		{"one is met with silence", "loaded", []probe.TrialResult{silent, bad}},
		{"under another root only", "loaded", []probe.TrialResult{another, bad}},
		{"accepted and refused", "proven", []probe.TrialResult{good, bad}},
		{"proven before, the same bundle", "proven", nil},
	} {
		if got := level(c.trials...); got != c.want {
			t.Errorf("%s: the bundle is %s, want %s", c.name, got, c.want)
		}
	}
}
