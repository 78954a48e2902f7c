package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/fleet"
)

// oneRule is a policy with one rule of the condition, in a block.
func oneRule(effect, when string) string {
	indented := strings.ReplaceAll(when, "\n", "\n        ")
	return fmt.Sprintf("apiVersion: rotunda/v1\nkind: Policy\nmetadata: {name: p}\nspec:\n  rules:\n    - name: r\n      effect: %s\n      when: |\n        %s\n", effect, indented)
}

func TestBadConditionsHaveLineAndColumn(t *testing.T) {
	for _, c := range []struct {
		name, when string
		line       int // in the file; the condition begins in line 9
		says       []string
	}{
		{"syntax", `service ==`, 9, []string{"line 1, column"}},
		{"second line", "service == 'x'\n&& nonsense == 1", 10, []string{"line 2, column 4", "undeclared reference to 'nonsense'"}},
		{"a misspelt field", `agent.regoin == "eu"`, 9, []string{"undeclared reference"}},
		{"types", `lifetime < 24`, 9, []string{"no matching overload"}},
		{"not a condition", `service`, 8, []string{"not true or false"}},
		{"too long", `service == "` + strings.Repeat("x", maxExpression) + `"`, 8, []string{"bytes"}},
		{"too deep", strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200), 8, []string{"recursion"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, findings := Compile(documents(t, oneRule("allow", c.when)))
			if e != nil || len(findings) == 0 {
				t.Fatalf("Compile = %v, %v", e, findings)
			}
			f := findings[0]
			if f.Position.Line != c.line || f.Document != "Policy/p" || f.Severity != fleet.Error {
				t.Errorf("finding %v is not an error about line %d of Policy/p", f, c.line)
			}
			for _, part := range append(c.says, "rule r") {
				if !strings.Contains(f.Message, part) {
					t.Errorf("%q does not say %q", f.Message, part)
				}
			}
		})
	}
}

func TestAllBadRulesAreReportedAtOnce(t *testing.T) {
	text := oneRule("allow", "bad1") + "    - {name: s, effect: deny, when: bad2}\n    - {name: t, effect: deny, when: 'true'}\n"
	if _, findings := Compile(documents(t, text)); len(findings) != 2 {
		t.Errorf("%d findings, want 2: %v", len(findings), findings)
	}
}

// costly loops over the names four times within each other.
const costly = `names.dnsNames.all(a, names.dnsNames.all(b, names.dnsNames.all(c, names.dnsNames.all(d, a + b + c + d != ""))))`

func TestCostIsLimited(t *testing.T) {
	in := request()
	in.DNSNames = nil
	for i := range maxItems {
		in.DNSNames = append(in.DNSNames, fmt.Sprintf("n%d.example.com", i))
	}
	if d := engine(t, oneRule("allow", costly)).Decide(in); d.Allowed || !strings.Contains(d.Reason, "cost limit") {
		t.Errorf("a costly allow: %+v", d)
	}
	if d := engine(t, oneRule("deny", costly)).Decide(in); d.Allowed || d.Rule != "p/r" || !strings.Contains(d.Reason, "cost limit") {
		t.Errorf("a costly deny: %+v", d)
	}
	in.DNSNames = in.DNSNames[:2]
	if d := engine(t, oneRule("allow", costly)).Decide(in); !d.Allowed {
		t.Errorf("the same rule on a small input: %+v", d)
	}
}

func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		`service == "orders" && agent.labels.env == "prod"`, `true`, `[1,2].all(x, x > 0)`, `has(agent.labels.x)`,
		`names.dnsNames.exists(n, n.matches("^a+$"))`, costly, `service.split(".")[3] == ""`, `1/0 == 1`, "\"\\u0000\" == ''",
		`duration("1h") < lifetime`, `agent.labels.x.y`, `{}[0]`, `size(usages) == 1 ? true : false`,
	} {
		f.Add(seed)
	}
	in := request()
	f.Fuzz(func(t *testing.T, when string) {
		for _, effect := range []fleet.Effect{fleet.Allow, fleet.Deny} {
			document := fleet.Document{Kind: fleet.KindPolicy, Name: "p", Spec: &fleet.Policy{Rules: []fleet.Rule{{Name: "r", Effect: effect, When: when}}}}
			e, findings := Compile([]fleet.Document{document})
			if (e == nil) != fleet.HasErrors(findings) {
				t.Fatalf("engine %v with findings %v", e, findings)
			}
			if e == nil {
				continue
			}
			d := e.Decide(in)
			if d.Allowed && effect == fleet.Deny || d.Reason == "" || d.Rule == "" {
				t.Fatalf("%s %q: %+v", effect, when, d)
			}
			if again := e.Decide(in); again != d {
				t.Fatalf("%s %q: decided %+v, then %+v", effect, when, d, again)
			}
		}
	})
}
