package targettest

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/target"
)

// NATSOptions is how a NATS server is to run. The zero value is one that
// demands client certificates and has a monitoring port.
type NATSOptions struct {
	// Name of the target. Empty: "nats".
	Name string
	// Certificate is the tls block's cert_file. Empty: chain.pem of the
	// delivery.
	Certificate string
	// Unmonitored leaves the monitoring port away.
	Unmonitored bool
	// Optional asks for client certificates without demanding them.
	Optional bool
	// Config is further lines of nats.conf.
	Config []string
}

// NATSAccount is the account that NATS runs as in tests.
func NATSAccount() string { return AccountOf("nats") }

// NATS runs a nats-server that serves what the delivery holds. Its control
// path is its pid file and, where it has one, the monitoring port.
func NATS(t testing.TB, d *Delivery, opts NATSOptions) *Server {
	t.Helper()
	name := orDefault(opts.Name, "nats")
	dir, port := Dir(t, name+"-"), Port(t)
	Own(t, dir, NATSAccount())
	control := &target.Control{PIDFile: filepath.Join(dir, "nats.pid")}
	if !opts.Unmonitored {
		control.Address = Loopback(Port(t))
	}
	path := filepath.Join(dir, "nats.conf")
	Write(t, path, natsConfig(d, opts, port, control), 0o600, NATSAccount())
	s := &Server{
		Dir: dir, Account: NATSAccount(), t: t,
		argv: []string{Binary(t, "nats-server"), "-c", path},
		Target: kindOf(t, fleet.TargetNATS, target.Target{
			Name: name, Directory: d.Dir, Address: Loopback(port), Control: control,
		}),
	}
	if control.Address != "" {
		s.foreign = func(ctx context.Context) error { return getsOK(ctx, "http://"+control.Address+"/healthz") }
	}
	s.Start()
	return s
}

// natsConfig is nats.conf as examples/hosts/nats has it.
func natsConfig(d *Delivery, opts NATSOptions, port int, control *target.Control) string {
	lines := []string{
		"listen: " + Loopback(port),
		fmt.Sprintf("pid_file: %q", control.PIDFile),
		"tls {",
		fmt.Sprintf("  cert_file: %q", orDefault(opts.Certificate, d.File("chain.pem"))),
		fmt.Sprintf("  key_file: %q", d.File("key.pem")),
		fmt.Sprintf("  ca_file: %q", d.File("bundle.pem")),
		fmt.Sprintf("  verify: %t", !opts.Optional),
		"}",
	}
	if control.Address != "" {
		lines = append(lines, "http: "+control.Address)
	}
	return strings.Join(append(lines, opts.Config...), "\n") + "\n"
}

func getsOK(ctx context.Context, url string) error {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	return nil
}
