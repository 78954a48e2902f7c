// Package load puts servers under the load of real clients: one that keeps its
// connection and one that makes a new one for each request, all over mutual
// TLS. It counts what they do and what fails them.
package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Session is one connection to a server.
type Session interface {
	// Request does something that the server answers, and reads the answer.
	Request(ctx context.Context) error
	Close() error
}

// Dialer opens a session.
type Dialer func(ctx context.Context, config *tls.Config) (Session, error)

// Counts is what the clients saw.
type Counts struct {
	Requests, Failed, Reconnects int64
}

// Options is how clients behave.
type Options struct {
	Dial Dialer
	// Retry lets a client whose kept connection was closed on it send the
	// request once more on a new one, as HTTP clients do.
	Retry bool
	// RetryNew lets a client whose new connection failed try once more, as
	// clients of a cluster do, which has another member.
	RetryNew bool
	// Backoff is how long a client waits before it tries again.
	Backoff time.Duration
	// Pause between two requests, on the kept connection and on new ones.
	Kept, Fresh time.Duration
	// Patience bounds one request, with its connection.
	Patience time.Duration
	// Complain is told of each request that failed.
	Complain func(format string, args ...any)
}

// Load is clients at work.
type Load struct {
	Options

	requests, failed, reconnects, outages atomic.Int64

	trust atomic.Pointer[x509.CertPool]
	shown atomic.Pointer[tls.Certificate]

	gate    sync.RWMutex // clients hold it for reading during a request
	running sync.WaitGroup
	cancel  context.CancelFunc
}

// Start sets clients to work that trust these roots and show this certificate.
func Start(o Options, trust *x509.CertPool, shown *tls.Certificate) *Load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{Options: o, cancel: cancel}
	l.Trust(trust)
	l.Show(shown)
	l.running.Go(func() { l.keep(ctx) })
	l.running.Go(func() { l.renew(ctx) })
	return l
}

// Stop ends the clients and says what they saw.
func (l *Load) Stop() Counts {
	l.cancel()
	l.running.Wait()
	return l.Counts()
}

// Counts is what they saw so far.
func (l *Load) Counts() Counts {
	return Counts{l.requests.Load(), l.failed.Load(), l.reconnects.Load()}
}

// Trust replaces the roots that new connections trust.
func (l *Load) Trust(roots *x509.CertPool) { l.trust.Store(roots) }

// Show replaces the certificate that new connections show.
func (l *Load) Show(certificate *tls.Certificate) { l.shown.Store(certificate) }

// Away runs what takes the server out of service for all, while no client asks
// anything of it: an outage that was announced. The kept connection is made
// anew afterwards.
func (l *Load) Away(outage func() error) error {
	l.gate.Lock()
	defer l.gate.Unlock()
	l.outages.Add(1)
	return outage()
}

// Config is a client's TLS as it is now. Nothing is resumed.
func (l *Load) Config() *tls.Config { return Config(l.trust.Load(), l.shown.Load()) }

// Config is the TLS of a client that trusts these roots and shows this
// certificate, whatever the server says that it takes.
func Config(roots *x509.CertPool, shown *tls.Certificate) *tls.Config {
	return &tls.Config{
		RootCAs: roots, ServerName: "localhost", SessionTicketsDisabled: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return shown, nil },
	}
}

// keep is the client that keeps its connection.
func (l *Load) keep(ctx context.Context) {
	var kept Session
	var outages int64 // until the connection was made
	defer func() {
		if kept != nil {
			_ = kept.Close()
		}
	}()
	l.pace(ctx, l.Kept, func(ctx context.Context) error {
		if now := l.outages.Load(); now != outages && kept != nil {
			_ = kept.Close()
			kept = nil
		}
		outages = l.outages.Load()
		fresh := kept == nil
		next, err := l.once(ctx, kept)
		if err != nil && l.Retry && !fresh {
			l.reconnects.Add(1)
			time.Sleep(l.Backoff)
			next, err = l.once(ctx, nil)
		}
		kept = next
		return err
	})
}

// renew is the client that makes a new connection for each request.
func (l *Load) renew(ctx context.Context) {
	l.pace(ctx, l.Fresh, func(ctx context.Context) error {
		session, err := l.once(ctx, nil)
		if err != nil && l.RetryNew {
			l.reconnects.Add(1)
			time.Sleep(l.Backoff)
			session, err = l.once(ctx, nil)
		}
		if session != nil {
			_ = session.Close()
		}
		return err
	})
}

// once sends one request, on a new connection where there is none. It returns
// the connection if that is still good.
func (l *Load) once(ctx context.Context, session Session) (Session, error) {
	ctx, cancel := context.WithTimeout(ctx, l.Patience)
	defer cancel()
	if session == nil {
		var err error
		if session, err = l.Dial(ctx, l.Config()); err != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
	}
	if err := session.Request(ctx); err != nil {
		_ = session.Close()
		return nil, err
	}
	return session, nil
}

func (l *Load) pace(ctx context.Context, pause time.Duration, request func(context.Context) error) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		l.gate.RLock()
		if ctx.Err() == nil {
			l.count(request(context.WithoutCancel(ctx)))
		}
		l.gate.RUnlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (l *Load) count(err error) {
	l.requests.Add(1)
	if err == nil {
		return
	}
	const most = 5 // who complains of everything is not heard
	if l.failed.Add(1) <= most {
		l.Complain("a request failed: %v", err)
	}
}

// Shown is the certificate that clients show now.
func (l *Load) Shown() *tls.Certificate { return l.shown.Load() }
