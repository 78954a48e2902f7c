package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/agent"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// agentStart is what `rotunda agent` was asked for.
type agentStart struct {
	state, config    string
	token, tokenFile string
	servers, allow   []string
	logLevel         string
}

const agentHelp = `Run this host's agent: it makes keys, fetches certificates, puts them in place,
reloads the processes that use them, and proves by handshakes that they serve
them.

The first start needs a token (rotunda token create): in --token-file, in
$ROTUNDA_TOKEN, or as --token, where other users of the host may see it. Later
starts need none.

Its settings are in agent.yaml, in the state directory unless --config names
another. Where there is none, the first start writes one from --server and
--allow, and makes the directories. What is not allowed there no server can ask
for.`

func newAgentCommand() *cobra.Command {
	var a agentStart
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent of this host, or change the record of one",
		Long:  agentHelp,
		Example: `  rotunda agent --server rotunda.example.org:7443 --allow /etc/orders/tls --token-file token
  rotunda agent                          # later: everything is in /var/lib/rotunda-agent
  rotunda agent label 0199c2f4-… rack=7
  rotunda agent retire 0199c2f4-… --reason "host is gone"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.run(cmd.Context(), cmd.ErrOrStderr()) },
	}
	flags := cmd.Flags()
	flags.StringVar(&a.state, "state", agent.DefaultState, "the agent's own directory, where agent.yaml is and names no other")
	flags.StringVar(&a.config, "config", "", "the settings (default STATE/agent.yaml)")
	flags.StringVar(&a.token, "token", "", "an enrolment token")
	flags.StringVar(&a.tokenFile, "token-file", "", "a file that holds an enrolment token")
	flags.StringSliceVar(&a.servers, "server", nil, "for a new agent.yaml: host:port of a server's agents' listener")
	flags.StringSliceVar(&a.allow, "allow", nil, "for a new agent.yaml: a directory under which certificates may be placed")
	flags.StringVar(&a.logLevel, "log-level", "info", "the least severe log lines written: debug, info, warn or error")
	cmd.MarkFlagsMutuallyExclusive("token", "token-file")
	addAgentVerbs(cmd)
	cmd.AddCommand(newAgentWaitCommand(), newAgentStatusCommand(), newAgentAcknowledgeCommand())
	return cmd
}

// The agent is on every host: it keeps its heap small at the price of some CPU
// while it works.
const agentGC = 50

func (a *agentStart) run(ctx context.Context, errs io.Writer) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(agentGC)
	}
	log, err := newLogger(errs, a.logLevel)
	if err != nil {
		return err
	}
	token, err := a.readToken()
	if err != nil {
		return err
	}
	config, err := a.loadConfig()
	if err != nil {
		return err
	}
	running, err := agent.New(agent.Options{Config: config, Token: token, Version: version(), Now: time.Now, Log: log})
	if err != nil {
		return err
	}
	defer running.Close()
	if ignored := a.ignored(config); len(ignored) > 0 {
		log.Warn("--server and --allow are for a new agent.yaml; there is one, and it does not have these", "ignored", ignored)
	}
	go announce(ctx, log, running)
	log.Info("starting", "version", version(), "state", config.State)
	err = running.Run(ctx)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = nil
	}
	log.Info("stopped")
	return err
}

// announce tells systemd, and the log, when the agent is at work.
func announce(ctx context.Context, log *slog.Logger, running *agent.Agent) {
	select {
	case <-ctx.Done():
		return
	case <-running.Ready():
	}
	log.Info("ready", "agent", running.Identity().AgentID)
	notifyManager(log, daemon.SdNotifyReady)
	<-ctx.Done()
	notifyManager(log, daemon.SdNotifyStopping)
}

func (a *agentStart) loadConfig() (*agent.Config, error) {
	state, err := filepath.Abs(a.state)
	if err != nil {
		return nil, err
	}
	path := a.config
	if path == "" {
		path = filepath.Join(state, "agent.yaml")
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && len(a.servers) > 0 {
		if err := a.writeConfig(path, state); err != nil {
			return nil, err
		}
	}
	config, err := agent.LoadConfig(path, state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "%s does not exist", path).
			WithRemedy("write it, or let the first start do so: --server HOST:PORT --allow DIRECTORY")
	}
	return config, err
}

// ignored are the servers and directories of the command line that agent.yaml
// does not have.
func (a *agentStart) ignored(config *agent.Config) (ignored []string) {
	for _, address := range a.servers {
		if !slices.ContainsFunc(config.Servers, func(s agent.ServerAddress) bool { return s.Address == address }) {
			ignored = append(ignored, address)
		}
	}
	for _, directory := range a.allow {
		absolute, err := filepath.Abs(directory)
		if err != nil || !slices.Contains(config.Allow.Directories, absolute) {
			ignored = append(ignored, directory)
		}
	}
	return ignored
}

// writeConfig makes the first agent.yaml: where the server is, and what may be
// touched. The rest is added by hand.
func (a *agentStart) writeConfig(path, state string) error {
	var allow []string
	for _, directory := range a.allow {
		absolute, err := filepath.Abs(directory)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(absolute, 0o755); err != nil {
			return err
		}
		allow = append(allow, absolute)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return writeConfig(path, map[string]any{
		"servers": a.servers, "state": state, "allow": map[string]any{"directories": allow},
	})
}

// readToken finds the token and looks at its form, before anything is written
// on the strength of it. There may be none.
func (a *agentStart) readToken() (string, error) {
	text := orElse(a.token, os.Getenv("ROTUNDA_TOKEN"))
	if a.tokenFile != "" {
		content, err := os.ReadFile(a.tokenFile)
		if err != nil {
			return "", fault.Wrap(fault.Invalid, err, "read the token")
		}
		text = string(content)
	}
	if text = strings.TrimSpace(text); text == "" {
		return "", nil
	}
	_, err := agent.ParseToken(text)
	return text, err
}
