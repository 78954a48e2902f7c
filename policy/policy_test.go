package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
)

const policies = `
apiVersion: rotunda/v1
kind: Policy
metadata: {name: orders}
spec:
  rules:
    - name: servers
      effect: allow
      when: |
        service == "orders"
        && agent.labels.env == "prod"
        && names.dnsNames.all(n, n.endsWith(".orders.example.com"))
        && names.uri == ""
        && lifetime <= duration("24h")
    - name: never-wild
      effect: deny
      description: wildcards outlive the hosts that they were meant for
      when: names.dnsNames.exists(n, n.startsWith("*"))
---
apiVersion: rotunda/v1
kind: Policy
metadata: {name: house}
spec:
  rules:
    - name: prod-only
      effect: deny
      when: agent.labels.quarantine == "yes"
`

// documents parses policies as apply does.
func documents(t testing.TB, text string) []fleet.Document {
	t.Helper()
	found, findings := fleet.ParseFiles([]fleet.File{{Path: "policies.yaml", Content: []byte(text)}})
	for _, f := range findings {
		t.Fatal(f)
	}
	return found
}

func engine(t testing.TB, text string) *Engine {
	t.Helper()
	e, findings := Compile(documents(t, text))
	for _, f := range findings {
		t.Fatal(f)
	}
	return e
}

func request() Input {
	return Input{
		Service: "orders", Intent: "orders-db", Profile: "server", Instance: "main",
		Agent:     Agent{ID: "a1", Labels: map[string]string{"env": "prod", "quarantine": "no"}},
		DNSNames:  []string{"a.orders.example.com"},
		Usages:    []string{"serverAuth"},
		Algorithm: "ecdsa-p256",
		Lifetime:  12 * time.Hour,
	}
}

func TestDecide(t *testing.T) {
	e := engine(t, policies)
	for _, c := range []struct {
		name   string
		change func(*Input)
		allow  bool
		rule   string
		reason []string
	}{
		{"as declared", func(*Input) {}, true, "orders/servers", nil},
		{"another service", func(in *Input) { in.Service = "billing" }, false, DefaultDeny,
			[]string{"orders/servers", `service == "orders"`}},
		{"another name and a long life", func(in *Input) { in.DNSNames = []string{"example.com"}; in.Lifetime = 25 * time.Hour }, false, DefaultDeny,
			[]string{"names.dnsNames.all(n, n.endsWith(", `lifetime <= duration("24h")`}},
		{"what holds is not named", func(in *Input) { in.URI = "spiffe://x/y" }, false, DefaultDeny,
			[]string{`needs names.uri == ""`}},
		{"deny wins", func(in *Input) { in.DNSNames = []string{"*.orders.example.com"} }, false, "orders/never-wild",
			[]string{"wildcards outlive"}},
		{"a label that only an allow rule asks for is missing", func(in *Input) { in.Agent.Labels = map[string]string{"quarantine": "no"} }, false, DefaultDeny,
			[]string{"no such key: env"}},
		{"a deny rule that cannot be evaluated denies", func(in *Input) { in.Agent.Labels = map[string]string{"env": "prod"} }, false, "house/prod-only",
			[]string{"cannot evaluate", "no such key: quarantine"}},
		{"an input beyond all bounds", func(in *Input) { in.DNSNames = make([]string, maxItems+1) }, false, DefaultDeny,
			[]string{"too large"}},
		{"a label beyond all bounds", func(in *Input) { in.Agent.Labels["x"] = strings.Repeat("y", maxText+1) }, false, DefaultDeny,
			[]string{"too large"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := request()
			c.change(&in)
			d := e.Decide(in)
			if d.Allowed != c.allow || d.Rule != c.rule {
				t.Errorf("Decide = %+v, want allowed %v by %q", d, c.allow, c.rule)
			}
			for _, part := range c.reason {
				if !strings.Contains(d.Reason, part) {
					t.Errorf("reason %q does not say %q", d.Reason, part)
				}
			}
			if c.name == "what holds is not named" && strings.Contains(d.Reason, "env") {
				t.Errorf("reason %q names a condition that holds", d.Reason)
			}
		})
	}
}

func TestNoPolicyAllowsNothing(t *testing.T) {
	for name, text := range map[string]string{
		"none":      "apiVersion: rotunda/v1\nkind: Region\nmetadata: {name: eu}\nspec: {}\n",
		"deny only": "apiVersion: rotunda/v1\nkind: Policy\nmetadata: {name: p}\nspec: {rules: [{name: r, effect: deny, when: 'false'}]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			d := engine(t, text).Decide(request())
			if d.Allowed || d.Rule != DefaultDeny || !strings.Contains(d.Reason, "no policy has a rule that allows") {
				t.Errorf("Decide = %+v", d)
			}
		})
	}
}

// TestOnlyKnownEffectsCount holds that a rule which says neither allow nor
// deny, as no parsed document does, is no rule.
func TestOnlyKnownEffectsCount(t *testing.T) {
	for _, effect := range []fleet.Effect{"", "Allow", "permit"} {
		e, findings := Compile([]fleet.Document{{Kind: fleet.KindPolicy, Name: "p", Spec: &fleet.Policy{
			Rules: []fleet.Rule{{Name: "r", Effect: effect, When: "true"}}}}})
		if len(findings) > 0 {
			t.Fatal(findings)
		}
		if d := e.Decide(request()); d.Allowed || d.Rule != DefaultDeny {
			t.Errorf("effect %q: %+v", effect, d)
		}
	}
}

func TestInputOfTakesAllThatRulesSee(t *testing.T) {
	e := engine(t, `
apiVersion: rotunda/v1
kind: Policy
metadata: {name: p}
spec:
  rules:
    - name: all
      effect: allow
      when: |
        service == "orders" && intent == "orders-db" && profile == "server" && instance == "main"
        && agent.id == "a1" && agent.region == "eu" && agent.zone == "z" && agent.labels == {"env": "prod"}
        && names.commonName == "cn" && names.dnsNames == ["a.example.com"] && names.ipAddresses == ["10.0.0.1"]
        && names.uri == "spiffe://example.org/orders" && usages == ["serverAuth", "clientAuth"]
        && algorithm == "ed25519" && lifetime == duration("36h")
`)
	d := e.Decide(InputOf(placement(t), fleet.Agent{ID: "a1", Region: "eu", Zone: "z", Labels: map[string]string{"env": "prod"}}))
	if !d.Allowed {
		t.Error(d.Reason)
	}
}

func BenchmarkDecide(b *testing.B) {
	e := engine(b, policies)
	in := request()
	b.ReportAllocs()
	for b.Loop() {
		if d := e.Decide(in); !d.Allowed {
			b.Fatal(d.Reason)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/3, "ns/rule")
}

func BenchmarkCompile(b *testing.B) {
	found := documents(b, policies)
	for b.Loop() {
		if _, findings := Compile(found); len(findings) > 0 {
			b.Fatal(findings)
		}
	}
}
