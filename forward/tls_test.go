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
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/audit"
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
