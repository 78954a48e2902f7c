package forward

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigRefusals(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	open, broken := write("open", "Authorization: x", 0o644), write("broken", "Authorization: x\nsecret-without-name\n", 0o600)
	reserved, binary := write("reserved", "Grpc-Timeout: 1S", 0o600), write("binary", "x-bin: AA", 0o600)
	strange, accented := write("strange", "x!y: z", 0o600), write("accented", "x: é", 0o600)
	otlp := func(change func(*Config)) []Config {
		c := Config{Name: "siem", Kind: KindOTLP, Address: "https://collector.example/v1/logs"}
		change(&c)
		return []Config{c}
	}
	for want, configs := range map[string][]Config{
		`name "A b" must be`:                               otlp(func(c *Config) { c.Name = "A b" }),
		"another sink is called siem":                      append(otlp(func(*Config) {}), otlp(func(*Config) {})...),
		`kind "kafka": it is otlp, otlp-grpc or syslog`:    otlp(func(c *Config) { c.Kind = "kafka" }),
		"otlp-grpc wants https://HOST:PORT and nothing":    otlp(func(c *Config) { c.Kind = KindOTLPGRPC }),
		"otlp-grpc wants https://HOST:PORT":                otlp(func(c *Config) { c.Kind, c.Address = KindOTLPGRPC, "https://h" }),
		"kind otlp-grpc wants https://HOST":                otlp(func(c *Config) { c.Kind, c.Address = KindOTLPGRPC, "grpc://h:4317" }),
		`address "http://h:4317": entries would leave the`: otlp(func(c *Config) { c.Kind, c.Address = KindOTLPGRPC, "http://h:4317" }),
		"line 1 of " + reserved + " can't be metadata":     otlp(func(c *Config) { c.Kind, c.Address, c.HeadersFile = KindOTLPGRPC, "https://h:4317", reserved }),
		"line 1 of " + binary + " can't be metadata":       otlp(func(c *Config) { c.Kind, c.Address, c.HeadersFile = KindOTLPGRPC, "https://h:4317", binary }),
		"line 1 of " + strange + " can't be metadata":      otlp(func(c *Config) { c.Kind, c.Address, c.HeadersFile = KindOTLPGRPC, "https://h:4317", strange }),
		"line 1 of " + accented + " can't be metadata":     otlp(func(c *Config) { c.Kind, c.Address, c.HeadersFile = KindOTLPGRPC, "https://h:4317", accented }),
		"wants https://HOST":                               otlp(func(c *Config) { c.Address = "tcp://x" }),
		"would leave the host unencrypted":                 otlp(func(c *Config) { c.Address = "http://collector.example/v1/logs" }),
		"secrets belong into headersFile":                  otlp(func(c *Config) { c.Address = "https://u:p@collector.example/v1/logs" }),
		"syslog wants tls://HOST:PORT":                     otlp(func(c *Config) { c.Kind, c.Address = KindSyslog, "tls://h" }),
		"syslog has no headers":                            otlp(func(c *Config) { c.Kind, c.Address, c.HeadersFile = KindSyslog, "tls://h:1", open }),
		"everybody may read":                               otlp(func(c *Config) { c.HeadersFile = open }),
		"line 2 of " + broken + " is not a header":         otlp(func(c *Config) { c.HeadersFile = broken }),
		"holds no certificate in PEM":                      otlp(func(c *Config) { c.CAFile = open }),
		"one of the two is missing":                        otlp(func(c *Config) { c.CertFile = open }),
		"certFile and keyFile: open " + dir + "/absent":    otlp(func(c *Config) { c.CertFile, c.KeyFile = dir+"/absent", dir+"/absent" }),
	} {
		err := CheckAll(configs)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret-without-name") {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	token := write("token", "Authorization: Bearer a.b_c-d\nx-tenant.id: 7\n", 0o600)
	for _, c := range []Config{
		{Name: "a", Kind: KindOTLP, Address: "http://127.0.0.1:4318/v1/logs"}, {Name: "b", Kind: KindSyslog, Address: "tcp://localhost:514"},
		{Name: "c", Kind: KindSyslog, Address: "tcp://h:514", Plain: true}, {Name: "d", Kind: KindOTLPGRPC, Address: "https://h:4317", HeadersFile: token},
		{Name: "e", Kind: KindOTLPGRPC, Address: "http://[::1]:4317"},
	} {
		if err := CheckAll([]Config{c}); err != nil {
			t.Error(err)
		}
	}
}
