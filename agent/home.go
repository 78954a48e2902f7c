package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// lookTimeout bounds a look at a nearer server.
const lookTimeout = 5 * time.Second

// errHome ends a session that goes on at a nearer server.
var errHome = fmt.Errorf("%w, at a nearer server", errReconnect)

// watchServers counts the stream's server as well once it has lasted, and ends
// the session when a nearer server has been well for long enough.
func (s *syncer) watchServers(ctx context.Context, link *link) error {
	if err := wait(ctx, s.pace.steady, nil); err != nil {
		return err
	}
	s.servers.worked(link.server)
	for {
		if err := wait(ctx, s.pace.look+rand.N(s.pace.look/2+1), nil); err != nil {
			return err
		}
		if home := s.lookHome(ctx, link.server); home != "" {
			s.log.Info("going back to a nearer server", "server", home, "from", link.server)
			return errHome
		}
	}
}

// lookHome looks at the nearer servers until one is well, and returns its
// address if it has been so for long enough.
func (s *syncer) lookHome(ctx context.Context, from string) string {
	for _, address := range s.servers.better(from) {
		problem := s.look(ctx, address)
		if ctx.Err() != nil {
			return ""
		}
		if home := s.servers.looked(address, s.now(), problem); home {
			return address
		}
		if problem == nil {
			return ""
		}
	}
	return ""
}

// look asks a server whether it would serve this agent, under the identity that
// the stream would have: the handshake, the agent's record and the store behind
// it are all part of the answer. A stream would take the place of the one that
// is open.
func (s *syncer) look(ctx context.Context, address string) error {
	identity := s.ids.current.Load()
	link, err := dial(address, trust{identity.TrustDomain, anchored(identity.Anchors), s.now}, identity, s.version)
	if err != nil {
		return err
	}
	defer link.close()
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	answer, err := health.NewHealthClient(link.conn).Check(ctx, &health.HealthCheckRequest{})
	switch {
	case status.Code(err) == codes.Unimplemented: // an older server, which is there
		return nil
	case err != nil:
		return link.explain(err)
	case answer.Status != health.HealthCheckResponse_SERVING:
		return fault.New(fault.Unavailable, "server %s says that it is %s", address, answer.Status)
	}
	return nil
}
