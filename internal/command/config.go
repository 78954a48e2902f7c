package command

import (
	"fmt"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"
)

// The time limits of commands.
const (
	defaultTimeout = 30 * time.Second
	longestTimeout = 30 * time.Minute
)

// Config is one named command as a configuration has it.
type Config struct {
	// Argv is the program, by its absolute path, and its arguments. No shell
	// takes part.
	Argv []string `yaml:"argv"`

	// User that the program runs as. Default: the process's own.
	User string `yaml:"user,omitempty"`

	// Timeout after which the program and its children are killed. Default:
	// 30s.
	Timeout Duration `yaml:"timeout,omitempty"`
}

// Problem is what is wrong with a Config.
type Problem struct {
	Field        string // empty: all of it; argv: its first
	Rule, Remedy string
}

// Problems says what is wrong with a Config.
func (c Config) Problems() (all []Problem) {
	switch {
	case len(c.Argv) == 0:
		all = append(all, Problem{Rule: "has no program", Remedy: "write argv: [/absolute/path, argument]"})
	case !filepath.IsAbs(c.Argv[0]):
		all = append(all, Problem{Field: "argv", Rule: fmt.Sprintf("path %q: must be absolute", c.Argv[0]), Remedy: "write the whole path"})
	}
	if d := time.Duration(c.Timeout); d < 0 || d > longestTimeout {
		all = append(all, Problem{Field: "timeout", Rule: fmt.Sprintf("must be more than 0 and at most %s", longestTimeout), Remedy: "write it like 30s"})
	}
	return all
}

// Command is the command of the name, ready to be run; file is the
// configuration that names it.
func (c Config) Command(name, file string) Command {
	timeout := time.Duration(c.Timeout)
	if timeout == 0 {
		timeout = defaultTimeout
	}
	return Command{Name: name, File: file, Argv: c.Argv, User: c.User, Timeout: timeout}
}

// Duration is written as Go writes it: 30s, 1m30s.
type Duration time.Duration

// UnmarshalYAML reads a duration.
func (d *Duration) UnmarshalYAML(node *yaml.Node) error {
	parsed, err := time.ParseDuration(node.Value)
	if err != nil {
		return fmt.Errorf("line %d: %q is no duration like 30s", node.Line, node.Value)
	}
	*d = Duration(parsed)
	return nil
}

// MarshalYAML writes it as it is read.
func (d Duration) MarshalYAML() (any, error) { return time.Duration(d).String(), nil }
