package forward

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// secureServer is an HTTPS server that wants a client certificate, and the files
// with which one gets through to it: its own certificate is good for both.
func secureServer(t *testing.T, handler http.HandlerFunc) (server *httptest.Server, caFile, certFile, keyFile string) {
	server = httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certFile = write("cert.pem", "CERTIFICATE", server.Certificate().Raw)
	return server, certFile, certFile, write("key.pem", "PRIVATE KEY", key)
}

func sendOne(t *testing.T, c Config) error {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	sink := New(c, "fleet.example/audit")
	defer sink.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, _, err := sink.Open(ctx); err != nil {
		return err
	}
	return sink.Send(ctx, []Entry{testEntry(t, audit.Done, "")})
}

// A collector that nothing vouches for gets nothing; with caFile and a client
// certificate it does.
func TestCollectorOverTLS(t *testing.T) {
	got := 0
	server, ca, cert, key := secureServer(t, func(w http.ResponseWriter, r *http.Request) {
		got++
		w.Header().Set("Content-Type", "application/x-protobuf")
	})
	c := Config{Name: "siem", Kind: KindOTLP, Address: server.URL + "/v1/logs"}
	if err := sendOne(t, c); err == nil || !strings.Contains(err.Error(), "unknown authority") || got > 0 {
		t.Errorf("without caFile: %v", err)
	}
	c.CAFile = ca
	if err := sendOne(t, c); err == nil || got > 0 {
		t.Errorf("without a certificate: %v", err)
	}
	c.CertFile, c.KeyFile = cert, key
	if err := sendOne(t, c); err != nil || got != 1 {
		t.Errorf("%d came: %v", got, err)
	}
}

// The same of syslog.
func TestSyslogOverTLS(t *testing.T) {
	server, ca, cert, key := secureServer(t, nil)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: server.TLS.Certificates, ClientAuth: tls.RequireAnyClientCert})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	read := make(chan string, 10)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			content, _ := io.ReadAll(conn) // until the other side ends it, or fails
			conn.Close()
			read <- string(content)
		}
	}()
	c := Config{Name: "host", Kind: KindSyslog, Address: "tls://" + listener.Addr().String()}
	if err := sendOne(t, c); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("without caFile: %v", err)
	}
	if content := <-read; content != "" {
		t.Errorf("whom nobody vouches for got %q", content)
	}
	c.CAFile, c.CertFile, c.KeyFile = ca, cert, key
	if err := sendOne(t, c); err != nil {
		t.Error(err)
	}
	if content := <-read; !strings.Contains(content, " <110>1 2026-03-01T14:02:11.000005Z ") {
		t.Errorf("it got %q", content)
	}
}

// The same of a collector over gRPC, with metadata from the headers' file.
func TestGRPCCollectorOverTLS(t *testing.T) {
	server, ca, cert, key := secureServer(t, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan metadata.MD, 10)
	collecting := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: server.TLS.Certificates, ClientAuth: tls.RequireAnyClientCert})),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			header, _ := metadata.FromIncomingContext(stream.Context())
			request := &collector.ExportLogsServiceRequest{}
			if err := stream.RecvMsg(request); err != nil {
				return err
			}
			if method, _ := grpc.MethodFromServerStream(stream); method == "/opentelemetry.proto.collector.logs.v1.LogsService/Export" {
				got <- header
			}
			return stream.SendMsg(&collector.ExportLogsServiceResponse{})
		}))
	served := make(chan error, 1)
	go func() { served <- collecting.Serve(listener) }()
	defer func() { collecting.Stop(); <-served }()
	headers := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(headers, []byte("Authorization: Bearer abc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Config{Name: "siem", Kind: KindOTLPGRPC, Address: "https://" + listener.Addr().String(), HeadersFile: headers}
	if err := sendOne(t, c); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("without caFile: %v", err)
	}
	c.CAFile = ca
	if err := sendOne(t, c); err == nil {
		t.Errorf("without a certificate: %v", err)
	}
	if len(got) > 0 {
		t.Error("it was sent something")
	}
	c.CertFile, c.KeyFile = cert, key
	if err := sendOne(t, c); err != nil {
		t.Fatal(err)
	}
	if header := <-got; len(header["authorization"]) != 1 || header["authorization"][0] != "Bearer abc" {
		t.Errorf("metadata %v", header)
	}
	c.Address = strings.Replace(c.Address, "https", "http", 1)
	if err := sendOne(t, c); err == nil || len(got) > 0 {
		t.Error("a collector with TLS was spoken to without")
	}
}

// Which answers may come right by themselves is as OTLP has it; when to come back
// is bounded by an hour.
func TestRetryableCodes(t *testing.T) {
	retryable := []codes.Code{codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		bare := explain(status.Error(code, "no"))
		if got := fault.CodeOf(bare) == fault.Unavailable; got != slices.Contains(retryable, code) || fault.AfterOf(bare) != 0 {
			t.Errorf("%s: %v", code, bare)
		}
		for asked, want := range map[time.Duration]time.Duration{0: 0, time.Minute: time.Minute, -time.Minute: 0, 100 * time.Hour: time.Hour} {
			said, err := status.New(code, "no").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(asked)})
			if err != nil {
				t.Fatal(err)
			}
			err = explain(said.Err())
			again := slices.Contains(retryable, code) || code == codes.ResourceExhausted
			if got := fault.CodeOf(err) == fault.Unavailable; got != again || again && fault.AfterOf(err) != want {
				t.Errorf("%s after %s: %v, after %s", code, asked, err, fault.AfterOf(err))
			}
		}
	}
}

// A listener that does not speak TLS ends the attempt in its time.
func TestHandshakeThatHangs(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	sink := New(Config{Kind: KindSyslog, Address: "tls://" + listener.Addr().String()}, "")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := sink.Open(ctx); err == nil {
		t.Error("a handshake with nobody")
	}
	sink.Close()
}
