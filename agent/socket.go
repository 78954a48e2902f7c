package agent

import (
	"context"

	"github.com/rotunda-pki/rotunda/internal/socket"
)

// serveSocket answers rotunda agent wait, rotunda agent status and rotunda exec
// on the agent's socket. Every user of the host may ask: the answers say which
// certificate is in place, and which servers there are, and hold no secret.
func (a *Agent) serveSocket(ctx context.Context) error {
	listener, err := socket.Listen(a.config.Socket, 0o666)
	if err != nil {
		return err
	}
	return a.executor.ServeReadiness(ctx, listener)
}
