package server

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Limits on what agents send, and how soon a dead one is noticed.
const (
	maxAgentMessage = 8 << 20
	maxAgentCalls   = 64        // under way on one connection
	streamWindow    = 256 << 10 // of what an agent sent that is not read yet, by call
	connWindow      = 512 << 10 // and by connection
	handshakeWithin = 10 * time.Second
	shortestPing    = 5 * time.Second
)

var (
	errStopping = fault.New(fault.Unavailable, "the server is stopping").WithRemedy("connect again, or to another server")
	errSlow     = fault.New(fault.Unavailable, "the agent does not read what is sent to it").WithRemedy("it connects again by itself; look at its host if it stays so")
	errReplaced = fault.New(fault.Unavailable, "a newer stream of this agent took the place of this one")
)

// agentServer serves agents over gRPC. A client certificate is asked for and
// verified when given; all calls but Enrol refuse a caller without one.
func (s *Server) agentServer() *grpc.Server {
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(s.identity.tls(tls.VerifyClientCertIfGiven, "h2"))),
		grpc.MaxRecvMsgSize(maxAgentMessage), grpc.MaxConcurrentStreams(maxAgentCalls), grpc.ConnectionTimeout(handshakeWithin),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: api.SilentAfter, Timeout: api.PingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: shortestPing, PermitWithoutStream: true}),
		grpc.StaticStreamWindowSize(streamWindow), grpc.StaticConnWindowSize(connWindow),
		// There are many, and most are silent: TLS has a buffer to read from, and one
		// to write from is taken while there is something to write.
		grpc.WriteBufferSize(8<<10), grpc.ReadBufferSize(0),
		grpc.UnaryInterceptor(s.unary), grpc.StreamInterceptor(s.stream),
	)
	api.RegisterAgentServiceServer(server, &agents{Server: s})
	health.RegisterHealthServer(server, &agentHealth{Server: s})
	return server
}

// unary finds out the caller of each call and translates its error.
func (s *Server) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	var who identify = s.control.Identify
	if info.FullMethod == api.AgentService_Testify_FullMethodName {
		who = s.control.IdentifyWitness
	}
	caller, err := grpcCaller(ctx, who)
	if err != nil {
		return nil, grpcError(s.log, info.FullMethod, err)
	}
	if s.control.CutOff() && info.FullMethod != api.AgentService_Issue_FullMethodName {
		return nil, grpcError(s.log, info.FullMethod, errCutOff)
	}
	leave, err := s.enterCall(caller, request)
	if err != nil {
		return nil, grpcError(s.log, info.FullMethod, err)
	}
	defer leave()
	var response any
	err = guarded(func() (err error) {
		response, err = handle(withCaller(ctx, caller), request)
		return err
	})
	return response, grpcError(s.log, info.FullMethod, err)
}

func (s *Server) stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	var caller control.Caller
	err := aside(func() (err error) {
		caller, err = grpcCaller(stream.Context(), s.control.Identify)
		return err
	})
	if err != nil {
		return grpcError(s.log, info.FullMethod, err)
	}
	leave, err := s.enter(caller)
	if err != nil {
		return grpcError(s.log, info.FullMethod, err)
	}
	leave() // it is no call: a new stream takes the place of the one before
	err = guarded(func() error {
		return handle(service, &calledStream{stream, withCaller(stream.Context(), caller)})
	})
	return grpcError(s.log, info.FullMethod, err)
}

// calledStream is a stream whose context knows its caller.
type calledStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *calledStream) Context() context.Context { return s.ctx }

// agents answers the calls of AgentService by the verbs of control.
type agents struct {
	api.UnimplementedAgentServiceServer
	*Server
}

func (a *agents) Enrol(ctx context.Context, r *api.EnrolRequest) (*api.EnrolResponse, error) {
	return a.control.Enrol(ctx, callerOf(ctx), r)
}

func (a *agents) RenewIdentity(ctx context.Context, r *api.RenewIdentityRequest) (*api.RenewIdentityResponse, error) {
	return a.control.RenewIdentity(ctx, callerOf(ctx), r)
}

func (a *agents) Issue(ctx context.Context, r *api.IssueRequest) (*api.IssueResponse, error) {
	if a.control.CutOff() {
		return a.control.IssueCutOff(callerOf(ctx), r)
	}
	return a.issue(ctx, callerOf(ctx), r)
}

func (a *agents) IssueCanaries(ctx context.Context, r *api.IssueCanariesRequest) (*api.IssueCanariesResponse, error) {
	return a.control.IssueCanaries(ctx, callerOf(ctx), r)
}

func (a *agents) FetchBlobs(ctx context.Context, r *api.FetchBlobsRequest) (*api.FetchBlobsResponse, error) {
	return a.control.FetchBlobs(ctx, callerOf(ctx), r)
}

func (a *agents) ProveConsistency(ctx context.Context, r *api.ProveConsistencyRequest) (*api.ProveConsistencyResponse, error) {
	return a.control.ProveConsistency(ctx, callerOf(ctx), r)
}

func (a *agents) Testify(ctx context.Context, r *api.TestifyRequest) (*api.TestifyResponse, error) {
	return a.control.Testify(ctx, callerOf(ctx), r)
}

// Sync takes what the agent observes and sends what is desired, each as it
// changes.
func (a *agents) Sync(stream grpc.BidiStreamingServer[api.AgentReport, api.DesiredState]) error {
	caller := callerOf(stream.Context())
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.Hello == nil {
		return fault.New(fault.Invalid, "the first report of a stream must carry a hello")
	}
	if a.control.CutOff() {
		return a.syncCutOff(stream, caller)
	}
	var connection *control.Connection
	err = aside(func() (err error) {
		// Before anything is sent by a store that may be behind.
		if err := a.control.Heed(stream.Context(), caller, first); err != nil {
			return err
		}
		connection, err = a.control.Connect(stream.Context(), caller, first.Hello)
		return err
	})
	if err != nil {
		return err
	}
	defer connection.Leave()
	wake, stop := a.control.WatchAgent(caller.ID)
	defer stop()

	// gRPC ends Recv only when this handler has returned, so nobody waits for
	// this goroutine: it outlives the handler by an instant.
	received := make(chan error, 1)
	go func() {
		received <- guarded(func() error { return a.receive(stream, caller, first) })
	}()
	return a.send(stream, caller, wake, received, connection.Replaced)
}

// receive takes reports until the agent ends its half, which is no error.
func (a *agents) receive(stream grpc.BidiStreamingServer[api.AgentReport, api.DesiredState], caller control.Caller, report *api.AgentReport) error {
	for {
		err := aside(func() error { return a.control.Report(stream.Context(), caller, report) })
		if err != nil {
			return err
		}
		if report, err = stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// send sends the desired state at once and whenever it has changed, until the
// receiving half ends, a newer stream replaces this one, the agent is retired or
// the server stops.
func (a *agents) send(stream grpc.BidiStreamingServer[api.AgentReport, api.DesiredState], caller control.Caller, wake <-chan struct{}, received <-chan error, replaced <-chan struct{}) error {
	var sent wish
	for {
		desired, err := a.control.Desired(stream.Context(), caller)
		if err != nil {
			return err
		}
		now, err := wishOf(desired)
		if err != nil {
			return err
		}
		if now != sent {
			if err := a.sendSoon(stream, desired); err != nil {
				return err
			}
			sent = now
		}
		if over, err := a.idle(stream.Context(), desired.Seq, goodFor(desired), wake, received, replaced); over {
			return err
		}
	}
}

// aside calls on a goroutine of its own. A look at the store takes a deep stack,
// which a goroutine keeps while it lives; and a stream lives for weeks.
func aside(call func() error) error {
	done := make(chan error, 1)
	go func() { done <- guarded(call) }()
	return <-done
}

// sendSoon sends a state, and gives the agent some time to read the ones before
// it. Meanwhile nothing is kept for it: what it gets next is the newest.
func (a *agents) sendSoon(stream grpc.BidiStreamingServer[api.AgentReport, api.DesiredState], desired *api.DesiredState) error {
	sent := make(chan error, 1)
	go func() { sent <- stream.Send(desired) }() // ends with the handler's return at the latest
	timer := time.NewTimer(a.limits.ReadWithin.Std())
	defer timer.Stop()
	select {
	case err := <-sent:
		return err
	case <-timer.C:
		a.load.slow.Add(1)
		return errSlow
	case <-a.streams.Done():
		return errStopping
	}
}

// idle waits until the desired state may have changed: something woke the
// stream, the store has moved since seq, or that was good for no longer; or until
// the stream is over, and why.
func (a *agents) idle(ctx context.Context, seq uint64, good time.Duration, wake <-chan struct{}, received <-chan error, replaced <-chan struct{}) (over bool, err error) {
	anyway := time.NewTimer(good)
	defer anyway.Stop()
	for {
		at, moved := a.control.Moved()
		if at > seq {
			return false, nil
		}
		select {
		case <-wake:
			return false, nil
		case <-anyway.C:
			return false, nil
		case <-moved:
		case err := <-received:
			return true, err
		case <-ctx.Done():
			return true, ctx.Err()
		case <-replaced:
			return true, errReplaced
		case <-a.streams.Done():
			return true, errStopping
		}
	}
}

// A stream looks although nothing moved, since some of what is desired changes with
// the time alone, and each agent is a witness of the log, which most commits make
// longer; and soon where there are orders, which are given anew when they fail.
const (
	lookAnyway      = 5 * time.Minute
	lookAfterOrders = 10 * time.Second
)

func goodFor(desired *api.DesiredState) time.Duration {
	if slices.ContainsFunc(desired.Placements, func(p *api.DesiredPlacement) bool { return len(p.Orders) > 0 }) {
		return lookAfterOrders
	}
	return lookAnyway
}

// wish is the digest of a desired state, but for what changes by itself. The
// checkpoint counts: the agent is a witness of the audit log. Each stream keeps
// one, so it is small.
type wish [sha256.Size]byte

func wishOf(desired *api.DesiredState) (wish, error) {
	seq, at := desired.Seq, desired.ServerTime
	desired.Seq, desired.ServerTime = 0, nil
	content, err := proto.MarshalOptions{Deterministic: true}.Marshal(desired)
	desired.Seq, desired.ServerTime = seq, at
	return sha256.Sum256(content), err
}
