package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api/apiconnect"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/keys"
	"github.com/rotunda-pki/rotunda/pki"
)

// server is a server to call, and where it is.
type server struct {
	apiconnect.OperatorServiceClient
	endpoint
	close  func()
	redial func() (*server, error)
}

// again takes the credentials that are there now: they may have been renewed
// since, and those that it was dialled with ended.
func (s *server) again() error {
	fresh, err := s.redial()
	if err != nil {
		return err
	}
	s.close()
	*s = *fresh
	return nil
}

// with runs a command's work against the server.
func (c *connection) with(cmd *cobra.Command, work func(ctx context.Context, s *server, u *ui) error) error {
	u := newUI(cmd)
	s, err := c.dial(u)
	if err != nil {
		return err
	}
	defer s.close()
	return work(cmd.Context(), s, u)
}

// invoke makes one call and unwraps its answer.
func invoke[Q, R any](
	ctx context.Context, method func(context.Context, *connect.Request[Q]) (*connect.Response[R], error), request *Q,
) (*R, error) {
	response, err := method(ctx, connect.NewRequest(request))
	if err != nil {
		return nil, err
	}
	return response.Msg, nil
}

// dial prepares the client; the first call opens the connection.
func (c *connection) dial(u *ui) (*server, error) {
	where, err := c.locate()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		ForceAttemptHTTP2:   true,
	}
	base := where.url
	if where.socket != "" {
		base = "http://rotunda"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", where.socket)
		}
	} else if transport.TLSClientConfig, err = clientTLS(u, where.credentials); err != nil {
		return nil, err
	}
	client := apiconnect.NewOperatorServiceClient(
		&http.Client{Transport: &explaining{transport, where, transport.TLSClientConfig}}, base,
		connect.WithInterceptors(patience(u, where, c.timeout)))
	return &server{client, where, transport.CloseIdleConnections, func() (*server, error) { return c.dial(u) }}, nil
}

// clientTLS presents the operator's certificate and trusts ca.pem alone.
func clientTLS(u *ui, dir string) (*tls.Config, error) {
	pair, err := operatorCertificate(u, dir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "ca.pem")
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, incomplete(err, dir)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(content) {
		return nil, fault.New(fault.Invalid, "%s holds no certificate", path).
			WithRemedy("it is the trust domain's bundle: copy it again from where the credentials were made")
	}
	// GetClientCertificate, so that it is sent even where the server's list of
	// names does not match: the server's reason beats a bare "required".
	return &tls.Config{
		RootCAs:    roots,
		MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return pair, nil
		},
	}, nil
}

func operatorCertificate(u *ui, dir string) (*tls.Certificate, error) {
	content, err := os.ReadFile(filepath.Join(dir, "cert.pem"))
	if err != nil {
		return nil, incomplete(err, dir)
	}
	chain, err := pki.ParseCertificatesPEM(content)
	if err != nil {
		return nil, incomplete(err, dir)
	}
	leaf := chain[0]
	if now := time.Now(); now.After(leaf.NotAfter) {
		return nil, fault.New(fault.Invalid, "the credentials in %s expired %s ago", dir, rough(now.Sub(leaf.NotAfter))).
			WithRemedy("on the server's machine: rotunda operator create NAME --socket %s", defaultSocket)
	}
	key, err := keys.OpenFile(filepath.Join(dir, "key.pem"), u.passphrase("Passphrase of the key in "+dir+": "))
	if err != nil {
		return nil, incomplete(err, dir)
	}
	if !pki.KeyMatches(key, leaf) {
		return nil, incomplete(errors.New("cert.pem is of another key than key.pem"), dir)
	}
	pair := &tls.Certificate{PrivateKey: key, Leaf: leaf}
	for _, certificate := range chain {
		pair.Certificate = append(pair.Certificate, certificate.Raw)
	}
	return pair, nil
}

func incomplete(err error, dir string) error {
	if errors.Is(err, fs.ErrPermission) {
		return fault.Wrap(fault.Forbidden, err, "read the credentials in %s", dir).
			WithRemedy("they belong to another user: use your own, or become that user")
	}
	if remedyOf(err) != "" {
		return fmt.Errorf("the credentials in %s cannot be used: %w", dir, err)
	}
	return fault.Wrap(fault.Invalid, err, "the credentials in %s cannot be used", dir).
		WithRemedy("the directory holds cert.pem, key.pem and ca.pem, as rotunda operator create wrote them")
}

// patience gives every call that is not a stream its time limit, and shows
// on a terminal that it goes on.
func patience(u *ui, where endpoint, limit time.Duration) connect.Interceptor {
	return connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
			if limit > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, limit)
				defer cancel()
			}
			defer u.progress("waiting for " + where.String())()
			return next(ctx, request)
		}
	})
}

// explaining turns the ways in which a connection fails into what an
// operator can act on.
type explaining struct {
	http.RoundTripper
	where  endpoint
	config *tls.Config // nil on a socket
}

func (e *explaining) RoundTrip(request *http.Request) (*http.Response, error) {
	request.Header.Set("User-Agent", "rotunda/"+version())
	response, err := e.RoundTripper.RoundTrip(request)
	if err != nil && request.Context().Err() == nil {
		return nil, unreachable(e.where, e.alert(request.Context(), err))
	}
	return response, err
}

// alert finds out why the server hung up. In TLS 1.3 it refuses a client
// certificate after our half of the handshake is done, and its alert is lost
// when we are just writing, in one of many ways. So a second connection only
// listens.
func (e *explaining) alert(ctx context.Context, hungUp error) error {
	op, ok := errors.AsType[*net.OpError](hungUp)
	if never := ok && op.Op == "dial"; e.config == nil || never || isRefusal(hungUp) || isDistrust(hungUp) {
		return hungUp
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	conn, err := (&tls.Dialer{Config: e.config}).DialContext(ctx, "tcp", strings.TrimPrefix(e.where.url, "https://"))
	if err != nil {
		return hungUp
	}
	defer func() { _ = conn.Close() }() // nothing was written
	limit, _ := ctx.Deadline()
	_ = conn.SetReadDeadline(limit)
	if _, err := conn.Read(make([]byte, 1)); isRefusal(err) {
		return err
	}
	return hungUp
}

func unreachable(where endpoint, err error) error {
	switch {
	case isRefusal(err):
		return fault.Wrap(fault.Forbidden, err, "%s refused these credentials", where).
			WithRemedy("their certificate is of another trust domain, expired or revoked: make new ones with rotunda operator create NAME on the server's admin socket")
	case isOutOfDate(err):
		return fault.Wrap(fault.Forbidden, err, "%s is not trusted", where).
			WithRemedy("look at this machine's clock; if that is right, restart the server, which makes itself a new certificate then: docs/runbooks/break-glass.md")
	case isDistrust(err):
		return fault.Wrap(fault.Forbidden, err, "%s is not trusted", where).
			WithRemedy("it is not the server that ca.pem in %s is for: check the address, or take ca.pem anew from a place that you trust", where.credentials)
	case errors.Is(err, fs.ErrPermission):
		return fault.Wrap(fault.Forbidden, err, "%s may not be opened", where).
			WithRemedy("the admin socket is for root and the server's own user: become one of them, or use --credentials")
	case where.socket != "":
		return fault.Wrap(fault.Unavailable, err, "cannot reach the server at %s", where).
			WithRemedy("no server listens there: start it with rotunda server")
	case errors.Is(err, syscall.ECONNREFUSED):
		return fault.Wrap(fault.Unavailable, err, "cannot reach %s", where).
			WithRemedy("nothing listens there: is the server running, and is this its operators' address?")
	}
	return fault.Wrap(fault.Unavailable, err, "cannot reach %s", where).
		WithRemedy("check the address and the way to it")
}

// isRefusal: the server's TLS sent an alert about our certificate.
func isRefusal(err error) bool {
	return err != nil && strings.Contains(err.Error(), "remote error: tls:")
}

// isOutOfDate: by this machine's clock the server's certificate does not hold now.
func isOutOfDate(err error) bool {
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok && invalid.Reason == x509.Expired
}

func isDistrust(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		record       tls.RecordHeaderError
	)
	return errors.As(err, &verification) || errors.As(err, &record) ||
		strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}
