// Rotunda issues and rotates TLS certificates, keys and trust bundles, and
// stops only when a handshake with the running process has proven that the
// new certificate is served.
//
// This is the one binary: the control plane (rotunda server), the process on
// each host (rotunda agent) and the operator's commands, one file for each.
// root.go lists them; connect.go finds the server; ui.go, table.go, times.go
// and encode.go are how results are shown.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// The exit codes, which scripts may rely on.
const (
	exitOK          = 0
	exitError       = 1
	exitDifferences = 2  // plan: the server differs from the files
	exitUsage       = 64 // sysexits' EX_USAGE: the command line itself is wrong
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run executes one command line and returns its exit code. The first SIGINT
// or SIGTERM ends the command's context; a second one kills as usual.
func run(args []string, in io.Reader, out, errs io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return exitError
	}
	return report(cmd, err)
}
