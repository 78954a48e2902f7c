package fleet

import (
	"fmt"
	"strings"
	"testing"
)

// valid is a set of documents without a finding, of which tests break parts.
const valid = `apiVersion: rotunda/v1
kind: Service
metadata: {name: s}
spec:
  owner: {team: t, contact: c, runbook: "https://x.example.com/"}
  clients: [s]
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: p}
spec:
  lifetime: 24h
  usages: [serverAuth, clientAuth]
---
apiVersion: rotunda/v1
kind: Intent
metadata: {name: i}
spec:
  service: s
  selector: {role: web}
  profile: p
  identity:
    dnsNames: [a.example.com]
  target:
    kind: files
    address: "127.0.0.1:8443"
  files:
    directory: /d/i
  proof: {timeout: 5s}
---
apiVersion: rotunda/v1
kind: Policy
metadata: {name: pol}
spec:
  rules:
    - {name: r, effect: allow, when: "true"}
---
apiVersion: rotunda/v1
kind: Window
metadata: {name: w}
spec: {from: "22:00", to: "06:00", timezone: Europe/Berlin}
---
apiVersion: rotunda/v1
kind: Exception
metadata: {name: e}
spec: {rule: r, subject: s, owner: o, until: 2027-01-31, reason: because}
---
apiVersion: rotunda/v1
kind: Region
metadata: {name: eu}
spec: {servers: ["a.example.com:7443"]}
`

// another is a second intent, like the first but for the lines given.
func another(lines string) string {
	return valid + "---\napiVersion: rotunda/v1\nkind: Intent\nmetadata: {name: j}\nspec:\n  service: s\n  profile: p\n  identity: {dnsNames: [b.example.com]}\n" + lines
}

func TestValidSetHasNoFinding(t *testing.T) {
	for _, text := range []string{
		valid,
		strings.Replace(valid, "directory: /d/i", "directory: \"/d/{{ instance }}-{{labels.env}}\"\n    formats: [pkcs12]\n    password: pw", 1),
		strings.Replace(valid, "dnsNames: [a.example.com]", `spiffePath: "/x/{{ agent }}"`, 1),
		another("  selector: {role: db}\n  files: {directory: /d/i}\n"),
		another("  selector: {env: prod}\n  files: {directory: /d/j}\n"),
	} {
		for _, f := range Validate(NewSet(parse(t, text)...)) {
			t.Error(f)
		}
	}
}

func TestValidateFinds(t *testing.T) {
	for _, c := range []struct {
		name, old, new string
		line           int
		severity       Severity
		rule           string
		says           string
	}{
		{"no team", "team: t, ", "", 5, Error, "required", "spec.owner.team is missing"},
		{"no contact", "contact: c", `contact: " "`, 5, Error, "required", "spec.owner.contact is missing"},
		{"no runbook", `, runbook: "https://x.example.com/"`, "", 5, Error, "required", "runbook is missing"},
		{"runbook is no URL", "https://x.example.com/", "see wiki", 5, Error, "value", "not an http or https URL"},
		{"runbook runs", "https://x.example.com/", "javascript:alert(1)", 5, Error, "value", "not an http or https URL"},
		{"notify leaves in the plain", "team: t", `notify: "http://hooks.example.com/t", team: t`, 5, Error, "value", "leaves the host in the plain"},
		{"notify to an inner name in the plain", "team: t", `notify: "http://127.0.0.1.example.com/t", team: t`, 5, Error, "value", "leaves the host in the plain"},
		{"notify with a password", "team: t", `notify: "https://u:p@hooks.example.com/t", team: t`, 5, Error, "value", "no place for secrets"},
		{"notify is no URL", "team: t", `notify: "file:///etc/passwd", team: t`, 5, Error, "value", "not an https URL"},
		{"a zone", "  clients: [s]", "  zone: dmz", 6, Error, "value", "zone"},
		{"unknown client", "clients: [s]", "clients: [s, t]", 6, Error, "dangling", "Service/t does not exist"},
		{"a client twice", "clients: [s]", "clients: [s, s]", 6, Error, "duplicate", "lists \"s\" twice"},

		{"no lifetime", "  lifetime: 24h\n", "", 11, Error, "required", "spec.lifetime is missing"},
		{"broken seconds", "lifetime: 24h", "lifetime: 1500ms", 12, Error, "value", "whole seconds"},
		{"ages", "lifetime: 24h", "lifetime: 4000d", 12, Error, "value", "ten years"},
		{"a long life", "lifetime: 24h", "lifetime: 400d", 12, Warning, "long-lifetime", "398 days"},
		{"no usages", "  usages: [serverAuth, clientAuth]\n", "", 11, Error, "required", "usages is missing"},
		{"a usage twice", "[serverAuth, clientAuth]", "[serverAuth, serverAuth]", 13, Error, "duplicate", "twice"},
		{"renewal never", "lifetime: 24h", "lifetime: 24h\n  renewAt: 1.0", 13, Error, "value", "less than 1"},
		{"renewal at once", "lifetime: 24h", "lifetime: 24h\n  renewAt: 0", 13, Error, "value", "more than 0"},
		{"renewal after the end of the window", "lifetime: 24h", "lifetime: 24h\n  renewAt: 0.9", 11, Error, "arithmetic", "rideOut 4h"},
		{"rideOut as long as the rest", "lifetime: 24h", "lifetime: 24h\n  renewAt: 0.5\n  rideOut: 12h", 14, Error, "arithmetic", "only 12h left"},
		{"rideOut beyond the life", "lifetime: 24h", "lifetime: 24h\n  rideOut: 25h", 13, Error, "arithmetic", "rideOut"},
		{"backdated by days", "lifetime: 24h", "lifetime: 24h\n  backdate: 25h", 13, Error, "value", "a day"},
		{"stale CRLs without CRLs", "lifetime: 24h", "lifetime: 24h\n  revocation: {onStale: open}", 13, Error, "arithmetic", "asks for none"},
		{"CRLs that end in the outage", "lifetime: 24h", "lifetime: 60d\n  revocation: {crl: true}", 11, Error, "crl-ends-first", "rideOut 10d is longer than CRLs last"},
		{"CRLs that outlive the outage", "lifetime: 24h", "lifetime: 60d\n  rideOut: 8d\n  revocation: {crl: true}", 0, "", "", ""},
		{"a key younger than its certificate", "lifetime: 24h", "lifetime: 24h\n  keyAge: 23h", 13, Error, "arithmetic", "shorter than the lifetime"},

		{"an intent of an outside party", "clients: [s]", "outside: true", 19, Error, "outside", "Service/s is an outside party"},
		{"unknown service", "service: s", "service: t", 19, Error, "dangling", "Service/t does not exist"},
		{"unknown profile", "  profile: p", "  profile: q", 21, Error, "dangling", "Profile/q does not exist"},
		{"no profile", "  profile: p\n", "", 18, Error, "required", "spec.profile is missing"},
		{"unknown bundle", "  profile: p", "  profile: p\n  bundle: mine", 22, Error, "dangling", "Bundle/mine"},
		{"no selector", "  selector: {role: web}\n", "", 18, Error, "required", "would select no agent"},
		{"an empty selector", "selector: {role: web}", "selector: {}", 20, Error, "required", "allAgents: true"},
		{"both selectors", "selector: {role: web}", "selector: {role: web}\n  allAgents: true", 21, Error, "combination", "either"},
		{"an impossible label", "{role: web}", "{role: 'a b'}", 20, Error, "value", "label role"},
		{"no instances", "  profile: p", "  profile: p\n  instances: []", 22, Error, "required", "spec.instances is empty"},
		{"an instance twice", "    directory: /d/i", "    directory: \"/d/{{ instance }}\"\n  instances: [a, a]", 29, Error, "duplicate", "twice"},
		{"a profile for nothing", "  identity:\n    dnsNames: [a.example.com]\n", "", 21, Error, "combination", "no identity"},
		{"no names", "dnsNames: [a.example.com]", "commonName: a", 22, Error, "required", "no name that verifiers look at"},
		{"not a DNS name", "[a.example.com]", "[a_b]", 23, Error, "value", "DNS name"},
		{"not an address", "dnsNames: [a.example.com]", "ipAddresses: [10.0.0]", 23, Error, "value", "10.0.0"},
		{"a reserved path", "dnsNames: [a.example.com]", "spiffePath: /rotunda/agent/a1", 23, Error, "reserved", "reserved for Rotunda"},
		{"a reserved path behind a template", "dnsNames: [a.example.com]", `spiffePath: "/rotunda/{{ agent }}"`, 23, Error, "reserved", "reserved for Rotunda"},
		{"a path of dots", "dnsNames: [a.example.com]", "spiffePath: /a/../b", 23, Error, "value", "SPIFFE path"},
		{"an unknown template field", "[a.example.com]", `["{{ lables.x }}.example.com"]`, 23, Error, "template", "not known"},
		{"a template without an end", "[a.example.com]", `["{{ agent.example.com"]`, 23, Error, "template", "without }}"},
		{"a template without a beginning", "directory: /d/i", `directory: "/d/instance }}"`, 28, Error, "template", "without {{"},
		{"a template where none may be", "directory: /d/i", "directory: /d/i\n    owner: \"{{ agent }}\"", 29, Error, "template", "cannot hold a template"},

		{"not host:port", "127.0.0.1:8443", "127.0.0.1", 26, Error, "value", "host:port"},
		{"port 0", "127.0.0.1:8443", "127.0.0.1:0", 26, Error, "value", "1 to 65535"},
		{"a name for nobody", `    address: "127.0.0.1:8443"`, "    serverName: x", 26, Error, "combination", "no address"},
		{"a command line", "    kind: files", "    kind: files\n    reloadCommand: systemctl reload x", 26, Error, "value", "not a command line"},
		{"etcd without address", "kind: files\n    address: \"127.0.0.1:8443\"", "kind: etcd\n    cluster: c\n    restartCommand: r", 24, Error, "required", "needs an address"},
		{"etcd without restart", "kind: files", "kind: etcd\n    cluster: c", 0, "", "", ""}, // a plan's to say: the kinds' table is above this package
		{"etcd without cluster", "kind: files", "kind: etcd\n    restartCommand: r", 24, Warning, "etcd", "same time"},
		{"etcd for servers only", "[serverAuth, clientAuth]", "[serverAuth]", 0, "", "", ""},
		{"redis without address", "kind: files\n    address: \"127.0.0.1:8443\"", "kind: redis\n    clientAuth: required", 24, Error, "required", "kind redis needs an address"},
		{"redis that speaks memcached", "kind: files", "kind: redis\n    preamble: memcached", 26, Error, "combination", "does not speak memcached"},
		{"redis that speaks redis", "kind: files", "kind: redis\n    preamble: redis", 0, "", "", ""},
		{"etcd that begins in the plain", "kind: files", "kind: etcd\n    cluster: c\n    preamble: postgres", 27, Error, "combination", "write http"},
		{"a proxy that begins in the plain", "kind: files", "kind: nginx\n    preamble: mysql", 26, Error, "combination", "does not speak mysql"},
		{"a proxy before redis", "kind: files", "kind: nginx\n    preamble: redis", 0, "", "", ""},
		{"haproxy without combined", "kind: files", "kind: haproxy", 27, Error, "combination", "combined.pem in haproxy.cfg"},
		{"a cluster that is away", "kind: files", "kind: files\n    cluster: c\n    maxUnavailable: 101", 27, Error, "value", "1 to 100"},
		{"fewer than none", "kind: files", "kind: files\n    cluster: c\n    maxUnavailable: -1", 27, Error, "value", "1 to 100"},
		{"members of nothing", "kind: files", "kind: files\n    maxUnavailable: 2", 26, Error, "combination", "in none"},
		{"postgres as files come", "kind: files", "kind: postgres", 27, Error, "postgres", "could not read the key"},
		{"postgres with its own key open", "kind: files\n    address: \"127.0.0.1:8443\"\n  files:", "kind: postgres\n    address: \"127.0.0.1:8443\"\n  files:\n    owner: postgres\n    mode: \"0640\"", 29, Error, "postgres", "from root only"},
		{"postgres with a key to write", "kind: files\n    address: \"127.0.0.1:8443\"\n  files:", "kind: postgres\n    address: \"127.0.0.1:8443\"\n  files:\n    group: postgres\n    mode: \"0660\"", 29, Error, "postgres", "lets the group write"},
		{"postgres with root's key", "kind: files\n    address: \"127.0.0.1:8443\"\n  files:", "kind: postgres\n    address: \"127.0.0.1:8443\"\n  files:\n    owner: root\n    mode: \"0600\"", 29, Error, "postgres", "could not read"},
		{"postgres with its own key", "kind: files\n    address: \"127.0.0.1:8443\"\n  files:", "kind: postgres\n    address: \"127.0.0.1:8443\"\n  files:\n    owner: postgres\n    mode: \"0600\"", 0, "", "", ""},
		{"postgres by its group", "kind: files\n    address: \"127.0.0.1:8443\"\n  files:", "kind: postgres\n    address: \"127.0.0.1:8443\"\n  files:\n    owner: root\n    group: postgres", 0, "", "", ""},
		{"a narrow window", "lifetime: 24h", "lifetime: 24h\n  renewAt: 0.7", 13, Warning, "narrow-window", "in a heap, 6 times as many"},
		{"a window that is wide enough", "lifetime: 24h", "lifetime: 24h\n  renewAt: 0.5", 0, "", "", ""},

		{"no directory", "    directory: /d/i\n", "    mode: \"0600\"\n", 27, Error, "required", "directory is missing"},
		{"a relative directory", "/d/i", "d/i", 28, Error, "value", "absolute"},
		{"the root", "/d/i", "/", 28, Error, "value", "cannot be a placement's own"},
		{"a directory of dots", "/d/i", "/d/../i", 28, Error, "value", "write /i"},
		{"dots behind a template", "directory: /d/i", `directory: "/d/{{ agent }}/../i"`, 28, Error, "value", "without"},
		{"an account with a slash", "directory: /d/i", "directory: /d/i\n    group: a/b", 29, Error, "value", "not the name of an account"},
		{"a keystore without password", "directory: /d/i", "directory: /d/i\n    formats: [jks]", 27, Error, "required", "needs a password"},
		{"a password without keystore", "directory: /d/i", "directory: /d/i\n    password: pw", 29, Error, "combination", "no keystore"},
		{"no formats", "directory: /d/i", "directory: /d/i\n    formats: []", 29, Error, "required", "formats is empty"},

		{"proof of nothing", "    address: \"127.0.0.1:8443\"\n", "", 0, "", "", ""},
		{"proven without address", "    address: \"127.0.0.1:8443\"\n  files:\n    directory: /d/i\n  proof: {", "  files:\n    directory: /d/i\n  proof: {level: proven, ", 28, Error, "combination", "without an address"},
		{"loaded without a command", "proof: {", "proof: {level: loaded, ", 29, Error, "combination", "nothing can say"},
		{"no time", "timeout: 5s", "timeout: 0s", 29, Error, "value", "no proof can succeed"},
		{"an hour", "timeout: 5s", "timeout: 1h", 29, Error, "value", "ten minutes"},
		{"longer than allowed", "timeout: 5s", "timeout: 5s, observe: 5s", 29, Error, "arithmetic", "leaves nothing"},

		{"no rules", "rules:\n    - {name: r, effect: allow, when: \"true\"}", "rules: []", 35, Error, "required", "no rules"},
		{"a rule without effect", "effect: allow, ", "", 36, Error, "required", "effect is missing"},
		{"a rule without condition", `, when: "true"`, "", 36, Error, "required", "when is missing"},
		{"a rule without name", "name: r, ", "", 36, Error, "required", "name is missing"},
		{"two rules of a name", `when: "true"}`, "when: \"true\"}\n    - {name: r, effect: deny, when: \"true\"}", 37, Error, "duplicate", "two rules named r"},
		{"an unknown time zone", "Europe/Berlin", "Europe/Rotunda", 41, Error, "value", "not known"},
		{"an empty window", `"06:00"`, `"22:00"`, 41, Error, "value", "when it opens"},
		{"an exception without end", "until: 2027-01-31, ", "", 46, Error, "required", "until is missing"},
		{"an exception without owner", "owner: o, ", "", 46, Error, "required", "owner is missing"},
		{"a server without port", "a.example.com:7443", "a.example.com", 51, Error, "value", "host:port"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(valid, c.old) {
				t.Fatalf("%q is not there to be replaced", c.old)
			}
			found := Validate(NewSet(parse(t, strings.Replace(valid, c.old, c.new, 1))...))
			if c.rule == "" {
				if len(found) > 0 {
					t.Errorf("findings %v, want none", found)
				}
				return
			}
			if len(found) != 1 {
				t.Fatalf("%d findings, want 1: %v", len(found), found)
			}
			f := found[0]
			if f.Severity != c.severity || f.Rule != c.rule || f.Position != (Position{"a.yaml", c.line}) || !strings.Contains(f.Message+" "+f.Remedy, c.says) {
				t.Errorf("%s\nwant %s of rule %s in line %d that says %q", f, c.severity, c.rule, c.line, c.says)
			}
		})
	}
}

func TestTargetsThatCannotBeRead(t *testing.T) {
	for given, says := range map[string]string{
		"kind: mongodb": "files for a server that has no kind of its own",
		"kind: files\n    cluster: c\n    maxUnavailable: 1.5":   "must be a whole number",
		"kind: files\n    cluster: c\n    maxUnavailable: \"2\"": "must be a whole number",
		"kind: files\n    preamble: gopher":                      "write one of postgres, mysql, nats, http",
	} {
		_, found := ParseFiles([]File{{"a.yaml", []byte(strings.Replace(valid, "kind: files", given, 1))}})
		if len(found) != 1 || found[0].Severity != Error || !strings.Contains(found[0].String(), says) {
			t.Errorf("%q: %v, want an error that says %q", given, found, says)
		}
	}
}

func TestAServerIsOfOneRegion(t *testing.T) {
	second := "apiVersion: rotunda/v1\nkind: Region\nmetadata: {name: us}\nspec: {servers: [%q]}\n---\n" + valid
	if found := Validate(NewSet(parse(t, fmt.Sprintf(second, "b.example.com:7443"))...)); len(found) != 0 {
		t.Errorf("two regions: %v", found)
	}
	found := Validate(NewSet(parse(t, fmt.Sprintf(second, "a.example.com:7443"))...))
	if len(found) != 2 || found[0].Rule != "duplicate" || !strings.Contains(found[1].Message, "a.example.com:7443 is a server of region") {
		t.Errorf("one server in two regions: %v", found)
	}
}

func TestServersAndClusters(t *testing.T) {
	one := strings.NewReplacer("[serverAuth, clientAuth]", "[serverAuth]", "kind: files", "kind: redis\n    cluster: c").Replace(valid)
	two := func(lines string) string {
		return strings.Replace(another("  selector: {role: db}\n  files: {directory: /d/j}\n"), "kind: files", "kind: files\n    cluster: c\n    maxUnavailable: 2", 1) + lines
	}
	for name, c := range map[string]struct{ text, says string }{
		"a replica that can't call its master": {one, "a replica calls its master"},
		"two minds on one cluster":             {two("  target: {kind: files, cluster: c}\n"), "let 2 and 1 of its members be away"},
		"one mind on one cluster":              {two("  target: {kind: files, cluster: c, maxUnavailable: 2}\n"), ""},
		"two clusters":                         {two("  target: {kind: files, cluster: d}\n"), ""},
	} {
		found := Validate(NewSet(parse(t, c.text)...))
		if c.says == "" && len(found) > 0 || c.says != "" && (len(found) != 1 || !strings.Contains(found[0].Message, c.says)) {
			t.Errorf("%s: %v, want %q", name, found, c.says)
		}
	}
}

func TestBundles(t *testing.T) {
	for name, c := range map[string]struct{ document, rule string }{
		"reserved name": {"metadata: {name: default}\nspec: {anchors: [{authority: root}]}", "reserved"},
		"no anchors":    {"metadata: {name: b}\nspec: {}", "required"},
		"neither":       {"metadata: {name: b}\nspec: {anchors: [{}]}", "combination"},
		"both":          {"metadata: {name: b}\nspec: {anchors: [{pem: x, authority: root}]}", "combination"},
		"not PEM":       {"metadata: {name: b}\nspec: {anchors: [{pem: x}]}", "value"},
		"fine":          {"metadata: {name: b}\nspec: {anchors: [{authority: root}]}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			found := Validate(NewSet(parse(t, "apiVersion: rotunda/v1\nkind: Bundle\n"+c.document)...))
			if c.rule == "" && len(found) > 0 || c.rule != "" && (len(found) == 0 || found[0].Rule != c.rule) {
				t.Errorf("findings %v, want %q", found, c.rule)
			}
		})
	}
}

func TestBundleOnlyIntents(t *testing.T) {
	base := "apiVersion: rotunda/v1\nkind: Intent\nmetadata: {name: t}\nspec: {service: s, allAgents: true, files: {directory: /t%s}%s}\n---\n" + valid
	for name, c := range map[string]struct{ files, rest, says string }{
		"fine":     {"", "", ""},
		"loaded":   {"", ", target: {reloadCommand: r}, proof: {level: loaded}", ""},
		"proven":   {"", ", target: {address: 'a:1'}, proof: {level: proven}", "delivers a bundle only"},
		"address":  {"", ", target: {address: 'a:1'}", ""},
		"combined": {", formats: [pem, combined]", "", "remove combined"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(strings.Replace(base, "%s", c.files, 1), "%s", c.rest, 1)
			found := Validate(NewSet(parse(t, text)...))
			if c.says == "" && len(found) > 0 || c.says != "" && (len(found) != 1 || !strings.Contains(found[0].Message+found[0].Remedy, c.says)) {
				t.Errorf("findings %v, want %q", found, c.says)
			}
		})
	}
}

// Edges may go in a circle, and an outside party needs no runbook; whom to ask
// it needs.
func TestOutsideParties(t *testing.T) {
	circle := strings.Replace(valid, "clients: [s]", "clients: [bank]", 1) +
		"---\napiVersion: rotunda/v1\nkind: Service\nmetadata: {name: bank}\nspec: {owner: {team: b%s}, clients: [s], outside: true}\n"
	for rest, says := range map[string]string{
		", contact: c":                        "",
		"":                                    "spec.owner.contact is missing",
		", contact: c, runbook: \"see wiki\"": "not an http or https URL",
	} {
		found := Validate(NewSet(parse(t, strings.Replace(circle, "%s", rest, 1))...))
		if says == "" && len(found) > 0 || says != "" && (len(found) != 1 || !strings.Contains(found[0].Message, says)) {
			t.Errorf("owner with %q: findings %v, want one that says %q", rest, found, says)
		}
	}
}

func TestSharedDirectories(t *testing.T) {
	for _, c := range []struct {
		name, text string
		says       string
	}{
		{"two intents", another("  selector: {env: prod}\n  files: {directory: /d/i}\n"), "would share directory \"/d/i\""},
		{"all agents", another("  allAgents: true\n  files: {directory: /d/i}\n"), "would share directory \"/d/i\""},
		{"one template spelt twice", strings.Replace(another("  allAgents: true\n  files: {directory: \"/d/{{agent}}\"}\n"), "directory: /d/i", `directory: "/d/{{  agent }}"`, 1), "would share directory"},
		{"instances", strings.Replace(valid, "  profile: p", "  profile: p\n  instances: [a, b]", 1), "2 instances on one host"},
		{"one instance in common", strings.Replace(another("  allAgents: true\n  instances: [a, b]\n  files: {directory: \"/d/{{ instance }}\"}\n"),
			"directory: /d/i", "directory: \"/d/{{instance}}\"\n  instances: [b, c]", 1), "would share directory"},
		{"no instance in common", strings.Replace(another("  allAgents: true\n  instances: [a, b]\n  files: {directory: \"/d/{{ instance }}\"}\n"),
			"directory: /d/i", "directory: \"/d/{{instance}}\"\n  instances: [c, d]", 1), ""},
		{"one target, two kinds", strings.Replace(another("  allAgents: true\n  target: {name: x}\n  files: {directory: /d/j}\n"),
			"kind: files", "kind: etcd\n    name: x\n    cluster: c\n    restartCommand: r", 1), "differ in its kind"},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := Validate(NewSet(parse(t, c.text)...))
			if c.says == "" && len(found) > 0 || c.says != "" && (len(found) != 1 || !strings.Contains(found[0].Message, c.says)) {
				t.Errorf("findings %v, want one that says %q", found, c.says)
			}
		})
	}
}

// TestBrokenFieldsAreReportedOnce holds that what could not be read is not
// called missing as well.
func TestBrokenFieldsAreReportedOnce(t *testing.T) {
	text := strings.NewReplacer("lifetime: 24h", "lifetime: 24", "[serverAuth, clientAuth]", "[server]", "team: t", "team: 1").Replace(valid)
	documents, findings := ParseFiles([]File{{"a.yaml", []byte(text)}})
	if more := Validate(NewSet(documents...)); len(findings) != 3 || len(more) != 0 {
		t.Errorf("findings %v, and then %v", findings, more)
	}
}
