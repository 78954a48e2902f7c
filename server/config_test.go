package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const minimal = `
listen: {agents: "127.0.0.1:1"}
adminSocket: admin.sock
publicURL: http://localhost
names: [localhost]
store: rotunda.db
kek: {file: kek}
`

// What rotunda.yaml says beside the listeners is refused with the thing that is
// wrong.
func TestConfigRefusals(t *testing.T) {
	for name, test := range map[string]struct{ add, secret, says string }{
		"notices":                {"notices: {url: \"https://hooks.example/x\", secretFile: secret}", "0123456789abcdef", ""},
		"notices to loopback":    {"notices: {url: \"http://[::1]:8080/x\", secretFile: secret}", "0123456789abcdef", ""},
		"in the plain":           {"notices: {url: \"http://hooks.example/x\", secretFile: secret}", "0123456789abcdef", "leaves the host in the plain"},
		"unsigned":               {"notices: {url: \"https://hooks.example/x\"}", "", "nothing is posted unsigned"},
		"a secret that is short": {"notices: {secretFile: secret}", "0123456789abcd\n", "14 bytes"},
		"no secret":              {"notices: {secretFile: nowhere}", "", "no such file"},
		"a command":              {"commands: {check: {argv: [/bin/true], user: nobody, timeout: 1m}}", "", ""},
		"a shell's word":         {"commands: {check: {argv: [true]}}", "", "commands.check.argv: path \"true\": must be absolute"},
		"no program":             {"commands: {check: {user: nobody}}", "", "commands.check: has no program"},
		"a sink":                 {"forward: [{name: siem, kind: otlp, address: \"https://x/v1/logs\", headersFile: secret}]", "Authorization: x", ""},
		"a sink without a file":  {"forward: [{name: siem, kind: syslog, address: \"tls://x:6514\", caFile: nowhere}]", "", "forward[0] (siem): caFile: open"},
		"witnesses":              {"witnesses: {required: 0, ask: []}", "", ""},
		"a witness too few":      {"witnesses: {required: 1}", "", "witnesses: 1 are required, and 0 are named"},
		"a witness of no key":    {"witnesses: {ask: [{name: w1, key: x, url: \"https://x\"}]}", "", "witnesses.ask[0]: key of w1"},
		"a spool of a file":      {"onStoreOutage: spool", "", "the store is a file of this server alone"},
		"spooled by a slip":      {"onStoreOutage: spoool", "", "it is refuse or spool"},
		"refused":                {"onStoreOutage: refuse", "", ""},
		"a spool, and none":      {"spool: {for: 1h}", "", "nothing is spooled"},
		"longer than may be":     {"commands: {check: {argv: [/bin/true], timeout: 31m}}", "", "commands.check.timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			for file, content := range map[string]string{"rotunda.yaml": minimal + test.add, "secret": test.secret} {
				if err := os.WriteFile(filepath.Join(state, file), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := LoadConfig(state)
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("error %v, want %q", err, test.says)
			}
		})
	}
}

// A secret that everybody on the host may read is none.
func TestSecretThatEverybodyReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("0123456789abcdef"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := (Notices{SecretFile: path}).secret(); err == nil || !strings.Contains(err.Error(), "everybody may read") {
		t.Errorf("error %v", err)
	}
}

// How far a server goes on without its store is bounded.
func TestSpoolIsBounded(t *testing.T) {
	for add, says := range map[string]string{
		"": "", "spool: {for: 8h, most: 1}": "", "spool: {for: 30s}": "spool.for: 30s is not between 1m and 8h",
		"spool: {for: 9h}": "spool.for: 9h", "spool: {most: -1}": "spool.most: -1", "spool: {most: 1000001}": "spool.most: 1000001",
	} {
		state := t.TempDir()
		content := strings.Replace(minimal, "store: rotunda.db", "store: postgres://127.0.0.1/x", 1) + "onStoreOutage: spool\n" + add
		if err := os.WriteFile(filepath.Join(state, "rotunda.yaml"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		config, err := LoadConfig(state)
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v", add, err)
		}
		if spooling := config.Spooling(); err == nil && (!spooling.On || spooling.Dir != filepath.Join(state, "spool") || spooling.For == 0 || spooling.Most == 0) {
			t.Errorf("%s: %+v", add, spooling)
		}
	}
}
