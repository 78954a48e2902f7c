package agent

import (
	"errors"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

func TestTargetList(t *testing.T) {
	c := &Config{Targets: map[string]TargetConfig{"web": {Kind: "nginx"}, "cache": {Kind: "redis"}}}
	if got := c.targetList(); got != "cache=redis,web=nginx" {
		t.Errorf("says %q", got)
	}
	if got := facts("1", c.targetList())["targets"]; got != "cache=redis,web=nginx" {
		t.Errorf("the fact says %q", got)
	}
	if _, said := facts("1", (&Config{}).targetList())["targets"]; said {
		t.Error("no targets are a fact")
	}
}

// Any user of a host may listen on a port while the server that has it is down:
// what is said there is said to him, unless the way in does not reveal it.
func TestSecretsAreNotSaidToPorts(t *testing.T) {
	const refused = "must be its unix socket"
	for _, c := range []struct{ lines, says string }{
		{"kind: redis, address: '127.0.0.1:6379', passwordFile: /p", refused},
		{"kind: memcached, address: 'localhost:11211', passwordFile: /p", refused},
		{"kind: mariadb, address: '[::1]:3306', user: rotunda, passwordFile: /p", refused},
		{"kind: nats, address: '127.0.0.1:8222', passwordFile: /p", refused},
		{"kind: haproxy, address: '127.0.0.1:9999'", refused},
		{"kind: haproxy, address: '127.0.0.1:9999', passwordFile: /p", refused},
		{"kind: redis, address: '10.0.0.1:6379'", "must not leave the host"},
		{"kind: postgres, address: '127.0.0.1:5432', user: rotunda, passwordFile: /p", ""},
		{"kind: redis, address: /run/redis.sock, passwordFile: /p", ""},
		{"kind: redis, address: '127.0.0.1:6379'", ""},
		{"kind: haproxy, address: /run/haproxy/admin.sock", ""},
		{"kind: haproxy, pidFile: /run/haproxy.pid", ""},
	} {
		_, err := ParseConfig("agent.yaml", []byte("servers: ['a:1']\ntargets:\n  one: {"+c.lines+"}\n"))
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.lines, err)
		}
		if e, ok := errors.AsType[*fault.Error](err); err != nil && (!ok || e.Remedy == "") {
			t.Errorf("%s: no remedy: %v", c.lines, err)
		}
	}
}
