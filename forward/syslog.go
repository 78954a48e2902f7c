package forward

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync/atomic"
	"time"
)

// Syslog has no acknowledgement (RFC 6587 section 1, RFC 5425 section 4.3): a
// write that succeeds has reached a buffer of this host. What may lie in
// buffers when a connection ends is sent again over the next one: ours, which
// is kept small, and the receiver's, which Linux lets grow to six MiB.
const (
	sendBuffer   = 256 << 10
	receiverMost = 6 << 20
	sentAgain    = 2*sendBuffer + receiverMost // the kernel doubles what is asked for
)

// syslog writes RFC 5424 messages, each with its length before it (octet
// counting), over TCP or TLS.
type syslog struct {
	config Config
	origin string
	host   string
	conn   net.Conn
	gone   atomic.Bool   // the other side ended the connection
	done   chan struct{} // closed once nobody listens on conn any more
}

func (s *syslog) Open(ctx context.Context) (fresh bool, again int, err error) {
	if s.conn != nil && !s.gone.Load() {
		return false, 0, nil
	}
	s.Close()
	conn, err := s.dial(ctx)
	if err != nil {
		return false, 0, err
	}
	s.conn, s.done = conn, make(chan struct{})
	s.gone.Store(false)
	go s.listen(conn, s.done)
	return true, sentAgain, nil
}

func (s *syslog) dial(ctx context.Context) (net.Conn, error) {
	u, err := url.Parse(s.config.Address)
	if err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		if err := tcp.SetWriteBuffer(sendBuffer); err != nil {
			conn.Close()
			return nil, err
		}
	}
	if u.Scheme == "tcp" {
		return conn, nil
	}
	config, err := s.config.tls()
	if err != nil {
		conn.Close()
		return nil, err
	}
	config.ServerName = u.Hostname()
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

// listen waits for the end of the connection: a receiver says nothing else, and
// a write would only notice it one write too late.
func (s *syslog) listen(conn net.Conn, done chan struct{}) {
	defer close(done)
	_, _ = io.Copy(io.Discard, conn) // whatever ends it, it is over
	s.gone.Store(true)
}

func (s *syslog) Lost() bool { return s.conn != nil && s.gone.Load() }

func (s *syslog) Close() {
	if s.conn == nil {
		return
	}
	s.conn.Close()
	<-s.done
	s.conn = nil
}

func (s *syslog) Send(ctx context.Context, entries []Entry) error {
	var messages bytes.Buffer
	for _, entry := range entries {
		message := s.message(entry)
		fmt.Fprintf(&messages, "%d ", len(message))
		messages.Write(message)
	}
	deadline, _ := ctx.Deadline()
	if err := s.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	conn := s.conn
	stop := context.AfterFunc(ctx, func() { conn.SetWriteDeadline(time.Unix(1, 0)) }) // a stop of the server; it may run when this has returned
	defer stop()
	if _, err := messages.WriteTo(s.conn); err != nil {
		s.gone.Store(true) // a message that is there by half can't be taken up again
		return err
	}
	if s.gone.Load() {
		return fmt.Errorf("the receiver ended the connection")
	}
	return nil
}
