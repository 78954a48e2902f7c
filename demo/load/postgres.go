package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// RequestPostgresTLS asks for TLS as PostgreSQL's protocol begins.
func RequestPostgresTLS(connection net.Conn) error {
	if _, err := connection.Write([]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(connection, answer[:]); err != nil {
		return err
	}
	if answer[0] != 'S' {
		return errors.New("PostgreSQL offers no TLS")
	}
	return nil
}

// dialPostgres connects and logs in.
func (l *Load) dialPostgres(ctx context.Context, s Installed) (net.Conn, error) {
	connection, err := l.dialTLS(ctx, s, RequestPostgresTLS)
	if err != nil {
		return nil, err
	}
	startup := []byte("\x00\x03\x00\x00user\x00postgres\x00database\x00postgres\x00\x00")
	message := append(binary.BigEndian.AppendUint32(nil, uint32(len(startup)+4)), startup...)
	err = within(ctx, connection, func() error {
		if _, err := connection.Write(message); err != nil {
			return err
		}
		_, err := untilReady(bufio.NewReader(connection))
		return err
	})
	if err != nil {
		return nil, errors.Join(err, connection.Close())
	}
	return connection, nil
}

// exchangePostgres asks for one row.
func exchangePostgres(c *bufio.ReadWriter) error {
	query := "SELECT 'rotated'\x00"
	message := append(binary.BigEndian.AppendUint32([]byte{'Q'}, uint32(len(query)+4)), query...)
	if _, err := c.Write(message); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return err
	}
	rows, err := untilReady(c.Reader)
	if err == nil && rows != 1 {
		err = fmt.Errorf("PostgreSQL answers %d rows, not 1", rows)
	}
	return err
}

// untilReady reads messages until the server waits for the next query.
func untilReady(r *bufio.Reader) (rows int, err error) {
	for {
		var head [5]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return rows, err
		}
		length := binary.BigEndian.Uint32(head[1:])
		if length < 4 || length > 1<<16 {
			return rows, fmt.Errorf("PostgreSQL sends a message of %d bytes", length)
		}
		body := make([]byte, length-4)
		if _, err := io.ReadFull(r, body); err != nil {
			return rows, err
		}
		switch head[0] {
		case 'Z':
			return rows, nil
		case 'D':
			rows++
		case 'E':
			return rows, fmt.Errorf("PostgreSQL says %q", body)
		}
	}
}
