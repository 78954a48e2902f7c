package targettest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/target"
)

// NginxOptions is how an nginx is to run. The zero value is one that demands
// client certificates and answers "ok" to everything.
type NginxOptions struct {
	// Name of the target. Empty: "nginx".
	Name string
	// Certificate is ssl_certificate. Empty: chain.pem of the delivery.
	Certificate string
	// VerifyClient is ssl_verify_client. Empty: on.
	VerifyClient string
	// VerifyDepth is ssl_verify_depth. 0: 2, so that a bridge is followed; -1:
	// nginx's own.
	VerifyDepth int
	// Sessions has it give tickets and keep sessions in memory that its workers
	// share.
	Sessions bool
	// Location replaces what is answered to everything.
	Location string
	// Server is further lines of the server block.
	Server []string
}

// NginxAccount is whose key files nginx can read in tests: its master reads
// them as the user that it was started as.
func NginxAccount() string { return "" }

// Nginx runs an nginx that serves what the delivery holds. Its control path is
// its pid file and its own program.
func Nginx(t testing.TB, d *Delivery, opts NginxOptions) *Server {
	t.Helper()
	name := orDefault(opts.Name, "nginx")
	dir, port := Dir(t, name+"-"), Port(t)
	path, program, pidFile := filepath.Join(dir, "nginx.conf"), Binary(t, "nginx"), filepath.Join(dir, "nginx.pid")
	Write(t, path, nginxConfig(d, opts, dir, port), 0o600, NginxAccount())
	arguments := []string{"-p", dir, "-c", path, "-e", filepath.Join(dir, "error.log")}
	s := &Server{
		Dir: dir, Account: NginxAccount(), t: t,
		argv: append([]string{program}, arguments...),
		Target: kindOf(t, fleet.TargetNginx, target.Target{
			Name: name, Directory: d.Dir, Address: Loopback(port),
			Control: &target.Control{PIDFile: pidFile, Program: program, Arguments: arguments},
		}),
	}
	s.foreign = func(context.Context) error {
		if info, err := os.Stat(pidFile); err != nil || info.Size() == 0 {
			return fmt.Errorf("its pid file is not written: %w", err)
		}
		return nil
	}
	s.Start()
	return s
}

// nginxConfig is nginx.conf as examples/hosts/nginx has it.
func nginxConfig(d *Delivery, opts NginxOptions, dir string, port int) string {
	depth := opts.VerifyDepth
	if depth == 0 {
		depth = 2
	}
	lines := []string{"daemon off;", "worker_processes 2;", "pid " + dir + "/nginx.pid;", "error_log stderr notice;"}
	if account := AccountOf("www-data"); account != "" {
		lines = append(lines, "user "+account+";")
	}
	lines = append(lines, "worker_shutdown_timeout 10s;", "events {}", "http {", "  access_log off;")
	for _, temp := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		lines = append(lines, fmt.Sprintf("  %s_temp_path %s/%s;", temp, dir, temp))
	}
	lines = append(lines,
		"  server {",
		fmt.Sprintf("    listen %s ssl;", Loopback(port)),
		"    server_name localhost;",
		"    ssl_certificate "+orDefault(opts.Certificate, d.File("chain.pem"))+";",
		"    ssl_certificate_key "+d.File("key.pem")+";",
		"    ssl_client_certificate "+d.File("bundle.pem")+";",
		"    ssl_verify_client "+orDefault(opts.VerifyClient, "on")+";",
		"    location / { "+orDefault(opts.Location, `return 200 "ok\n";`)+" }",
	)
	if opts.Sessions {
		lines = append(lines, "    ssl_session_cache shared:SSL:1m;", "    ssl_session_tickets on;")
	} else {
		lines = append(lines, "    ssl_session_cache off;", "    ssl_session_tickets off;")
	}
	if depth > 0 {
		lines = append(lines, fmt.Sprintf("    ssl_verify_depth %d;", depth))
	}
	for _, line := range opts.Server {
		lines = append(lines, "    "+line)
	}
	return strings.Join(append(lines, "  }", "}"), "\n") + "\n"
}
