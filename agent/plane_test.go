package agent

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/ca"
	"github.com/rotunda-pki/rotunda/pki"
)

// plane is the agents' side of a control plane over real TLS and gRPC, with
// faults to order. The package may not import the real one, which stands
// beside it in the house.
type plane struct {
	api.UnimplementedAgentServiceServer
	domain    spiffeid.TrustDomain
	root      *x509.Certificate
	issuing   *ca.Authority
	trusted   pki.Bundle
	logSigner note.Signer
	logKey    string

	mu       sync.Mutex
	tokens   map[string]*planeToken
	boots    map[string]uint64
	revoked  map[string]bool // serials
	log      *planeLog
	desired  *api.DesiredState
	streams  map[*planeStream]bool
	enrolled int // calls of Enrol
	renewed  int
	life     time.Duration             // of identities
	skew     time.Duration             // of the server's clock
	fault    func(method string) error // before the call is carried out
	lose     func(method string) error // after it was carried out, in place of the answer

	unwell map[string]bool // servers, by their address
	looks  map[string]int  // at them

	reports chan *api.AgentReport
	serials chan string // of the certificate under each stream that was opened
}

// planeHealth is the health check of one of the plane's servers.
type planeHealth struct {
	health.UnimplementedHealthServer
	*plane
	address string
}

func (h *planeHealth) Check(ctx context.Context, _ *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	if _, _, err := h.caller(ctx); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.looks[h.address]++
	if h.unwell[h.address] {
		return &health.HealthCheckResponse{Status: health.HealthCheckResponse_NOT_SERVING}, nil
	}
	return &health.HealthCheckResponse{Status: health.HealthCheckResponse_SERVING}, nil
}

type planeToken struct {
	secret string
	agent  string // that it is for, or that used it
	spki   string
}

type planeStream struct{ wake chan struct{} }

// planeLog is the audit log in memory.
type planeLog struct{ *audit.Tree }

func newPlaneLog() *planeLog { return &planeLog{audit.NewTree()} }

func (l *planeLog) grow(t testing.TB, entries ...string) {
	for _, entry := range entries {
		check(t, l.Append(audit.LeafHash([]byte(entry))))
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newPlane(t testing.TB) *plane { return newPlaneOf(t, "example.org") }

func newPlaneOf(t testing.TB, domain string) *plane {
	t.Helper()
	p := &plane{
		domain: spiffeid.RequireTrustDomainFromString(domain), tokens: map[string]*planeToken{}, boots: map[string]uint64{},
		revoked: map[string]bool{}, unwell: map[string]bool{}, looks: map[string]int{}, streams: map[*planeStream]bool{}, log: newPlaneLog(), life: time.Hour,
		reports: make(chan *api.AgentReport, 4096), serials: make(chan string, 4096),
	}
	now := time.Now()
	root, rootKey, err := ca.CreateRoot(now, ca.RootOrder{TrustDomain: p.domain, Name: domain + " root", Algorithm: pki.ECDSAP256, Lifetime: 24 * time.Hour})
	check(t, err)
	cert, key, err := ca.CreateIssuing(now, root, rootKey, ca.IssuingOrder{
		TrustDomain: p.domain, Name: domain + " issuing", Algorithm: pki.ECDSAP256, Lifetime: 12 * time.Hour,
	}, "http://pki.example.org")
	check(t, err)
	p.root = root
	p.issuing, err = ca.NewAuthority("issuing-1", cert, []*x509.Certificate{cert}, key, "http://pki.example.org")
	check(t, err)
	p.trusted, err = pki.NewBundle([]*x509.Certificate{root})
	check(t, err)
	skey, vkey, err := audit.NewLogKey(audit.Origin(domain))
	check(t, err)
	p.logKey = vkey
	p.logSigner, err = note.NewSigner(skey)
	check(t, err)
	p.log.grow(t, "init")
	p.desired = &api.DesiredState{Epoch: 1, Seq: 1}
	return p
}

// serve listens on address (":0" for any) until stop is called.
func (p *plane) serve(t testing.TB, address string) (at string, stop func()) {
	t.Helper()
	key, err := pki.ECDSAP256.Generate()
	check(t, err)
	id, err := pki.ServerID(p.domain, "s1")
	check(t, err)
	issued := p.issue(t, key.Public(), id, x509.ExtKeyUsageServerAuth, time.Hour)
	listener, err := net.Listen("tcp", address)
	check(t, err)
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: p.trusted.Pool(),
		Certificates: []tls.Certificate{{Certificate: append(issued, p.root.Raw), PrivateKey: key}},
	})))
	api.RegisterAgentServiceServer(server, p)
	health.RegisterHealthServer(server, &planeHealth{plane: p, address: listener.Addr().String()})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			server.Stop()
			check(t, <-served)
		})
	}
	t.Cleanup(stop)
	return listener.Addr().String(), stop
}

func (p *plane) issue(t testing.TB, public any, id spiffeid.ID, usage x509.ExtKeyUsage, life time.Duration) [][]byte {
	chain, err := p.sign(public, id, usage, life)
	check(t, err)
	return chain
}

func (p *plane) sign(public any, id spiffeid.ID, usage x509.ExtKeyUsage, life time.Duration) ([][]byte, error) {
	names, err := pki.ParseNames("", nil, nil, id.String())
	if err != nil {
		return nil, err
	}
	prepared, err := p.issuing.Prepare(time.Now(), ca.Request{
		PublicKey: public, Names: names, Terms: ca.Terms{Lifetime: life, Backdate: time.Minute, Usages: []x509.ExtKeyUsage{usage}},
	})
	if err != nil {
		return nil, err
	}
	issued, err := p.issuing.Issue(prepared)
	return issued.Chain, err
}

// token makes a token; agent is empty but for a rejoin.
func (p *plane) token(agent string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := fmt.Sprintf("t%d", len(p.tokens)+1)
	secret := base64.RawURLEncoding.EncodeToString([]byte("a secret of some length " + id))
	p.tokens[id] = &planeToken{secret: secret, agent: agent}
	return fmt.Sprintf("rt1.%s.%s.%x.%s.%s", id, secret, sha256.Sum256(p.root.Raw), base64.RawURLEncoding.EncodeToString([]byte(p.logKey)), p.domain.Name())
}

func (p *plane) checkpoint() []byte {
	msg, err := audit.Checkpoint{Origin: audit.Origin(p.domain.Name()), Size: p.log.Size(), Root: p.log.Root()}.Sign(p.logSigner)
	if err != nil {
		panic(err)
	}
	return msg
}

// push changes what is desired and sends it on all streams.
func (p *plane) push(change func(*api.DesiredState)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.desired.Seq++
	change(p.desired)
	for s := range p.streams {
		notify(s.wake)
	}
}

func (p *plane) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// interfere calls one of the orders for faults.
func (p *plane) interfere(order *func(string) error, method string) error {
	p.mu.Lock()
	f := *order
	p.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(method)
}

func (p *plane) Enrol(_ context.Context, r *api.EnrolRequest) (*api.EnrolResponse, error) {
	p.set(func() { p.enrolled++ })
	if err := p.interfere(&p.fault, "Enrol"); err != nil {
		return nil, err
	}
	response, err := p.enrol(r)
	if err != nil {
		return nil, err
	}
	return response, p.interfere(&p.lose, "Enrol")
}

func (p *plane) enrol(r *api.EnrolRequest) (*api.EnrolResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	csr, err := pki.ParseCSR(r.Csr)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	spki, err := pki.SPKIHashOf(csr.PublicKey)
	if err != nil {
		return nil, err
	}
	token := p.tokens[r.TokenId]
	switch {
	case r.TrustDomain != p.domain.Name():
		return nil, status.Error(codes.PermissionDenied, "another trust domain")
	case token == nil || token.secret != r.TokenSecret:
		return nil, status.Error(codes.PermissionDenied, "token is unknown or its secret is wrong")
	case token.spki != "" && token.spki != spki.String():
		return nil, status.Errorf(codes.PermissionDenied, "token %s was used by agent %s", r.TokenId, token.agent)
	}
	token.spki = spki.String()
	if token.agent == "" {
		token.agent = uuid.NewString()
	}
	chain, err := p.identity(csr.PublicKey, token.agent)
	return &api.EnrolResponse{
		AgentId: token.agent, Chain: chain, Anchors: p.trusted.DER(), LogKey: p.logKey, Checkpoint: p.checkpoint(), Epoch: p.desired.Epoch,
	}, err
}

func (p *plane) identity(public any, agent string) ([][]byte, error) {
	id, err := pki.AgentID(p.domain, agent)
	if err != nil {
		return nil, err
	}
	return p.sign(public, id, x509.ExtKeyUsageClientAuth, p.life)
}

// caller is the agent behind a call, by its certificate.
func (p *plane) caller(ctx context.Context) (agent, serial string, err error) {
	from, _ := peer.FromContext(ctx)
	certs := from.AuthInfo.(credentials.TLSInfo).State.PeerCertificates
	if len(certs) == 0 {
		return "", "", status.Error(codes.PermissionDenied, "no certificate")
	}
	serial = certs[0].SerialNumber.String()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.revoked[serial] {
		return "", "", status.Error(codes.PermissionDenied, "the certificate was revoked")
	}
	_, agent, err = pki.ParseRoleID(spiffeid.RequireFromURI(certs[0].URIs[0]))
	return agent, serial, err
}

func (p *plane) RenewIdentity(ctx context.Context, r *api.RenewIdentityRequest) (*api.RenewIdentityResponse, error) {
	agent, _, err := p.caller(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.interfere(&p.fault, "RenewIdentity"); err != nil {
		return nil, err
	}
	csr, err := pki.ParseCSR(r.Csr)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.renewed++
	p.desired.RenewIdentityAt = nil
	chain, err := p.identity(csr.PublicKey, agent)
	if err == nil && p.lose != nil {
		err = p.lose("RenewIdentity")
	}
	return &api.RenewIdentityResponse{Chain: chain, Anchors: p.trusted.DER()}, err
}

func (p *plane) FetchBlobs(_ context.Context, r *api.FetchBlobsRequest) (*api.FetchBlobsResponse, error) {
	if err := p.interfere(&p.fault, "FetchBlobs"); err != nil {
		return nil, err
	}
	response := &api.FetchBlobsResponse{}
	for _, digest := range r.Digests {
		if digest == p.trusted.Digest().String() {
			response.Blobs = append(response.Blobs, &api.Blob{Digest: digest, Anchors: p.trusted.DER()})
		}
	}
	return response, nil
}

func (p *plane) ProveConsistency(_ context.Context, r *api.ProveConsistencyRequest) (*api.ProveConsistencyResponse, error) {
	if err := p.interfere(&p.fault, "ProveConsistency"); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.To > p.log.Size() {
		return nil, status.Error(codes.NotFound, "the log is not that long")
	}
	proof, err := audit.ProveConsistency(r.From, r.To, audit.TileReader(p.log.ReadTile))
	response := &api.ProveConsistencyResponse{}
	for _, hash := range proof {
		response.Proof = append(response.Proof, hash[:])
	}
	return response, err
}

func (p *plane) Sync(stream grpc.BidiStreamingServer[api.AgentReport, api.DesiredState]) error {
	agent, serial, err := p.caller(stream.Context())
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if err := p.interfere(&p.fault, "Sync"); err != nil {
		return err
	}
	s := &planeStream{wake: make(chan struct{}, 1)}
	p.mu.Lock()
	if first.Hello.GetBoot() <= p.boots[agent] {
		defer p.mu.Unlock()
		return status.Errorf(codes.FailedPrecondition, "agent %s connects with boot counter %d, it had %d already", agent, first.Hello.GetBoot(), p.boots[agent])
	}
	p.boots[agent] = first.Hello.Boot
	p.streams[s] = true
	p.mu.Unlock()
	defer p.set(func() { delete(p.streams, s) })
	p.serials <- serial
	p.reports <- first
	ended := make(chan error, 1)
	go func() {
		for {
			report, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			p.reports <- report
		}
	}()
	for {
		p.mu.Lock()
		state := proto.CloneOf(p.desired)
		state.ServerTime = timestamppb.New(time.Now().Add(p.skew))
		state.Checkpoint = p.checkpoint()
		if state.Anchors == nil {
			state.Anchors = p.trusted.DER()
		}
		p.mu.Unlock()
		if err := stream.Send(state); err != nil {
			return err
		}
		select {
		case <-s.wake:
		case err := <-ended:
			return err
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// report waits for a report that fits.
func (p *plane) report(t testing.TB, what string, fits func(*api.AgentReport) bool) *api.AgentReport {
	t.Helper()
	deadline := time.After(15 * time.Second)
	var last *api.AgentReport
	for {
		select {
		case last = <-p.reports:
			if fits(last) {
				return last
			}
		case <-deadline:
			t.Fatalf("no report %s; the last was %v", what, last)
		}
	}
}

func (p *plane) stream(t testing.TB) (serial string) {
	t.Helper()
	select {
	case serial := <-p.serials:
		return serial
	case <-time.After(15 * time.Second):
		t.Fatal("no stream was opened")
	}
	return ""
}

// quick is steady, for tests.
var quick = pace{
	beat: 30 * time.Millisecond, watch: 30 * time.Millisecond, full: time.Second, firstState: 5 * time.Second,
	backoff: backoff{5 * time.Millisecond, 50 * time.Millisecond}, unproven: 100 * time.Millisecond, cosigned: 100 * time.Millisecond,
	renewBackoff: backoff{5 * time.Millisecond, 50 * time.Millisecond},
	steady:       20 * time.Millisecond, look: 20 * time.Millisecond, settle: 150 * time.Millisecond,
}

// running is an agent at work in this process.
type running struct {
	*Agent
	cancel context.CancelFunc
	done   chan error
	once   sync.Once
	err    error
}

func configFor(dir string, servers ...string) *Config {
	var addresses []ServerAddress
	for _, server := range servers {
		addresses = append(addresses, ServerAddress{Address: server})
	}
	c := &Config{Servers: addresses, State: filepath.Join(dir, "state")}
	c.fillDefaults(DefaultState)
	return c
}

func start(t testing.TB, config *Config, token string, change ...func(*Options)) *running {
	t.Helper()
	r, err := tryStart(t, config, token, change...)
	check(t, err)
	return r
}

func tryStart(t testing.TB, config *Config, token string, change ...func(*Options)) (*running, error) {
	t.Helper()
	o := Options{Config: config, Token: token, Version: "test", Log: slog.New(slog.NewTextHandler(testLog{t}, nil))}
	for _, f := range change {
		f(&o)
	}
	a, err := New(o)
	if err != nil {
		return nil, err
	}
	a.pace = quick
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Agent: a, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- a.Run(ctx) }()
	t.Cleanup(func() { r.stop(t) })
	return r, nil
}

type testLog struct{ t testing.TB }

func (l testLog) Write(line []byte) (int, error) {
	l.t.Logf("%s", line)
	return len(line), nil
}

// stop ends the agent as a signal would and returns what Run returned.
func (r *running) stop(t testing.TB) error {
	t.Helper()
	r.once.Do(func() {
		r.cancel()
		select {
		case r.err = <-r.done:
		case <-time.After(30 * time.Second):
			t.Error("the agent does not stop")
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r.err
}

// ended waits until Run returns by itself.
func (r *running) ended(t testing.TB) error {
	t.Helper()
	select {
	case err := <-r.done:
		r.done <- err
		return err
	case <-time.After(15 * time.Second):
		t.Fatal("the agent goes on")
	}
	return nil
}

func (r *running) isReady(t testing.TB) {
	t.Helper()
	select {
	case <-r.Ready():
	case err := <-r.done:
		t.Fatalf("the agent ended: %v", err)
	case <-time.After(15 * time.Second):
		t.Fatal("the agent does not get ready")
	}
}

var errLost = status.Error(codes.Unavailable, "the answer was lost")

func once(err error) func(string) error {
	var done bool
	return func(string) error {
		if done {
			return nil
		}
		done = true
		return err
	}
}

func isCanceled(err error) bool { return err == nil || errors.Is(err, context.Canceled) }

// retryIn is a refusal that says when to come back.
func retryIn(t testing.TB, pause time.Duration) error {
	t.Helper()
	answer, err := status.New(codes.Unavailable, "too much to do").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(pause)})
	check(t, err)
	return answer.Err()
}
