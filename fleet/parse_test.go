package fleet

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// parse reads one file that must be without findings.
func parse(t testing.TB, text string) []Document {
	t.Helper()
	documents, findings := ParseFiles([]File{{Path: "a.yaml", Content: []byte(text)}})
	for _, f := range findings {
		t.Fatal(f)
	}
	return documents
}

func TestParseFillsDefaults(t *testing.T) {
	documents := parse(t, `
apiVersion: rotunda/v1
kind: Profile
metadata: {name: p}
spec: {lifetime: 24h, usages: [serverAuth]}
---
apiVersion: rotunda/v1
kind: Intent
metadata: {name: i}
spec:
  service: s
  allAgents: true
  profile: p
  identity: {dnsNames: [a.example.com]}
  target: {address: "127.0.0.1:1"}
  files: {directory: /d}
---
`)
	if len(documents) != 2 {
		t.Fatalf("%d documents, want 2", len(documents))
	}
	p := documents[0].Spec.(*Profile)
	if p.Algorithm != "ecdsa-p256" || p.RenewAt != 0.5 || p.RideOut.Std() != 4*time.Hour || p.Backdate.Std() != time.Minute ||
		p.TLS.MinVersion != "1.2" || p.Grace.Std() != time.Hour || p.KeyAge != 0 {
		t.Errorf("profile: %+v", p)
	}
	in := documents[1].Spec.(*Intent)
	if in.Target.Kind != TargetFiles || in.Bundle != DefaultBundle || len(in.Instances) != 1 || in.Instances[0] != "main" ||
		in.Files.Mode != "0640" || in.Files.Formats[0] != FormatPEM || in.Proof.Level != Proven ||
		in.Proof.Observe.Std() != 300*time.Millisecond || in.Proof.Timeout.Std() != 10*time.Second {
		t.Errorf("intent: %+v", in)
	}
}

func TestAGivenValueIsNotADefault(t *testing.T) {
	p := parse(t, "apiVersion: rotunda/v1\nkind: Profile\nmetadata: {name: p}\nspec: {lifetime: 24h, rideOut: 0s, grace: 0s}\n")[0].Spec.(*Profile)
	if p.RideOut != 0 || p.Grace != 0 {
		t.Errorf("rideOut %s and grace %s, want 0s both", p.RideOut, p.Grace)
	}
}

const head = "apiVersion: rotunda/v1\nkind: Service\nmetadata: {name: s}\n"

func TestBadFiles(t *testing.T) {
	region := "apiVersion: rotunda/v1\nkind: Region\nmetadata: {name: r}\nspec: {}\n"
	for _, c := range []struct {
		name, file string
		line       int
		rule       string
		says       string // in message or remedy
	}{
		{"nothing", "", 0, "empty", "no document"},
		{"comments only", "# a\n---\n# b\n", 0, "empty", "no document"},
		{"not YAML", head + "spec: [", 4, "syntax", "not YAML"},
		{"an open quote", "a: \"b", 1, "syntax", "not YAML"},
		{"tabs", head + "spec:\n\tzone: a\n", 5, "syntax", "not YAML"},
		{"not UTF-8", head + "spec: {zone: \"\xff\"}", 4, "encoding", "UTF-8"},
		{"too large", strings.Repeat("#", MaxFile+1), 0, "too-large", "split it"},
		{"a scalar", "hello", 1, "type", "must be a mapping"},
		{"a list", "[a]", 1, "type", "must be a mapping, not a list"},
		{"other version", strings.Replace(region, "v1", "v2", 1), 1, "api-version", `"rotunda/v2"`},
		{"no version", strings.TrimPrefix(region, "apiVersion: rotunda/v1\n"), 1, "api-version", "write apiVersion: rotunda/v1"},
		{"unknown kind", strings.Replace(region, "Region", "Servce", 1), 2, "unknown-kind", "write Service"},
		{"no name", "apiVersion: rotunda/v1\nkind: Region\nspec: {}\n", 1, "required", "metadata.name is missing"},
		{"bad name", strings.Replace(region, "name: r", "name: R_", 1), 3, "value", "not a name"},
		{"no spec", "apiVersion: rotunda/v1\nkind: Region\nmetadata: {name: r}\n", 1, "required", "spec is missing"},
		{"empty spec", "apiVersion: rotunda/v1\nkind: Region\nmetadata: {name: r}\nspec:\n", 4, "type", "spec has no value"},
		{"unknown field", head + "spec:\n  zone: a\n  onwer: {}\n", 6, "unknown-field", "write owner"},
		{"unknown field of metadata", strings.Replace(region, "{name: r}", "{name: r, labels: {}}", 1), 3, "unknown-field", "metadata.labels is not a field"},
		{"unknown field on top", region + "status: {}\n", 5, "unknown-field", "status is not a field"},
		{"other case", head + "spec: {Zone: a}\n", 4, "unknown-field", "write zone"},
		{"duplicate key", head + "spec:\n  zone: a\n  zone: b\n", 6, "duplicate-key", "given already in line 5"},
		{"duplicate document", region + "---\n" + region, 8, "duplicate-document", "declared already at a.yaml:1"},
		{"a number for text", head + "spec: {zone: 12}\n", 4, "type", `quote it: "12"`},
		{"a truth value for text", head + "spec: {zone: true}\n", 4, "type", "must be a string"},
		{"text for a list", head + "spec: {clients: a}\n", 4, "type", "must be a list"},
		{"a list for text", head + "spec: {zone: [a]}\n", 4, "type", "must be a string, not a list"},
		{"null in a list", head + "spec: {clients: [~]}\n", 4, "type", "clients[0] has no value"},
		{"a number as key", head + "spec: {1: a}\n", 4, "type", "a key must be a string"},
		{"a merge key", head + "spec:\n  owner: &o {team: a}\n  <<: *o\n", 6, "type", "write the fields out"},
		{"an unknown tag", head + "spec: {zone: !secret a}\n", 4, "type", "must be a string"},
		{"no unit", "apiVersion: rotunda/v1\nkind: Profile\nmetadata: {name: p}\nspec: {lifetime: 24}\n", 4, "value", "not a duration"},
		{"a negative time", "apiVersion: rotunda/v1\nkind: Profile\nmetadata: {name: p}\nspec: {lifetime: -1h}\n", 4, "value", "not a duration"},
		{"a number of text", "apiVersion: rotunda/v1\nkind: Profile\nmetadata: {name: p}\nspec: {renewAt: half}\n", 4, "type", "must be a number"},
		{"yes", "apiVersion: rotunda/v1\nkind: Profile\nmetadata: {name: p}\nspec: {repairDrift: yes}\n", 4, "type", "must be true or false"},
		{"unknown value", "apiVersion: rotunda/v1\nkind: Profile\nmetadata: {name: p}\nspec: {algorithm: ecdsa-p255}\n", 4, "value", "write ecdsa-p256"},
		{"a mode for others", "apiVersion: rotunda/v1\nkind: Intent\nmetadata: {name: i}\nspec: {files: {mode: \"0644\"}}\n", 4, "value", "nothing for others"},
		{"deep", head + "spec: " + strings.Repeat("{zone: ", 40) + strings.Repeat("}", 40), 4, "type", "must be a string, not a mapping"},
		{"an endless alias", head + "spec: &s\n  owner: *s\n", 5, "unknown-field", "spec.owner.owner is not a field"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, findings := ParseFiles([]File{{Path: "a.yaml", Content: []byte(c.file)}})
			if len(findings) == 0 {
				t.Fatal("no finding")
			}
			f := findings[0]
			if f.Severity != Error || f.Position != (Position{"a.yaml", c.line}) || f.Rule != c.rule {
				t.Errorf("%s, want an error of rule %s in line %d", f, c.rule, c.line)
			}
			if !strings.Contains(f.Message+" "+f.Remedy, c.says) {
				t.Errorf("%s does not say %q", f, c.says)
			}
		})
	}
}

// TestAllFaultsInOnePass holds that neither a fault of a file nor of a
// document hides those of the others.
func TestAllFaultsInOnePass(t *testing.T) {
	_, findings := ParseFiles([]File{
		{"a.yaml", []byte(head + "spec: {zoen: a, clinets: []}\n---\napiVersion: rotunda/v1\nkind: Nothing\nmetadata: {name: n}\nspec: {}\n---\n[")},
		{"b.json", []byte(`{"apiVersion": "rotunda/v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"zone": 1}}`)},
		{"c.yaml", nil},
	})
	var got []string
	for _, f := range findings {
		got = append(got, f.Position.File+" "+f.Rule)
	}
	want := "[a.yaml unknown-field a.yaml unknown-field a.yaml unknown-kind a.yaml syntax b.json type b.json duplicate-document c.yaml empty]"
	if fmt.Sprint(got) != want {
		t.Errorf("findings %v\nwant     %s", got, want)
	}
}

// tree is a shape that aliases can blow up; no spec type has one.
type tree struct {
	Leaf     string `json:"leaf"`
	Children []tree `json:"children"`
}

// TestAliasBombsAreRefused holds that neither a file whose aliases stand for
// 10^10 values nor one whose alias holds itself is read to its end.
func TestAliasBombsAreRefused(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("children:\n- &a0 {leaf: x}\n")
	for i := 1; i <= 10; i++ {
		fmt.Fprintf(&bomb, "- &a%d {children: [%s]}\n", i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10), ","))
	}
	for name, text := range map[string]string{"wide": bomb.String(), "endless": "children: &a\n- children: *a\n"} {
		var into tree
		_, findings := Decode(File{"a.yaml", []byte(text)}, &into)
		if len(findings) == 0 || findings[0].Rule != "too-complex" || len(findings) > maxFindings+1 {
			t.Errorf("%s: %d findings, the first %v", name, len(findings), append(findings, Finding{})[0])
		}
	}
}

// TestReadingStopsAtTooManyFaults holds that a file with a fault at each of
// 300,000 places is not read on once enough of them are known.
func TestReadingStopsAtTooManyFaults(t *testing.T) {
	wide := head + "spec:\n  zone: &z " + strings.Repeat("z", 1000) + "\n  clients: [" + strings.Repeat("*z,", 300_000) + "]\n"
	roots, _, err := parseYAMLNodes([]byte(wide))
	if err != nil {
		t.Fatal(err)
	}
	d := &decoder{budget: maxNodes}
	d.document(roots[0])
	if len(d.findings) != maxFindings+1 || d.findings[maxFindings].Rule != "too-many" {
		t.Errorf("%d findings", len(d.findings))
	}
	if read := maxNodes - d.budget; read > 10*maxFindings {
		t.Errorf("%d values were read", read)
	}
}

func TestLines(t *testing.T) {
	d := parse(t, `apiVersion: rotunda/v1
kind: Intent
metadata:
  name: i
spec:
  service: s
  allAgents: true
  profile: p
  identity:
    dnsNames:
      - a.example.com
      - b.example.com
  files:
    directory: /d
`)[0]
	for path, want := range map[string]int{
		"spec.identity.dnsNames[1]": 12,
		"spec.identity.dnsNames":    10,
		"spec.identity.commonName":  9, // not there: the identity's
		"spec.files.mode":           13,
		"spec.proof.level":          5,
		"metadata.name":             4,
		"nonsense":                  1,
		"":                          1,
	} {
		if got := d.Line(path); got != want {
			t.Errorf("Line(%q) = %d, want %d", path, got, want)
		}
	}
}

func TestJSONFiles(t *testing.T) {
	text := "{\n\t\"apiVersion\": \"rotunda/v1\",\n\t\"kind\": \"Region\",\n\t\"metadata\": {\"name\": \"eu\"},\n\t\"spec\": {\n\t\t\"description\": \"\\ud83c\\uddea \\/ <b>\"\n\t}\n}"
	documents, findings := ParseFiles([]File{{Path: "a.JSON", Content: []byte(text + "\n" + strings.Replace(text, "eu", "us", 1))}})
	if len(findings) > 0 || len(documents) != 2 {
		t.Fatalf("%d documents, %v", len(documents), findings)
	}
	if got := documents[0].Spec.(*Region).Description; got != "🇪 / <b>" {
		t.Errorf("description %q", got)
	}
	if documents[1].Source.Line != 9 || documents[1].Line("spec.description") != 14 {
		t.Errorf("lines %d and %d", documents[1].Source.Line, documents[1].Line("spec.description"))
	}
	for name, c := range map[string]struct {
		text string
		line int
	}{
		"cut off":       {text[:60], 4},
		"trailing":      {text + " x", 8},
		"YAML":          {head, 1},
		"duplicate key": {"{\"apiVersion\": \"rotunda/v1\",\n\"apiVersion\": \"rotunda/v1\"}", 2},
		"deep":          {strings.Repeat("[", 100000), 1},
	} {
		t.Run(name, func(t *testing.T) {
			_, findings := ParseFiles([]File{{Path: "a.json", Content: []byte(c.text)}})
			var lines []int
			for _, f := range findings {
				lines = append(lines, f.Position.Line)
			}
			if !HasErrors(findings) || !strings.Contains(fmt.Sprint(lines), fmt.Sprint(c.line)) {
				t.Errorf("findings %v, want one in line %d", findings, c.line)
			}
		})
	}
}

func FuzzParseFiles(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(seed, false)
	}
	f.Add([]byte(`{"apiVersion":"rotunda/v1","kind":"Region","metadata":{"name":"r"},"spec":{}}`), true)
	f.Add([]byte("a: &a [*a]\nb: *a\n? [x]\n: y\n<<: *a\n"), false)
	f.Fuzz(func(t *testing.T, content []byte, asJSON bool) {
		path := "f.yaml"
		if asJSON {
			path = "f.json"
		}
		documents, findings := ParseFiles([]File{{path, content}})
		if len(documents) == 0 && len(findings) == 0 {
			t.Fatal("neither a document nor a finding")
		}
		all := append(findings, Validate(NewSet(documents...))...)
		lines := lineCount(content)
		for _, finding := range all {
			if finding.Message == "" || finding.Rule == "" || finding.Position.Line < 0 || finding.Position.Line > lines {
				t.Fatalf("finding %+v", finding)
			}
		}
		if HasErrors(all) {
			return
		}
		for _, d := range documents {
			checkRoundTrip(t, d)
		}
	})
}
