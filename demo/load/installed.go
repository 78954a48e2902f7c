package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// Installed is a server that the demo picked up.
type Installed struct {
	Kind    string // redis, postgres or nginx
	Address string // host:port
	Name    string // that its certificate is for
	Answers string // what nginx answers
}

// talk is how a client of one kind comes to a conversation, and what it says
// there each time.
type talk struct {
	open     func(context.Context) (net.Conn, error)
	exchange func(*bufio.ReadWriter) error
}

func (l *Load) talkTo(s Installed) talk {
	switch s.Kind {
	case "redis":
		return talk{func(ctx context.Context) (net.Conn, error) { return l.dialTLS(ctx, s, nil) }, exchangeRedis}
	case "postgres":
		return talk{func(ctx context.Context) (net.Conn, error) { return l.dialPostgres(ctx, s) }, exchangePostgres}
	}
	return talk{}
}

// keepInstalled speaks to a server over one connection.
func (l *Load) keepInstalled(s Installed) {
	if s.Kind == "nginx" {
		l.keepNginx(s)
		return
	}
	way := l.talkTo(s)
	var kept net.Conn
	var spoken *bufio.ReadWriter
	defer func() {
		if kept != nil {
			_ = kept.Close()
		}
	}()
	l.each(keptEvery, func() {
		ok := l.request(s.Kind+" on a kept connection", func(ctx context.Context) (err error) {
			if kept == nil {
				if kept, err = way.open(ctx); err != nil {
					return err
				}
				spoken = buffered(kept)
			}
			return within(ctx, kept, func() error { return way.exchange(spoken) })
		})
		if !ok && kept != nil {
			_ = kept.Close()
			kept = nil
			l.reconnects.Add(1)
		}
	})
}

// openInstalled opens a connection for each exchange.
func (l *Load) openInstalled(s Installed) {
	if s.Kind == "nginx" {
		l.openNginx(s)
		return
	}
	way := l.talkTo(s)
	l.each(newEvery, func() {
		l.request(s.Kind+" on a new connection", func(ctx context.Context) error {
			connection, err := way.open(ctx)
			if err != nil {
				return err
			}
			defer connection.Close()
			return within(ctx, connection, func() error { return way.exchange(buffered(connection)) })
		})
	})
}

func buffered(c net.Conn) *bufio.ReadWriter {
	return bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c))
}

func within(ctx context.Context, connection net.Conn, do func() error) error {
	end, _ := ctx.Deadline()
	if err := connection.SetDeadline(end); err != nil {
		return err
	}
	return do()
}

// dialTLS connects with the clients' certificate, read anew; prelude speaks
// before TLS begins, where the protocol wants that.
func (l *Load) dialTLS(ctx context.Context, s Installed, prelude func(net.Conn) error) (net.Conn, error) {
	roots, err := l.roots()
	if err != nil {
		return nil, err
	}
	l.opened.Add(1)
	plain, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return nil, err
	}
	if prelude != nil {
		if err := within(ctx, plain, func() error { return prelude(plain) }); err != nil {
			return nil, errors.Join(err, plain.Close())
		}
	}
	session := tls.Client(plain, &tls.Config{
		RootCAs: roots, ServerName: s.Name, MinVersion: tls.VersionTLS12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return Certificate(l.settings.Identity) },
	})
	if err := session.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, plain.Close())
	}
	return session, nil
}

// exchangeRedis writes a value and reads it back.
func exchangeRedis(c *bufio.ReadWriter) error {
	if _, err := c.WriteString("SET demo rotated\r\nGET demo\r\n"); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return err
	}
	for _, want := range []string{"+OK", "$7", "rotated"} {
		line, err := c.ReadString('\n')
		if err != nil {
			return err
		}
		if got := strings.TrimSpace(line); got != want {
			return fmt.Errorf("redis answers %q, not %q", got, want)
		}
	}
	return nil
}

// keepNginx asks over kept connections, as HTTP clients do: nginx closes idle
// ones when it reloads, and a GET that meets a closed one goes over another.
// That counts as a reconnect.
func (l *Load) keepNginx(s Installed) {
	dials := 0
	transport := &http.Transport{MaxIdleConnsPerHost: 1, DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if dials++; dials > 1 {
			l.reconnects.Add(1)
		}
		return l.dialTLS(ctx, s, nil)
	}}
	defer transport.CloseIdleConnections()
	l.each(keptEvery, func() { l.get(s, "nginx on a kept connection", transport) })
}

// openNginx opens a connection for each request.
func (l *Load) openNginx(s Installed) {
	transport := &http.Transport{DisableKeepAlives: true, DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return l.dialTLS(ctx, s, nil)
	}}
	l.each(newEvery, func() { l.get(s, "nginx on a new connection", transport) })
}

func (l *Load) get(s Installed, what string, transport *http.Transport) {
	l.request(what, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.Address+"/", nil)
		if err != nil {
			return err
		}
		response, err := transport.RoundTrip(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		if err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK || strings.TrimSpace(string(body)) != s.Answers {
			return fmt.Errorf("nginx answers %s %q", response.Status, body)
		}
		return nil
	})
}
