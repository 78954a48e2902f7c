package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/rotunda-pki/rotunda/archive"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/internal/calmlog"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/keys"
	controlplane "github.com/rotunda-pki/rotunda/server"
	"github.com/rotunda-pki/rotunda/store"
)

func newServerCommand() *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run the control plane",
		Long: `Run the control plane on what rotunda init made: the listeners for agents,
operators, the public and metrics, the admin socket, and the audit log.

It tells systemd when it is ready (Type=notify) and stops gracefully on SIGTERM:
calls under way finish, streams of agents are ended and come back elsewhere.
Logs are JSON lines on stderr.`,
		Example: `  rotunda server --state ./rotunda`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runServer(cmd.Context(), state, cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&state, "state", "/var/lib/rotunda", "the directory that rotunda init made")
	return cmd
}

// serverGC trades a little memory for CPU: the heap is small, and issuance
// makes much short-lived garbage.
const serverGC = 200

// serverShare of the memory that its control group allows is where the collector
// begins to work harder: rather slow than killed. The rest is the store's, which
// the collector does not see, and the stacks of calls.
const serverShare = 0.8

// A server that has allocated less than so much since it was last looked at is
// quiet, and what garbage it has is from before.
const (
	quietEvery = 15 * time.Second
	quietBytes = 1 << 20
)

// tidyWhenQuiet gives the garbage of busy times back to the system once they are
// over: a heap that hardly grows is not collected for minutes.
func tidyWhenQuiet(ctx context.Context) {
	look := time.NewTicker(quietEvery)
	defer look.Stop()
	allocated := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	var before uint64
	tidy := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		metrics.Read(allocated)
		now := allocated[0].Value.Uint64()
		quiet := now-before < quietBytes
		before = now
		if quiet && !tidy {
			debug.FreeOSMemory()
		}
		tidy = quiet
	}
}

func runServer(ctx context.Context, state string, errs io.Writer) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(serverGC)
	}
	state, err := filepath.Abs(state)
	if err != nil {
		return err
	}
	config, err := controlplane.LoadConfig(state)
	if err != nil {
		return err
	}
	log, err := newLogger(errs, config.LogLevel)
	if err != nil {
		return err
	}
	if _, err := memlimit.Set(memlimit.WithRatio(serverShare)); err != nil {
		log.Warn("the memory that this process may have is not known, so nothing keeps below it", "error", err)
	}
	place := store.Locate(config.Store)
	place.TrustDomain = config.TrustDomain
	db, err := store.Open(ctx, place)
	if err != nil {
		return err
	}
	defer db.Close()
	s, err := newServer(ctx, config, db, log)
	if err != nil {
		return err
	}
	log.Info("starting", "version", version(), "state", state)
	err = s.Run(ctx, func() {
		log.Info("ready")
		go tidyWhenQuiet(ctx)
		notifyManager(log, daemon.SdNotifyReady)
		go func() {
			<-ctx.Done()
			notifyManager(log, daemon.SdNotifyStopping)
		}()
	})
	log.Info("stopped")
	return err
}

func newServer(ctx context.Context, config controlplane.Config, db *store.DB, log *slog.Logger) (*controlplane.Server, error) {
	kek, err := keys.OpenKEK(keys.Source{File: config.KEK.File, Credential: config.KEK.Credential})
	if err != nil {
		return nil, err
	}
	c, err := control.Open(ctx, control.Options{
		DB: db, KEK: kek, PublicURL: config.PublicURL, AgentAddress: config.AgentAddress, NotifyURL: config.Notices.URL, Commands: config.CommandNames(), Witnesses: config.Witnesses,
		Retention: config.Retention.Keep(), Archive: archive.Dir(config.Retention.Archive),
		Spooling: config.Spooling(), Version: version(), Now: db.Now, Log: log,
	})
	if err != nil {
		return nil, err
	}
	return controlplane.New(ctx, controlplane.Options{Config: config, Control: c, Now: db.Now, Log: log})
}

// newLogger writes JSON lines, and the same trouble once a minute. Neither keys nor
// tokens are ever given to it.
func newLogger(out io.Writer, level string) (*slog.Logger, error) {
	lowest := slog.LevelInfo
	if level != "" {
		if err := lowest.UnmarshalText([]byte(level)); err != nil {
			return nil, fault.New(fault.Invalid, "log level %q: it must be debug, info, warn or error", level)
		}
	}
	return slog.New(calmlog.Handler(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: lowest}))), nil
}

// notifyManager tells systemd, where it is there to listen.
func notifyManager(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("tell the service manager", "error", err)
	}
}

func writeConfig(path string, config any) error {
	content, err := yaml.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}
