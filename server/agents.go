package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Limits on what agents send, and how soon a dead one is noticed.
const (
	maxAgentMessage = 8 << 20
	maxAgentCalls   = 256 // under way on one connection
	handshakeWithin = 10 * time.Second
	pingAfter       = 30 * time.Second
	pingTimeout     = 10 * time.Second
	shortestPing    = 5 * time.Second
)

var (
	errStopping = fault.New(fault.Unavailable, "the server is stopping").WithRemedy("connect again, or to another server")
	errReplaced = fault.New(fault.Unavailable, "a newer stream of this agent took the place of this one")
)

// agentServer serves agents over gRPC. A client certificate is asked for and
// verified when given; all calls but Enrol refuse a caller without one.
func (s *Server) agentServer() *grpc.Server {
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(s.identity.tls(tls.VerifyClientCertIfGiven, "h2"))),
		grpc.MaxRecvMsgSize(maxAgentMessage), grpc.MaxConcurrentStreams(maxAgentCalls), grpc.ConnectionTimeout(handshakeWithin),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingAfter, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: shortestPing, PermitWithoutStream: true}),
		grpc.WriteBufferSize(8<<10), grpc.ReadBufferSize(8<<10),
		grpc.UnaryInterceptor(s.unary), grpc.StreamInterceptor(s.stream),
	)
	api.RegisterAgentServiceServer(server, &agents{Server: s})
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
	var response any
	err = guarded(func() (err error) {
		response, err = handle(withCaller(ctx, caller), request)
		return err
	})
	return response, grpcError(s.log, info.FullMethod, err)
}

func (s *Server) stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	caller, err := grpcCaller(stream.Context(), s.control.Identify)
	if err != nil {
		return grpcError(s.log, info.FullMethod, err)
	}
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
	return a.control.Issue(ctx, callerOf(ctx), r)
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
	// Before anything is sent by a store that may be behind.
	if err := a.control.Heed(stream.Context(), caller, first); err != nil {
		return err
	}
	connection, err := a.control.Connect(stream.Context(), caller, first.Hello)
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
		if err := a.control.Report(stream.Context(), caller, report); err != nil {
			return err
		}
		var err error
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
	ticker := time.NewTicker(lookAgainAfter)
	defer ticker.Stop()
	var last *api.DesiredState
	for {
		desired, err := a.control.Desired(stream.Context(), caller)
		if err != nil {
			return err
		}
		if !sameWish(last, desired) {
			if err := stream.Send(desired); err != nil {
				return err
			}
			last = desired
		}
		select {
		case <-wake:
		case <-ticker.C:
		case err := <-received:
			return err
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-replaced:
			return errReplaced
		case <-a.streams.Done():
			return errStopping
		}
	}
}

// sameWish compares all but what changes by itself. The checkpoint counts: the
// agent is a witness of the audit log.
func sameWish(last, now *api.DesiredState) bool {
	if last == nil {
		return false
	}
	a, b := proto.CloneOf(last), proto.CloneOf(now)
	a.Seq, a.ServerTime = b.Seq, b.ServerTime
	return proto.Equal(a, b)
}
