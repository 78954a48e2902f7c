package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rotunda-pki/rotunda/agent"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// await is how a command waits for a credential on this host.
type await struct {
	instance, socket, state string
	proven                  bool
	timeout                 time.Duration
}

func (a *await) flags(flags *pflag.FlagSet) {
	flags.StringVar(&a.instance, "instance", "", "the instance, where the intent has several on this host")
	flags.StringVar(&a.socket, "socket", "", "the agent's socket (default "+agent.DefaultSocket+", or STATE/agent.sock)")
	flags.StringVar(&a.state, "state", "", "the agent's state directory, for its socket")
	flags.DurationVar(&a.timeout, "timeout", 0, "give up after this long (default: never)")
}

// run waits until the intent's credential may be used, and says what it waits
// for.
func (a *await) run(ctx context.Context, u *ui, intent string) (agent.Readiness, error) {
	if a.timeout > 0 {
		cause := fault.New(fault.Unavailable, "gave up after %s", a.timeout)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, a.timeout, cause)
		defer cancel()
	}
	return agent.AwaitReady(ctx, a.path(), intent, a.instance, a.proven, func(r agent.Readiness) {
		u.note("waiting for intent %s: %s", intent, orElse(r.Reason, "it is not proven yet"))
	})
}

func (a *await) path() string {
	switch {
	case a.socket != "":
		return a.socket
	case a.state != "" && filepath.Clean(a.state) != agent.DefaultState:
		return filepath.Join(a.state, "agent.sock")
	}
	return agent.DefaultSocket
}

func newAgentWaitCommand() *cobra.Command {
	var a await
	cmd := &cobra.Command{
		Use:   "wait INTENT",
		Short: "Wait until this host holds an intent's credential",
		Long: `Waits until the intent's certificate is on this host, in use, within its dates
and checked: its declared peers accept it. With --proven it waits until a
handshake with the running process has shown it, too.`,
		Example: `  rotunda agent wait orders-db --timeout 1m && systemctl start orders-db`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			u := newUI(cmd)
			ready, err := a.run(cmd.Context(), u, args[0])
			if err == nil {
				u.say("%s", ready.Directory)
			}
			return err
		},
	}
	a.flags(cmd.Flags())
	cmd.Flags().BoolVar(&a.proven, "proven", false, "wait for the proof by a handshake")
	return cmd
}

func newExecCommand() *cobra.Command {
	var a await
	cmd := &cobra.Command{
		Use:   "exec INTENT -- COMMAND [ARGUMENT...]",
		Short: "Start a process once this host holds its credential",
		Long: `Waits as rotunda agent wait does, then becomes the command: a process never
starts with a certificate that its declared peers would not accept. The command
finds the files by these variables:

  ROTUNDA_DIRECTORY    the directory's current link
  ROTUNDA_CERT, ROTUNDA_KEY, ROTUNDA_CHAIN, ROTUNDA_BUNDLE`,
		Example: `  rotunda exec orders-db -- etcd --config-file /etc/etcd.yaml`,
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			program, err := exec.LookPath(args[1])
			if err != nil {
				return fault.Wrap(fault.NotFound, err, "find %s", args[1])
			}
			ready, err := a.run(cmd.Context(), newUI(cmd), args[0])
			if err != nil {
				return err
			}
			if err := syscall.Exec(program, args[1:], append(os.Environ(), credentialVariables(ready.Directory)...)); err != nil {
				return fmt.Errorf("start %s: %w", program, err)
			}
			return nil
		},
	}
	a.flags(cmd.Flags())
	return cmd
}

func credentialVariables(directory string) []string {
	variables := []string{"ROTUNDA_DIRECTORY=" + directory}
	for _, name := range []string{"cert", "key", "chain", "bundle"} {
		variables = append(variables, "ROTUNDA_"+strings.ToUpper(name)+"="+filepath.Join(directory, name+".pem"))
	}
	return variables
}
