// Demo shows Rotunda at work: a control plane, three agents, a three-member
// etcd cluster, a small TLS server that can lie, and Redis, PostgreSQL and nginx
// where they are installed, rotated again and again under load.
//
//	demo run       plays it all; make demo does this
//	demo stop      ends a run that was kept
//	demo member    one etcd member
//	demo greeter   the small TLS server
//	demo server    a Redis, PostgreSQL or nginx that is installed
//	demo tell      says one word to a member or to the greeter
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// command is one word after demo.
type command struct {
	name string
	run  func(ctx context.Context, arguments []string) error
}

func commands() []command {
	return []command{{"run", run}, {"stop", stop}, {"member", runMember}, {"greeter", runGreeter}, {"server", runServer}, {"tell", runTell}}
}

func main() {
	ctx, release := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := dispatch(ctx, os.Args[1:])
	release()
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, arguments []string) error {
	if len(arguments) > 0 {
		for _, c := range commands() {
			if c.name == arguments[0] {
				return c.run(ctx, arguments[1:])
			}
		}
	}
	return fmt.Errorf("say one of: run, stop DIR, member, greeter, server, tell SOCKET WORD")
}

// parse reads flags, and wants exactly as many words after them.
func parse(flags *flag.FlagSet, arguments []string, words int) error {
	flags.Init(flags.Name(), flag.ContinueOnError)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if flags.NArg() != words {
		return fmt.Errorf("%s: %d words after the flags, not %d", flags.Name(), words, flags.NArg())
	}
	return nil
}
