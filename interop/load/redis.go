package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/interop/eye"
	"github.com/rotunda-pki/rotunda/probe"
)

// lines is a session of a protocol that asks and answers in lines.
type lines struct {
	conn    net.Conn
	reader  *bufio.Reader
	ask     func(n int) string
	answers func(n int, line string) bool
	more    int // lines of the answer that are not looked at
	n       int
}

func (s *lines) Request(ctx context.Context) error {
	if end, ok := ctx.Deadline(); ok {
		if err := s.conn.SetDeadline(end); err != nil {
			return err
		}
	}
	s.n++
	if _, err := s.conn.Write([]byte(s.ask(s.n))); err != nil {
		return err
	}
	line, err := s.reader.ReadString('\n')
	if err != nil {
		return err
	}
	if !s.answers(s.n, strings.TrimRight(line, "\r\n")) {
		return fmt.Errorf("it answers %q", line)
	}
	for range s.more {
		if _, err := s.reader.ReadString('\n'); err != nil {
			return err
		}
	}
	return nil
}

func (s *lines) Close() error {
	_ = s.conn.SetDeadline(time.Now().Add(time.Second)) // a frozen server does not hold the goodbye
	return s.conn.Close()
}

// Redis writes a counter.
func Redis(address string) Dialer {
	return dialLines(address, probe.NoPreamble, lines{
		ask:     func(n int) string { return fmt.Sprintf("SET interop:%d %d\r\n", n%16, n) },
		answers: func(_ int, line string) bool { return line == "+OK" },
	})
}

// RedisRead reads, where a replica takes no writes.
func RedisRead(address string) Dialer {
	return dialLines(address, probe.NoPreamble, lines{
		ask:     func(int) string { return "EXISTS interop:1\r\n" },
		answers: func(_ int, line string) bool { return strings.HasPrefix(line, ":") },
	})
}

// Memcached writes a counter.
func Memcached(address string) Dialer {
	return dialLines(address, probe.NoPreamble, lines{
		ask: func(n int) string {
			value := fmt.Sprint(n)
			return fmt.Sprintf("set interop:%d 0 0 %d\r\n%s\r\n", n%16, len(value), value)
		},
		answers: func(_ int, line string) bool { return line == "STORED" },
	})
}

func dialLines(address string, preamble probe.Preamble, like lines) Dialer {
	return func(ctx context.Context, config *tls.Config) (Session, error) {
		conn, err := eye.Dial(ctx, address, preamble, config)
		if err != nil {
			return nil, err
		}
		session := like
		session.conn, session.reader = conn, bufio.NewReader(conn)
		return &session, nil
	}
}
