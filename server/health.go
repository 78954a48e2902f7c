package server

import (
	"context"
	"net/http"
	"time"

	health "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// fitWithin bounds how long the store may take to show that it answers.
const fitWithin = 2 * time.Second

// fit says why this server should get no traffic now.
func (s *Server) fit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fitWithin)
	defer cancel()
	if !s.ready.Load() {
		return fault.New(fault.Unavailable, "starting or stopping")
	}
	if s.control.CutOff() {
		return nil // it renews without the store, and says in its answers what it can't
	}
	if _, err := s.control.Checkpoint(ctx); err != nil {
		s.log.Error("not ready", "error", err)
		return fault.New(fault.Unavailable, "the store does not answer; the server's log has the reason")
	}
	if err := s.control.InTime(); err != nil { // it signs and writes nothing
		return err
	}
	words, err := s.control.RolledBack(ctx)
	if err == nil && words != "" {
		err = fault.New(fault.Unavailable, "%s", words)
	}
	return err
}

// handleHealth adds what load balancers and service managers ask: is the
// process alive, and should it get traffic.
func (s *Server) handleHealth(mux *http.ServeMux) {
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("alive\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := s.fit(r.Context()); err != nil {
			http.Error(w, fault.Public(err), http.StatusServiceUnavailable)
			return
		}
		w.Write([]byte("ready\n"))
	})
}

// agentHealth answers gRPC's health check on the agents' listener: /readyz for
// load balancers that speak it, and for agents that are with another server
// and would rather be with this one.
type agentHealth struct {
	health.UnimplementedHealthServer
	*Server
}

// Check implements health.HealthServer.
func (h *agentHealth) Check(ctx context.Context, _ *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	if err := h.fit(ctx); err != nil {
		return nil, err
	}
	return &health.HealthCheckResponse{Status: health.HealthCheckResponse_SERVING}, nil
}
