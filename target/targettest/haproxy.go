package targettest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/target"
)

// HAProxyOptions is how an HAProxy is to run. The zero value is a frontend
// that demands client certificates before a small HTTP backend.
type HAProxyOptions struct {
	// Name of the target. Empty: "haproxy".
	Name string
	// Verify is the bind line's: required, optional or none. Empty: required.
	Verify string
	// Level of the stats socket. Empty: admin.
	Level string
	// Certificate is what the bind line loads. Empty: combined.pem of the
	// delivery.
	Certificate string
	// Sessions has it keep sessions and give tickets, as it does by itself.
	Sessions bool
	// Bind is more of the bind line.
	Bind string
	// Global is further lines of the section global.
	Global []string
}

// HAProxyAccount is whose key files HAProxy can read in tests: its master
// reads them as the user that it was started as.
func HAProxyAccount() string { return "" }

// HAProxy runs a master and a worker that end TLS with what the delivery
// holds, before an HTTP backend in this process that answers "ok" to
// everything. Its control path is the stats socket and the master's pid file.
func HAProxy(t testing.TB, d *Delivery, opts HAProxyOptions) *Server {
	t.Helper()
	name := orDefault(opts.Name, "haproxy")
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") }))
	t.Cleanup(backend.Close)
	dir, port := Dir(t, name+"-"), Port(t)
	stats, pidFile := filepath.Join(dir, "admin.sock"), filepath.Join(dir, "haproxy.pid")
	path := filepath.Join(dir, "haproxy.cfg")
	Write(t, path, haproxyConfig(d, opts, port, stats, backend.Listener.Addr().String()), 0o600, HAProxyAccount())
	s := &Server{
		Dir: dir, Account: HAProxyAccount(), t: t,
		argv: []string{Binary(t, "haproxy"), "-W", "-f", path, "-p", pidFile},
		Target: kindOf(t, fleet.TargetHAProxy, target.Target{
			Name: name, Directory: d.Dir, Address: Loopback(port),
			Control: &target.Control{Address: stats, PIDFile: pidFile},
		}),
	}
	s.foreign = func(ctx context.Context) error { return workerOf(ctx, stats, pidFile) }
	s.Start()
	return s
}

// workerOf says whether the worker that answers on the stats socket is one of
// the master whose number the pid file holds. A worker of an earlier master may
// still answer while it ends.
func workerOf(ctx context.Context, stats, pidFile string) error {
	master, err := os.ReadFile(pidFile)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", stats)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "show info\n"); err != nil {
		return err
	}
	info, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	found := haproxyPID.FindSubmatch(info)
	if found == nil {
		return fmt.Errorf("show info names no pid: %.200s", info)
	}
	status, err := os.ReadFile("/proc/" + string(found[1]) + "/status")
	if err != nil {
		return err
	}
	if !strings.Contains(string(status), "\nPPid:\t"+strings.TrimSpace(string(master))+"\n") {
		return fmt.Errorf("worker %s is no child of master %s", found[1], master)
	}
	return nil
}

var haproxyPID = regexp.MustCompile(`(?m)^Pid: (\d+)$`)

// haproxyConfig is haproxy.cfg as examples/hosts/haproxy has it.
func haproxyConfig(d *Delivery, opts HAProxyOptions, port int, stats, backend string) string {
	verify := "verify " + orDefault(opts.Verify, "required") + " ca-file " + d.File("bundle.pem")
	if opts.Verify == "none" {
		verify = "verify none"
	}
	lines := []string{
		"global",
		fmt.Sprintf("    stats socket %s mode 600 level %s expose-fd listeners", stats, orDefault(opts.Level, "admin")),
		"    hard-stop-after 10s",
	}
	if opts.Sessions {
		lines = append(lines, "    ssl-default-bind-options ssl-min-ver TLSv1.2")
	} else {
		lines = append(lines, "    tune.ssl.cachesize 0", "    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets")
	}
	if account := AccountOf("haproxy"); account != "" {
		lines = append(lines, "    user "+account, "    group "+account)
	}
	for _, line := range opts.Global {
		lines = append(lines, "    "+line)
	}
	lines = append(lines,
		"defaults", "    mode http", "    timeout connect 5s", "    timeout client 30s", "    timeout server 30s",
		"frontend tls",
		fmt.Sprintf("    bind %s ssl crt %s %s alpn h2,http/1.1 %s", Loopback(port), orDefault(opts.Certificate, d.File("combined.pem")), verify, opts.Bind),
		"    default_backend app", "backend app", "    server app "+backend)
	return strings.Join(lines, "\n") + "\n"
}
