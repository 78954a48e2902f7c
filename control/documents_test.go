package control

import (
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

func (d *domain) plan(content string) *api.PlanResponse {
	d.t.Helper()
	response, err := d.Plan(d.t.Context(), operator, &api.PlanRequest{Files: source(content)})
	if err != nil {
		d.t.Fatal(err)
	}
	return response
}

func ops(differences []*api.Difference) string {
	var words []string
	for _, difference := range differences {
		words = append(words, difference.Op.String()+" "+difference.Kind+"/"+difference.Name)
	}
	return strings.Join(words, ", ")
}

func rules(findings []*api.Finding) string {
	var words []string
	for _, finding := range findings {
		words = append(words, finding.Rule)
	}
	return strings.Join(words, ", ")
}

func TestPlanSaysWhatApplyDoes(t *testing.T) {
	d := found(t)
	d.enrolHost(map[string]string{"role": "orders", "host": "a"})

	plan := d.plan(documents)

	const all = "CREATE Service/orders, CREATE Profile/server, CREATE Policy/names, CREATE Intent/orders-tls"
	if got := ops(plan.Differences); got != all {
		t.Errorf("plan: %s", got)
	}
	if got := strings.Join(plan.Differences[3].Effects, ""); !strings.Contains(got, "1 placement(s) begin") {
		t.Errorf("the intent's effects: %q", got)
	}
	if got := ops(d.apply(documents).Differences); got != all {
		t.Errorf("apply: %s", got)
	}
	for _, difference := range d.plan(documents).Differences {
		if difference.Op != api.Difference_UNCHANGED {
			t.Errorf("after apply, plan still has %v", difference)
		}
	}
	longer := strings.Replace(documents, "lifetime: 24h", "lifetime: 12h", 1)
	changed := d.plan(longer)
	if got := strings.Join(changed.Differences[1].Changes, " "); !strings.Contains(got, "24h") || !strings.Contains(got, "12h") {
		t.Errorf("the profile's changes: %q", got)
	}
}

// Whatever is wrong with one document, nothing of the others is applied.
func TestNothingIsHalfApplied(t *testing.T) {
	d := found(t)
	d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	for _, c := range []struct{ name, from, to, rule string }{
		{"unknown field", "lifetime: 24h", "lifetime: 24h, lifespan: 2h", "unknown-field"},
		{"dangling profile", "profile: server", "profile: sever", "dangling"},
		{"a name that the policy refuses", ".orders.test.example\"]", ".payments.test.example\"]", "policy"},
		{"a name outside the issuing authority's constraints", ".orders.test.example", ".orders.elsewhere.example", "name-constraints"},
		{"a label that the agent lacks", "labels.host", "labels.rack", "expand"},
		{"CEL that does not compile", "service == ", "service = ", "cel"},
		{"a duplicate", "kind: Profile\nmetadata: {name: server}", "kind: Service\nmetadata: {name: orders}", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			content := strings.ReplaceAll(documents, c.from, c.to)
			if content == documents {
				t.Fatal("the case changes nothing")
			}
			response, err := d.Apply(t.Context(), operator, &api.ApplyRequest{Files: source(content)})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(rules(response.Findings), c.rule) || len(response.Findings) == 0 {
				t.Errorf("findings %v, want rule %q", response.Findings, c.rule)
			}
			for _, finding := range response.Findings {
				if finding.Severity == api.Finding_ERROR && finding.File == "fleet.yaml" && finding.Line == 0 {
					t.Errorf("finding without a line: %v", finding)
				}
			}
			list, err := d.ListDocuments(t.Context(), operator, &api.ListDocumentsRequest{})
			if err != nil || len(list.Documents) != 0 {
				t.Fatalf("%d documents were stored, %v", len(list.Documents), err)
			}
		})
	}
}

func TestSelectorThatSelectsNothingIsAWarning(t *testing.T) {
	d := found(t)
	plan := d.plan(documents)
	if len(plan.Findings) != 1 || plan.Findings[0].Rule != "selects-nothing" || plan.Findings[0].Severity != api.Finding_WARNING {
		t.Errorf("findings %v", plan.Findings)
	}
}

func TestApplyOfAnOldPlanIsRefused(t *testing.T) {
	d := found(t)
	plan := d.plan(documents)
	d.apply(strings.Replace(documents, "lifetime: 24h", "lifetime: 12h", 1))
	_, err := d.Apply(t.Context(), operator, &api.ApplyRequest{Files: source(documents), ExpectState: plan.State})
	wantCode(t, err, fault.Conflict)
}

func TestDeletionKeepsWhatIsReferredTo(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	_, err := d.DeleteDocument(t.Context(), operator, &api.DeleteDocumentRequest{Kind: "Profile", Name: "server"})
	wantCode(t, err, fault.Conflict)

	dry, err := d.DeleteDocument(t.Context(), operator, &api.DeleteDocumentRequest{Kind: "Intent", Name: "orders-tls", DryRun: true})
	if err != nil || !strings.Contains(strings.Join(dry.Effects, ""), "become orphans") {
		t.Fatalf("dry run: %v, %v", dry, err)
	}
	placement := h.placement()
	if _, err := d.DeleteDocument(t.Context(), operator, &api.DeleteDocumentRequest{Kind: "Intent", Name: "orders-tls"}); err != nil {
		t.Fatal(err)
	}
	desired, err := d.Desired(t.Context(), h.caller)
	if err != nil || !desired.Placements[0].Orphan {
		t.Fatalf("the placement is no orphan: %v, %v", desired, err)
	}
	_, request := csr(t)
	if result := h.issue(placement, 1, request); result.ErrorCode != string(fault.Forbidden) {
		t.Errorf("an orphan got a certificate: %v", result)
	}
	d.apply(documents) // and back: the same placement, so generations go on
	if got := h.placement(); got != placement {
		t.Errorf("placement %s came back as %s", placement, got)
	}
}

// A policy that allows what placements hold can't be deleted from under them.
func TestDeletionKeepsWhatPlacementsNeed(t *testing.T) {
	d := found(t)
	d.apply(documents)
	remove := &api.DeleteDocumentRequest{Kind: "Policy", Name: "names"}
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	_, err := d.DeleteDocument(t.Context(), operator, remove)
	wantCode(t, err, fault.Conflict)
	if _, err := d.RetireAgent(t.Context(), operator, &api.RetireAgentRequest{AgentId: h.id}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.DeleteDocument(t.Context(), operator, remove); err != nil {
		t.Errorf("nobody needs it now: %v", err)
	}
}

// Apply never removes what the files do not mention, unless it is told to.
func TestPruneRemovesAndNothingElseDoes(t *testing.T) {
	d := found(t)
	d.apply(documents)
	service, _, _ := strings.Cut(documents, "---")
	d.apply(service)
	list, err := d.ListDocuments(t.Context(), operator, &api.ListDocumentsRequest{})
	if err != nil || len(list.Documents) != 4 {
		t.Fatalf("%d documents left, %v", len(list.Documents), err)
	}
	if _, err := d.Apply(t.Context(), operator, &api.ApplyRequest{Files: source(service), Prune: true}); err != nil {
		t.Fatal(err)
	}
	list, err = d.ListDocuments(t.Context(), operator, &api.ListDocumentsRequest{})
	if err != nil || len(list.Documents) != 1 {
		t.Fatalf("%d documents left after prune, %v", len(list.Documents), err)
	}
}

func TestReplayFindsWhatANewPolicyWouldRefuse(t *testing.T) {
	d := found(t)
	d.apply(documents)
	h := d.enrolHost(map[string]string{"role": "orders", "host": "a"})
	_, request := csr(t)
	leafOf(t, h.issue(h.placement(), 1, request))

	same, err := d.ReplayPolicy(t.Context(), operator, &api.ReplayPolicyRequest{})
	if err != nil || same.Certificates != 1 || len(same.Differences) != 0 {
		t.Fatalf("under the policies in force: %v, %v", same, err)
	}
	stricter, err := d.ReplayPolicy(t.Context(), operator, &api.ReplayPolicyRequest{Files: source(`
apiVersion: rotunda/v1
kind: Policy
metadata: {name: freeze}
spec: {rules: [{name: no-a, effect: deny, when: 'agent.labels["host"] == "a"'}]}
`)})
	if err != nil || len(stricter.Differences) != 1 || stricter.Differences[0].Now != "freeze/no-a" || stricter.Differences[0].Was != "names/own" {
		t.Fatalf("under a stricter one: %v, %v", stricter, err)
	}
}

func TestVerbsAreClosedToOthers(t *testing.T) {
	d := found(t)
	agent := Caller{Kind: Agent, ID: "x"}
	_, err := d.Apply(t.Context(), agent, &api.ApplyRequest{})
	wantCode(t, err, fault.Forbidden)
	_, err = d.CreateToken(t.Context(), Caller{Kind: Anonymous}, &api.CreateTokenRequest{})
	wantCode(t, err, fault.Forbidden)
	_, err = d.Issue(t.Context(), operator, &api.IssueRequest{})
	wantCode(t, err, fault.Forbidden)
	_, err = d.IssueOperator(t.Context(), agent, &api.IssueOperatorRequest{Name: "x"})
	wantCode(t, err, fault.Forbidden)
}
