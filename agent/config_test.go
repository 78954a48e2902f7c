package agent

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

const goodConfig = `
servers: [control-1.example.org:8443, "[2001:db8::1]:8443"]
state: /srv/agent
trustDomain: example.org
allow:
  directories: [/etc/etcd/tls, /srv/pki]
  users: [etcd]
  groups: [etcd]
commands:
  restart-etcd:
    argv: [/usr/bin/systemctl, restart, etcd]
  slow:
    argv: [/bin/true]
    user: etcd
    timeout: 2m
passwords:
  keystore: {file: /etc/rotunda/keystore.password}
metrics: 127.0.0.1:9100
`

func TestParseConfig(t *testing.T) {
	c, err := ParseConfig("agent.yaml", []byte(goodConfig))
	check(t, err)
	if len(c.Servers) != 2 || c.State != "/srv/agent" || c.Socket != "/srv/agent/agent.sock" || c.Metrics != "127.0.0.1:9100" {
		t.Errorf("parsed as %+v", c)
	}
	h := c.HostRules()
	restart, err := h.Command("restart-etcd")
	if err != nil || strings.Join(restart.Argv, " ") != "/usr/bin/systemctl restart etcd" || restart.Timeout != 30*time.Second {
		t.Errorf("command %+v, %v", restart, err)
	}
	slow, err := h.Command("slow")
	if err != nil || slow.User != "etcd" || slow.Timeout != 2*time.Minute {
		t.Errorf("command %+v, %v", slow, err)
	}
	c, err = ParseConfig("agent.yaml", []byte("servers: [a:1]\n"))
	if err != nil || c.State != DefaultState || c.Socket != DefaultSocket {
		t.Errorf("defaults %+v, %v", c, err)
	}
}

func TestParseConfigRefuses(t *testing.T) {
	for content, wants := range map[string][]string{
		"":                                                    {"agent.yaml: servers: there must be at least one server"},
		"servers: []":                                         {"agent.yaml:1: servers: there must"},
		"servers: [a:1]\nserver: b":                           {"agent.yaml:2: unknown field server"},
		"servers: [a:1]\nservers: [b:1]":                      {`agent.yaml:2: mapping key "servers" already defined`},
		"servers: [a:1]\n---\nservers: [b]":                   {"one YAML document"},
		"servers: {a: b}":                                     {"agent.yaml:1: cannot unmarshal"},
		"servers: [a":                                         {"agent.yaml:1"},
		"servers:\n- a:1\n- a\n- :1\n- a:0":                   {"agent.yaml:3: servers[1]: \"a\": must be host:port", "agent.yaml:4: servers[2]", "agent.yaml:5: servers[3]"},
		"servers: [a:1, a:1]":                                 {"stands here twice"},
		"servers: [a:1]\nstate: x":                            {`agent.yaml:2: state: path "x": must be absolute`},
		"servers: [a:1]\nmetrics: 9100":                       {"agent.yaml:2: metrics"},
		"servers: [a:1]\ntrustDomain: a b":                    {"agent.yaml:2: trustDomain"},
		"servers: [a:1]\ncaPin: abc":                          {"agent.yaml:2: caPin", "64 hexadecimal digits"},
		"servers: [a:1]\nlogKey: abc":                         {"agent.yaml:2: logKey"},
		"servers: [a:1]\nwitnesses: {required: 1}":            {"agent.yaml:2: witnesses.required: 1 are required of the 0 witnesses named", "name more keys"},
		"servers: [a:1]\nwitnesses: {required: 1, urls: [x]}": {"agent.yaml:2: unknown field urls"},
		witnessed(0, "w1"):                                    {"witnesses.required: 0 are required of the 1 witnesses named", "1 to 1"},
		witnessed(-1, "w1"):                                   {"witnesses.required: -1 are required"},
		witnessed(3, "w1", "w2"):                              {"agent.yaml:3: witnesses.required: 3 are required of the 2 witnesses named", "1 to 2"},
		witnessed(1, "w1", "w2", "w1"):                        {"agent.yaml:7: witnesses.keys[2]: witnesses witness.example/w1 and witness.example/w1 have one key", "name each witness once"},
		witnessed(1, "w1", "w2", "w1 as w3"):                  {"agent.yaml:7: witnesses.keys[2]: witnesses witness.example/w1 and w3 have one key, and count once"},
		witnessed(1, "w1", "broken"):                          {`agent.yaml:6: witnesses.keys[1]: witness key "broken" must be the vkey`, "ask who runs the witness"},
		witnessed(1, strings.Split(strings.Repeat("w1,", 16)+"w1", ",")...): {"agent.yaml:4: witnesses.keys: 17 witnesses are named, at most 16"},
		"servers: [a:1]\nallow:\n  directories:\n  - tls\n  - /":            {"agent.yaml:4: allow.directories[0]", "agent.yaml:5: allow.directories[1]: the whole file system"},
		"servers: [a:1]\nallow: {users: [\"\"]}":                            {"agent.yaml:2: allow.users[0]: must not be empty"},
		"servers: [a:1]\ncommands:\n  Restart: {argv: [/bin/true]}":         {`agent.yaml:3: commands.Restart: name "Restart"`},
		"servers: [a:1]\ncommands:\n  r: {}":                                {"agent.yaml:3: commands.r: has no program"},
		"servers: [a:1]\ncommands:\n  r: {argv: [systemctl]}":               {"agent.yaml:3: commands.r.argv[0]: path \"systemctl\": must be absolute"},
		"servers: [a:1]\ncommands:\n  r:\n    argv: [/a]\n    timeout: 10":  {"agent.yaml:5: \"10\" is no duration"},
		"servers: [a:1]\ncommands:\n  r:\n    argv: [/a]\n    timeout: 9h":  {"agent.yaml:5: commands.r.timeout", "at most 30m0s"},
		"servers: [a:1]\npasswords: {p: {file: secret}}":                    {"agent.yaml:2: passwords.p.file"},
		"servers: [a:1] # " + strings.Repeat("x", maxConfig):                {"larger than"},
	} {
		_, err := ParseConfig("agent.yaml", []byte(content))
		if err == nil {
			t.Errorf("%q was accepted", content)
			continue
		}
		if fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%q: error is of kind %s", content, fault.CodeOf(err))
		}
		for _, want := range wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: error %q does not say %q", content, err, want)
			}
		}
	}
}

// witnessed is an agent.yaml with witnesses of these names; "a as b" is a's key
// under the name b.
func witnessed(required int, names ...string) string {
	content := fmt.Sprintf("servers: [a:1]\nwitnesses:\n  required: %d\n  keys:\n", required)
	for _, name := range names {
		key, other, _ := strings.Cut(name, " as ")
		content += "  - " + cosignerOf(key, other) + "\n"
	}
	return content
}

// cosignerOf is the vkey of a witness whose key is made from its name; one that
// is called broken has none.
func cosignerOf(name, other string) string {
	if name == "broken" {
		return name
	}
	public := ed25519.NewKeyFromSeed(bytes.Repeat([]byte(name), 32)[:32]).Public().(ed25519.PublicKey)
	if name = "witness.example/" + name; other != "" {
		name = other
	}
	key := append([]byte{4}, public...)
	sum := sha256.Sum256(append([]byte(name+"\n"), key...))
	return fmt.Sprintf("%s+%x+%s", name, sum[:4], base64.StdEncoding.EncodeToString(key))
}

func TestLoadConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	_, err := LoadConfig(path, DefaultState)
	wantFault(t, err, fault.Invalid, path)
	check(t, os.WriteFile(path, []byte("servers: [a:1]\nx: 1\n"), 0o600))
	_, err = LoadConfig(path, DefaultState)
	wantFault(t, err, fault.Invalid, path+":2: unknown field x")
	for says, state := range map[string]string{"": "/srv/agent", "state: /srv/other\n": "/srv/other"} {
		check(t, os.WriteFile(path, []byte("servers: [a:1]\n"+says), 0o600))
		if c, err := LoadConfig(path, "/srv/agent"); err != nil || c.State != state || c.Socket != state+"/agent.sock" {
			t.Errorf("%q beside --state /srv/agent: %+v, %v", says, c, err)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(goodConfig))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, content []byte) {
		c, err := ParseConfig("agent.yaml", content)
		if err != nil {
			if strings.TrimSpace(err.Error()) == "" {
				t.Fatal("an error without words")
			}
			return
		}
		if len(c.Servers) == 0 || !filepath.IsAbs(c.State) {
			t.Fatalf("accepted %+v", c)
		}
	})
}

func rulesFor(t *testing.T) (*HostRules, string) {
	t.Helper()
	dir := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(dir, "allowed", "sub"), 0o755))
	check(t, os.Mkdir(filepath.Join(dir, "allowed-not"), 0o755))
	c := &Config{
		Allow:     Allow{Directories: []string{filepath.Join(dir, "allowed") + "/"}, Users: []string{"etcd"}, Groups: []string{"etcd"}},
		Passwords: map[string]PasswordConfig{"p": {File: filepath.Join(dir, "password")}},
	}
	return c.HostRules(), dir
}

func TestAllowDirectory(t *testing.T) {
	h, dir := rulesFor(t)
	check(t, os.Symlink("sub", filepath.Join(dir, "allowed", "inward")))
	check(t, os.Symlink("/etc", filepath.Join(dir, "allowed", "outward")))
	check(t, os.WriteFile(filepath.Join(dir, "allowed", "file"), nil, 0o600))
	for path, ok := range map[string]bool{
		"/allowed":                 true,
		"/allowed/sub":             true,
		"/allowed/sub/deep/deeper": true,
		"/allowed/new":             true,
		"/allowed-not":             false,
		"":                         false,
		"/allowed/../allowed-not":  false,
		"/allowed/./sub":           false,
		"/allowed//sub":            false,
		"/allowed/sub/":            false,
		"/allowed/inward":          false,
		"/allowed/inward/deep":     false,
		"/allowed/outward":         false,
		"/allowed/outward/rotunda": false,
		"/allowed/file":            false,
		"/allowed/file/sub":        false,
	} {
		err := h.AllowDirectory(dir + path)
		if (err == nil) != ok {
			t.Errorf("%s: %v", path, err)
		}
		opened, openErr := h.OpenDirectory(dir + path)
		if (openErr == nil) != ok {
			t.Errorf("open %s: %v", path, openErr)
		}
		if openErr == nil {
			opened.Close()
		}
	}
	if err := h.AllowDirectory("allowed"); err == nil {
		t.Error("a relative path is allowed")
	}
	wantFault(t, h.AllowDirectory("/etc"), fault.Forbidden, "allow.directories")
	wantFault(t, h.AllowDirectory(dir+"/allowed-not"), fault.Forbidden, "allow.directories")
	if _, err := os.Stat("/etc/rotunda/deep"); err == nil {
		t.Error("a directory was made through a link")
	}
	if info, err := os.Stat(filepath.Join(dir, "allowed/sub/deep/deeper")); err != nil || !info.IsDir() {
		t.Errorf("missing directories were not made: %v", err)
	}
	check(t, os.RemoveAll(filepath.Join(dir, "allowed")))
	wantFault(t, h.AllowDirectory(filepath.Join(dir, "allowed", "x")), fault.Invalid, "does not exist")
}

func TestAllowOwners(t *testing.T) {
	h, _ := rulesFor(t)
	own, err := user.Current()
	check(t, err)
	for name, ok := range map[string]bool{"": true, "etcd": true, own.Username: true, "nobody": false, "Etcd": false} {
		if err := h.AllowUser(name); (err == nil) != ok {
			t.Errorf("user %q: %v", name, err)
		}
	}
	group, err := user.LookupGroupId(own.Gid)
	check(t, err)
	for name, ok := range map[string]bool{"": true, "etcd": true, group.Name: true, "nogroup": false} {
		if err := h.AllowGroup(name); (err == nil) != ok {
			t.Errorf("group %q: %v", name, err)
		}
	}
	_, err = h.Command("restart")
	wantFault(t, err, fault.Forbidden, "commands")
	_, err = h.Password("other")
	wantFault(t, err, fault.Forbidden, "passwords")
}

func TestPassword(t *testing.T) {
	h, dir := rulesFor(t)
	path := filepath.Join(dir, "password")
	_, err := h.Password("p")
	wantFault(t, err, fault.Invalid, "password p")
	for content, want := range map[string]string{"secret": "secret", "secret\n": "secret", "secret\r\n": "secret", " s \n\n": " s \n", "": "", "\n": "", strings.Repeat("x", maxPassword+1): ""} {
		check(t, os.WriteFile(path, []byte(content), 0o600))
		got, err := h.Password("p")
		if string(got) != want || (err == nil) != (want != "") {
			t.Errorf("%.20q gives %.20q, %v", content, got, err)
		}
	}
	check(t, os.WriteFile(path, []byte("secret"), 0o600))
	check(t, os.Chmod(path, 0o604))
	if _, err := h.Password("p"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("readable by everybody: %v", err)
	}
	check(t, os.Remove(path))
	check(t, os.Mkdir(path, 0o700))
	if _, err := h.Password("p"); err == nil {
		t.Error("a directory is a password")
	}
}

func TestServersWithRegions(t *testing.T) {
	c, err := ParseConfig("agent.yaml", []byte("servers:\n  - a:1\n  - {address: 'b:2', region: eu}\n"))
	check(t, err)
	if len(c.Servers) != 2 || c.Servers[0] != (ServerAddress{"a:1", ""}) || c.Servers[1] != (ServerAddress{"b:2", "eu"}) {
		t.Errorf("servers are %+v", c.Servers)
	}
	for text, says := range map[string]string{
		"servers: ['a:1', {address: 'b:2', zone: x}]":     "agent.yaml:1: unknown field zone",
		"servers: [{region: eu}]":                         "servers[0]: \"\": must be host:port",
		"servers:\n  - {address: 'a:1', region: 'E U'}":   "agent.yaml:2: servers[0]: region \"E U\"",
		"servers:\n  - a:1\n  - {address: 'a:1'}":         "agent.yaml:3: servers[1]: a:1 stands here twice",
		"servers: [[a]]":                                  "agent.yaml:1",
		"servers: [{address: 'a:1', region: [eu, 'us']}]": "agent.yaml:1",
	} {
		if _, err := ParseConfig("agent.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}
