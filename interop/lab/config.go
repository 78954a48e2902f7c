package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/target"
)

// Settings is what stands in a host's agent.yaml.
type Settings struct {
	Directory string // that certificates go below
	Account   string // that key files may belong to; empty: the agent's own
	Commands  map[string][]string
	Targets   map[fleet.TargetKind][]target.Target // with their control paths
}

// Configure writes agent.yaml. It counts from the agent's next start.
func (h *Host) Configure(s Settings) error {
	var b strings.Builder
	fmt.Fprintf(&b, "servers: [127.0.0.1:1]\nstate: %q\nallow:\n  directories: [%q]\n", h.path("state"), s.Directory)
	if s.Account != "" {
		fmt.Fprintf(&b, "  users: [%q]\n  groups: [%q]\n", s.Account, s.Account)
	}
	if len(s.Commands) > 0 {
		b.WriteString("commands:\n")
	}
	for name, argv := range s.Commands {
		fmt.Fprintf(&b, "  %s: {argv: [%s], timeout: 60s}\n", name, quoted(argv))
	}
	if len(s.Targets) > 0 {
		b.WriteString("targets:\n")
	}
	for kind, targets := range s.Targets {
		for _, t := range targets {
			if err := h.target(&b, kind, t); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(h.path("agent.yaml"), []byte(b.String()), 0o600)
}

func (h *Host) target(b *strings.Builder, kind fleet.TargetKind, t target.Target) error {
	c := t.Control
	fmt.Fprintf(b, "  %s:\n    kind: %s\n", t.Name, kind)
	for _, line := range [][2]string{
		{"address", c.Address}, {"user", c.User}, {"pidFile", c.PIDFile}, {"program", c.Program}, {"runAs", c.RunAs},
	} {
		if line[1] != "" {
			fmt.Fprintf(b, "    %s: %q\n", line[0], line[1])
		}
	}
	if len(c.Arguments) > 0 {
		fmt.Fprintf(b, "    arguments: [%s]\n", quoted(c.Arguments))
	}
	if c.Password == nil {
		return nil
	}
	password, err := c.Password()
	if err != nil {
		return err
	}
	file := h.path("password-" + t.Name)
	fmt.Fprintf(b, "    passwordFile: %q\n", file)
	return os.WriteFile(file, password, 0o600)
}

func quoted(words []string) string {
	var all []string
	for _, word := range words {
		all = append(all, strconv.Quote(word))
	}
	return strings.Join(all, ", ")
}
