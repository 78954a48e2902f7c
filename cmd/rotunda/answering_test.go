package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/api/apiconnect"
	"github.com/rotunda-pki/rotunda/pki"
)

// serve starts an answering server for a script: "serve [DIR]" over TLS with
// credentials in DIR (default credentials), "serve -socket PATH" on a socket.
func serve(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("serve can't be negated")
	}
	answers := &answering{
		answers: ts.MkAbs("answers"), requests: ts.MkAbs("requests"),
	}
	ts.Check(os.MkdirAll(answers.requests, 0o700))
	_, handler := apiconnect.NewOperatorServiceHandler(answers)
	if len(args) == 2 && args[0] == "-socket" {
		listener, err := net.Listen("unix", ts.MkAbs(args[1]))
		ts.Check(err)
		server := &http.Server{Handler: handler}
		go func() { _ = server.Serve(listener) }()
		ts.Defer(func() { _ = server.Close() })
		return
	}
	dir := "credentials"
	if len(args) == 1 {
		dir = args[0]
	}
	domain := newDomain(ts)
	server := domain.start(ts, handler)
	ts.Defer(server.Close)
	ts.Check(domain.credentials(ts.MkAbs(dir), server.URL, time.Now().Add(time.Hour)))
}

// answering is the operators' API answered from files. Each request is kept
// as JSON, for the script to look at.
type answering struct {
	apiconnect.UnimplementedOperatorServiceHandler
	answers, requests string
}

var relativeTime = regexp.MustCompile(`"now[+-][0-9a-z]+"`)

// answer fills a message from METHOD.json, where "now+3h" is a time, or fails
// as METHOD.error says: "not_found: text".
func answer[Q, R any](a *answering, method string, request *connect.Request[Q]) (*connect.Response[R], error) {
	asked, err := protojson.Marshal(any(request.Msg).(proto.Message))
	if err != nil {
		return nil, err
	}
	asked = []byte(strings.ReplaceAll(string(asked), `": `, `":`)) // protojson varies its blanks
	if err := os.WriteFile(filepath.Join(a.requests, method+".json"), append(asked, '\n'), 0o600); err != nil {
		return nil, err
	}
	if refusal, err := os.ReadFile(filepath.Join(a.answers, method+".error")); err == nil {
		word, text, _ := strings.Cut(strings.TrimSpace(string(refusal)), ": ")
		var code connect.Code
		if err := code.UnmarshalText([]byte(word)); err != nil {
			return nil, err
		}
		return nil, connect.NewError(code, errors.New(text))
	}
	content, err := os.ReadFile(filepath.Join(a.answers, method+".json"))
	if err != nil {
		return nil, connect.NewError(connect.CodeUnimplemented, err)
	}
	content = relativeTime.ReplaceAllFunc(content, func(word []byte) []byte {
		away, err := time.ParseDuration(strings.Trim(string(word), `now"`))
		if err != nil {
			return word // which protojson will refuse
		}
		return []byte(`"` + time.Now().Add(away).UTC().Format(time.RFC3339Nano) + `"`)
	})
	response := new(R)
	if err := protojson.Unmarshal(content, any(response).(proto.Message)); err != nil {
		return nil, err
	}
	return connect.NewResponse(response), nil
}

func (a *answering) Info(_ context.Context, r *connect.Request[api.InfoRequest]) (*connect.Response[api.InfoResponse], error) {
	return answer[api.InfoRequest, api.InfoResponse](a, "Info", r)
}

func (a *answering) Restore(_ context.Context, r *connect.Request[api.RestoreRequest]) (*connect.Response[api.RestoreResponse], error) {
	return answer[api.RestoreRequest, api.RestoreResponse](a, "Restore", r)
}

func (a *answering) ListAuditEntries(_ context.Context, r *connect.Request[api.ListAuditEntriesRequest]) (*connect.Response[api.ListAuditEntriesResponse], error) {
	return answer[api.ListAuditEntriesRequest, api.ListAuditEntriesResponse](a, "ListAuditEntries", r)
}

func (a *answering) Plan(_ context.Context, r *connect.Request[api.PlanRequest]) (*connect.Response[api.PlanResponse], error) {
	return answer[api.PlanRequest, api.PlanResponse](a, "Plan", r)
}

func (a *answering) Apply(_ context.Context, r *connect.Request[api.ApplyRequest]) (*connect.Response[api.ApplyResponse], error) {
	return answer[api.ApplyRequest, api.ApplyResponse](a, "Apply", r)
}

func (a *answering) ListDocuments(_ context.Context, r *connect.Request[api.ListDocumentsRequest]) (*connect.Response[api.ListDocumentsResponse], error) {
	return answer[api.ListDocumentsRequest, api.ListDocumentsResponse](a, "ListDocuments", r)
}

func (a *answering) DeleteDocument(_ context.Context, r *connect.Request[api.DeleteDocumentRequest]) (*connect.Response[api.DeleteDocumentResponse], error) {
	return answer[api.DeleteDocumentRequest, api.DeleteDocumentResponse](a, "DeleteDocument", r)
}

func (a *answering) ReplayPolicy(_ context.Context, r *connect.Request[api.ReplayPolicyRequest]) (*connect.Response[api.ReplayPolicyResponse], error) {
	return answer[api.ReplayPolicyRequest, api.ReplayPolicyResponse](a, "ReplayPolicy", r)
}

func (a *answering) CreateToken(_ context.Context, r *connect.Request[api.CreateTokenRequest]) (*connect.Response[api.CreateTokenResponse], error) {
	return answer[api.CreateTokenRequest, api.CreateTokenResponse](a, "CreateToken", r)
}

func (a *answering) ListTokens(_ context.Context, r *connect.Request[api.ListTokensRequest]) (*connect.Response[api.ListTokensResponse], error) {
	return answer[api.ListTokensRequest, api.ListTokensResponse](a, "ListTokens", r)
}

func (a *answering) RevokeToken(_ context.Context, r *connect.Request[api.RevokeTokenRequest]) (*connect.Response[api.RevokeTokenResponse], error) {
	return answer[api.RevokeTokenRequest, api.RevokeTokenResponse](a, "RevokeToken", r)
}

func (a *answering) ListAgents(_ context.Context, r *connect.Request[api.ListAgentsRequest]) (*connect.Response[api.ListAgentsResponse], error) {
	return answer[api.ListAgentsRequest, api.ListAgentsResponse](a, "ListAgents", r)
}

func (a *answering) LabelAgent(_ context.Context, r *connect.Request[api.LabelAgentRequest]) (*connect.Response[api.LabelAgentResponse], error) {
	return answer[api.LabelAgentRequest, api.LabelAgentResponse](a, "LabelAgent", r)
}

func (a *answering) RetireAgent(_ context.Context, r *connect.Request[api.RetireAgentRequest]) (*connect.Response[api.RetireAgentResponse], error) {
	return answer[api.RetireAgentRequest, api.RetireAgentResponse](a, "RetireAgent", r)
}

func (a *answering) ListPlacements(_ context.Context, r *connect.Request[api.ListPlacementsRequest]) (*connect.Response[api.ListPlacementsResponse], error) {
	return answer[api.ListPlacementsRequest, api.ListPlacementsResponse](a, "ListPlacements", r)
}

func (a *answering) DescribePlacement(_ context.Context, r *connect.Request[api.DescribePlacementRequest]) (*connect.Response[api.DescribePlacementResponse], error) {
	return answer[api.DescribePlacementRequest, api.DescribePlacementResponse](a, "DescribePlacement", r)
}

func (a *answering) ListCertificates(_ context.Context, r *connect.Request[api.ListCertificatesRequest]) (*connect.Response[api.ListCertificatesResponse], error) {
	return answer[api.ListCertificatesRequest, api.ListCertificatesResponse](a, "ListCertificates", r)
}

func (a *answering) ListAuthorities(_ context.Context, r *connect.Request[api.ListAuthoritiesRequest]) (*connect.Response[api.ListAuthoritiesResponse], error) {
	return answer[api.ListAuthoritiesRequest, api.ListAuthoritiesResponse](a, "ListAuthorities", r)
}

func (a *answering) Rotate(_ context.Context, r *connect.Request[api.RotateRequest]) (*connect.Response[api.RotateResponse], error) {
	return answer[api.RotateRequest, api.RotateResponse](a, "Rotate", r)
}

func (a *answering) StartRollout(_ context.Context, r *connect.Request[api.StartRolloutRequest]) (*connect.Response[api.StartRolloutResponse], error) {
	return answer[api.StartRolloutRequest, api.StartRolloutResponse](a, "StartRollout", r)
}

func (a *answering) ListRollouts(_ context.Context, r *connect.Request[api.ListRolloutsRequest]) (*connect.Response[api.ListRolloutsResponse], error) {
	return answer[api.ListRolloutsRequest, api.ListRolloutsResponse](a, "ListRollouts", r)
}

func (a *answering) DescribeRollout(_ context.Context, r *connect.Request[api.DescribeRolloutRequest]) (*connect.Response[api.DescribeRolloutResponse], error) {
	return answer[api.DescribeRolloutRequest, api.DescribeRolloutResponse](a, "DescribeRollout", r)
}

// WatchRollout sends the same once, and ends.
func (a *answering) WatchRollout(_ context.Context, r *connect.Request[api.DescribeRolloutRequest], stream *connect.ServerStream[api.DescribeRolloutResponse]) error {
	response, err := answer[api.DescribeRolloutRequest, api.DescribeRolloutResponse](a, "WatchRollout", r)
	if err != nil {
		return err
	}
	return stream.Send(response.Msg)
}

func (a *answering) DecideRollout(_ context.Context, r *connect.Request[api.DecideRolloutRequest]) (*connect.Response[api.DecideRolloutResponse], error) {
	return answer[api.DecideRolloutRequest, api.DecideRolloutResponse](a, "DecideRollout", r)
}

func (a *answering) AnswerRolloutGate(_ context.Context, r *connect.Request[api.AnswerRolloutGateRequest]) (*connect.Response[api.AnswerRolloutGateResponse], error) {
	return answer[api.AnswerRolloutGateRequest, api.AnswerRolloutGateResponse](a, "AnswerRolloutGate", r)
}

func (a *answering) ListSlots(_ context.Context, r *connect.Request[api.ListSlotsRequest]) (*connect.Response[api.ListSlotsResponse], error) {
	return answer[api.ListSlotsRequest, api.ListSlotsResponse](a, "ListSlots", r)
}

func (a *answering) ReleaseSlot(_ context.Context, r *connect.Request[api.ReleaseSlotRequest]) (*connect.Response[api.ReleaseSlotResponse], error) {
	return answer[api.ReleaseSlotRequest, api.ReleaseSlotResponse](a, "ReleaseSlot", r)
}

func (a *answering) Resume(_ context.Context, r *connect.Request[api.ResumeRequest]) (*connect.Response[api.ResumeResponse], error) {
	return answer[api.ResumeRequest, api.ResumeResponse](a, "Resume", r)
}

func (a *answering) Graph(_ context.Context, r *connect.Request[api.GraphRequest]) (*connect.Response[api.GraphResponse], error) {
	return answer[api.GraphRequest, api.GraphResponse](a, "Graph", r)
}

func (a *answering) Impact(_ context.Context, r *connect.Request[api.ImpactRequest]) (*connect.Response[api.ImpactResponse], error) {
	return answer[api.ImpactRequest, api.ImpactResponse](a, "Impact", r)
}

func (a *answering) ListNotices(_ context.Context, r *connect.Request[api.ListNoticesRequest]) (*connect.Response[api.ListNoticesResponse], error) {
	return answer[api.ListNoticesRequest, api.ListNoticesResponse](a, "ListNotices", r)
}

func (a *answering) ListAuditWitnesses(_ context.Context, r *connect.Request[api.ListAuditWitnessesRequest]) (*connect.Response[api.ListAuditWitnessesResponse], error) {
	return answer[api.ListAuditWitnessesRequest, api.ListAuditWitnessesResponse](a, "ListAuditWitnesses", r)
}

func (a *answering) ListAuditSinks(_ context.Context, r *connect.Request[api.ListAuditSinksRequest]) (*connect.Response[api.ListAuditSinksResponse], error) {
	return answer[api.ListAuditSinksRequest, api.ListAuditSinksResponse](a, "ListAuditSinks", r)
}

func (a *answering) RetryNotices(_ context.Context, r *connect.Request[api.RetryNoticesRequest]) (*connect.Response[api.RetryNoticesResponse], error) {
	return answer[api.RetryNoticesRequest, api.RetryNoticesResponse](a, "RetryNotices", r)
}

func (a *answering) WhatIf(_ context.Context, r *connect.Request[api.WhatIfRequest]) (*connect.Response[api.WhatIfResponse], error) {
	return answer[api.WhatIfRequest, api.WhatIfResponse](a, "WhatIf", r)
}

// domain is a CA that signs a server's certificate and operators'.
type domain struct {
	root *x509.Certificate
	key  crypto.Signer
}

type failing interface{ Fatalf(string, ...any) }

func newDomain(t failing) *domain {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("make a key: %v", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatalf("sign the root: %v", err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("read the root: %v", err)
	}
	return &domain{root, key}
}

func (d *domain) sign(public crypto.PublicKey, name string, until time.Time) ([]byte, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	return x509.CreateCertificate(rand.Reader, template, d.root, public, d.key)
}

// start serves handler to operators of the domain, over mutual TLS.
func (d *domain) start(t failing, handler http.Handler) *httptest.Server {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("make a key: %v", err)
	}
	leaf, err := d.sign(key.Public(), "server", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatalf("sign the server: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(d.root)
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{leaf}, PrivateKey: key}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: roots, MinVersion: tls.VersionTLS13,
	}
	server.StartTLS()
	return server
}

// credentials writes an operator's directory.
func (d *domain) credentials(dir, url string, until time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leaf, err := d.sign(key.Public(), "operator", until)
	if err != nil {
		return err
	}
	keyPEM, err := pki.EncodeKeyPEM(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"key.pem": keyPEM, "cert.pem": pki.EncodeCertificatesPEM(leaf), "ca.pem": pki.EncodeCertificatesPEM(d.root.Raw),
		"client.yaml": []byte("server: " + url + "\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// newOperator is a server, and credentials for it, for tests in Go.
func newOperator(t *testing.T, handler apiconnect.OperatorServiceHandler) (credentials string) {
	t.Helper()
	domain := newDomain(t)
	_, routes := apiconnect.NewOperatorServiceHandler(handler)
	server := domain.start(t, routes)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	if err := domain.credentials(dir, server.URL, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	return dir
}
