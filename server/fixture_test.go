package server_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/api/apiconnect"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/fleettest"
	"github.com/rotunda-pki/rotunda/pki"
)

// holder is a key and a certificate for it.
type holder struct {
	id   string // of an agent
	key  crypto.Signer
	cert *tls.Certificate
}

func newKey(t *testing.T) (crypto.Signer, []byte) {
	t.Helper()
	key, err := pki.ECDSAP256.Generate()
	must(t, err)
	csr, err := pki.NewCSR(key)
	must(t, err)
	return key, csr
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func credential(key crypto.Signer, chain [][]byte) *tls.Certificate {
	return &tls.Certificate{Certificate: chain, PrivateKey: key}
}

// newOperator is an operator with a record.
func newOperator(t *testing.T, p *fleettest.Plane) holder {
	t.Helper()
	key, csr := newKey(t)
	response, err := p.IssueOperator(t.Context(), fleettest.Operator, &api.IssueOperatorRequest{Name: "alice", Csr: csr})
	must(t, err)
	return holder{key: key, cert: credential(key, response.Chain)}
}

// newAgent enrols over the wire.
func newAgent(t *testing.T, p *fleettest.Plane, labels map[string]string) holder {
	t.Helper()
	key, csr := newKey(t)
	response, err := agentClient(t, p, nil).Enrol(t.Context(), enrolment(p, p.Token(labels), csr))
	must(t, err)
	return holder{response.AgentId, key, credential(key, response.Chain)}
}

func enrolment(p *fleettest.Plane, token string, csr []byte) *api.EnrolRequest {
	fields := strings.SplitN(token, ".", 6)
	return &api.EnrolRequest{TokenId: fields[1], TokenSecret: fields[2], TrustDomain: fleettest.TrustDomain, Csr: csr}
}

// unrecorded holds a certificate that the right authority signed and nobody
// recorded: what a stolen authority key could make.
func unrecorded(t *testing.T, p *fleettest.Plane) holder {
	t.Helper()
	key, _ := newKey(t)
	id, err := pki.RoleID(p.Domain(), pki.RoleOperator, "alice")
	must(t, err)
	names, err := pki.ParseNames("", nil, nil, id.String())
	must(t, err)
	prepared, err := p.IssuingNow().Prepare(time.Now(), ca.Request{PublicKey: key.Public(), Names: names, Terms: ca.Terms{
		Lifetime: time.Hour, Backdate: time.Minute, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}})
	must(t, err)
	issued, err := p.IssuingNow().Issue(prepared)
	must(t, err)
	return holder{key: key, cert: credential(key, issued.Chain)}
}

func clientTLS(t *testing.T, p *fleettest.Plane, own *tls.Certificate) *tls.Config {
	t.Helper()
	bundle, err := p.DomainBundle(t.Context())
	must(t, err)
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: bundle.Pool(), ServerName: "localhost"}
	if own != nil { // sent whatever the server advertises
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil }
	}
	return config
}

func agentConn(t *testing.T, p *fleettest.Plane, own *tls.Certificate) *grpc.ClientConn {
	t.Helper()
	const window = 64 << 10 // an agent's
	conn, err := grpc.NewClient(p.Config.Listen.Agents, grpc.WithTransportCredentials(credentials.NewTLS(clientTLS(t, p, own))),
		grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(window))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

func agentClient(t *testing.T, p *fleettest.Plane, own *tls.Certificate) api.AgentServiceClient {
	t.Helper()
	return api.NewAgentServiceClient(agentConn(t, p, own))
}

func operatorHTTP(t *testing.T, p *fleettest.Plane, own *tls.Certificate) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: clientTLS(t, p, own), ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func operatorClient(t *testing.T, p *fleettest.Plane, own *tls.Certificate, options ...connect.ClientOption) apiconnect.OperatorServiceClient {
	t.Helper()
	return apiconnect.NewOperatorServiceClient(operatorHTTP(t, p, own), "https://"+p.Config.Listen.Operators, options...)
}

func socketHTTP(t *testing.T, path string) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// get fetches a URL and returns status and body.
func get(t *testing.T, url string) (int, []byte) {
	t.Helper()
	response, err := http.Get(url)
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	return response.StatusCode, body
}

// fetch fetches a URL that must be there.
func fetch(t *testing.T, url string) []byte {
	t.Helper()
	code, body := get(t, url)
	if code != http.StatusOK {
		t.Fatalf("%s: %d %s", url, code, body)
	}
	return body
}

func wantGRPC(t *testing.T, err error, want codes.Code, words string) {
	t.Helper()
	if got := status.Code(err); got != want || !strings.Contains(status.Convert(err).Message(), words) {
		t.Errorf("%s: %v, want %s with %q", got, err, want, words)
	}
}

func wantConnect(t *testing.T, err error, want connect.Code, words string) {
	t.Helper()
	if got := connect.CodeOf(err); err == nil || got != want || !strings.Contains(err.Error(), words) {
		t.Errorf("%v: %v, want %s with %q", got, err, want, words)
	}
}

// fleet declares one placement for each agent with the label role=files.
func declare(t *testing.T, p *fleettest.Plane) {
	t.Helper()
	p.Apply(strings.ReplaceAll(documents, "TREE", t.TempDir()))
}

const documents = `
apiVersion: rotunda/v1
kind: Service
metadata: {name: files}
spec: {owner: {team: t, contact: t@fleet.example, runbook: "https://fleet.example/files"}}
---
apiVersion: rotunda/v1
kind: Profile
metadata: {name: files}
spec: {lifetime: 24h, usages: [serverAuth]}
---
apiVersion: rotunda/v1
kind: Policy
metadata: {name: files}
spec: {rules: [{name: own, effect: allow, when: 'service == "files"'}]}
---
apiVersion: rotunda/v1
kind: Intent
metadata: {name: files}
spec:
  service: files
  selector: {role: files}
  profile: files
  identity: {dnsNames: ["{{ labels.host }}.fleet.example"]}
  files: {directory: "TREE/{{ labels.host }}"}
`

// sync opens an agent's stream and returns it with the first desired state.
func sync(t *testing.T, ctx context.Context, client api.AgentServiceClient, boot uint64) (grpc.BidiStreamingClient[api.AgentReport, api.DesiredState], *api.DesiredState) {
	t.Helper()
	stream, err := client.Sync(ctx)
	must(t, err)
	must(t, stream.Send(&api.AgentReport{Hello: &api.Hello{Boot: boot}}))
	desired, err := stream.Recv()
	must(t, err)
	return stream, desired
}

// endOf reads a stream to its end.
func endOf(stream grpc.BidiStreamingClient[api.AgentReport, api.DesiredState]) error {
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
}

func lines(body []byte) []string {
	var all []string
	for line := range bytes.Lines(body) {
		all = append(all, strings.TrimSpace(string(line)))
	}
	return all
}
