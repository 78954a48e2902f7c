package targettest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/target"
)

// RabbitMQOptions is how a RabbitMQ is to run. The zero value is one that
// demands client certificates.
type RabbitMQOptions struct {
	// Name of the target. Empty: "rabbitmq".
	Name string
	// Optional asks for client certificates without demanding them.
	Optional bool
	// Certificate is ssl_options.certfile. Empty: chain.pem of the delivery.
	Certificate string
	// Config is further lines of rabbitmq.conf.
	Config []string
	// Whole replaces rabbitmq.conf.
	Whole func(port int) string
}

// RabbitMQAccount is the account that RabbitMQ runs as in tests.
func RabbitMQAccount() string { return AccountOf("rabbitmq") }

// RabbitMQ runs a RabbitMQ that serves what the delivery holds, without
// plugins, as a node of its own with its own epmd and cookie. Its control path
// is a rabbitmqctl that knows those. It takes some seconds to start.
func RabbitMQ(t testing.TB, d *Delivery, opts RabbitMQOptions) *Server {
	t.Helper()
	name := orDefault(opts.Name, "rabbitmq")
	dir, port, epmd, node := Dir(t, name+"-"), Port(t), Port(t), fmt.Sprintf("rotunda-%d@localhost", Port(t))
	account := RabbitMQAccount()
	Own(t, dir, account)
	Write(t, filepath.Join(dir, ".erlang.cookie"), "ROTUNDATEST", 0o400, account)
	Write(t, filepath.Join(dir, "env.conf"), "", 0o644, account)
	Write(t, filepath.Join(dir, "enabled_plugins"), "[].\n", 0o644, account)
	Write(t, filepath.Join(dir, "rabbitmq.conf"), rabbitConfig(d, opts, port), 0o644, account)
	startEPMD(t, epmd)
	env := rabbitEnv(dir, node, epmd, Port(t))
	tool := filepath.Join(dir, "rabbitmqctl")
	Write(t, tool, rabbitTool(env, Binary(t, "/usr/lib/rabbitmq/bin/rabbitmqctl", "rabbitmqctl")), 0o755, account)
	s := &Server{
		Dir: dir, Account: account, t: t, env: env,
		argv: []string{Binary(t, "/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server")},
		Target: kindOf(t, fleet.TargetRabbitMQ, target.Target{
			Name: name, Directory: d.Dir, Address: Loopback(port),
			Control: &target.Control{Program: tool, Arguments: []string{"-n", node}, RunAs: account},
		}),
		foreign: func(context.Context) error { return rabbitIsUp(dir) },
	}
	s.Start()
	return s
}

// rabbitEnv keeps a node apart from every other on this machine. It runs under
// the name that service managers give, so that no shell stands above it.
func rabbitEnv(dir, node string, epmd, distribution int) []string {
	return []string{
		"HOME=" + dir, "RUNNING_UNDER_SYSTEMD=true",
		"RABBITMQ_CONF_ENV_FILE=" + filepath.Join(dir, "env.conf"), "RABBITMQ_CONFIG_FILE=" + filepath.Join(dir, "rabbitmq.conf"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(dir, "enabled_plugins"),
		"RABBITMQ_MNESIA_BASE=" + filepath.Join(dir, "mnesia"), "RABBITMQ_LOG_BASE=" + filepath.Join(dir, "logs"), "RABBITMQ_LOGS=-",
		"RABBITMQ_NODENAME=" + node, fmt.Sprintf("RABBITMQ_DIST_PORT=%d", distribution),
		fmt.Sprintf("ERL_EPMD_PORT=%d", epmd), "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+S 2:2 +SDio 2 -start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
		"RABBITMQ_CTL_ERL_ARGS=+S 1:1 +SDio 1 -start_epmd false",
	}
}

// rabbitTool is rabbitmqctl for one node, as an operator of several would
// write it.
func rabbitTool(env []string, program string) string {
	lines := []string{"#!/bin/sh"}
	for _, one := range env {
		key, value, _ := strings.Cut(one, "=")
		lines = append(lines, fmt.Sprintf("export %s='%s'", key, value))
	}
	return strings.Join(append(lines, `exec `+program+` "$@"`), "\n") + "\n"
}

// startEPMD runs the name server of Erlang's nodes, in the foreground: the
// daemon that a node would start itself outlives it.
func startEPMD(t testing.TB, port int) {
	t.Helper()
	epmd := exec.Command(Binary(t, "epmd"), "-port", fmt.Sprint(port), "-address", "127.0.0.1")
	epmd.Env = append(os.Environ(), "ERL_EPMD_RELAXED_COMMAND_CHECK=false")
	epmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := epmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = epmd.Process.Kill(); _ = epmd.Wait() })
	// A node that finds none yet starts a daemon of its own, which stays.
	for deadline := time.Now().Add(Patience); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", Loopback(port))
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("epmd does not answer: %v", err)
		}
	}
}

// rabbitIsUp reads the log: the port answers a moment before the node is up.
func rabbitIsUp(dir string) error {
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	if begun, up := strings.Count(string(log), " Starting RabbitMQ "), strings.Count(string(log), " Server startup complete"); up == 0 || up < begun {
		return errors.New("its log has no end of its start")
	}
	return nil
}

// rabbitConfig is rabbitmq.conf as examples/hosts/rabbitmq has it.
func rabbitConfig(d *Delivery, opts RabbitMQOptions, port int) string {
	if opts.Whole != nil {
		return opts.Whole(port)
	}
	lines := []string{
		"listeners.tcp = none",
		"listeners.ssl.1 = " + Loopback(port),
		"ssl_options.certfile = " + orDefault(opts.Certificate, d.File("chain.pem")),
		"ssl_options.keyfile = " + d.File("key.pem"),
		"ssl_options.cacertfile = " + d.File("bundle.pem"),
		"ssl_options.verify = verify_peer",
		fmt.Sprintf("ssl_options.fail_if_no_peer_cert = %t", !opts.Optional),
		"ssl_options.versions.1 = tlsv1.3", "ssl_options.versions.2 = tlsv1.2",
	}
	return strings.Join(append(lines, opts.Config...), "\n") + "\n"
}
