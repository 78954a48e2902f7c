package story

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/rotunda-pki/rotunda/demo/documents"
	"github.com/rotunda-pki/rotunda/demo/installed"
	"github.com/rotunda-pki/rotunda/demo/operator"
	"github.com/rotunda-pki/rotunda/internal/loopback"
)

// host is one of the demo's three hosts: an agent, a member, and directories
// of their own on this machine.
type host struct {
	name      string
	directory string // where certificates are delivered
	agent     string // the agent's state directory
	clients   string // host:port where the member's clients connect
	peers     string // host:port where its peers do
}

func (h host) placement(intent string) string { return filepath.Join(h.directory, intent) }
func (h host) config() string                 { return filepath.Join(h.agent, "agent.yaml") }
func (h host) socket(process string) string {
	return filepath.Join(filepath.Dir(h.agent), process+".sock")
}

// installedOn is a server that was picked up, and the host that it plays on.
type installedOn struct {
	installed.Server
	host host
}

func (s installedOn) name() string { return s.Kind + ".demo.test" }

const (
	greeterHost = 1 // host-2, as documents/intents.yaml has it
	ordersHost  = 2 // host-3
	greeterName = "greeter.demo.test"
)

// prepare makes directories and chooses ports.
func (d *demo) prepare() error {
	found := installed.Find()
	ports, err := freePorts(3*2 + 1 + 3 + len(found))
	if err != nil {
		return err
	}
	for i := range 3 {
		name := fmt.Sprintf("host-%d", i+1)
		h := host{
			name: name, directory: filepath.Join(d.directory, "hosts", name),
			agent:   filepath.Join(d.directory, name, "agent"),
			clients: ports[2*i], peers: ports[2*i+1],
		}
		for _, directory := range []string{h.directory, h.agent} {
			if err := os.MkdirAll(directory, 0o711); err != nil { // a server of its own user looks in
				return fmt.Errorf("make a host's directory: %w", err)
			}
		}
		d.hosts = append(d.hosts, h)
	}
	d.greeter, d.listen = ports[6], ports[7:10]
	for i, s := range found {
		h := d.hosts[i%len(d.hosts)]
		s.Listen, s.Files, s.Data = ports[10+i], h.placement(s.Kind), filepath.Join(d.directory, h.name, s.Kind)
		d.installed = append(d.installed, installedOn{s, h})
		d.gaps.Installed = append(d.gaps.Installed, documents.Installed{Kind: s.Kind, Host: h.name, Address: s.Listen, Owner: s.Account})
	}
	d.gaps.Hosts, d.gaps.Greeter = filepath.Join(d.directory, "hosts"), d.greeter
	d.gaps.Terms, d.gaps.LedgerTrusts = documents.Brisk, "partner-root"
	d.gaps.PartnerRoot, err = partnerRoot()
	return err
}

// startServer makes a trust domain and starts its control plane.
func (d *demo) startServer(ctx context.Context) error {
	d.rotunda = operator.Rotunda{Binary: d.settings.Rotunda, State: filepath.Join(d.directory, "control-plane")}
	_, err := d.rotunda.Run(ctx, "init", "--state", d.rotunda.State, "--trust-domain", "demo.test",
		"--name", "127.0.0.1", "--listen-agents", d.listen[0], "--listen-operators", d.listen[1],
		"--listen-public", d.listen[2], "--listen-metrics", "")
	if err != nil {
		return err
	}
	if _, err = d.family.StartReady(ctx, "server", nil, d.rotunda.Binary, "server", "--state", d.rotunda.State); err != nil {
		return err
	}
	d.fleet, err = d.rotunda.Watch()
	return err
}

// startAgents starts an agent on each host, each with a token of its own.
func (d *demo) startAgents(ctx context.Context) error {
	for i, h := range d.hosts {
		if err := d.writeAgentConfig(i); err != nil {
			return err
		}
		_, clients, _ := net.SplitHostPort(h.clients)
		_, peers, _ := net.SplitHostPort(h.peers)
		token, err := d.rotunda.Token(ctx, map[string]string{
			"host": h.name, "role": "db", "client-port": clients, "peer-port": peers,
		})
		if err != nil {
			return err
		}
		// A token on a command line can be read by every process: a file it is.
		file := filepath.Join(h.agent, "token")
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			return fmt.Errorf("write the token: %w", err)
		}
		if _, err := d.family.StartReady(ctx, h.name+"-agent", nil, d.rotunda.Binary, "agent",
			"--config", h.config(), "--token-file", file); err != nil {
			return err
		}
	}
	return d.learnAgents(ctx)
}

func (d *demo) writeAgentConfig(i int) error {
	h := d.hosts[i]
	var b strings.Builder
	fmt.Fprintf(&b, "servers: [%q]\nstate: %q\nallow:\n  directories: [%q]\n  users: [%s]\ncommands:\n",
		d.listen[0], h.agent, h.directory, strings.Join(d.accounts(h), ", "))
	tell := func(name, process, word string) {
		fmt.Fprintf(&b, "  %s:\n    argv: [%q, tell, --if-running, %q, %s]\n", name, d.self, h.socket(process), word)
	}
	tell("restart-etcd", "etcd", "restart")
	if i == greeterHost {
		tell("reload-greeter", "greeter", "reload")
	}
	if err := d.writeTargets(&b, h); err != nil {
		return err
	}
	if err := os.WriteFile(h.config(), []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("write agent.yaml: %w", err)
	}
	return nil
}

// accounts are the users that own files on a host.
func (d *demo) accounts(h host) []string {
	var accounts []string
	for _, s := range d.installed {
		if s.host == h && s.Account != "" {
			accounts = append(accounts, s.Account)
		}
	}
	return accounts
}

// writeTargets writes the control paths of a host's servers. JSON is YAML.
func (d *demo) writeTargets(b *strings.Builder, h host) error {
	targets := map[string]installed.Control{}
	for _, s := range d.installed {
		if s.host != h {
			continue
		}
		control, err := s.Control()
		if err != nil {
			return err
		}
		targets[s.Kind] = control
	}
	text, err := json.Marshal(targets)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "targets: %s\n", text)
	return nil
}

// learnAgents finds out which agent is which host.
func (d *demo) learnAgents(ctx context.Context) error {
	agents, err := d.rotunda.Agents(ctx)
	if err != nil {
		return err
	}
	for _, a := range agents {
		d.hostOf[a.ID] = a.Labels["host"]
	}
	if len(d.hostOf) != len(d.hosts) {
		return fmt.Errorf("%d agents enrolled, not %d", len(d.hostOf), len(d.hosts))
	}
	return nil
}

// startProcesses starts what the certificates are for, each process with a
// checked credential only: rotunda exec waits for it.
func (d *demo) startProcesses(ctx context.Context) error {
	var cluster []string
	for _, h := range d.hosts {
		cluster = append(cluster, h.name+"=https://"+h.peers)
	}
	ended := make(chan error)
	for _, h := range d.hosts {
		go func() {
			ended <- d.startWith(ctx, h, h.name+"-etcd", []string{"etcd-clients", "etcd-peers"}, "member",
				"--name", h.name, "--data", filepath.Join(d.directory, h.name, "etcd-data"), "--control", h.socket("etcd"),
				"--client-files", h.placement("etcd-clients"), "--peer-files", h.placement("etcd-peers"),
				"--listen-clients", h.clients, "--listen-peers", h.peers, "--cluster", strings.Join(cluster, ","))
		}()
	}
	g := d.hosts[greeterHost]
	go func() {
		ended <- d.startWith(ctx, g, "greeter", []string{"greeter"}, "greeter",
			"--listen", d.greeter, "--files", g.placement("greeter"), "--control", g.socket("greeter"))
	}()
	for _, s := range d.installed {
		go func() {
			ended <- d.startWith(ctx, s.host, s.Kind, []string{s.Kind}, "server", "--kind", s.Kind, "--binary", s.Binary,
				"--listen", s.Listen, "--data", s.Data, "--files", s.Files, "--account", s.Account)
		}()
	}
	var err error
	for range len(d.hosts) + 1 + len(d.installed) {
		err = errors.Join(err, <-ended)
	}
	return err
}

// startWith starts a process of the demo's own on a host, once each of the
// intents has delivered a checked credential there.
func (d *demo) startWith(ctx context.Context, h host, name string, intents []string, argv ...string) error {
	var command []string
	for _, intent := range intents {
		command = append(command, d.rotunda.Binary, "exec", "--socket", filepath.Join(h.agent, "agent.sock"), intent, "--")
	}
	command = append(append(command, d.self), argv...)
	if !d.settings.Keep {
		command = append(command, "--lifeline")
	}
	_, err := d.family.StartReady(ctx, name, nil, command...)
	return err
}

// freePorts finds ports of this machine that are the demo's to use.
func freePorts(count int) ([]string, error) {
	var addresses []string
	for range count {
		address, err := loopback.Reserve()
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, address)
	}
	return addresses, nil
}
