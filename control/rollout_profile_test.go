package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store"
)

// profiles are others than the one of orders-tls.
const profiles = `
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: bigger}
spec: {algorithm: ecdsa-p384, lifetime: 12h, usages: [serverAuth]}
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: shorter}
spec: {lifetime: 6h, usages: [serverAuth]}
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: forbidden}
spec: {lifetime: 6h, usages: [serverAuth]}
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: revoked}
spec: {lifetime: 6h, usages: [serverAuth], revocation: {crl: true}}
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: client}
spec: {lifetime: 6h, usages: [clientAuth]}
---
apiVersion: rotunda/v1
kind: Policy
metadata: {name: profiles}
spec:
  rules:
    - {name: not-that-one, effect: deny, when: 'profile == "forbidden"'}
`

func profiled(t *testing.T, n int) (*domain, map[string]*host) {
	d, hosts := rolled(t, n)
	d.apply(profiles)
	return d, hosts
}

// takes has a host renew under the profile that is desired of it, and reports
// it as in use.
func (h *host) takes(generation uint64) {
	h.domain.t.Helper()
	result := h.asks(generation, pki.KeyAlgorithm(h.desired().Profile.Algorithm))
	leafOf(h.domain.t, result)
	err := h.report(&api.PlacementReport{
		Generation: generation, Revision: generation, State: api.State_STATE_STEADY, Level: api.Level_LEVEL_DELIVERED,
		CommittedAt: timestamppb.New(h.domain.clock.now()),
	})
	if err != nil {
		h.domain.t.Fatal(err)
	}
}

func (h *host) asks(generation uint64, algorithm pki.KeyAlgorithm) *api.IssueResult {
	h.domain.t.Helper()
	key, err := algorithm.Generate()
	if err != nil {
		h.domain.t.Fatal(err)
	}
	request, err := pki.NewCSR(key)
	if err != nil {
		h.domain.t.Fatal(err)
	}
	return h.issue(h.placement(), generation, request)
}

func (d *domain) try(profile string, slice map[string]string, steps ...string) (*api.StartRolloutResponse, error) {
	return d.StartRollout(d.t.Context(), operator, &api.StartRolloutRequest{
		Name: strings.TrimSuffix("try-"+profile, "-"), Intent: "orders-tls", Spec: &api.RolloutSpec{Profile: profile, Slice: slice, Steps: steps},
	})
}

// desires says which profile is desired where.
func desires(hosts map[string]*host) map[string]int {
	counts := map[string]int{}
	for _, h := range hosts {
		counts[h.desired().Profile.Name]++
	}
	return counts
}

func wantDesired(t *testing.T, hosts map[string]*host, want string) {
	t.Helper()
	if got := fmt.Sprint(desires(hosts)); got != "map["+want+"]" {
		t.Errorf("desired are %s, want %s", got, want)
	}
}

func (d *domain) endOverrides() int {
	d.t.Helper()
	n, err := d.EndOverrides(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

// A profile is tried on a slice, wave by wave: there it is used by desire,
// issuance and policy, whatever was granted before, and nowhere else; status and
// plan say so; and the documents can take it over.
func TestProfileOnASlice(t *testing.T) {
	d, hosts := profiled(t, 6)
	for _, h := range hosts { // a grant under the profile of before is kept
		h.gets(2)
	}
	begun, err := d.try("bigger", map[string]string{"shard": "0"}, "1", "100%")
	if err != nil {
		t.Fatal(err)
	}
	if len(begun.Members) != 3 || begun.Rollout.Spec.Profile != "bigger" || begun.Rollout.Spec.Slice["shard"] != "0" {
		t.Fatalf("begun %v", begun)
	}
	wantDesired(t, hosts, "server:6")
	d.advance()
	wantDesired(t, hosts, "bigger:1 server:5")
	canary := hosts[begun.Members[0].Placement]
	if result := canary.asks(3, pki.ECDSAP256); !strings.Contains(result.Error, "profile bigger wants ecdsa-p384") {
		t.Errorf("a key of the intent's profile: %v", result)
	}
	canary.takes(3)
	d.restart()
	d.advance()
	wantDesired(t, hosts, "bigger:3 server:3")
	for _, m := range begun.Members[1:] {
		hosts[m.Placement].takes(3)
	}
	d.advance()
	if state := d.rollout("try-bigger").Rollout.State; state != "done" {
		t.Fatalf("it is %s", state)
	}
	described, err := d.DescribePlacement(t.Context(), operator, &api.DescribePlacementRequest{Id: begun.Members[0].Placement})
	if o := described.GetStatus().GetProfileOverride(); err != nil || o.GetProfile() != "bigger" || o.GetRollout() != "try-bigger" {
		t.Errorf("described %v, %v", o, err)
	}
	if _, err := d.try("shorter", nil); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("a second one: %v", err)
	}
	_, err = d.DeleteDocument(t.Context(), operator, &api.DeleteDocumentRequest{Kind: "Profile", Name: "bigger"})
	if fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), "rollout try-bigger has profile bigger used at 3 placement(s)") {
		t.Errorf("deleted: %v", err)
	}

	said := d.apply(strings.Replace(documents, "profile: server", "profile: shorter", 1))
	if !hasFinding(said, "override-stands", "rollout try-bigger has profile bigger used at 3 placement(s) of it in the place of shorter: they keep it") {
		t.Errorf("findings %v", said.Findings)
	}
	wantDesired(t, hosts, "bigger:3 shorter:3")
	said = d.apply(strings.Replace(documents, "profile: server", "profile: bigger", 1))
	if !hasFinding(said, "override-stands", "it becomes their own, and they do not rotate for it") || !strings.Contains(fmt.Sprint(said.Differences), "3 placement(s) rotate") {
		t.Errorf("findings %v, differences %v", said.Findings, said.Differences)
	}
	wantDesired(t, hosts, "bigger:6")
	d.apply(documents)
	wantDesired(t, hosts, "server:6")
}

// hasFinding says whether a finding of the rule says so.
func hasFinding(said *api.ApplyResponse, rule, words string) bool {
	return slices.ContainsFunc(said.Findings, func(f *api.Finding) bool { return f.Rule == rule && strings.Contains(f.Message, words) })
}

// An abort takes a profile back with the next renewal: at once where that makes
// no other certificate necessary, and else when one is due, so that nobody
// rotates for it.
func TestProfileIsTakenBackByAbort(t *testing.T) {
	for profile, atOnce := range map[string]bool{"shorter": true, "bigger": false} {
		t.Run(profile, func(t *testing.T) {
			d, hosts := profiled(t, 2)
			if _, err := d.try(profile, nil, "1", "100%"); err != nil {
				t.Fatal(err)
			}
			d.advance()
			tried := d.rollout("try-" + profile).Members[0].Placement
			hosts[tried].takes(2)
			if d.endOverrides() != 0 {
				t.Error("it ends while it stands")
			}
			if _, err := d.decide("try-"+profile, "abort"); err != nil {
				t.Fatal(err)
			}
			d.advance()
			ended := d.endOverrides()
			if atOnce != (ended == 1) {
				t.Fatalf("%d end at once", ended)
			}
			if atOnce {
				wantDesired(t, hosts, "server:2")
				return
			}
			wantDesired(t, hosts, "bigger:1 server:1")
			d.clock.turn(hosts[tried].desired().RenewAfter.AsTime().Sub(d.clock.now()) - time.Minute)
			if d.endOverrides() != 0 {
				t.Error("it ends before a renewal is due")
			}
			d.clock.turn(2 * time.Minute)
			d.restart()
			if d.endOverrides() != 1 || d.endOverrides() != 0 {
				t.Error("it does not end once when a renewal is due")
			}
			wantDesired(t, hosts, "server:2")
			hosts[tried].takes(3)
			if entries := d.entries(); !strings.Contains(strings.Join(entries, "\n"), `"verb":"profile.restore"`) {
				t.Error("no entry says that it has ended")
			}
		})
	}
}

// An abort while a placement is on its way lets it go on under its own profile:
// it may be the profile that it fails by.
func TestAbortOnTheWay(t *testing.T) {
	d, hosts := profiled(t, 1)
	if _, err := d.try("bigger", nil); err != nil {
		t.Fatal(err)
	}
	d.advance()
	wantDesired(t, hosts, "bigger:1")
	if _, err := d.decide("try-bigger", "abort"); err != nil {
		t.Fatal(err)
	}
	if d.endOverrides() != 1 {
		t.Error("it stands yet")
	}
	wantDesired(t, hosts, "server:1")
}

// A rollback takes a profile back by rotating again, newest wave first; who has
// not had his turn keeps it until then.
func TestProfileIsRolledBack(t *testing.T) {
	d, hosts := profiled(t, 3)
	if _, err := d.try("bigger", nil, "1", "100%"); err != nil {
		t.Fatal(err)
	}
	d.advance()
	canary := d.rollout("try-bigger").Members[0].Placement
	hosts[canary].takes(2)
	d.advance()
	for id, h := range hosts {
		if id != canary {
			h.takes(2)
		}
	}
	d.advance()
	wantDesired(t, hosts, "bigger:3")
	if _, err := d.decide("try-bigger", "rollback"); err != nil {
		t.Fatal(err)
	}
	d.endOverrides()
	wantDesired(t, hosts, "bigger:3")
	d.advance()
	d.endOverrides()
	wantDesired(t, hosts, "bigger:1 server:2")
	for id, h := range hosts {
		if id != canary {
			h.takes(3)
		}
	}
	d.advance()
	wantDesired(t, hosts, "server:3")
	if back := d.rollout("try-bigger-rollback").Rollout; back.Spec.Profile != "" {
		t.Errorf("the rollback tries %s", back.Spec.Profile)
	}
}

// What can't be tried is refused with the rule, and nothing has changed.
func TestProfilesThatAreRefused(t *testing.T) {
	d, hosts := profiled(t, 2)
	for name, test := range map[string]struct {
		profile string
		slice   map[string]string
		code    fault.Code
		says    string
	}{
		"unknown":         {"nowhere", nil, fault.NotFound, `profile "nowhere" does not exist`},
		"no such slice":   {"bigger", map[string]string{"shard": "7"}, fault.NotFound, "slice \"shard=7\" matches no placement"},
		"another usage":   {"client", nil, fault.Invalid, "is for clientAuth, and intent orders-tls has certificates for serverAuth"},
		"its own":         {"server", nil, fault.Invalid, "is what intent orders-tls names already"},
		"policy says no":  {"forbidden", nil, fault.Forbidden, "not-that-one"},
		"slice, no other": {"", map[string]string{"shard": "0"}, fault.Invalid, "a slice is for a profile"},
	} {
		t.Run(name, func(t *testing.T) {
			entries := len(d.entries())
			_, err := d.try(test.profile, test.slice)
			if wantCode(t, err, test.code); !strings.Contains(err.Error(), test.says) {
				t.Errorf("refused: %v", err)
			}
			if list, err := d.ListRollouts(t.Context(), operator, &api.ListRolloutsRequest{Ended: true}); err != nil || len(list.Rollouts) > 0 || len(d.entries()) != entries {
				t.Errorf("something changed: %v, %v", list, err)
			}
		})
	}
	cache := strings.Replace(documents, "  selector: {role: orders}\n", "  selector: {role: orders}\n  target: {kind: KIND, name: cache, address: \"127.0.0.1:1\"}\n", 1)
	for kind, c := range map[string]struct{ profile, says string }{
		"memcached": {"bigger", "takes a key of another type at its start only"},
		"nats":      {"revoked", "never reads any"},
	} {
		said, err := d.Apply(t.Context(), operator, &api.ApplyRequest{Files: source(strings.Replace(cache, "KIND", kind, 1))})
		if err != nil || said.AuditId == "" {
			t.Fatalf("%v, %v", said, err)
		}
		_, err = d.try(c.profile, nil)
		if wantCode(t, err, fault.Invalid); !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	wantDesired(t, hosts, "server:2")
}

// Two rollouts that are about to use profiles at one placement: the second one
// is refused while the first is open, though it has asked nobody yet.
func TestOneOverrideAPlacement(t *testing.T) {
	d, hosts := profiled(t, 2)
	if _, err := d.try("bigger", map[string]string{"shard": "0"}); err != nil {
		t.Fatal(err)
	}
	_, err := d.try("shorter", nil)
	wantCode(t, err, fault.Conflict)
	if _, err := d.try("shorter", map[string]string{"shard": "1"}); err != nil {
		t.Fatal(err)
	}
	d.advance()
	wantDesired(t, hosts, "bigger:1 shorter:1")
	for id := range hosts {
		err := d.db.Write(t.Context(), func(tx *store.Tx) error {
			return tx.InsertOverride(t.Context(), d.rollout("try-bigger").Rollout.Id, id, "server")
		})
		wantCode(t, err, fault.Conflict)
	}
}

// A placement that no intent wants any more has no other profile when it comes
// back, and keeps nobody from removing that one.
func TestOverrideOfAnOrphanEnds(t *testing.T) {
	d, hosts := profiled(t, 1)
	if _, err := d.try("bigger", nil); err != nil {
		t.Fatal(err)
	}
	d.advance()
	wantDesired(t, hosts, "bigger:1")
	d.apply(strings.Replace(documents, "{role: orders}", "{role: others}", 1))
	if d.endOverrides() != 1 {
		t.Error("it stands yet")
	}
	d.apply(documents)
	wantDesired(t, hosts, "server:1")
}
