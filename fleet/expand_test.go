package fleet

import (
	"fmt"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

var domain = spiffeid.RequireTrustDomainFromString("prod.example.org")

const templated = `apiVersion: rotunda/v1
kind: Intent
metadata: {name: web}
spec:
  service: s
  selector: {role: web}
  profile: p
  identity:
    commonName: "{{ instance }}"
    dnsNames: ["{{ instance }}.{{labels.env}}.example.com", "{{ region }}-{{ zone }}.example.com"]
    ipAddresses: ["{{ labels.ip }}"]
    spiffePath: "/web/{{ agent }}"
  target:
    name: "web-{{ instance }}"
    cluster: "web.{{ trustDomain }}"
    address: "{{ labels.ip }}:443"
  files: {directory: "/etc/{{ labels.env }}/{{ instance }}"}
`

func agent(changes map[string]string) Agent {
	a := Agent{ID: "a1", Region: "eu", Zone: "z1", State: AgentActive, Labels: map[string]string{"role": "web", "env": "prod", "ip": "10.0.0.1"}}
	for key, value := range changes {
		if value == "" {
			delete(a.Labels, key)
		} else {
			a.Labels[key] = value
		}
	}
	return a
}

func TestExpand(t *testing.T) {
	profile := defaultProfile()
	e, err := Expand(domain, parse(t, templated)[0], profile, agent(nil), "one")
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%s %s %s %q %q %v %s | %s %s %s %s | %s", e.Placement, e.Service, e.ProfileName,
		e.Names.CommonName, e.Names.DNS, e.Names.IPs, e.Names.URI,
		e.Target.Name, e.Target.Cluster, e.Target.Address, e.Target.ServerName, e.Files.Directory)
	want := `web/a1/one s p "one" ["one.prod.example.com" "eu-z1.example.com"] [10.0.0.1] spiffe://prod.example.org/web/a1 | ` +
		`web-one web.prod.example.org 10.0.0.1:443 one.prod.example.com | /etc/prod/one`
	if got != want {
		t.Errorf("Expand =\n%s\nwant\n%s", got, want)
	}
	if e.Profile != profile || e.Proof.Level != Proven || e.Files.Mode != "0640" {
		t.Errorf("Expand = %+v", e)
	}
}

func TestExpandNamesTheTargetAfterTheIntent(t *testing.T) {
	document := parse(t, strings.Replace(templated, `    name: "web-{{ instance }}"`+"\n", "", 1))[0]
	for instance, want := range map[Name]string{"main": "web", "two": "web-two"} {
		if e, err := Expand(domain, document, defaultProfile(), agent(nil), instance); err != nil || e.Target.Name != want {
			t.Errorf("instance %s: target %q, %v; want %q", instance, e.Target.Name, err, want)
		}
	}
}

func TestExpandRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		agent Agent
		says  string
	}{
		"missing label":        {agent(map[string]string{"env": ""}), `no label "env"`},
		"missing region":       {Agent{ID: "a1", Labels: agent(nil).Labels, Zone: "z"}, "no region"},
		"not an address":       {agent(map[string]string{"ip": "host"}), "host"},
		"out of the directory": {agent(map[string]string{"env": ".."}), "label env has the value"},
		"into another one":     {agent(map[string]string{"env": "a/b"}), "lead out of the directory"},
		"a wildcard":           {agent(map[string]string{"env": "*"}), "label env has the value"},
		"a template again":     {agent(map[string]string{"env": "{{ agent }}"}), "label env has the value"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Expand(domain, parse(t, templated)[0], defaultProfile(), c.agent, "one")
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "Intent/web on agent a1") {
				t.Errorf("Expand = %v, want an error that says %q", err, c.says)
			}
		})
	}
}

func TestExpandedDirectoriesStayWhereTheyAre(t *testing.T) {
	text := "apiVersion: rotunda/v1\nkind: Intent\nmetadata: {name: t}\nspec: {service: s, allAgents: true, files: {directory: \"/etc/%s\"}}"
	for directory, label := range map[string]string{
		"{{ labels.x }}/t":                 "a/b",
		"{{ labels.x }}/u":                 "a/../../b",
		"a/{{ labels.x }}{{ labels.dot }}": "x",
	} {
		labels := map[string]string{"x": label, "dot": "/"}
		document := parse(t, fmt.Sprintf(text, directory))[0]
		if e, err := Expand(domain, document, nil, Agent{ID: "a", Labels: labels}, "main"); err == nil {
			t.Errorf("%s with %q is %s", directory, label, e.Files.Directory)
		}
	}
	// An agent's id is not a label; nor may it lead anywhere.
	for _, id := range []string{"..", ".", "a/b", "/etc"} {
		if e, err := Expand(domain, parse(t, fmt.Sprintf(text, "{{ agent }}"))[0], nil, Agent{ID: id}, "main"); err == nil {
			t.Errorf("agent %q is %s", id, e.Files.Directory)
		}
	}
}

func TestReservedNamesByTemplateAreRefused(t *testing.T) {
	for path, label := range map[string]string{"/{{ labels.x }}/agent/a1": "rotunda", "{{ labels.x }}": "x", "/{{ labels.x }}": "rotunda/server/1", "/rot{{ labels.x }}/1": "unda"} {
		document := parse(t, strings.Replace(templated, "/web/{{ agent }}", path, 1))[0]
		if e, err := Expand(domain, document, defaultProfile(), agent(map[string]string{"x": label}), "one"); err == nil {
			t.Errorf("%s with %q is %s", path, label, e.Names.URI)
		}
	}
}

func TestExpandWantsTheProfile(t *testing.T) {
	if _, err := Expand(domain, parse(t, templated)[0], nil, agent(nil), "one"); err == nil || !strings.Contains(err.Error(), `profile "p"`) {
		t.Errorf("Expand = %v", err)
	}
	if _, err := Expand(domain, Document{Kind: KindRegion, Name: "r", Spec: &Region{}}, nil, agent(nil), "one"); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("Expand of a region = %v", err)
	}
}

func TestSelects(t *testing.T) {
	for _, c := range []struct {
		intent Intent
		labels map[string]string
		want   bool
	}{
		{Intent{Selector: map[string]string{"a": "b"}}, map[string]string{"a": "b", "c": "d"}, true},
		{Intent{Selector: map[string]string{"a": "b", "c": "d"}}, map[string]string{"a": "b"}, false},
		{Intent{Selector: map[string]string{"a": ""}}, nil, false},
		{Intent{}, map[string]string{"a": "b"}, false},
		{Intent{AllAgents: true}, nil, true},
	} {
		if got := c.intent.Selects(c.labels); got != c.want {
			t.Errorf("%+v selects %v: %v", c.intent, c.labels, got)
		}
	}
}

func TestCheckHost(t *testing.T) {
	at := func(intent Name, directory string, target Target) Expanded {
		return Expanded{Placement: PlacementKey{intent, "a1", "main"}, Files: Files{Directory: directory}, Target: target}
	}
	etcd := Target{Kind: TargetEtcd, Name: "etcd", Cluster: "c"}
	for _, c := range []struct {
		name   string
		others []Expanded
		says   string
	}{
		{"apart", []Expanded{at("b", "/d/b", Target{Name: "b"}), at("c", "/d/bc", Target{Name: "c"})}, ""},
		{"two placements of a target", []Expanded{at("b", "/d/b", etcd), at("c", "/d/c", Target{Kind: TargetEtcd, Name: "etcd", Cluster: "c", Address: "x:1"})}, ""},
		{"one directory", []Expanded{at("b", "/d/a", Target{Name: "b"})}, `a/a1/main and b/a1/main would share directory "/d/a"`},
		{"inside", []Expanded{at("b", "/d/a/current/x", Target{Name: "b"})}, `of placement b/a1/main is inside "/d/a" of placement a/a1/main`},
		{"around", []Expanded{at("b", "/d", Target{Name: "b"})}, `of placement a/a1/main is inside "/d" of placement b/a1/main`},
		{"two clusters", []Expanded{at("b", "/d/b", etcd), at("c", "/d/c", Target{Kind: TargetEtcd, Name: "etcd", Cluster: "d"})}, "differ in its cluster"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := CheckHost(append(c.others, at("a", "/d/a", Target{Name: "a"})))
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || fault.CodeOf(err) != fault.Conflict) {
				t.Errorf("CheckHost = %v, want %q", err, c.says)
			}
		})
	}
}

func TestCheckLabels(t *testing.T) {
	for name, c := range map[string]struct {
		labels map[string]string
		ok     bool
	}{
		"fine":         {map[string]string{"role": "web", "a.b/c-d_e": "x:y@z/1.2"}, true},
		"none":         {nil, true},
		"no key":       {map[string]string{"": "x"}, false},
		"no value":     {map[string]string{"x": ""}, false},
		"a space":      {map[string]string{"x": "a b"}, false},
		"a line":       {map[string]string{"x": "a\nb"}, false},
		"a last line":  {map[string]string{"x": "a\n"}, false},
		"a brace":      {map[string]string{"x": "a{{b"}, false},
		"an asterisk":  {map[string]string{"x": "*"}, false},
		"a long value": {map[string]string{"x": strings.Repeat("x", 254)}, false},
		"a long key":   {map[string]string{strings.Repeat("x", 64): "x"}, false},
	} {
		if err := CheckLabels(c.labels); (err == nil) != c.ok {
			t.Errorf("%s: CheckLabels = %v", name, err)
		}
	}
	many := make(map[string]string)
	for i := range maxLabels + 1 {
		many[fmt.Sprint(i)] = "x"
	}
	if CheckLabels(many) == nil {
		t.Error("too many labels are taken")
	}
}

func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{"{{ instance }}.x", "{{labels.a/b}}", "{{", "}}", "{{}}", "{{ {{ }} }}", "/etc/{{ agent }}/..", "{{labels.}}"} {
		f.Add(seed, "value")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		parsed, err := parseTemplate(text)
		if err != nil {
			return
		}
		out, err := parsed.fill(func(string) (string, error) { return value, nil })
		if err != nil {
			t.Fatal(err)
		}
		if !hasTemplate(text) && out != text {
			t.Fatalf("%q became %q", text, out)
		}
		if again, err := parseTemplate(normal(parsed)); err != nil || normal(again) != normal(parsed) {
			t.Fatalf("%q is %q, and then %q, %v", text, normal(parsed), normal(again), err)
		}
		host := &filler{td: domain, agent: Agent{ID: value, Labels: map[string]string{"a/b": value}}, instance: "main"}
		if files := host.files(Files{Directory: "/base/" + text}); host.err == nil && strings.Contains(files.Directory+"/", "/../") {
			t.Fatalf("%q with %q leads to %q", text, value, files.Directory)
		}
	})
}
