package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// settle is how long processes are left alone before their memory is read:
// the Go runtime gives memory back over minutes, most of it in the first.
const settle = 45 * time.Second

// idleMemory is what a server and an agent, connected to each other and with
// one placement in place, hold when nothing happens.
func (b *bench) idleMemory(ctx context.Context) ([]Result, error) {
	server, err := b.server(ctx)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	agent, err := b.agent(ctx)
	if err != nil {
		return nil, err
	}
	defer agent.stop()
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var results []Result
	for _, one := range []struct {
		name, target string
		process      *process
	}{{"agent", "≤ 12", agent}, {"server", "≤ 30", server}} {
		bytes, err := one.process.rssAnon()
		if err != nil {
			return nil, err
		}
		results = append(results, Result{Name: one.name + ": idle RssAnon", Value: bytes / (1 << 20), Unit: "MiB", Target: one.target})
	}
	return results, nil
}

// agent starts an agent with a placement and waits until that is delivered.
func (b *bench) agent(ctx context.Context) (*process, error) {
	created, err := b.token(ctx)
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
