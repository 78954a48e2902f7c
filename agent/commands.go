package agent

import (
	"context"

	"github.com/rotunda-pki/rotunda/internal/command"
	"github.com/rotunda-pki/rotunda/target"
)

// targetHost is what adapters may have done on this host.
func (h *HostRules) targetHost() target.Host {
	return target.Host{Command: h.runCommand, Program: runProgram}
}

// runCommand runs a command that agent.yaml names, as the user that it names,
// and returns the end of what it printed.
//
// A command that was begun is not stopped with the agent: half a restart is
// worse than a late stop.
func (h *HostRules) runCommand(ctx context.Context, name string) (string, error) {
	named, err := h.Command(name)
	if err != nil {
		return "", err
	}
	return named.Run(context.WithoutCancel(ctx), nil)
}

// runProgram runs a program as a user, and returns the end of what it printed.
func runProgram(ctx context.Context, account string, argv ...string) (string, error) {
	return command.Program(ctx, account, nil, argv...)
}
