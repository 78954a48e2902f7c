package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/witness"
)

// What a witness's server allows a caller: the body is a few KiB.
const (
	witnessRead  = 10 * time.Second
	witnessWrite = 20 * time.Second
	witnessIdle  = 2 * time.Minute
)

func newAuditWitnessCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "witness",
		Short: "Be a witness of audit logs, for their owners to ask",
		Long: `A witness cosigns the newest checkpoint of a log (C2SP tlog-witness), and only what
goes on from what it cosigned last. Run it where neither the log's store nor who
runs its servers reaches: another account, another site. Then nobody can put the
log back or show two of it without the witness's refusal.

It needs its directory and nothing else: no store, no certificate, no agent.`,
	}
	cmd.AddCommand(newWitnessKeyCommand(), newWitnessServeCommand())
	return cmd
}

const defaultWitnessState = "/var/lib/rotunda-witness"

func newWitnessKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key NAME",
		Short: "Make a witness's key, and print its public half",
		Long: `Makes the key in the state directory, and prints the public half: what owners of
logs name as the key of this witness. NAME is a URL without its scheme.

The key and what was cosigned by it stay together. Never put back an older copy of
the directory: a witness that forgets can be made to cosign a fork. Where the
memory is lost, make a new key in a new directory.`,
		Example: `  rotunda audit witness key witness.example/w1 --state /var/lib/rotunda-witness`,
		Args:    cobra.ExactArgs(1),
	}
	state := witnessStateFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := os.MkdirAll(*state, 0o700); err != nil {
			return fault.Wrap(fault.Invalid, err, "make the witness's directory")
		}
		root, err := os.OpenRoot(*state)
		if err != nil {
			return fault.Wrap(fault.Invalid, err, "open the witness's directory")
		}
		defer root.Close() //nolint:errcheck // nothing is written through it any more
		cosigner, err := witness.CreateKey(root, args[0])
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), cosigner.VerifierKey())
		return err
	}
	return cmd
}

func witnessStateFlag(cmd *cobra.Command) *string {
	state := cmd.Flags().String("state", defaultWitnessState, "the witness's `directory`: its key, and what it cosigned")
	_ = cmd.MarkFlagDirname("state")
	return state
}

func newWitnessServeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve tlog-witness for the logs whose keys are given",
		Long: `Serves POST /add-checkpoint of C2SP tlog-witness over plain HTTP, for the logs whose
keys are given, and GET /ORIGIN/checkpoint with what it cosigned last of one. A
checkpoint is durable before its cosignature is sent. Put a proxy with TLS before
it where others than the log's owner must not see how large the log is.

A checkpoint that does not go on from the one cosigned last is refused and logged,
both of them in full: they are what to take to the log's owner.`,
		Example: `  rotunda audit witness serve --listen :8420 --log-key log.pub
  rotunda audit witness serve --state w1 --listen 127.0.0.1:8420 --log-key 'prod.example/audit+1a2b3c4d+AbCd…'`,
		Args: cobra.NoArgs,
	}
	state := witnessStateFlag(cmd)
	listen := cmd.Flags().String("listen", "127.0.0.1:8420", "`address` to listen on")
	keys := cmd.Flags().StringSlice("log-key", nil, "a log's public `key`, or the file that holds it")
	_ = cmd.MarkFlagRequired("log-key")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return serveWitness(cmd, *state, *listen, *keys) }
	return cmd
}

func serveWitness(cmd *cobra.Command, state, listen string, keys []string) error {
	log, err := newLogger(cmd.ErrOrStderr(), "")
	if err != nil {
		return err
	}
	for i := range keys {
		if keys[i], err = keyOrFile("--log-key", keys[i]); err != nil {
			return err
		}
	}
	root, err := os.OpenRoot(state)
	if err != nil {
		return fault.Wrap(fault.NotFound, err, "open the witness's directory").WithRemedy("make it with rotunda audit witness key")
	}
	defer root.Close() //nolint:errcheck // what matters is synced
	s, err := witness.Open(root, keys, time.Now, log)
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // a lock alone
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "listen")
	}
	server := &http.Server{
		Handler: s.Handler(), ReadTimeout: witnessRead, ReadHeaderTimeout: witnessRead, WriteTimeout: witnessWrite,
		IdleTimeout: witnessIdle, MaxHeaderBytes: 16 << 10,
	}
	stopped := make(chan error, 1)
	context.AfterFunc(cmd.Context(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), witnessWrite)
		defer cancel()
		stopped <- server.Shutdown(ctx)
	})
	log.Info("witness", "address", listener.Addr().String(), "key", s.Cosigner().VerifierKey())
	notifyManager(log, daemon.SdNotifyReady)
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

// keyOrFile is a public key that a flag holds, or the file that it names.
func keyOrFile(flag, text string) (string, error) {
	if !exists(text) {
		return text, nil
	}
	content, err := os.ReadFile(text)
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "read %s", flag)
	}
	return strings.TrimSpace(string(content)), nil
}
