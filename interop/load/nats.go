package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"strings"

	"github.com/rotunda-pki/rotunda/interop/eye"
	"github.com/rotunda-pki/rotunda/probe"
)

// nats is a NATS client that sends itself messages.
type nats struct {
	conn   *tls.Conn
	reader *bufio.Reader
	n      int
}

// NATS publishes to itself and reads what comes.
func NATS(address string) Dialer {
	return func(ctx context.Context, config *tls.Config) (Session, error) {
		conn, err := eye.Dial(ctx, address, probe.NATS, config)
		if err != nil {
			return nil, err
		}
		s := &nats{conn: conn, reader: bufio.NewReader(conn)}
		if err := s.say(ctx, `CONNECT {"verbose":false,"pedantic":false,"tls_required":true,"lang":"interop","version":"1","protocol":1}`+"\r\n"+
			fmt.Sprintf("SUB interop.%p 1\r\n", s)); err != nil {
			conn.NetConn().Close()
			return nil, err
		}
		return s, nil
	}
}

func (s *nats) say(ctx context.Context, text string) error {
	if end, ok := ctx.Deadline(); ok {
		if err := s.conn.SetDeadline(end); err != nil {
			return err
		}
	}
	_, err := s.conn.Write([]byte(text))
	return err
}

func (s *nats) Request(ctx context.Context) error {
	s.n++
	body := fmt.Sprint(s.n)
	if err := s.say(ctx, fmt.Sprintf("PUB interop.%p %d\r\n%s\r\n", s, len(body), body)); err != nil {
		return err
	}
	for {
		line, err := s.reader.ReadString('\n')
		if err != nil {
			return err
		}
		switch {
		case strings.TrimSpace(line) == body:
			return nil
		case strings.HasPrefix(line, "PING"):
			if err := s.say(ctx, "PONG\r\n"); err != nil {
				return err
			}
		case strings.HasPrefix(line, "-ERR"):
			return fmt.Errorf("it says %q", line)
		}
	}
}

func (s *nats) Close() error { return s.conn.NetConn().Close() }
