package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/rotunda-pki/rotunda/interop/eye"
	"github.com/rotunda-pki/rotunda/probe"
)

// mqtt is an MQTT 3.1.1 client that publishes with acknowledgement.
type mqtt struct {
	conn *tls.Conn
	n    uint16
}

var mqttClients atomic.Int64 // ids must differ: a second one closes the first

// MQTT publishes, and waits for each acknowledgement.
func MQTT(address string) Dialer {
	return func(ctx context.Context, config *tls.Config) (Session, error) {
		conn, err := eye.Dial(ctx, address, probe.NoPreamble, config)
		if err != nil {
			return nil, err
		}
		s := &mqtt{conn: conn}
		if err := s.connect(ctx); err != nil {
			conn.NetConn().Close()
			return nil, err
		}
		return s, nil
	}
}

// connect asks for a clean session.
func (s *mqtt) connect(ctx context.Context) error {
	hello := append(mqttText("MQTT"), 4, 2, 0, 60)
	hello = append(hello, mqttText(fmt.Sprintf("interop-%d", mqttClients.Add(1)))...)
	return s.exchange(ctx, 0x10, hello, []byte{0x20, 2, 0, 0})
}

func (s *mqtt) Request(ctx context.Context) error {
	s.n = s.n%60000 + 1
	id := binary.BigEndian.AppendUint16(nil, s.n)
	message := append(append(mqttText("interop"), id...), "hello"...)
	return s.exchange(ctx, 0x32, message, append([]byte{0x40, 2}, id...))
}

// exchange sends a packet and wants exactly this answer.
func (s *mqtt) exchange(ctx context.Context, kind byte, body, wanted []byte) error {
	if end, ok := ctx.Deadline(); ok {
		if err := s.conn.SetDeadline(end); err != nil {
			return err
		}
	}
	if _, err := s.conn.Write(append([]byte{kind, byte(len(body))}, body...)); err != nil { // always below 128 bytes
		return err
	}
	answer := make([]byte, len(wanted))
	if _, err := io.ReadFull(s.conn, answer); err != nil {
		return err
	}
	if !bytes.Equal(answer, wanted) {
		return fmt.Errorf("it answers %x, not %x", answer, wanted)
	}
	return nil
}

func (s *mqtt) Close() error {
	_, _ = s.conn.Write([]byte{0xe0, 0}) // goodbye; it need not be heard
	return s.conn.NetConn().Close()
}

func mqttText(text string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(text))), text...)
}
