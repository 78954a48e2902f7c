package policy

import (
	"fmt"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Tests is a file of cases for policies:
//
//	policies: [policies/]        # optional, for the command line
//	cases:
//	  - name: orders may serve under its own name
//	    expect: allow
//	    rule: orders/servers     # optional: the rule that must decide
//	    input:
//	      service: orders
//	      agent: {labels: {env: prod}}
//	      names: {dnsNames: [orders.example.com]}
//	      usages: [serverAuth]
//	      algorithm: ecdsa-p256
//	      lifetime: 24h
type Tests struct {
	// The files or directories of the policies that are tested.
	Policies []string `json:"policies"`
	// The cases.
	Cases []Case `json:"cases"`
}

// Case is one input and the decision that is expected.
type Case struct {
	Name   string       `json:"name"`
	Expect fleet.Effect `json:"expect"`
	Rule   string       `json:"rule"`
	Input  caseInput    `json:"input"`
}

// caseInput has the shape that rules see.
type caseInput struct {
	Service  string `json:"service"`
	Intent   string `json:"intent"`
	Profile  string `json:"profile"`
	Instance string `json:"instance"`
	Agent    struct {
		ID     string            `json:"id"`
		Region string            `json:"region"`
		Zone   string            `json:"zone"`
		Labels map[string]string `json:"labels"`
	} `json:"agent"`
	Names struct {
		CommonName  string   `json:"commonName"`
		DNSNames    []string `json:"dnsNames"`
		IPAddresses []string `json:"ipAddresses"`
		URI         string   `json:"uri"`
	} `json:"names"`
	Usages    []fleet.Usage   `json:"usages"`
	Algorithm fleet.Algorithm `json:"algorithm"`
	Lifetime  fleet.Duration  `json:"lifetime"`
}

// CaseResult is how one case went.
type CaseResult struct {
	Name     string
	Passed   bool
	Decision Decision
	Problem  string // what differs from what was expected; empty when passed
	Line     int    // of the case in its file
}

// ParseTests reads a file of cases, and reports all that is wrong with it.
func ParseTests(file fleet.File) (Tests, []fleet.Finding) {
	tests, _, findings := parseTests(file)
	return tests, findings
}

func parseTests(file fleet.File) (Tests, map[string]int, []fleet.Finding) {
	var tests Tests
	lines, findings := fleet.Decode(file, &tests)
	fail := func(path, rule, message, remedy string) {
		position := fleet.Position{File: file.Path, Line: lines[path]}
		findings = append(findings, fleet.Finding{Severity: fleet.Error, Position: position, Rule: rule, Message: message, Remedy: remedy})
	}
	if len(tests.Cases) == 0 && !fleet.HasErrors(findings) {
		fail("cases", "required", "the file has no cases", "write cases, with input and expect")
	}
	named := make(map[string]bool)
	for i, c := range tests.Cases {
		at := fmt.Sprintf("cases[%d]", i)
		if c.Name == "" {
			fail(at, "required", at+" has no name", "say in words what it shows")
		} else if named[c.Name] {
			fail(at, "duplicate", fmt.Sprintf("two cases are named %q", c.Name), "give one another name")
		}
		named[c.Name] = true
		if c.Expect == "" && !fleet.HasErrors(findings) {
			fail(at, "required", at+" expects nothing", "write expect: allow or expect: deny")
		}
	}
	return tests, lines, findings
}

// RunTests runs the cases of a file against the engine.
func RunTests(e *Engine, file []byte) ([]CaseResult, error) {
	tests, lines, findings := parseTests(fleet.File{Content: file})
	for _, f := range findings {
		if f.Severity == fleet.Error {
			return nil, fault.New(fault.Invalid, "policy tests: line %s", f)
		}
	}
	results := make([]CaseResult, 0, len(tests.Cases))
	for i, c := range tests.Cases {
		result := c.run(e)
		result.Line = lines[fmt.Sprintf("cases[%d]", i)]
		results = append(results, result)
	}
	return results, nil
}

func (c Case) run(e *Engine) CaseResult {
	d := e.Decide(c.Input.input())
	result := CaseResult{Name: c.Name, Decision: d}
	decided := fleet.Deny
	if d.Allowed {
		decided = fleet.Allow
	}
	switch {
	case decided != c.Expect:
		result.Problem = fmt.Sprintf("expected %s, but %s", c.Expect, d.Reason)
	case c.Rule != "" && c.Rule != d.Rule:
		result.Problem = fmt.Sprintf("expected rule %s to decide, but rule %s did", c.Rule, d.Rule)
	default:
		result.Passed = true
	}
	return result
}

func (in caseInput) input() Input {
	out := Input{
		Service: in.Service, Intent: in.Intent, Profile: in.Profile, Instance: in.Instance,
		Agent:      Agent{ID: in.Agent.ID, Region: in.Agent.Region, Zone: in.Agent.Zone, Labels: in.Agent.Labels},
		CommonName: in.Names.CommonName, DNSNames: in.Names.DNSNames, IPAddresses: in.Names.IPAddresses, URI: in.Names.URI,
		Algorithm: string(in.Algorithm), Lifetime: in.Lifetime.Std(),
	}
	for _, usage := range in.Usages {
		out.Usages = append(out.Usages, string(usage))
	}
	return out
}
