package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// serveSocket answers rotunda agent wait and rotunda exec on the agent's
// socket. Every user of the host may ask: the answers say which certificate is
// in place and hold no secret.
func (a *Agent) serveSocket(ctx context.Context) error {
	listener, err := listenUnix(a.config.Socket)
	if err != nil {
		return err
	}
	return a.executor.ServeReadiness(ctx, listener)
}

// listenUnix opens a unix socket in place of one that a dead process left.
func listenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the agent's socket: %w", err)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		return nil, errors.Join(fault.New(fault.Conflict, "another process serves %s", path).
			WithRemedy("one agent per socket: name another in agent.yaml"), conn.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("make the agent's socket: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("make the agent's socket: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}
