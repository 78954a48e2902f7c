package reconcile_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	answers "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/fleettest"
	"github.com/rotunda-pki/rotunda/forward"
)

// grpcCollector is a receiver of OTLP over gRPC that decodes what it is sent.
type grpcCollector struct {
	taken
	t        *testing.T
	listener net.Listener
	server   *grpc.Server

	mu     sync.Mutex
	answer func(ctx context.Context, entries int) error // nil, or nil from it: it takes them
}

// exporter is the service, as gRPC wants to know it.
type exporter interface {
	export(context.Context, *collectorpb.ExportLogsServiceRequest) (*collectorpb.ExportLogsServiceResponse, error)
}

var logsService = grpc.ServiceDesc{
	ServiceName: "opentelemetry.proto.collector.logs.v1.LogsService", HandlerType: (*exporter)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Export", Handler: func(service any, ctx context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		request := &collectorpb.ExportLogsServiceRequest{}
		if err := read(request); err != nil {
			return nil, err
		}
		return service.(exporter).export(ctx, request)
	}}},
}

// newGRPCCollector listens until the test ends.
func newGRPCCollector(t *testing.T, address string, options ...grpc.ServerOption) *grpcCollector {
	t.Helper()
	c := &grpcCollector{t: t}
	var err error
	if c.listener, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	c.server = grpc.NewServer(options...)
	c.server.RegisterService(&logsService, c)
	served := make(chan error, 1)
	go func() { served <- c.server.Serve(c.listener) }()
	t.Cleanup(func() { c.server.Stop(); <-served })
	return c
}

func (c *grpcCollector) set(answer func(context.Context, int) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = answer
}

// partly is the error by which an answer takes only a part.
type partly struct {
	*collectorpb.ExportLogsPartialSuccess
}

func (partly) Error() string { return "partly" }

func (c *grpcCollector) export(ctx context.Context, request *collectorpb.ExportLogsServiceRequest) (*collectorpb.ExportLogsServiceResponse, error) {
	records := request.ResourceLogs[0].ScopeLogs[0].LogRecords
	c.mu.Lock()
	answer := c.answer
	c.mu.Unlock()
	response := &collectorpb.ExportLogsServiceResponse{}
	if answer != nil {
		err := answer(ctx, len(records))
		if part, is := err.(partly); is {
			response.PartialSuccess = part.ExportLogsPartialSuccess
			if part.RejectedLogRecords > 0 {
				return response, nil
			}
		} else if err != nil {
			return nil, err
		}
	}
	c.take(c.t, records)
	return response, nil
}

func grpcTo(c *grpcCollector) forward.Config {
	return forward.Config{Name: "siem", Kind: forward.KindOTLPGRPC, Address: "http://" + c.listener.Addr().String()}
}

// throttled is a refusal that says when to come back.
func throttled(t *testing.T, code codes.Code, pause time.Duration) error {
	t.Helper()
	said, err := answers.New(code, "too much").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(pause)})
	if err != nil {
		t.Fatal(err)
	}
	return said.Err()
}

// Whatever a collector answers over gRPC but that it took all, nothing is passed
// over, whether OTLP has a client try that again or drop it; then all of it
// comes, once. A warning is no refusal.
func TestGRPCCollectorMissesNothing(t *testing.T) {
	c, j := newGRPCCollector(t, "127.0.0.1:0"), newJournal(t)
	size := j.grow(20)
	f := j.forwarder(grpcTo(c), "here")
	cases := map[string]func(context.Context, int) error{
		"a part": func(context.Context, int) error {
			return partly{&collectorpb.ExportLogsPartialSuccess{RejectedLogRecords: 1, ErrorMessage: "too old"}}
		},
		"nothing, for too long": func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() },
		"throttled":             func(context.Context, int) error { return throttled(t, codes.ResourceExhausted, time.Second) },
	}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		cases[code.String()] = func(context.Context, int) error { return answers.Error(code, "no") }
	}
	for name, answer := range cases {
		c.set(answer)
		if _, err := f.Pass(t.Context(), j.Control); err == nil {
			t.Errorf("%s is taken for success", name)
		}
		if sink := j.sink("siem"); sink.Taken != 0 || sink.State != "failing" || sink.LastError == "" || sink.Lag != size {
			t.Errorf("after %s the sink shows %v", name, sink)
		}
	}
	c.set(func(context.Context, int) error {
		return partly{&collectorpb.ExportLogsPartialSuccess{ErrorMessage: "you are slow"}}
	})
	j.drain(f)
	for index := range size {
		if n := c.often(index); n != 1 {
			t.Errorf("entry %d came %d times", index, n)
		}
	}
	if sink := j.sink("siem"); sink.State != "current" || sink.Taken != size || sink.LastError != "" {
		t.Errorf("it shows %v", sink)
	}
}

// A collector that is killed while it has a request, and is away then, gets all of
// it when it is back at its address: by what it had taken and what it had not.
func TestGRPCCollectorDies(t *testing.T) {
	c, j := newGRPCCollector(t, "127.0.0.1:0"), newJournal(t)
	size := j.grow(10)
	f := j.forwarder(grpcTo(c), "here")
	c.set(func(ctx context.Context, _ int) error {
		go c.server.Stop()
		<-ctx.Done()
		return ctx.Err()
	})
	for _, when := range []string{"in the middle", "away"} {
		if _, err := f.Pass(t.Context(), j.Control); err == nil || !strings.Contains(err.Error(), "Unavailable") {
			t.Errorf("%s: %v", when, err)
		}
	}
	back := newGRPCCollector(t, c.listener.Addr().String())
	j.drain(f)
	if gap := back.gap(size); gap != size {
		t.Errorf("entry %d is missing", gap)
	}
	if sink := j.sink("siem"); sink.State != "current" || sink.Taken != size {
		t.Errorf("it shows %v", sink)
	}
}

// What is larger than the server takes, which gRPC refuses by itself and without a
// word of when to come back, is sent in parts.
func TestGRPCFewerAtATime(t *testing.T) {
	c, j := newGRPCCollector(t, "127.0.0.1:0", grpc.MaxRecvMsgSize(4<<10)), newJournal(t)
	size := j.grow(20)
	f := j.forwarder(grpcTo(c), "here")
	refusals := 0
	for c.gap(size) < size {
		if _, err := f.Pass(t.Context(), j.Control); err != nil {
			if refusals++; !strings.Contains(err.Error(), "it refuses what it was sent: ResourceExhausted") || refusals > 100 {
				t.Fatal(err)
			}
		}
	}
	if refusals == 0 {
		t.Error("all of it is small enough")
	}
}

// An entry that a collector will not take is never passed over: what comes before
// it is taken, forwarding stands still there and says so.
func TestGRPCRefusedEntryIsNotPassedOver(t *testing.T) {
	c, j := newGRPCCollector(t, "127.0.0.1:0"), newJournal(t)
	j.grow(10)
	f := j.forwarder(grpcTo(c), "here")
	c.set(func(_ context.Context, entries int) error {
		c.taken.mu.Lock()
		defer c.taken.mu.Unlock()
		if len(c.entries)+entries > 4 {
			return answers.Error(codes.InvalidArgument, "bad")
		}
		return nil
	})
	for range 30 {
		_, _ = f.Pass(t.Context(), j.Control)
	}
	if sink := j.sink("siem"); sink.Taken != 4 || sink.State != "failing" || !strings.Contains(sink.LastError, "it refuses what it was sent: InvalidArgument: bad") {
		t.Errorf("it shows %v", sink)
	}
}

// RetryInfo is heeded, with the codes that it makes worth a retry and with
// others that are so anyway.
func TestGRPCCollectorSaysWhen(t *testing.T) {
	for _, code := range []codes.Code{codes.ResourceExhausted, codes.Unavailable} {
		c, j := newGRPCCollector(t, "127.0.0.1:0"), newJournal(t)
		size := j.grow(3)
		calls := make(chan time.Time, 2)
		c.set(func(context.Context, int) error {
			calls <- time.Now()
			if len(calls) == 1 {
				return throttled(t, code, 700*time.Millisecond)
			}
			return nil
		})
		j.forwarding(grpcTo(c))
		awaitAll(t, &c.taken, size)
		if first, second := <-calls, <-calls; second.Sub(first) < 700*time.Millisecond {
			t.Errorf("%s: it was asked again after %s", code, second.Sub(first))
		}
	}
}

// What is no collector ends each try in its time, and says what it is.
func TestNoGRPCCollectorIsThere(t *testing.T) {
	j := newJournal(t)
	j.grow(1)
	other := grpc.NewServer()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = other.Serve(listener) }()
	defer other.Stop()
	deaf := newLogHost(t, "127.0.0.1:0", true)
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	for name, c := range map[string]struct{ address, want string }{
		"a server of something else": {listener.Addr().String(), "has it a pipeline for logs?"},
		"one that says nothing":      {deaf.address(), "DeadlineExceeded"},
		"a web server":               {strings.TrimPrefix(web.URL, "http://"), "Unavailable"},
	} {
		f := j.forwarder(forward.Config{Name: "siem", Kind: forward.KindOTLPGRPC, Address: "http://" + c.address}, "here")
		began := time.Now()
		if _, err := f.Pass(t.Context(), j.Control); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(began); took > fleettest.Patience {
			t.Errorf("%s: it took %s", name, took)
		}
		f.Sink.Close()
	}
}
