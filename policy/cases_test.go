package policy

import (
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

const cases = `
cases:
  - name: orders may serve
    expect: allow
    rule: orders/servers
    input: &ok
      service: orders
      agent: {labels: {env: prod, quarantine: "no"}}
      names: {dnsNames: [a.orders.example.com]}
      lifetime: 24h
  - name: nothing is refused
    expect: deny
    input: *ok
  - name: by another rule
    expect: allow
    rule: house/prod-only
    input: *ok
  - name: no wildcards
    expect: deny
    rule: orders/never-wild
    input:
      service: orders
      agent: {labels: {env: prod, quarantine: "no"}}
      names: {dnsNames: ["*.orders.example.com"]}
`

func TestRunTests(t *testing.T) {
	results, err := RunTests(engine(t, policies), []byte(cases))
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		passed  bool
		line    int
		problem string
	}{
		{true, 3, ""},
		{false, 11, "expected deny, but rule orders/servers allows it"},
		{false, 14, "expected rule house/prod-only to decide, but rule orders/servers did"},
		{true, 18, ""},
	}
	if len(results) != len(want) {
		t.Fatalf("%d results, want %d", len(results), len(want))
	}
	for i, r := range results {
		if r.Passed != want[i].passed || r.Line != want[i].line || r.Problem != want[i].problem {
			t.Errorf("case %d: %+v, want %+v", i, r, want[i])
		}
	}
}

func TestBadTestFiles(t *testing.T) {
	for name, c := range map[string]struct{ file, says string }{
		"empty":         {"", "no document"},
		"no cases":      {"cases: []", "no cases"},
		"unknown field": {"cases:\n  - {name: a, expect: allow, inptu: {}}", "2: error [unknown-field]"},
		"no expect":     {"cases:\n  - {name: a, input: {}}", "write expect"},
		"bad expect":    {"cases:\n  - {name: a, expect: maybe}", "write one of allow, deny"},
		"no name":       {"cases:\n  - {expect: deny}", "has no name"},
		"twice":         {"cases:\n  - {name: a, expect: deny}\n  - {name: a, expect: deny}", "two cases"},
		"two documents": {"cases: []\n---\ncases: []\n", "more than one document"},
		"bad lifetime":  {"cases:\n  - {name: a, expect: deny, input: {lifetime: 24}}", "not a duration"},
	} {
		t.Run(name, func(t *testing.T) {
			results, err := RunTests(engine(t, policies), []byte(c.file))
			if err == nil || len(results) > 0 || !strings.Contains(err.Error(), c.says) || fault.CodeOf(err) != fault.Invalid {
				t.Errorf("RunTests = %v, %v; want an error that says %q", results, err, c.says)
			}
		})
	}
}

func FuzzParseTests(f *testing.F) {
	f.Add([]byte(cases))
	f.Add([]byte("cases: [{name: a, expect: deny}]"))
	e := engine(f, policies)
	f.Fuzz(func(t *testing.T, file []byte) {
		results, err := RunTests(e, file)
		if (err == nil) == (len(results) == 0) {
			t.Fatalf("%d results, %v", len(results), err)
		}
	})
}
