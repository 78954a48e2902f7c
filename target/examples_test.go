package target_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

var exampleDirectory = regexp.MustCompile(`/etc/[a-z]+/tls/([a-z]+/)?current/`)

// exampleOf is a server's configuration from examples/hosts, where only what
// belongs to the host is another's: directories, ports, pid files.
func exampleOf(t *testing.T, file string, d *targettest.Delivery, changes ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("../examples/hosts", file))
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			t.Fatalf("%s has no %q", file, changes[i])
		}
		text = strings.ReplaceAll(text, changes[i], changes[i+1])
	}
	return exampleDirectory.ReplaceAllString(text, d.File("")+"/")
}

// TestExamplesRun starts servers from the configurations of examples/hosts, and
// reloads them.
func TestExamplesRun(t *testing.T) {
	for _, c := range []struct {
		kind    fleet.TargetKind
		account string
		file    string
		level   fleet.Level
		start   func(*targettest.Delivery) *targettest.Server
		changes func(*targettest.Server) []string
	}{
		{fleet.TargetNATS, targettest.NATSAccount(), "nats-server.conf", fleet.Loaded,
			func(d *targettest.Delivery) *targettest.Server {
				return targettest.NATS(t, d, targettest.NATSOptions{})
			},
			func(s *targettest.Server) []string {
				return []string{"0.0.0.0:4222", s.Target.Address, "127.0.0.1:8222", s.Target.Control.Address, "/run/nats/nats-server.pid", s.Target.Control.PIDFile}
			}},
		{fleet.TargetNginx, targettest.NginxAccount(), "nginx.conf", fleet.Loaded,
			func(d *targettest.Delivery) *targettest.Server {
				return targettest.Nginx(t, d, targettest.NginxOptions{})
			},
			func(s *targettest.Server) []string {
				return []string{"user www-data;", "daemon off;", "listen 443", "listen " + s.Target.Address, "/run/nginx.pid", s.Target.Control.PIDFile}
			}},
		{fleet.TargetMosquitto, targettest.MosquittoAccount(), "mosquitto.conf", fleet.Delivered,
			func(d *targettest.Delivery) *targettest.Server {
				return targettest.Mosquitto(t, d, targettest.MosquittoOptions{})
			},
			func(s *targettest.Server) []string {
				_, port, _ := strings.Cut(s.Target.Address, ":")
				return []string{"listener 8883", "listener " + port + " 127.0.0.1", "/run/mosquitto/mosquitto.pid", s.Target.Control.PIDFile, "/var/lib/mosquitto/", s.Dir + "/"}
			}},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			s := newStand(t, c.kind, c.account, c.start)
			s.late = c.level == fleet.Delivered
			s.Stop()
			name := strings.Replace(c.file, "nats-server", "nats", 1)
			targettest.Write(t, filepath.Join(s.Server.Dir, name), exampleOf(t, filepath.Join(string(c.kind), c.file), s.Delivery, c.changes(s.Server)...), 0o600, c.account)
			s.Start()
			if _, err := s.adapter.Contact(t.Context(), targettest.Host(nil), s.Target); err != nil {
				t.Error(err)
			}
			s.deliver(s.a.Issue(t, targettest.Order{}), s.a.Root)
			s.loads(target.Change{Leaf: true}, c.level)
			s.serves(s.leaf)
			s.accepts(s.a.Issue(t, targettest.Order{}))
			s.refuses(s.b.Issue(t, targettest.Order{}))
		})
	}
}
