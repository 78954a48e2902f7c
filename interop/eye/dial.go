// Package eye looks at servers with nothing but crypto/tls and its own reading
// of the protocols, so that what the product calls proven is judged by code
// that the product does not use.
package eye

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/rotunda-pki/rotunda/probe"
)

// Dial connects, says what the protocol says before TLS, and shakes hands
// anew: no session is ever resumed.
func Dial(ctx context.Context, address string, preamble probe.Preamble, config *tls.Config) (*tls.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return nil, err
		}
	}
	if err := upgrade(conn, preamble); err != nil {
		conn.Close()
		return nil, fmt.Errorf("before TLS: %w", err)
	}
	config = config.Clone()
	config.ClientSessionCache, config.SessionTicketsDisabled = nil, true
	session := tls.Client(conn, config)
	if err := session.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return session, conn.SetDeadline(time.Time{})
}

func upgrade(conn net.Conn, preamble probe.Preamble) error {
	switch preamble {
	case probe.Postgres:
		return askPostgres(conn)
	case probe.MySQL:
		return askMySQL(conn)
	case probe.NATS:
		return skipInfo(conn)
	}
	return nil // TLS comes first
}

func askPostgres(conn net.Conn) error {
	if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return err
	}
	if answer[0] != 'S' {
		return fmt.Errorf("it answers %q to the wish for TLS", answer)
	}
	return nil
}

// askMySQL reads the greeting and sends the short form of the login, which
// asks for TLS: protocol 4.1, TLS, secure connection.
func askMySQL(conn net.Conn) error {
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	size := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
	greeting := make([]byte, size)
	if _, err := io.ReadFull(conn, greeting); err != nil {
		return err
	}
	if size == 0 || greeting[0] == 0xff {
		return fmt.Errorf("it greets with the error %q", greeting)
	}
	request := make([]byte, 4+32)
	request[0], request[3] = 32, head[3]+1
	binary.LittleEndian.PutUint32(request[4:], 0x200|0x800|0x8000)
	binary.LittleEndian.PutUint32(request[8:], 1<<24)
	request[12] = 45
	_, err := conn.Write(request)
	return err
}

// skipInfo reads the line that a NATS server begins with, a byte at a time: the
// next byte is TLS.
func skipInfo(conn net.Conn) error {
	var b [1]byte
	for n := 0; n < 64<<10; n++ {
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			return err
		}
		if b[0] == '\n' {
			return nil
		}
	}
	return fmt.Errorf("its first line does not end")
}
