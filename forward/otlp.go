package forward

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	logs "go.opentelemetry.io/proto/slim/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// maxAnswer bounds what is read of a collector's answer.
const maxAnswer = 64 << 10

// otlp posts entries as OpenTelemetry logs (OTLP/HTTP, binary protobuf). It
// writes the protocol itself: the SDK's exporter hides from its caller that a
// collector took only a part.
type otlp struct {
	config Config
	origin string
	client *http.Client // nil: the files are to be read
	header http.Header
}

func (o *otlp) Open(context.Context) (fresh bool, again int, err error) {
	if o.client != nil {
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
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = config
	o.header = header
	o.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return true, 0, nil // what it answered for it has
}

// Lost is always false: each request stands for itself.
func (o *otlp) Lost() bool { return false }

func (o *otlp) Close() {
	if o.client != nil {
		o.client.CloseIdleConnections()
		o.client = nil
	}
}

func (o *otlp) Send(ctx context.Context, entries []Entry) error {
	body, err := proto.Marshal(exportRequest(o.origin, entries, time.Now()))
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, o.config.Address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header = o.header.Clone()
	request.Header.Set("Content-Type", "application/x-protobuf")
	response, err := o.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return taken(response, content, len(entries))
}

// taken says whether an answer means that all was taken.
func taken(response *http.Response, content []byte, sent int) error {
	if response.StatusCode != http.StatusOK {
		return fault.New(fault.Unavailable, "it answers %s", response.Status).WithAfter(retryAfter(response.Header, time.Now()))
	}
	if kind := response.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/x-protobuf") {
		return fmt.Errorf("it answers with %q, not with protobuf: is that the URL of a collector, with /v1/logs at its end?", kind)
	}
	answer := &collector.ExportLogsServiceResponse{}
	if err := proto.Unmarshal(content, answer); err != nil {
		return fmt.Errorf("its answer is not of OTLP: %w", err)
	}
	return refused(answer, sent)
}

// refused is the error of an answer that not all was taken.
func refused(answer *collector.ExportLogsServiceResponse, sent int) error {
	part := answer.PartialSuccess
	if part == nil || part.RejectedLogRecords <= 0 {
		return nil
	}
	words, _, _ := strings.Cut(part.ErrorMessage, "\n")
	return fmt.Errorf("it refused %d of %d entries: %s", part.RejectedLogRecords, sent, words)
}

// longestRetry bounds for how long a sink may say that it wants to be left
// alone: what waits for it is the evidence.
const longestRetry = time.Hour

// retryAfter is when the collector said to come back (RFC 9110 section 10.2.3):
// seconds, or a date. Zero: it did not.
func retryAfter(header http.Header, now time.Time) time.Duration {
	text := header.Get("Retry-After")
	after := time.Duration(0)
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		after = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		after = at.Sub(now)
	}
	return min(max(after, 0), longestRetry)
}

// exportRequest is entries of the log of the origin as OTLP has them.
func exportRequest(origin string, entries []Entry, now time.Time) *collector.ExportLogsServiceRequest {
	records := make([]*logs.LogRecord, len(entries))
	for i, entry := range entries {
		records[i] = record(entry, now)
	}
	return &collector.ExportLogsServiceRequest{ResourceLogs: []*logs.ResourceLogs{{
		Resource: &resource.Resource{Attributes: []*common.KeyValue{
			text("service.name", "rotunda"), text("rotunda.audit.origin", origin),
		}},
		ScopeLogs: []*logs.ScopeLogs{{Scope: &common.InstrumentationScope{Name: "github.com/rotunda-pki/rotunda/audit"}, LogRecords: records}},
	}}}
}

func record(entry Entry, now time.Time) *logs.LogRecord {
	one := &logs.LogRecord{
		ObservedTimeUnixNano: uint64(now.UnixNano()),
		SeverityNumber:       logs.SeverityNumber_SEVERITY_NUMBER_INFO, SeverityText: "INFO",
		EventName: "rotunda.audit",
		Body:      &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: string(entry.Content)}},
		Attributes: []*common.KeyValue{
			{Key: "rotunda.audit.index", Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: int64(entry.Index)}}},
			text("rotunda.audit.id", entry.ID), text("rotunda.audit.leaf_hash", hex.EncodeToString(entry.Leaf[:])),
		},
	}
	if decoded, err := audit.Decode(entry.Content); err == nil {
		one.TimeUnixNano = uint64(decoded.Time.UnixNano())
		if decoded.Outcome == audit.Refused {
			one.SeverityNumber, one.SeverityText = logs.SeverityNumber_SEVERITY_NUMBER_WARN, "WARN"
		}
	}
	return one
}

func text(key, value string) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}}
}
