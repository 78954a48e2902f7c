// Package server puts the control plane on the wire: agents over gRPC,
// operators over Connect (mutual TLS, or the admin socket), and everybody over
// plain HTTP for what must be fetched without a credential: CRLs, the issuer's
// certificate, the bundle and the audit log's tiles.
//
// It holds no state of its own. It learns who calls, hands the message to the
// verb in package control, and puts the answer or the error on the wire.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/rotunda-pki/rotunda/admission"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/internal/socket"
	"github.com/rotunda-pki/rotunda/reconcile"
)

// stopWithin bounds how long a graceful stop waits for calls under way.
const stopWithin = 10 * time.Second

// Options is what a Server stands on.
type Options struct {
	Config  Config
	Control *control.Control
	Now     func() time.Time
	Log     *slog.Logger
}

// Server is the control plane's process: its listeners and its loops.
type Server struct {
	config   Config
	control  *control.Control
	now      func() time.Time
	log      *slog.Logger
	identity *identity
	limits   Limits
	gate     *admission.Gate
	callers  *admission.Callers
	issues   *admission.Callers
	load     load
	ready    atomic.Bool
	streams  context.Context // ends when the server stops
}

// New returns a server with an identity of its own, ready to Run.
func New(ctx context.Context, o Options) (*Server, error) {
	id, err := newIdentity(ctx, o)
	if err != nil {
		return nil, err
	}
	limits := o.Config.Limits.filled()
	// What is admitted goes by time.Now, whose intervals nobody sets: o.Now is
	// perhaps a database's, and callers must not wait for it to come where it was.
	return &Server{
		config: o.Config, control: o.Control, now: o.Now, log: o.Log, identity: id, limits: limits,
		gate: admission.New(limits.issue(), time.Now), callers: admission.NewCallers(limits.callers(), time.Now),
		issues: admission.NewCallers(limits.issues(), time.Now),
	}, nil
}

// Run serves until ctx ends, then lets calls under way finish. ready is called
// once, when all listeners are open.
func (s *Server) Run(ctx context.Context, ready func()) error {
	group, ctx := errgroup.WithContext(ctx)
	s.streams = ctx
	services, err := s.listen()
	if err != nil {
		return err
	}
	group.Go(func() error {
		<-ctx.Done()
		s.ready.Store(false) // load balancers see it while calls under way finish
		return nil
	})
	for _, one := range services {
		group.Go(func() error {
			if err := one.serve(one.listener); err != nil && ctx.Err() == nil {
				return fmt.Errorf("serve %s: %w", one.name, err)
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			one.stop()
			return nil
		})
		s.log.Info("listening", "for", one.name, "address", one.listener.Addr().String())
	}
	group.Go(func() error { return s.identity.run(ctx) })
	group.Go(func() error { return reconcile.Servers(ctx, s.control, s.log) })
	group.Go(func() error { return reconcile.Moves(ctx, s.control, s.log) })
	group.Go(func() error { return reconcile.Presence(ctx, s.control, s.log) })
	group.Go(func() error { return reconcile.ShowLog(ctx, s.control, s.log) })
	group.Go(func() error { return reconcile.Sequence(ctx, s.control, s.log) })
	group.Go(func() error { return reconcile.CRLs(ctx, s.control, s.log) })
	group.Go(func() error { return reconcile.Staples(ctx, s.control, s.log) })
	group.Go(func() error { return reconcile.Revocations(ctx, s.control, s.log) })
	group.Go(func() error { return reconcile.Compromises(ctx, s.control, s.log) })
	group.Go(func() error { return reconcile.Slots(ctx, s.control, s.log) })
	group.Go(func() error { return reconcile.Trust(ctx, s.control, s.log) })
	group.Go(func() error {
		return reconcile.Rollouts(ctx, s.control, &reconcile.Gates{Client: http.DefaultClient, Commands: s.config.commands()}, s.log)
	})
	group.Go(func() error {
		return reconcile.Notices(ctx, s.control, reconcile.NewPoster(s.config.Notices.secret), s.log)
	})
	group.Go(func() error { return reconcile.Witness(ctx, s.control, s.log) })
	group.Go(func() error { return reconcile.Forward(ctx, s.control, s.config.Forward, s.log) })
	group.Go(func() error { return reconcile.Retention(ctx, s.control, s.log) })
	group.Go(func() error { return s.control.KeepContact(ctx) })
	s.ready.Store(true)
	ready()
	err = group.Wait()
	s.control.Close() // nobody asks any more
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// service is one listener and what serves on it.
type service struct {
	name, network, address string // no address: not wanted
	serve                  func(net.Listener) error
	stop                   func() // lets calls under way finish
	listener               net.Listener
}

// open opens the service's listener. The admin socket is its owner's alone.
func (s service) open() (net.Listener, error) {
	if s.network == "unix" {
		return socket.Listen(s.address, 0o600)
	}
	return net.Listen(s.network, s.address)
}

func (s *Server) listen() (open []service, err error) {
	agents := s.agentServer()
	for _, one := range []service{
		{name: "agents", network: "tcp", address: s.config.Listen.Agents, serve: func(l net.Listener) error { return agents.Serve(s.bounded(l)) }, stop: func() { stopGRPC(agents) }},
		webService("operators", "tcp", s.config.Listen.Operators, s.operatorServer()),
		webService("public HTTP", "tcp", s.config.Listen.Public, s.publicServer()),
		webService("metrics", "tcp", s.config.Listen.Metrics, s.metricsServer()),
		webService("admin socket", "unix", s.config.AdminSocket, s.socketServer()),
	} {
		if one.address == "" {
			continue
		}
		if one.listener, err = one.open(); err != nil {
			for _, opened := range open {
				opened.listener.Close()
			}
			return nil, fmt.Errorf("listen for %s: %w", one.name, err)
		}
		open = append(open, one)
	}
	return open, nil
}

// webService serves HTTP, over TLS where the server has a config for it.
func webService(name, network, address string, web *http.Server) service {
	return service{
		name: name, network: network, address: address,
		serve: func(l net.Listener) error {
			serve := web.Serve
			if web.TLSConfig != nil {
				serve = func(l net.Listener) error { return web.ServeTLS(l, "", "") }
			}
			if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
		stop: func() {
			ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
			defer cancel()
			if web.Shutdown(ctx) != nil {
				web.Close()
			}
		},
	}
}

// stopGRPC lets calls under way finish, for a while.
func stopGRPC(server *grpc.Server) {
	timer := time.AfterFunc(stopWithin, server.Stop)
	defer timer.Stop()
	server.GracefulStop()
}
