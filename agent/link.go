package agent

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/internal/retry"
	"github.com/rotunda-pki/rotunda/pki"
)

const (
	maxMessage     = 64 << 20
	dialTimeout    = 10 * time.Second
	callTimeout    = 30 * time.Second
	longestRetry   = time.Hour        // that a server may ask for
	silenceTimeout = 30 * time.Second // until unacknowledged data ends the connection
)

// link is one connection to one server.
type link struct {
	api.AgentServiceClient
	server   string
	identity *Identity // nil while enrolling
	conn     *grpc.ClientConn

	calls   sync.RWMutex                        // read-held by each call under way
	peers   atomic.Pointer[[]*x509.Certificate] // what the server showed
	refused atomic.Pointer[error]               // why it was not believed
}

// trust says which servers to believe.
type trust struct {
	domain spiffeid.TrustDomain
	roots  func(shown []*x509.Certificate) (*x509.CertPool, error)
	now    func() time.Time
}

// pinned trusts the root with this SHA-256, which the server must show: an
// enrolling agent knows nothing else of it.
func pinned(pin [32]byte) func([]*x509.Certificate) (*x509.CertPool, error) {
	return func(shown []*x509.Certificate) (*x509.CertPool, error) {
		for _, cert := range shown {
			if sha256.Sum256(cert.Raw) == pin {
				pool := x509.NewCertPool()
				pool.AddCert(cert)
				return pool, nil
			}
		}
		return nil, fault.New(fault.Forbidden, "its chain does not hold the pinned root (SHA-256 %x)", pin).
			WithRemedy("the server is of another trust domain, or something stands between; check servers and the token")
	}
}

// anchored trusts the anchors of a bundle.
func anchored(anchors pki.Bundle) func([]*x509.Certificate) (*x509.CertPool, error) {
	return func([]*x509.Certificate) (*x509.CertPool, error) { return anchors.Pool(), nil }
}

// verify checks that shown is the chain of a server of the trust domain. The
// name that was dialled plays no part: a server is known by its SPIFFE ID, so
// it may be reached by any name or address.
func (t trust) verify(shown []*x509.Certificate) error {
	if len(shown) == 0 {
		return fault.New(fault.Forbidden, "it shows no certificate")
	}
	roots, err := t.roots(shown)
	if err != nil {
		return err
	}
	between := x509.NewCertPool()
	for _, cert := range shown[1:] {
		between.AddCert(cert)
	}
	_, err = shown[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: t.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		refusal := fault.Wrap(fault.Forbidden, err, "its certificate is not valid here")
		if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
			return refusal.WithRemedy("check this host's clock")
		}
		return refusal
	}
	id, err := spiffeid.FromString(pki.NamesOf(shown[0]).URI)
	if err == nil && id.TrustDomain() == t.domain {
		if role, _, err := pki.ParseRoleID(id); err == nil && role == pki.RoleServer {
			return nil
		}
	}
	return fault.New(fault.Forbidden, "it is %q, not a server of trust domain %s", pki.NamesOf(shown[0]).URI, t.domain)
}

// dial prepares a connection; it is made by the first call. identity may be
// nil.
func dial(server string, t trust, identity *Identity, version string) (*link, error) {
	l := &link{server: server, identity: identity}
	config := &tls.Config{
		MinVersion: tls.VersionTLS13, Time: t.now,
		InsecureSkipVerify: true, // VerifyConnection does it, by SPIFFE ID
		VerifyConnection: func(state tls.ConnectionState) error {
			l.peers.Store(&state.PeerCertificates)
			err := t.verify(state.PeerCertificates)
			if err != nil {
				l.refused.Store(&err)
			}
			return err
		},
	}
	if identity != nil {
		// Always, whatever authorities the server says it takes.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return identity.certificate(), nil
		}
	}
	conn, err := grpc.NewClient("passthrough:///"+server, append(api.Link(),
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithContextDialer(dialTCP),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithUserAgent("rotunda-agent/"+version),
	)...)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "server %s", server)
	}
	l.conn, l.AgentServiceClient = conn, api.NewAgentServiceClient(conn)
	return l, nil
}

// dialTCP notices a server that has gone without a word: the kernel ends the
// connection when data stays unacknowledged.
func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	dialer := net.Dialer{
		Timeout: dialTimeout,
		Control: func(_, _ string, raw syscall.RawConn) error {
			var failed error
			err := raw.Control(func(fd uintptr) {
				failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silenceTimeout.Milliseconds()))
			})
			return errors.Join(err, failed)
		},
	}
	return dialer.DialContext(ctx, "tcp", address)
}

// explain turns an error of a call into ours: the reason why the server was
// not believed, or what it said.
func (l *link) explain(err error) error {
	if err == nil {
		return nil
	}
	if refused := l.refused.Load(); refused != nil {
		return fault.Wrap(fault.CodeOf(*refused), *refused, "server %s is not believed", l.server)
	}
	said := status.Convert(err)
	code := codeOf(said.Code())
	if code == fault.Unavailable {
		after, _ := retry.Delay(err)
		return fault.New(code, "server %s: %s", l.server, said.Message()).WithAfter(min(after, longestRetry))
	}
	return fault.New(code, "%s", said.Message())
}

// codeOf is the inverse of the server's table of codes.
func codeOf(code codes.Code) fault.Code {
	switch code {
	case codes.InvalidArgument, codes.Unimplemented: // the latter: no agents' listener
		return fault.Invalid
	case codes.NotFound:
		return fault.NotFound
	case codes.FailedPrecondition:
		return fault.Conflict
	case codes.PermissionDenied, codes.Unauthenticated:
		return fault.Forbidden
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.ResourceExhausted:
		return fault.Unavailable
	}
	return fault.Internal
}

// saysNo tells whether the server refused the identity that it was shown, not
// only the connection. In TLS 1.3 the refusal comes with the first read.
func saysNo(err error) bool {
	return fault.CodeOf(err) == fault.Forbidden || err != nil && strings.Contains(err.Error(), "remote error: tls: ")
}

func (l *link) close() { l.conn.Close() }

// drain closes the link once the calls under way have had their answers.
func (l *link) drain() {
	l.calls.Lock()
	defer l.calls.Unlock()
	l.close()
}
