package targettest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/target"
)

// MosquittoOptions is how a Mosquitto is to run. The zero value is one that
// demands client certificates.
type MosquittoOptions struct {
	// Name of the target. Empty: "mosquitto".
	Name string
	// Optional asks for no client certificates.
	Optional bool
	// Config is further lines of mosquitto.conf.
	Config []string
}

// MosquittoAccount is the account that Mosquitto runs as in tests.
func MosquittoAccount() string { return AccountOf("mosquitto") }

// Mosquitto runs a mosquitto that serves what the delivery holds. Its control
// path is its pid file.
func Mosquitto(t testing.TB, d *Delivery, opts MosquittoOptions) *Server {
	t.Helper()
	name := orDefault(opts.Name, "mosquitto")
	dir, port, program := Dir(t, name+"-"), Port(t), Binary(t, "mosquitto")
	Own(t, dir, MosquittoAccount())
	path, pidFile := filepath.Join(dir, "mosquitto.conf"), filepath.Join(dir, "mosquitto.pid")
	Write(t, path, mosquittoConfig(d, opts, port, pidFile), 0o600, MosquittoAccount())
	s := &Server{
		Dir: dir, Account: MosquittoAccount(), t: t,
		argv: []string{program, "-c", path},
		Target: kindOf(t, fleet.TargetMosquitto, target.Target{
			Name: name, Directory: d.Dir, Address: Loopback(port),
			Control: &target.Control{PIDFile: pidFile, Program: program},
		}),
		foreign: func(context.Context) error { _, err := os.Stat(pidFile); return err },
	}
	s.Start()
	return s
}

// mosquittoConfig is mosquitto.conf as examples/hosts/mosquitto has it.
func mosquittoConfig(d *Delivery, opts MosquittoOptions, port int, pidFile string) string {
	demand := "true"
	if opts.Optional {
		demand = "false"
	}
	_, portText, _ := strings.Cut(Loopback(port), ":")
	lines := []string{
		"pid_file " + pidFile, "persistence false", "log_dest stderr",
		"listener " + portText + " 127.0.0.1",
		"certfile " + d.File("chain.pem"), "keyfile " + d.File("key.pem"), "cafile " + d.File("bundle.pem"),
		"require_certificate " + demand, "allow_anonymous true",
	}
	return strings.Join(append(lines, opts.Config...), "\n") + "\n"
}
