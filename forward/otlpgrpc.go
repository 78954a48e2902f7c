package forward

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/internal/retry"
)

// exportMethod is what a collector serves: LogsService of opentelemetry-proto.
const exportMethod = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"

// otlpGRPC hands in entries as OpenTelemetry logs by OTLP/gRPC. It calls the
// method by its name: the generated stubs bring an HTTP gateway with them, and
// the messages of package slim are the same on the wire.
type otlpGRPC struct {
	config Config
	origin string
	conn   *grpc.ClientConn // nil: the files are to be read
	header metadata.MD
}

func (o *otlpGRPC) Open(context.Context) (fresh bool, again int, err error) {
	if o.conn != nil {
		return false, 0, nil
	}
	header, err := o.config.headers()
	if err != nil {
		return false, 0, err
	}
	config, err := o.config.tls()
	if err != nil {
		return false, 0, err
	}
	u, err := url.Parse(o.config.Address)
	if err != nil {
		return false, 0, err
	}
	secure := credentials.NewTLS(config)
	if u.Scheme == "http" {
		secure = insecure.NewCredentials()
	}
	// Who tries again, and when, is the loop's: it keeps what was not taken.
	o.conn, err = grpc.NewClient("passthrough:///"+u.Host, grpc.WithTransportCredentials(secure),
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithIdleTimeout(0),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)), grpc.WithUserAgent("rotunda"))
	if err != nil {
		return false, 0, err
	}
	o.header = metadata.MD{}
	for name, values := range header {
		o.header.Append(name, values...)
	}
	return true, 0, nil // what it answered for it has
}

// Lost is always false: each call stands for itself.
func (o *otlpGRPC) Lost() bool { return false }

func (o *otlpGRPC) Close() {
	if o.conn != nil {
		o.conn.Close()
		o.conn = nil
	}
}

func (o *otlpGRPC) Send(ctx context.Context, entries []Entry) error {
	answer := &collector.ExportLogsServiceResponse{}
	ctx = metadata.NewOutgoingContext(ctx, o.header)
	if err := o.conn.Invoke(ctx, exportMethod, exportRequest(o.origin, entries, time.Now()), answer); err != nil {
		return explain(err)
	}
	return refused(answer, len(entries))
}

// explain tells what may come right by itself from what the collector will not
// take, as the specification of OTLP/gRPC has it. It says that a client drops the
// latter; an entry of the audit log is never dropped, so fewer are sent at a time
// until the one that is refused stands alone.
func explain(err error) error {
	said := status.Convert(err)
	words, _, _ := strings.Cut(said.Message(), "\n")
	words = fmt.Sprintf("%s: %s", said.Code(), words)
	after, throttled := retry.Delay(err)
	after = min(after, longestRetry)
	switch said.Code() {
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss:
		return fault.New(fault.Unavailable, "it answers %s", words).WithAfter(after)
	case codes.ResourceExhausted:
		if throttled {
			return fault.New(fault.Unavailable, "it answers %s", words).WithAfter(after)
		}
	case codes.Unimplemented:
		return fault.New(fault.Invalid, "it answers %s", words).WithRemedy("is that the port where a collector takes OTLP over gRPC, and has it a pipeline for logs?")
	}
	return fault.New(fault.Invalid, "it refuses what it was sent: %s", words)
}
