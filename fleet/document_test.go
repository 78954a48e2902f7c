package fleet

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// exampleFiles are the documents that ship with Rotunda.
func exampleFiles(t testing.TB) []File {
	t.Helper()
	var files []File
	for _, pattern := range []string{"../examples/*.yaml", "../examples/*/*.yaml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v, %v", pattern, paths, err)
		}
		for _, path := range paths {
			if dir := filepath.Base(filepath.Dir(path)); dir == "tests" || dir == "hosts" {
				continue // no documents
			}
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, File{path, content})
		}
	}
	return files
}

// No example places files where Debian's package has given the directory to the
// server's own user, who could exchange them: agents refuse that.
func TestExamplesPlaceFilesWhereAgentsDo(t *testing.T) {
	for _, file := range exampleFiles(t) {
		for _, taken := range []string{"/etc/redis", "/etc/postgresql", "/etc/rabbitmq"} {
			if bytes.Contains(file.Content, []byte("directory: "+taken)) {
				t.Errorf("%s places files below %s", file.Path, taken)
			}
		}
	}
}

func seeds(t testing.TB) [][]byte {
	all := [][]byte{allKinds}
	for _, file := range exampleFiles(t) {
		all = append(all, file.Content)
	}
	return all
}

// checkRoundTrip holds that a document's canonical form is read back to the
// same document, and is the same bytes then.
func checkRoundTrip(t interface {
	Helper()
	Fatalf(string, ...any)
}, d Document) {
	t.Helper()
	content, err := d.JSON()
	if err != nil {
		t.Fatalf("%s: %v", d, err)
	}
	back, err := ParseJSON(content)
	if err != nil {
		t.Fatalf("%s: %v\n%s", d, err, content)
	}
	if back.Key() != d.Key() || !reflect.DeepEqual(back.Spec, d.Spec) {
		t.Fatalf("%s came back as %#v\nwant %#v\n%s", d, back.Spec, d.Spec, content)
	}
	if again, err := back.JSON(); err != nil || !bytes.Equal(again, content) {
		t.Fatalf("%s: second form differs (%v)\n%s\n%s", d, err, content, again)
	}
	if changes := Diff(d, back); len(changes) > 0 {
		t.Fatalf("%s differs from itself: %v", d, changes)
	}
}

// allKinds has each field of each kind.
var allKinds = []byte(`
apiVersion: rotunda/v1
kind: Service
metadata: {name: s}
spec: {owner: {team: t, contact: c, runbook: "https://x.example.com/"}, clients: [s], description: d}
---
apiVersion: rotunda/v1
kind: Service
metadata: {name: o}
spec: {owner: {team: t, contact: c, runbook: ""}, outside: true}
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: p}
spec: {algorithm: rsa-3072, lifetime: 90d, renewAt: 0.5, rideOut: 1d12h, backdate: 2m, keyAge: 365d, usages: [serverAuth, clientAuth],
  tls: {minVersion: "1.3", groups: [X25519MLKEM768, CurveP256]}, grace: 1500ms, repairDrift: true, revocation: {crl: true}}
---
apiVersion: rotunda/v1
kind: Policy
metadata: {name: pol}
spec: {rules: [{name: r, effect: allow, when: "a && b < c", description: d}]}
---
apiVersion: rotunda/v1
kind: Intent
metadata: {name: i}
spec: {service: s, selector: {a/b: c}, instances: [one, two], profile: p, bundle: default,
  identity: {commonName: cn, dnsNames: ["{{ labels.a/b }}.example.com"], ipAddresses: [10.0.0.1, "::1"], spiffePath: "/x/{{ instance }}"},
  target: {kind: etcd, name: "e{{instance}}", cluster: k, maxUnavailable: 2, preamble: http, address: "[::1]:2379", serverName: x.example.com, clientAuth: required, reloadCommand: rel, restartCommand: res},
  files: {directory: "/d/{{ instance }}", owner: etcd, group: "0", mode: "0600", formats: [pem, combined, pkcs12, jks], password: pw},
  proof: {level: loaded, observe: 1s, timeout: 1m}}
---
apiVersion: rotunda/v1
kind: Window
metadata: {name: w}
spec: {days: [mon, sun], from: "22:00", to: "06:00", timezone: UTC, freeze: true}
---
apiVersion: rotunda/v1
kind: Exception
metadata: {name: x}
spec: {rule: r, subject: s, owner: o, until: 2027-01-31, reason: because}
---
apiVersion: rotunda/v1
kind: Region
metadata: {name: eu}
spec: {description: d, servers: ["a.example.com:7443"]}
`)

func TestRoundTripOfAllKinds(t *testing.T) {
	for _, d := range parse(t, string(allKinds)) {
		checkRoundTrip(t, d)
	}
	for _, f := range Validate(NewSet(parse(t, string(allKinds))...)) {
		t.Error(f)
	}
}

func TestRoundTripOfAnyProfile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		duration := func(name string) Duration {
			return Duration(rapid.Int64Range(0, 1<<43).Draw(t, name) * 1e6)
		}
		pick := func(name string, known enumeration) string { return rapid.SampledFrom(known.values()).Draw(t, name) }
		p := &Profile{
			Algorithm: Algorithm(pick("algorithm", Algorithm(""))), Lifetime: duration("lifetime"),
			RenewAt: rapid.Float64().Draw(t, "renewAt"), RideOut: duration("rideOut"), Backdate: duration("backdate"),
			KeyAge: duration("keyAge"), TLS: TLS{MinVersion: TLSVersion(pick("minVersion", TLSVersion("")))},
			Grace: duration("grace"), RepairDrift: rapid.Bool().Draw(t, "repairDrift"),
			Revocation: Revocation{CRL: true, OnStale: OnStale(pick("onStale", OnStale(""))), Staple: rapid.Bool().Draw(t, "staple")},
		}
		for range rapid.IntRange(0, 3).Draw(t, "usages") {
			p.Usages = append(p.Usages, Usage(pick("usage", Usage(""))))
		}
		checkRoundTrip(t, Document{Kind: KindProfile, Name: Name(rapid.StringMatching(namePattern).Draw(t, "name")), Spec: p})
	})
}

func TestRoundTripOfAnyText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String()
		in := defaultIntent()
		in.Service = "s"
		in.Selector = rapid.MapOfN(text, text, 1, 3).Draw(t, "selector")
		in.Identity = &Identity{CommonName: text.Draw(t, "cn"), DNSNames: rapid.SliceOfN(text, 1, 3).Draw(t, "dns")}
		in.Target.Address = text.Draw(t, "address")
		in.Files.Directory = text.Draw(t, "directory")
		in.Proof.Level = Delivered
		checkRoundTrip(t, Document{Kind: KindIntent, Name: "i", Spec: in})
	})
}

func TestRoundTripOfDurations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := Duration(rapid.Int64Range(0, 1<<63-1).Draw(t, "ns") / 1e6 * 1e6)
		if back, err := ParseDuration(d.String()); err != nil || back != d {
			t.Fatalf("%d is %q, read back as %d, %v", d, d, back, err)
		}
	})
	for text, want := range map[string]string{"24h": "24h", "36h": "36h", "48h": "2d", "90m": "1h30m", "1d12h": "36h", "1500ms": "1s500ms", "0s": "0s", "0d": "0s"} {
		if d, err := ParseDuration(text); err != nil || d.String() != want {
			t.Errorf("%s is %s, %v; want %s", text, d, err, want)
		}
	}
	for _, text := range []string{"", "h", "1", "1.5h", "-1h", "1h1h", "1m1h", " 1h", "1w", "106752d", "99999999999999999999d", "1h 1m", "١h"} {
		if d, err := ParseDuration(text); err == nil {
			t.Errorf("%q is taken as %s", text, d)
		}
	}
}

func TestDiff(t *testing.T) {
	base := string(allKinds)
	set := NewSet(parse(t, base)...)
	edited := strings.NewReplacer("90d", "80d", "groups: [X25519MLKEM768, CurveP256]", "groups: [CurveP256]",
		", repairDrift: true", "", "description: d, servers", "description: \"d\\nmore\", servers").Replace(base)
	after := NewSet(parse(t, edited)...)
	for _, c := range []struct {
		key  Key
		want []string
	}{
		{Key{KindProfile, "p"}, []string{
			"spec.lifetime: 90d → 80d",
			"spec.repairDrift: true → none",
			"spec.tls.groups[0]: X25519MLKEM768 → CurveP256",
			"spec.tls.groups[1]: CurveP256 → none",
		}},
		{Key{KindRegion, "eu"}, []string{"spec.description: d → d…"}},
		{Key{KindService, "s"}, nil},
	} {
		if got := Diff(set[c.key], after[c.key]); !reflect.DeepEqual(got, c.want) {
			t.Errorf("Diff of %s = %q\nwant %q", c.key, got, c.want)
		}
	}
	created := Diff(Document{}, set[Key{KindRegion, "eu"}])
	if want := []string{"spec.description: none → d", "spec.servers[0]: none → a.example.com:7443"}; !reflect.DeepEqual(created, want) {
		t.Errorf("Diff of a new document = %q, want %q", created, want)
	}
	long := strings.Repeat("x", 70)
	region := func(text string) Document {
		return Document{Kind: KindRegion, Name: "r", Spec: &Region{Description: text}}
	}
	if got := Diff(region(long+"a"), region(long+"b")); len(got) != 1 || !strings.HasSuffix(got[0], "(changed further on)") {
		t.Errorf("a change beyond what is shown: %q", got)
	}
}
