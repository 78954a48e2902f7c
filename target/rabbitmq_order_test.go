package target_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/target"
	"github.com/rotunda-pki/rotunda/target/targettest"
)

// amqpClient opens a connection as far as a broker knows one.
func amqpClient(t *testing.T, at target.Target, c *targettest.Credential) *tls.Conn {
	t.Helper()
	conn := dialled(t, at, c)
	short := func(text string) []byte { return append([]byte{byte(len(text))}, text...) }
	long := func(text string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
	}
	method := func(number byte, arguments ...[]byte) {
		t.Helper()
		payload := slices.Concat(append([][]byte{{0, 10, 0, number}}, arguments...)...)
		frame := slices.Concat([]byte{1, 0, 0}, long(string(payload)), []byte{0xCE})
		if _, err := conn.Write(frame); err != nil {
			t.Fatal(err)
		}
	}
	hears := func(number byte) {
		t.Helper()
		head := make([]byte, 7)
		if _, err := io.ReadFull(conn, head); err != nil {
			t.Fatal(err)
		}
		rest := make([]byte, binary.BigEndian.Uint32(head[3:])+1)
		if _, err := io.ReadFull(conn, rest); err != nil || !bytes.HasPrefix(rest, []byte{0, 10, 0, number}) {
			t.Fatalf("method %d: %v %q", number, err, rest)
		}
	}
	if _, err := io.WriteString(conn, "AMQP\x00\x00\x09\x01"); err != nil {
		t.Fatal(err)
	}
	hears(10)
	method(11, long(""), short("PLAIN"), long("\x00guest\x00guest"), short("en_US"))
	hears(30)
	method(31, []byte{0, 9, 0, 2, 0, 0, 0, 0})
	method(40, short("/"), short(""), []byte{0})
	hears(41)
	return conn
}

// ended says whether the broker ends the connection, as a client answers that.
func ended(conn *tls.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
	head := make([]byte, 11)
	if _, err := io.ReadFull(conn, head); err != nil || !bytes.Equal(head[7:], []byte{0, 10, 0, 50}) {
		return false
	}
	_, _ = conn.Write([]byte{1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 51, 0xCE})
	return closed(conn)
}

func rabbitOrders(s *stand) {
	s.deliver(s.leaf, s.a.Root, s.b.Root)
	s.loads(target.Change{AnchorsAdded: true}, fleet.Loaded)
	under := func(a *targettest.Authority) *tls.Conn {
		return amqpClient(s.t, s.Target, a.Issue(s.t, targettest.Order{}))
	}
	a, b := under(s.a), under(s.b)
	got := orders(s.t, s.adapter, s.Target, target.Order{Act: target.CloseSessions, Issuers: []*x509.Certificate{s.b.Issuing}}, targettest.Patience, target.Done, "CN=B issuing")
	if got.Count != 1 || !ended(b) || closed(a) {
		s.t.Errorf("under B: %+v", got)
	}
	if got := orders(s.t, s.adapter, s.Target, target.Order{Act: target.CloseSessions}, targettest.Patience, target.Done, "all TLS clients"); got.Count != 1 || !ended(a) {
		s.t.Errorf("all: %+v", got)
	}
}
