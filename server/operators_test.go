package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/api/apiconnect"
	"github.com/rotunda-pki/rotunda/fleettest"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/store/storetest"
)

func TestOperatorsAreKnownByTheirRecord(t *testing.T) {
	p := fleettest.NewPlane(t)
	operator := newOperator(t, p)
	for protocol, options := range map[string][]connect.ClientOption{
		"connect": nil, "json": {connect.WithProtoJSON()}, "grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()},
	} {
		t.Run(protocol, func(t *testing.T) {
			info, err := operatorClient(t, p, operator.cert, options...).Info(t.Context(), connect.NewRequest(&api.InfoRequest{}))
			must(t, err)
			if info.Msg.Caller != "operator/alice" || info.Msg.TrustDomain != fleettest.TrustDomain {
				t.Errorf("info %v", info.Msg)
			}
			for name, c := range map[string]struct {
				holder holder
				words  string
			}{
				"without a record": {unrecorded(t, p), "has no record"},
				"an agent's":       {newAgent(t, p, nil), "may not info"},
			} {
				_, err := operatorClient(t, p, c.holder.cert, options...).Info(t.Context(), connect.NewRequest(&api.InfoRequest{}))
				t.Log(name)
				wantConnect(t, err, connect.CodePermissionDenied, c.words)
			}
		})
	}
}

func TestOperatorsNeedACertificateOfThisDomain(t *testing.T) {
	p, other := fleettest.NewPlane(t), fleettest.NewPlane(t)
	for name, own := range map[string]holder{"none": {}, "of another domain": newOperator(t, other)} {
		conn, err := tls.Dial("tcp", p.Config.Listen.Operators, clientTLS(t, p, own.cert))
		if err == nil { // in TLS 1.3 the refusal comes with the first read
			must(t, conn.SetReadDeadline(time.Now().Add(fleettest.Patience)))
			_, err = conn.Read(make([]byte, 1))
			conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "remote error: tls:") {
			t.Errorf("%s: %v, want the server to end the handshake", name, err)
		}
	}
}

// No verb of agents is on the operators' listener, nor the other way round.
func TestNoVerbIsOnBothListeners(t *testing.T) {
	p := fleettest.NewPlane(t)
	agent, operator := newAgent(t, p, nil), newOperator(t, p)
	atOperators := apiconnect.NewAgentServiceClient(operatorHTTP(t, p, agent.cert), "https://"+p.Config.Listen.Operators)
	_, err := atOperators.Issue(t.Context(), connect.NewRequest(&api.IssueRequest{}))
	wantConnect(t, err, connect.CodeUnimplemented, "")
	atAgents := apiconnect.NewOperatorServiceClient(operatorHTTP(t, p, operator.cert), "https://"+p.Config.Listen.Agents, connect.WithGRPC())
	_, err = atAgents.Info(t.Context(), connect.NewRequest(&api.InfoRequest{}))
	wantConnect(t, err, connect.CodeUnimplemented, "unknown service")
}

func TestOperatorsMessagesAreBounded(t *testing.T) {
	p := fleettest.NewPlane(t)
	_, err := operatorClient(t, p, newOperator(t, p).cert).Plan(t.Context(), connect.NewRequest(&api.PlanRequest{
		Files: []*api.SourceFile{{Path: "big.yaml", Content: bytes.Repeat([]byte("#"), 33<<20)}},
	}))
	wantConnect(t, err, connect.CodeResourceExhausted, "")
}

// A store that can't be written says what to do, and not where or why in the
// words of its library; reading goes on, and so does all when it is back.
func TestUnwritableStoreOnTheWire(t *testing.T) {
	storetest.NeedsFile(t)
	p := fleettest.NewPlane(t)
	client := operatorClient(t, p, newOperator(t, p).cert)
	token := func() error {
		_, err := client.CreateToken(t.Context(), connect.NewRequest(&api.CreateTokenRequest{}))
		return err
	}
	must(t, os.Rename(p.Config.Store, p.Config.Store+".away"))
	wantConnect(t, token(), connect.CodeUnavailable, "put it back")
	if _, err := client.ListTokens(t.Context(), connect.NewRequest(&api.ListTokensRequest{})); err != nil {
		t.Error(err)
	}
	must(t, os.Rename(p.Config.Store+".away", p.Config.Store))
	must(t, token())
}

const socketChild = "ROTUNDA_TEST_SOCKET"

func TestAdminSocket(t *testing.T) {
	if path := os.Getenv(socketChild); path != "" {
		client := apiconnect.NewOperatorServiceClient(socketHTTP(t, path), "http://localhost")
		_, err := client.Info(t.Context(), connect.NewRequest(&api.InfoRequest{}))
		wantConnect(t, err, connect.CodePermissionDenied, "uid "+strconv.Itoa(os.Getuid())+" may not use the admin socket")
		return
	}
	p := fleettest.NewPlane(t)
	info, err := os.Stat(p.Config.AdminSocket)
	must(t, err)
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("the admin socket has mode %o, want 600", mode)
	}
	client := apiconnect.NewOperatorServiceClient(socketHTTP(t, p.Config.AdminSocket), "http://localhost")
	answer, err := client.Info(t.Context(), connect.NewRequest(&api.InfoRequest{}))
	must(t, err)
	if answer.Msg.Caller != "socket" {
		t.Errorf("seen as %q", answer.Msg.Caller)
	}
	if os.Getuid() != 0 {
		t.Log("not root, so no process of another user: see TestSocketIsOfRootAndTheServersUser")
		return
	}
	otherUser(t, p.Config.AdminSocket)
}

// otherUser runs this test in a process of another user, which can open the
// socket since its modes are loosened first.
func otherUser(t *testing.T, socket string) {
	t.Helper()
	must(t, os.Chmod(socket, 0o666))
	link := t.TempDir() + "/s" // a path that the other user may walk
	must(t, os.Link(socket, link))
	for dir := link; dir != "/"; dir = dir[:max(1, strings.LastIndex(dir, "/"))] {
		if info, err := os.Stat(dir); err == nil && info.IsDir() && info.Mode().Perm()&0o001 == 0 {
			must(t, os.Chmod(dir, info.Mode().Perm()|0o001))
		}
	}
	self, err := os.Executable()
	must(t, err)
	program := "/tmp/rotunda-server-test-" + strconv.Itoa(os.Getpid())
	content, err := os.ReadFile(self)
	must(t, err)
	must(t, os.WriteFile(program, content, 0o755))
	defer os.Remove(program)
	child := exec.CommandContext(t.Context(), program, "-test.run=^TestAdminSocket$", "-test.count=1")
	child.Dir = "/"
	child.Env = []string{socketChild + "=" + link, "TMPDIR=/tmp"}
	child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("as another user: %v\n%s", err, out)
	}
}

// A watch does not outlive the credentials that it was opened with.
func TestWatchEndsWithItsCredentials(t *testing.T) {
	p := fleettest.NewPlane(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	old, next := newOperator(t, p).cert, newOperator(t, p).cert
	stream, err := operatorClient(t, p, old).WatchPlacements(ctx, connect.NewRequest(&api.ListPlacementsRequest{}))
	must(t, err)
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	leaf, err := x509.ParseCertificate(old.Certificate[0])
	must(t, err)
	serial, err := pki.SerialOf(leaf)
	must(t, err)
	_, err = operatorClient(t, p, next).EndCredential(ctx, connect.NewRequest(&api.EndCredentialRequest{Serial: serial.String()}))
	must(t, err)
	for stream.Receive() {
	}
	wantConnect(t, stream.Err(), connect.CodePermissionDenied, "was revoked")
}

// A watch ends when the server stops, with a reason.
func TestWatchEndsWithTheServer(t *testing.T) {
	p := fleettest.NewPlane(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := operatorClient(t, p, newOperator(t, p).cert).WatchPlacements(ctx, connect.NewRequest(&api.ListPlacementsRequest{}))
	must(t, err)
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	p.Stop()
	for stream.Receive() {
	}
	wantConnect(t, stream.Err(), connect.CodeUnavailable, "the server is stopping")
}
