// Package operator drives Rotunda as its operators do: through the binary
// rotunda and what that prints as JSON.
package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/demo/process"
)

// patience is how long one command may take.
const patience = 30 * time.Second

// Rotunda is the product's binary, and the server that it speaks with.
type Rotunda struct {
	Binary string
	State  string // the server's state directory, made by rotunda init
}

// Environment is what an operator exports so that rotunda finds its server.
func (r Rotunda) Environment() []string {
	return []string{"ROTUNDA_CREDENTIALS=" + filepath.Join(r.State, "admin")}
}

// Run runs one command and returns what it printed.
func (r Rotunda) Run(ctx context.Context, arguments ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return process.Run(ctx, r.Environment(), append([]string{r.Binary}, arguments...)...)
}

// Rotate runs rotunda rotate and returns the placements that it concerns, as
// they were when it was asked for.
func (r Rotunda) Rotate(ctx context.Context, arguments ...string) ([]Placement, error) {
	var answer struct {
		Affected []Placement `json:"affected"`
	}
	err := r.ask(ctx, &answer, append([]string{"rotate"}, arguments...)...)
	return answer.Affected, err
}

// ask runs one command with JSON as its output, and decodes that.
func (r Rotunda) ask(ctx context.Context, answer any, arguments ...string) error {
	out, err := r.Run(ctx, append(arguments, "--output", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, answer); err != nil {
		return fmt.Errorf("read what rotunda %s printed: %w", strings.Join(arguments, " "), err)
	}
	return nil
}

// Apply makes the server hold the documents in the files.
func (r Rotunda) Apply(ctx context.Context, paths ...string) error {
	arguments := []string{"apply"}
	for _, path := range paths {
		arguments = append(arguments, "--file", path)
	}
	_, err := r.Run(ctx, arguments...)
	return err
}

// Token makes a token for an agent with the labels.
func (r Rotunda) Token(ctx context.Context, labels map[string]string) (string, error) {
	arguments := []string{"token", "create", "--ttl", "10m"}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		arguments = append(arguments, "--label", key+"="+labels[key])
	}
	out, err := r.Run(ctx, arguments...)
	return strings.TrimSpace(string(out)), err
}

// Agent is what the server knows of an agent.
type Agent struct {
	ID        string            `json:"id"`
	Labels    map[string]string `json:"labels"`
	Connected bool              `json:"connected"`
}

// Agents lists the agents.
func (r Rotunda) Agents(ctx context.Context) ([]Agent, error) {
	var list struct{ Agents []Agent }
	err := r.ask(ctx, &list, "get", "agents")
	return list.Agents, err
}

// Status lists the placements.
func (r Rotunda) Status(ctx context.Context) ([]Placement, error) {
	var list struct{ Placements []Placement }
	err := r.ask(ctx, &list, "status")
	return list.Placements, err
}
