package policy

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/fleet"
)

// example reads the documents of the examples that a pattern names.
func example(t *testing.T, pattern string) []fleet.Document {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: %v, %v", pattern, paths, err)
	}
	var files []fleet.File
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, fleet.File{Path: path, Content: content})
	}
	found, findings := fleet.ParseFiles(files)
	for _, f := range findings {
		t.Fatal(f)
	}
	return found
}

// TestExamplesAreAllowed holds that the policies of the examples allow what
// their intents ask for, on the hosts that they are written for and on no
// other.
func TestExamplesAreAllowed(t *testing.T) {
	domain := spiffeid.RequireTrustDomainFromString("example.org")
	for pattern, agents := range map[string][]fleet.Agent{
		"../examples/first.yaml": {{ID: "a1", Labels: map[string]string{"role": "hello"}}},
		"../examples/etcd/*.yaml": {
			{ID: "a1", Labels: map[string]string{"role": "etcd", "member": "m1", "ip": "10.0.0.11"}},
			{ID: "a2", Labels: map[string]string{"role": "orders"}},
		},
	} {
		found := example(t, pattern)
		set := fleet.NewSet(found...)
		e, findings := Compile(found)
		if len(findings) > 0 {
			t.Fatal(findings)
		}
		for _, agent := range agents {
			var placements []fleet.Expanded
			for _, document := range set.OfKind(fleet.KindIntent) {
				intent := document.Spec.(*fleet.Intent)
				if !intent.Selects(agent.Labels) {
					continue
				}
				profile, _ := set.Profile(intent.Profile)
				expanded, err := fleet.Expand(domain, document, profile, agent, "main")
				if err != nil {
					t.Fatal(err)
				}
				placements = append(placements, expanded)
				if expanded.Names == nil {
					continue
				}
				in := InputOf(expanded, agent)
				if d := e.Decide(in); !d.Allowed {
					t.Errorf("%s: %s", expanded.Placement, d.Reason)
				}
				in.DNSNames = append(in.DNSNames, "another.example.com")
				if d := e.Decide(in); d.Allowed {
					t.Errorf("%s with another's name is allowed: %s", expanded.Placement, d.Reason)
				}
			}
			if len(placements) == 0 {
				t.Errorf("%s selects nothing on %v", pattern, agent.Labels)
			}
			if err := fleet.CheckHost(placements); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestExampleCases runs the cases as `rotunda policy test` does.
func TestExampleCases(t *testing.T) {
	const path = "../examples/tests/etcd.yaml"
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tests, findings := ParseTests(fleet.File{Path: path, Content: content})
	if len(findings) > 0 || len(tests.Policies) != 1 {
		t.Fatalf("%v, %v", tests.Policies, findings)
	}
	e, findings := Compile(example(t, filepath.Join(filepath.Dir(path), tests.Policies[0])))
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	results, err := RunTests(e, content)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if !r.Passed {
			t.Errorf("line %d: %s: %s", r.Line, r.Name, r.Problem)
		}
	}
}
