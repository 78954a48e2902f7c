package probe

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// script is a server that plays a protocol's plain part, if it has one, then TLS, then what
// comes after it.
type script struct {
	plain func(net.Conn) error
	after func(session *tls.Conn) error
}

func (s script) serve(t *testing.T, config *tls.Config) (address string, done chan error) {
	done = make(chan error, 8)
	tell := func(err error) {
		select {
		case done <- err:
		default: // nobody is interested any more
		}
	}
	return serve(t, func(conn net.Conn) {
		if s.plain != nil {
			if err := s.plain(conn); err != nil {
				tell(err)
				return
			}
		}
		session := tls.Server(conn, config)
		if err := session.Handshake(); err != nil {
			tell(err)
			return
		}
		tell(s.after(session))
		_, _ = io.Copy(io.Discard, session)
	}), done
}

func expectBytes(r io.Reader, want []byte) error {
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("read other bytes than the protocol has")
	}
	return nil
}

var (
	sslRequest = []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}
	natsInfo   = "INFO {\"server_id\":\"N1\",\"tls_required\":true} \r\n"
	// What MariaDB 10.11 sends, up to its salt.
	mysqlHello = append(append([]byte{10}, "10.11.6-MariaDB\x00"...), slicesOf(
		[]byte{9, 0, 0, 0}, bytes.Repeat([]byte{'a'}, 8), []byte{0, 0xfe, 0xff, 45, 2, 0, 0xff, 0x81, 21},
		make([]byte, 10), bytes.Repeat([]byte{'b'}, 12), []byte{0}, []byte("mysql_native_password\x00"))...)
)

func slicesOf(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func mysqlPlain(conn net.Conn) error {
	if err := writeMySQLPacket(conn, 0, mysqlHello); err != nil {
		return err
	}
	return expectBytes(conn, slicesOf([]byte{32, 0, 0, 1}, mysqlClientHead(mysqlGreeting{capabilities: mysqlPluginAuth})))
}

// TestPreamblesLeadToTLSAndOut plays each protocol's server down to the byte.
func TestPreamblesLeadToTLSAndOut(t *testing.T) {
	denied := slicesOf([]byte{0xff, 0x15, 0x04}, []byte("#28000Access denied"))
	readLogin := func(session *tls.Conn) error {
		payload, sequence, err := readMySQLPacket(session, 1024)
		if err != nil {
			return err
		}
		if sequence != 2 || !bytes.Contains(payload, []byte("rotunda-probe\x00\x00mysql_native_password\x00")) {
			return errors.New("that is no login")
		}
		return nil
	}
	for name, c := range map[string]struct {
		preamble Preamble
		script   script
	}{
		"mysql": {MySQL, script{mysqlPlain, func(session *tls.Conn) error {
			if err := readLogin(session); err != nil {
				return err
			}
			return writeMySQLPacket(session, 3, denied)
		}}},
		"mysql, another plugin": {MySQL, script{mysqlPlain, func(session *tls.Conn) error {
			if err := readLogin(session); err != nil {
				return err
			}
			if err := writeMySQLPacket(session, 3, append([]byte{0xfe}, "caching_sha2_password\x00"...)); err != nil {
				return err
			}
			if err := expectBytes(session, []byte{0, 0, 0, 4}); err != nil {
				return err
			}
			return writeMySQLPacket(session, 5, denied)
		}}},
		"mysql, anybody may": {MySQL, script{mysqlPlain, func(session *tls.Conn) error {
			if err := readLogin(session); err != nil {
				return err
			}
			if err := writeMySQLPacket(session, 3, []byte{0, 0, 0, 2, 0, 0, 0}); err != nil {
				return err
			}
			return expectBytes(session, []byte{1, 0, 0, 0, 1})
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			ca := newAuthority(t, "A")
			leaf := ca.leaf(t)
			address, done := c.script.serve(t, &tls.Config{
				Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequestClientCert, SessionTicketsDisabled: true,
			})
			seen := shake(t, Spec{Address: address, Preamble: c.preamble, ServerName: "db.example", Roots: ca.bundle, ReadAcceptance: true})
			if seen.Outcome != Served || seen.Trust != Trusted || seen.Accepted != Accepted {
				t.Errorf("outcome %s, trust %s, accepted %q: %s", seen.Outcome, seen.Trust, seen.Accepted, seen.Error)
			}
			if err := <-done; err != nil {
				t.Errorf("the server: %v", err)
			}
		})
	}
}

// TestMySQLIsLeftPolitely even where nobody asks what it accepts: a client
// that just hangs up is counted against its host.
func TestMySQLIsLeftPolitely(t *testing.T) {
	leaf := newAuthority(t, "A").leaf(t)
	login := make(chan bool, 1)
	address, done := script{mysqlPlain, func(session *tls.Conn) error {
		_, _, err := readMySQLPacket(session, 1024)
		login <- err == nil
		return writeMySQLPacket(session, 3, []byte{0xff, 0x15, 0x04})
	}}.serve(t, &tls.Config{Certificates: []tls.Certificate{leaf}})
	if seen := shake(t, Spec{Address: address, Preamble: MySQL}); seen.Outcome != Served {
		t.Fatalf("%s: %s", seen.Outcome, seen.Error)
	}
	if err := <-done; err != nil || !<-login {
		t.Errorf("no login came: %v", err)
	}
}

// TestRejectionIsReadThroughPreambles: with TLS 1.3 a server's alert comes in
// place of its answer.
func TestRejectionIsReadThroughPreambles(t *testing.T) {
	leaf := newAuthority(t, "A").leaf(t)
	for _, preamble := range Preambles() {
		address, done := script{plainOf[preamble], func(*tls.Conn) error { return errors.New("accepted") }}.serve(t,
			&tls.Config{Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequireAnyClientCert})
		seen := shake(t, Spec{Address: address, Preamble: preamble, ReadAcceptance: true})
		if seen.Outcome != Served || seen.Accepted != Rejected || !strings.Contains(seen.Error, "certificate required") {
			t.Errorf("%s: outcome %s, accepted %q: %s", preamble, seen.Outcome, seen.Accepted, seen.Error)
		}
		<-done
	}
}

// plainOf is the servers' part before TLS begins.
var plainOf = map[Preamble]func(net.Conn) error{
	Postgres: func(conn net.Conn) error {
		if err := expectBytes(conn, sslRequest); err != nil {
			return err
		}
		_, err := conn.Write([]byte{'S'})
		return err
	},
	NATS:  func(conn net.Conn) error { _, err := io.WriteString(conn, natsInfo); return err },
	MySQL: mysqlPlain,
}

func TestPreamblesSayWhyThereIsNoTLS(t *testing.T) {
	off := bytes.Clone(mysqlHello)
	at := bytes.IndexByte(off, 0) + 1 + 4 + 8 + 1
	binary.LittleEndian.PutUint16(off[at:], 0xffff&^mysqlSSL)
	packet := func(payload []byte) string {
		var b bytes.Buffer
		_ = writeMySQLPacket(&b, 0, payload)
		return b.String()
	}
	for _, c := range []struct {
		preamble Preamble
		says     string
		word     string
	}{
		{Postgres, "N", "TLS is off"},
		{Postgres, "E", "with an error"},
		{Postgres, "H", "0x48"},
		{NATS, "INFO {\"server_id\":\"N1\"}\r\n", "TLS is off"},
		{NATS, "HTTP/1.1 400 Bad Request\r\n", "not NATS's INFO"},
		{NATS, "INFO nonsense\r\n", "no JSON"},
		{MySQL, packet(off), "TLS is off"},
		{MySQL, packet(slicesOf([]byte{0xff, 0x69, 0x04}, []byte("Host '10.0.0.1' is blocked"))), "error 1129: Host '10.0.0.1' is blocked"},
		{MySQL, packet([]byte{9}), "protocol version 9"},
		{MySQL, packet(nil), "empty greeting"},
		{MySQL, packet([]byte{10, '8', 0, 1}), "cut short"},
		{MySQL, "SSH-2.0-OpenSSH_9.2\r\n", "claims"},
	} {
		address := serve(t, func(conn net.Conn) {
			_, _ = io.WriteString(conn, c.says)
			_, _ = io.Copy(io.Discard, conn)
		})
		seen := shake(t, Spec{Address: address, Preamble: c.preamble, Timeout: 2 * time.Second})
		if seen.Outcome != NotTLS || seen.Stage != StagePreamble || !strings.Contains(seen.Error, c.word) {
			t.Errorf("%s %q: outcome %s at %s: %s", c.preamble, c.says, seen.Outcome, seen.Stage, seen.Error)
		}
	}
}

// TestNothingInThePlainIsTakenForTLS: what a man in the middle sends along
// with the consent to TLS must break the handshake, not slip into it.
func TestNothingInThePlainIsTakenForTLS(t *testing.T) {
	leaf := newAuthority(t, "A").leaf(t)
	address, done := script{
		func(conn net.Conn) error {
			if err := expectBytes(conn, sslRequest); err != nil {
				return err
			}
			_, err := io.WriteString(conn, "Sinjected")
			return err
		},
		func(*tls.Conn) error { return nil },
	}.serve(t, &tls.Config{Certificates: []tls.Certificate{leaf}})
	if seen := shake(t, Spec{Address: address, Preamble: Postgres, Timeout: 2 * time.Second}); seen.Outcome != NotTLS {
		t.Errorf("outcome %s: %s", seen.Outcome, seen.Error)
	}
	<-done
}

func TestParsePreamble(t *testing.T) {
	for _, name := range []string{"", "none", "http", "redis", "memcached", "amqp", "mqtt", "postgres", "mysql", "nats"} {
		if preamble, err := ParsePreamble(name); err != nil || (name == "none") != (preamble == "" && name != "") {
			t.Errorf("%q: %q, %v", name, preamble, err)
		}
	}
	if _, err := ParsePreamble("smtp"); err == nil || !strings.Contains(err.Error(), "amqp, http, memcached, mqtt, mysql, nats, postgres, redis") {
		t.Errorf("%v", err)
	}
}

// wire is a connection whose other side has already said all that it will.
type wire struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (w *wire) Read(p []byte) (int, error)  { return w.in.Read(p) }
func (w *wire) Write(p []byte) (int, error) { return w.out.Write(p) }

// fuzzUpgrade holds for every preamble: no panic, no read past the first byte
// of TLS, no more than a little sent, and errors that are fit to print.
func fuzzUpgrade(f *testing.F, preamble Preamble, size func(sent []byte) int) {
	f.Fuzz(func(t *testing.T, sent []byte) {
		w := &wire{in: bytes.NewReader(sent)}
		_, err := dialects[preamble].upgrade(w)
		if err == nil && len(sent)-w.in.Len() != size(sent) {
			t.Errorf("read %d bytes of %q", len(sent)-w.in.Len(), sent)
		}
		if w.out.Len() > 64 {
			t.Errorf("sent %d bytes", w.out.Len())
		}
		if err != nil && clip(err.Error()) == "" {
			t.Error("an error without words")
		}
	})
}

func FuzzPostgresPreamble(f *testing.F) {
	f.Add([]byte("S\x16\x03"))
	f.Add([]byte("N"))
	fuzzUpgrade(f, Postgres, func([]byte) int { return 1 })
}

func FuzzNATSPreamble(f *testing.F) {
	f.Add([]byte(natsInfo + "\x16\x03"))
	fuzzUpgrade(f, NATS, func(sent []byte) int { return bytes.IndexByte(sent, '\n') + 1 })
}

func FuzzMySQLPreamble(f *testing.F) {
	var b bytes.Buffer
	_ = writeMySQLPacket(&b, 0, mysqlHello)
	f.Add(b.Bytes())
	f.Add(slicesOf([]byte{5, 0, 0, 0, 0xff, 1, 2, '#', 'x'}))
	fuzzUpgrade(f, MySQL, func(sent []byte) int { return 4 + int(sent[0]) + int(sent[1])<<8 + int(sent[2])<<16 })
}

// FuzzMySQLFarewell: a hostile server cannot keep the probe at its table.
func FuzzMySQLFarewell(f *testing.F) {
	f.Add([]byte{3, 0, 0, 3, 0xff, 0x15, 0x04})
	f.Add(bytes.Repeat([]byte{1, 0, 0, 3, 0xfe}, 500))
	f.Fuzz(func(t *testing.T, sent []byte) {
		w := &wire{in: bytes.NewReader(sent)}
		_, _ = talkMySQL(w, partner{upgraded: mysqlGreeting{plugin: "p", sequence: 1}})
		if w.out.Len() > 256 {
			t.Errorf("sent %d bytes", w.out.Len())
		}
	})
}

// FuzzObservationText: whatever distinguished names a server advertises, the
// statement stays valid, canonical JSON.
func FuzzObservationText(f *testing.F) {
	f.Add([]byte("\x30\x0d\x31\x0b\x30\x09\x06\x03\x55\x04\x03\x0c\x02\xff\xfe"), "error \xff")
	f.Fuzz(func(t *testing.T, der []byte, text string) {
		statement, err := Observation{Authorities: subjects([][]byte{der}), Error: clip(text)}.Statement()
		if err != nil || !json.Valid(statement) {
			t.Errorf("%v: %s", err, statement)
		}
	})
}
