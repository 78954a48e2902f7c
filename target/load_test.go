package target

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/probe"
)

// shell is a host with real processes: it runs scripts by name.
func shell(scripts map[string]string) Host {
	return Host{Command: func(ctx context.Context, name string) (string, error) {
		script, ok := scripts[name]
		if !ok {
			return "", fmt.Errorf("no command %q", name)
		}
		output, err := exec.CommandContext(ctx, "/bin/sh", "-c", script).CombinedOutput()
		return string(output), err
	}}
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "db.example"}, DNSNames: []string{"db.example"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestLoadRunsWhatThePlanSays(t *testing.T) {
	run := shell(map[string]string{"hup": "echo reloaded", "fails": "echo the file is broken >&2; exit 3", "loud": "yes | head -c 100000; echo end"})
	target := Target{Name: "db"}
	for _, c := range []struct {
		act     Act
		level   fleet.Level
		output  string
		pending string
		err     string
	}{
		{Act{Kind: ActNothing, Target: target}, fleet.Delivered, "", "", ""},
		{Act{Kind: ActPending, Target: target, Reason: "at its next restart"}, fleet.Delivered, "", "at its next restart", ""},
		{Act{Kind: ActReload, Target: target, Command: "hup"}, fleet.Loaded, "reloaded", "", ""},
		{Act{Kind: ActRestart, Target: target, Command: "hup"}, fleet.Loaded, "reloaded", "", ""},
		{Act{Kind: ActReload, Target: target, Command: "fails"}, fleet.Delivered, "the file is broken", "", `reload target db by command "fails": exit status 3; it printed: the file is broken`},
		{Act{Kind: ActReload, Target: target, Command: "undeclared"}, fleet.Delivered, "", "", "undeclared"},
		{Act{Kind: "dance", Target: target}, "", "", "", "unknown"},
	} {
		loaded, err := files().Load(context.Background(), run, c.act)
		if loaded.Level != c.level || loaded.Output != c.output || loaded.Pending != c.pending {
			t.Errorf("%+v: %+v", c.act, loaded)
		}
		if (err == nil) != (c.err == "") || (err != nil && !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%+v: %v, want %q", c.act, err, c.err)
		}
	}
	loaded, err := files().Load(context.Background(), run, Act{Kind: ActReload, Target: target, Command: "loud"})
	if err != nil || len(loaded.Output) > maxOutput+4 || !strings.HasSuffix(loaded.Output, "end") {
		t.Errorf("%d bytes of output, %v", len(loaded.Output), err)
	}
}

// TestRestartWaitsForTheProcess restarts a real TLS server, which takes a
// moment to come up, and one that never does.
func TestRestartWaitsForTheProcess(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatalf("openssl is not installed: run `make deps` (%v)", err)
	}
	certificate, dir := selfSigned(t), t.TempDir()
	key, err := pki.EncodeKeyPEM(certificate.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	pem := filepath.Join(dir, "combined.pem")
	if err := os.WriteFile(pem, append(pki.EncodeCertificatesPEM(certificate.Certificate[0]), key...), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	run := Host{Command: func(context.Context, string) (string, error) {
		// Like a service manager that answers before the process is up.
		server := exec.CommandContext(ctx, "/bin/sh", "-c", `sleep 0.3; exec "$@"`, "sh", openssl, "s_server", "-quiet", "-accept", address, "-cert", pem)
		input, err := server.StdinPipe()
		if err != nil {
			return "", err
		}
		t.Cleanup(func() { cancel(); _ = input.Close(); _ = server.Wait() })
		return "", server.Start()
	}}
	act := Act{Kind: ActRestart, Command: "bounce", Target: Target{Name: "db", RestartCommand: "bounce", Address: address}}
	loaded, err := files().Load(ctx, run, act)
	if err != nil || loaded.Level != fleet.Loaded {
		t.Fatalf("%+v, %v", loaded, err)
	}
	if seen, err := probe.Handshake(ctx, probe.Spec{Address: address, Now: time.Now}); err != nil || seen.Outcome != probe.Served {
		t.Errorf("it was taken for up and is not: %s %v", seen.Outcome, err)
	}

	short, stop := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer stop()
	act.Target.Address = "127.0.0.1:1"
	loaded, err = files().Load(short, shell(map[string]string{"bounce": "true"}), act)
	if err == nil || loaded.Level != fleet.Delivered || fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "does not answer at 127.0.0.1:1: dial") {
		t.Errorf("%+v, %v", loaded, err)
	}
}

func TestHealth(t *testing.T) {
	certificate := selfSigned(t)
	type answer struct {
		status int
		page   string
	}
	var now atomic.Pointer[answer]
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAnyClientCert})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/health":
		case "/metrics": // a member without peers
			return
		default:
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(now.Load().status)
		_, _ = io.WriteString(w, now.Load().page)
	})}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { _ = server.Close() })
	etcd, err := Lookup(fleet.TargetEtcd)
	if err != nil {
		t.Fatal(err)
	}
	spec := probe.Spec{Address: listener.Addr().String(), Certificate: &certificate, Now: time.Now}
	for _, c := range []struct {
		status int
		page   string
		want   string
	}{
		{200, `{"health":"true","reason":""}`, ""},
		{200, `{"health":true}`, ""}, // as etcd 3.2 wrote it
		{503, `{"health":"false","reason":"RAFT NO LEADER"}`, "RAFT NO LEADER"},
		{200, `{"health":"false","reason":"ALARM NOSPACE"}`, "ALARM NOSPACE"},
		{200, `<html>`, "not JSON"},
		{200, strings.Repeat("[", 1<<20), "not JSON"},
	} {
		now.Store(&answer{c.status, c.page})
		err := etcd.Health(context.Background(), Host{}, Target{}, spec)
		if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%d %.40s: %v", c.status, c.page, err)
		}
	}
	spec.Certificate = nil // the page cannot be had; an answered handshake is all there is
	if err := etcd.Health(context.Background(), Host{}, Target{}, spec); err != nil {
		t.Error(err)
	}
	spec.Address = "127.0.0.1:1"
	if err := etcd.Health(context.Background(), Host{}, Target{}, spec); fault.CodeOf(err) != fault.Unavailable {
		t.Error(err)
	}
}

func FuzzHealthPage(f *testing.F) {
	f.Add(200, `{"health":"true"}`)
	f.Add(503, `{"health":"false","reason":"x"}`)
	f.Fuzz(func(t *testing.T, status int, page string) {
		if err := readHealth(status, strings.NewReader(page)); err == nil && (status != 200 || !strings.Contains(page, "true")) {
			// JSON may spell it with escapes; nothing else may pass.
			if !strings.Contains(page, `\u`) {
				t.Errorf("%d %q is called healthy", status, page)
			}
		}
	})
}
