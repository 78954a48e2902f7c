package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/rotunda-pki/rotunda/demo/greeter"
	"github.com/rotunda-pki/rotunda/demo/installed"
	"github.com/rotunda-pki/rotunda/demo/member"
	"github.com/rotunda-pki/rotunda/demo/process"
	"github.com/rotunda-pki/rotunda/demo/tell"
)

// runMember is one etcd member until it is told to end.
func runMember(ctx context.Context, arguments []string) error {
	var s member.Settings
	flags := flag.NewFlagSet("demo member", flag.ContinueOnError)
	flags.StringVar(&s.Name, "name", "", "the member's name")
	flags.StringVar(&s.Data, "data", "", "its data directory")
	flags.StringVar(&s.ClientFiles, "client-files", "", "directory of the placement that its clients see")
	flags.StringVar(&s.PeerFiles, "peer-files", "", "directory of the placement that its peers see")
	flags.StringVar(&s.ClientListen, "listen-clients", "", "host:port for clients")
	flags.StringVar(&s.PeerListen, "listen-peers", "", "host:port for peers")
	flags.StringVar(&s.Cluster, "cluster", "", "NAME=URL,... of all members' peers")
	control := flags.String("control", "", "path of the socket where it is told to restart")
	ctx, release, err := begin(ctx, flags, arguments)
	if err != nil {
		return err
	}
	defer release()
	m, err := member.Start(ctx, s)
	if err != nil {
		return err
	}
	defer m.Close()
	return serve(ctx, *control, func(word string) (string, error) { return m.Answer(ctx, word) })
}

// runGreeter is the small TLS server until it is told to end.
func runGreeter(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("demo greeter", flag.ContinueOnError)
	listen := flags.String("listen", "", "host:port")
	files := flags.String("files", "", "directory of the placement that it serves")
	control := flags.String("control", "", "path of the socket where it is told to reload, to lie and to be honest")
	ctx, release, err := begin(ctx, flags, arguments)
	if err != nil {
		return err
	}
	defer release()
	g, err := greeter.Listen(*listen, *files)
	if err != nil {
		return err
	}
	return errors.Join(serve(ctx, *control, g.Answer), g.Close())
}

// runServer is one of the servers that this machine has, until it is told to
// end.
func runServer(ctx context.Context, arguments []string) error {
	var s installed.Server
	flags := flag.NewFlagSet("demo server", flag.ContinueOnError)
	flags.StringVar(&s.Kind, "kind", "", "redis, postgres or nginx")
	flags.StringVar(&s.Binary, "binary", "", "path of its program")
	flags.StringVar(&s.Listen, "listen", "", "host:port")
	flags.StringVar(&s.Data, "data", "", "its own directory")
	flags.StringVar(&s.Files, "files", "", "directory of the placement that it serves")
	flags.StringVar(&s.Account, "account", "", "the user that it runs as")
	ctx, release, err := begin(ctx, flags, arguments)
	if err != nil {
		return err
	}
	defer release()
	return s.Run(ctx, process.Ready)
}

// begin reads the flags of a process of the demo's, which ends with the demo
// where it is told so.
func begin(ctx context.Context, flags *flag.FlagSet, arguments []string) (context.Context, context.CancelFunc, error) {
	lifeline := flags.Bool("lifeline", false, "end when standard input ends")
	if err := parse(flags, arguments, 0); err != nil {
		return nil, nil, err
	}
	if *lifeline {
		ctx, release := process.WithLifeline(ctx)
		return ctx, release, nil
	}
	return ctx, func() {}, nil
}

// serve answers words, says that the process is ready, and waits for its end.
func serve(ctx context.Context, socket string, answer func(string) (string, error)) error {
	words, err := tell.Listen(socket, answer)
	if err != nil {
		return err
	}
	if err := process.Ready(); err != nil {
		return errors.Join(err, words.Close())
	}
	<-ctx.Done()
	return words.Close()
}

// runTell says one word to a member or to the greeter. It is what the reload
// and restart commands of the agents' agent.yaml run.
func runTell(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("demo tell", flag.ContinueOnError)
	ifRunning := flags.Bool("if-running", false, "a process that does not run yet has nothing to reload: that is no failure")
	if err := parse(flags, arguments, 2); err != nil {
		return err
	}
	socket, word := flags.Arg(0), flags.Arg(1)
	if _, err := os.Stat(socket); *ifRunning && errors.Is(err, os.ErrNotExist) {
		fmt.Println("it does not run")
		return nil
	}
	answer, err := tell.Say(ctx, socket, word)
	if err != nil {
		return err
	}
	fmt.Println(answer)
	return nil
}
