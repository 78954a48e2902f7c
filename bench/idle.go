package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// settle is how long processes are left alone before they are looked at: the
// Go runtime gives memory back over minutes, most of it in the first.
const settle = 45 * time.Second

// rest is how long the CPU time of processes with nothing to do is summed up.
const rest = 60 * time.Second

// targets is how many servers the host has whose agent is measured.
const targets = 20

const idleDocuments = `apiVersion: rotunda/v1
kind: Service
metadata: {name: bench}
spec: {owner: {team: bench, contact: bench@bench.example, runbook: https://bench.example/runbook}}
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: bench}
spec: {lifetime: 24h, usages: [serverAuth], repairDrift: true}
---
apiVersion: rotunda/v1
kind: Policy
metadata: {name: bench}
spec:
  rules:
    - {name: own-names, effect: allow, when: 'service == "bench" && names.dnsNames.all(n, n.endsWith(".bench.example"))'}
`

const idleIntent = `---
apiVersion: rotunda/v1
kind: Intent
metadata: {name: NAME}
spec:
  service: bench
  selector: {host: bench}
  profile: bench
  identity: {dnsNames: [NAME.bench.example]}
  target: {kind: files, address: "ADDRESS"}
  files: {directory: DIRECTORY/NAME}
`

// idle is what a server and an agent with twenty targets, each proven, hold and
// use when nothing happens.
func (b *bench) idle(ctx context.Context) ([]Result, error) {
	server, err := b.server(ctx)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	documents := idleDocuments
	for i := range targets {
		name := fmt.Sprintf("target-%02d", i+1)
		address, stop, err := serveFiles(filepath.Join(b.delivery(), name, "current"))
		if err != nil {
			return nil, err
		}
		defer stop()
		documents += strings.NewReplacer("NAME", name, "ADDRESS", address, "DIRECTORY", b.delivery()).Replace(idleIntent)
	}
	path := filepath.Join(b.dir, "idle.yaml")
	if err := os.WriteFile(path, []byte(documents), 0o600); err != nil {
		return nil, err
	}
	if err := b.rotunda(ctx, "apply", "--state", b.state(), "--prune", "--yes", "-f", path); err != nil {
		return nil, err
	}
	agent, err := b.agent(ctx)
	if err != nil {
		return nil, err
	}
	defer agent.stop()
	for i := range targets {
		if _, err := b.awaitProven(ctx, fmt.Sprintf("target-%02d", i+1), 1); err != nil {
			return nil, err
		}
	}
	return atRest(ctx, server, agent)
}

// serveFiles is a TLS server that reads its files at each handshake.
func serveFiles(dir string) (address string, stop func() error, err error) {
	config := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "chain.pem"), filepath.Join(dir, "key.pem"))
		return &pair, err
	}}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		return "", nil, err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // the listener was closed
			}
			go serveOne(conn)
		}
	}()
	return listener.Addr().String(), listener.Close, nil
}

func serveOne(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	var some [64]byte
	_, _ = conn.Read(some[:]) // shakes hands; whoever called hangs up
}

func atRest(ctx context.Context, server, agent *process) ([]Result, error) {
	if err := pause(ctx, settle); err != nil {
		return nil, err
	}
	var results []Result
	for _, one := range []struct {
		name, aim string
		process   *process
	}{{fmt.Sprintf("agent with %d targets", targets), "≤ 16", agent}, {"server", "≤ 30", server}} {
		bytes, err := one.process.number().RSSAnon()
		if err != nil {
			return nil, err
		}
		results = append(results, Result{Name: one.name + ": idle RssAnon", Value: bytes / (1 << 20), Unit: "MiB", Target: one.aim})
	}
	spent, err := agent.number().Spent(func() error { return pause(ctx, rest) })
	if err != nil {
		return nil, err
	}
	return append(results, Result{
		Name: fmt.Sprintf("agent with %d targets: idle CPU", targets), Value: 100 * float64(spent) / float64(rest), Unit: "% core", Target: "≤ 1",
	}), nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// agent starts an agent and waits until it is ready.
func (b *bench) agent(ctx context.Context) (*process, error) {
	created, err := b.token(ctx, "bench")
	if err != nil {
		return nil, err
	}
	var answer struct{ Token string }
	if err := json.Unmarshal([]byte(created), &answer); err != nil {
		return nil, err
	}
	token := filepath.Join(b.dir, "token")
	if err := os.WriteFile(token, []byte(answer.Token), 0o600); err != nil {
		return nil, err
	}
	p, err := start(ctx, b.binary, "agent", "--state", filepath.Join(b.dir, "agent"),
		"--server", b.agents, "--allow", b.delivery(), "--token-file", token)
	if err != nil {
		return nil, err
	}
	for line := range p.lines {
		if strings.Contains(line, `"msg":"ready"`) {
			return p, nil
		}
	}
	return nil, fmt.Errorf("the agent ended before it was ready: %w", p.command.Wait())
}
