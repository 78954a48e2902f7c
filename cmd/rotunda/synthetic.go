package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/internal/socket"
)

func newSyntheticCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "synthetic",
		Short: "A small TLS server for an intent that rotates all the time",
		Long: `An intent with synthetic.every serves nobody: it rotates to show that a rotation works
from end to end. It wants a process that serves TLS. Any does; this one serves what
is delivered, answers nothing, and reads its files again when it is told to.
examples/synthetic has the documents, and what the host needs.`,
	}
	cmd.AddCommand(newSyntheticServeCommand(), newSyntheticReloadCommand())
	return cmd
}

const syntheticPatience = 5 * time.Second // for one client, and one reload

func newSyntheticServeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "serve DIR",
		Short:   "Serve DIR/current/chain.pem by TLS until it is interrupted",
		Example: `  rotunda exec synthetic -- rotunda synthetic serve /var/lib/synthetic --listen 127.0.0.1:7460 --control /run/synthetic.sock`,
		Args:    cobra.ExactArgs(1),
	}
	listen := cmd.Flags().String("listen", "", "`address` to serve TLS at, host:port")
	control := cmd.Flags().String("control", "", "the `socket` at which it is told to read its files again")
	for _, name := range []string{"listen", "control"} {
		cmd.MarkFlagRequired(name)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s := &syntheticServer{directory: args[0]}
		if err := s.load(); err != nil {
			return err
		}
		served, err := net.Listen("tcp", *listen)
		if err != nil {
			return fault.Wrap(fault.Unavailable, err, "listen")
		}
		told, err := socket.Listen(*control, 0o660)
		if err != nil {
			return errors.Join(err, served.Close())
		}
		newUI(cmd).note("serving %s at %s", s.directory, served.Addr())
		return s.run(cmd.Context(), served, told)
	}
	return cmd
}

func newSyntheticReloadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have it read its files again, and say whether it took them",
		Args:  cobra.NoArgs,
	}
	control := cmd.Flags().String("control", "", "the server's `socket`")
	cmd.MarkFlagRequired("control")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		conn, err := net.DialTimeout("unix", *control, syntheticPatience)
		if err != nil {
			return fault.Wrap(fault.Unavailable, err, "reach the synthetic server").WithRemedy("start it: rotunda synthetic serve")
		}
		defer conn.Close() //nolint:errcheck // it has answered, or failed
		if err := conn.SetDeadline(time.Now().Add(syntheticPatience)); err != nil {
			return err
		}
		answer, err := bufio.NewReader(io.LimitReader(conn, 4096)).ReadString('\n')
		if err != nil {
			return fault.Wrap(fault.Unavailable, err, "the synthetic server did not answer")
		}
		if answer = strings.TrimSpace(answer); answer != "loaded" {
			return fault.New(fault.Conflict, "the synthetic server kept what it had: %s", answer)
		}
		return nil
	}
	return cmd
}

// syntheticServer serves one certificate at a time, whole.
type syntheticServer struct {
	directory string
	served    atomic.Pointer[tls.Certificate]
}

// load takes what is delivered now, or leaves what is served.
func (s *syntheticServer) load() error {
	current := filepath.Join(s.directory, "current")
	pair, err := tls.LoadX509KeyPair(filepath.Join(current, "chain.pem"), filepath.Join(current, "key.pem"))
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "what is delivered in %s", current).
			WithRemedy("start it by rotunda exec INTENT --, which waits for the first certificate")
	}
	s.served.Store(&pair)
	return nil
}

func (s *syntheticServer) run(ctx context.Context, served, told net.Listener) error {
	stop := context.AfterFunc(ctx, func() { served.Close(); told.Close() })
	defer stop()
	ended := make(chan error, 2)
	go func() { ended <- accept(ctx, told, s.reload) }()
	config := &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.served.Load(), nil },
	}
	go func() {
		ended <- accept(ctx, served, func(conn net.Conn) { _ = tls.Server(conn, config).HandshakeContext(ctx) }) // clients come to look
	}()
	err := <-ended
	served.Close() // the other ends, too
	told.Close()
	return errors.Join(err, <-ended)
}

// accept hands each connection to do, with a deadline, until ctx ends.
func accept(ctx context.Context, listener net.Listener, do func(net.Conn)) error {
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		go func() {
			defer conn.Close() //nolint:errcheck // nobody waits for it
			if conn.SetDeadline(time.Now().Add(syntheticPatience)) == nil {
				do(conn)
			}
		}()
	}
}

func (s *syntheticServer) reload(conn net.Conn) {
	answer := "loaded"
	if err := s.load(); err != nil {
		answer = strings.ReplaceAll(err.Error(), "\n", " ")
	}
	_, _ = fmt.Fprintln(conn, answer) // who asked and left does not want it
}
