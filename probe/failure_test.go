package probe

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// closedPort is an address where nothing listens.
func closedPort(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// TestOutcomesAreToldApart: what blocks the path is not what breaks TLS.
func TestOutcomesAreToldApart(t *testing.T) {
	leaf, other := newAuthority(t, "A").leaf(t), newAuthority(t, "B").leaf(t)
	swapped := tls.Certificate{Certificate: leaf.Certificate, PrivateKey: other.PrivateKey}
	old := &tls.Config{Certificates: []tls.Certificate{leaf}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	silent := func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }
	says := func(text string) func(net.Conn) {
		return func(conn net.Conn) { _, _ = io.WriteString(conn, text); silent(conn) }
	}
	for name, c := range map[string]struct {
		spec  Spec
		want  Outcome
		stage Stage
		leaf  bool
	}{
		"nothing listens":              {Spec{Address: closedPort(t)}, Refused, StageConnect, false},
		"no such name":                 {Spec{Address: "no-such-host.invalid:443"}, Unreachable, StageConnect, false},
		"accepts, never answers":       {Spec{Address: serve(t, silent)}, Timeout, StageHandshake, false},
		"never answers the preamble":   {Spec{Address: serve(t, silent), Preamble: Postgres}, Timeout, StagePreamble, false},
		"hangs up":                     {Spec{Address: serve(t, func(net.Conn) {})}, Closed, StageHandshake, false},
		"hangs up on the preamble":     {Spec{Address: serve(t, func(net.Conn) {}), Preamble: NATS}, Closed, StagePreamble, false},
		"plain HTTP":                   {Spec{Address: plain.Listener.Addr().String()}, NotTLS, StageHandshake, false},
		"greets in the plain":          {Spec{Address: serve(t, says("220 mail.example ESMTP\r\n"))}, NotTLS, StageHandshake, false},
		"TLS where a preamble is due":  {Spec{Address: serveTLS(t, &tls.Config{Certificates: []tls.Certificate{leaf}}), Preamble: Postgres}, Closed, StagePreamble, false},
		"a key that is not the leaf's": {Spec{Address: serveTLS(t, &tls.Config{Certificates: []tls.Certificate{swapped}})}, TLSFailed, StageHandshake, true},
		"the same in TLS 1.2":          {Spec{Address: serveTLS(t, &tls.Config{Certificates: []tls.Certificate{swapped}, MaxVersion: tls.VersionTLS12})}, TLSFailed, StageHandshake, true},
		"the same, asking for one":     {Spec{Address: serveTLS(t, &tls.Config{Certificates: []tls.Certificate{swapped}, MaxVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert})}, TLSFailed, StageHandshake, true},
		"protocols without a common":   {Spec{Address: serveTLS(t, old), MinVersion: tls.VersionTLS12}, TLSFailed, StageHandshake, false},
		"an old protocol":              {Spec{Address: serveTLS(t, old)}, Served, StageHandshake, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.spec.Timeout = time.Second
			seen := shake(t, c.spec)
			if seen.Outcome != c.want || seen.Stage != c.stage || (seen.Leaf != nil) != c.leaf {
				t.Errorf("outcome %s at %s, leaf %v; want %s at %s: %s", seen.Outcome, seen.Stage, seen.Leaf, c.want, c.stage, seen.Error)
			}
			if (seen.Error == "") != (c.want == Served) {
				t.Errorf("error %q", seen.Error)
			}
			blocked := c.want == Refused || c.want == Unreachable || c.want == Timeout
			if seen.Outcome.PathBlocked() != blocked {
				t.Errorf("path blocked: %t", !blocked)
			}
		})
	}
}

// TestCertificateWithoutProofOfItsKeyIsNotServed plays a TLS 1.2 server that
// shows a certificate of somebody else's and leaves out the key exchange that
// it would have to sign, then asks for a client certificate and hangs up.
func TestCertificateWithoutProofOfItsKeyIsNotServed(t *testing.T) {
	leaf := newAuthority(t, "A").leaf(t)
	hello := slices.Concat([]byte{3, 3}, make([]byte, 32), []byte{0}, []byte{0xc0, 0x2b, 0}, []byte{0, 0})
	der := leaf.Certificate[0]
	entry := append(uint24(len(der)), der...)
	flight := [][]byte{
		message(2, hello),
		message(11, append(uint24(len(entry)), entry...)),
		message(13, []byte{1, 64, 0, 2, 4, 3, 0, 0}),
	}
	for name, flight := range map[string][][]byte{
		"it says that it is done": append(slices.Clone(flight), message(14, nil)),
		"it hangs up":             flight,
		"it sends an alert":       flight,
	} {
		t.Run(name, func(t *testing.T) {
			address := serve(t, func(conn net.Conn) {
				_, _ = conn.Read(make([]byte, 4096)) // ClientHello
				_, _ = conn.Write(record(flight...))
				if name == "it sends an alert" {
					_, _ = conn.Write([]byte{21, 3, 3, 0, 2, 2, 42})
				}
			})
			seen := shake(t, Spec{Address: address, MaxVersion: tls.VersionTLS12, Timeout: 2 * time.Second})
			if !seen.ClientAuth || seen.Leaf == nil {
				t.Fatalf("the handshake did not come as far as it should: %s %s", seen.Outcome, seen.Error)
			}
			if seen.Outcome != TLSFailed || seen.Accepted != NotKnown {
				t.Errorf("outcome %s, accepted %q: it holds no key", seen.Outcome, seen.Accepted)
			}
		})
	}
}

func uint24(n int) []byte { return []byte{byte(n >> 16), byte(n >> 8), byte(n)} }

func message(kind byte, body []byte) []byte {
	return append(append([]byte{kind}, uint24(len(body))...), body...)
}

func record(messages ...[]byte) []byte {
	body := bytes.Join(messages, nil)
	return append(binary.BigEndian.AppendUint16([]byte{22, 3, 3}, uint16(len(body))), body...)
}

// TestHostileServersAreBounded: neither time nor memory is a server's to
// spend.
func TestHostileServersAreBounded(t *testing.T) {
	flood := func(chunk []byte) func(net.Conn) {
		return func(conn net.Conn) {
			for {
				if _, err := conn.Write(chunk); err != nil {
					return
				}
			}
		}
	}
	drip := func(text []byte) func(net.Conn) {
		return func(conn net.Conn) {
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for _, b := range text {
				<-tick.C
				if _, err := conn.Write([]byte{b}); err != nil {
					return
				}
			}
			_, _ = io.Copy(io.Discard, conn)
		}
	}
	leaf := newAuthority(t, "A").leaf(t)
	long := leaf
	for range 4000 {
		long.Certificate = append(long.Certificate[:len(long.Certificate):len(long.Certificate)], leaf.Certificate[1])
	}
	many := leaf
	for range 200 {
		many.Certificate = append(many.Certificate[:len(many.Certificate):len(many.Certificate)], leaf.Certificate[1])
	}
	warnings := func(conn net.Conn) { // warnings, one record after the other
		flood([]byte{21, 3, 3, 0, 2, 1, 0})(conn)
	}
	huge := func(conn net.Conn) { // a certificate message that claims 16 MiB
		head := record(message(2, slices.Concat([]byte{3, 3}, make([]byte, 32), []byte{0, 0xc0, 0x2b, 0, 0, 0})), []byte{11, 0xff, 0xff, 0xff})
		_, _ = conn.Write(head)
		flood(append([]byte{22, 3, 3, 0x40, 0}, make([]byte, 0x4000)...))(conn)
	}
	chatty := func(conn net.Conn) { // accepts, then talks for ever
		session := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequestClientCert})
		for {
			if _, err := session.Write(make([]byte, 16<<10)); err != nil {
				return
			}
		}
	}
	for name, c := range map[string]struct {
		handle   func(net.Conn)
		preamble Preamble
		want     Outcome
	}{
		"garbage":                 {flood([]byte("\x00\xff garbage ")), NoPreamble, NotTLS},
		"garbage after S":         {flood([]byte("S\x16\x03\x03\x00\x07garbage")), Postgres, TLSFailed},
		"a line without an end":   {flood([]byte("INFO {" + strings.Repeat(" ", 8<<10))), NATS, NotTLS},
		"a greeting of 16 MiB":    {flood(bytes.Repeat([]byte{0xff}, 4096)), MySQL, NotTLS},
		"drop by drop":            {drip(record(message(2, make([]byte, 60)))), NoPreamble, Timeout},
		"a preamble drop by drop": {drip([]byte("INFO " + strings.Repeat(" ", 4096))), NATS, Timeout},
		"endless warnings":        {warnings, NoPreamble, TLSFailed},
		"a message of 16 MiB":     {huge, NoPreamble, TLSFailed},
		"a chain of a megabyte": {func(conn net.Conn) {
			_ = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{long}}).Handshake()
		}, NoPreamble, TLSFailed},
		"a chain of 200": {func(conn net.Conn) {
			_ = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{many}}).Handshake()
		}, NoPreamble, Served},
		"talk without end": {chatty, NoPreamble, Served},
	} {
		t.Run(name, func(t *testing.T) {
			address := serve(t, c.handle)
			start := time.Now()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			seen := shake(t, Spec{Address: address, Preamble: c.preamble, Roots: newAuthority(t, "A").bundle, Timeout: 1500 * time.Millisecond, ReadAcceptance: true})
			runtime.ReadMemStats(&after)
			if seen.Outcome != c.want {
				t.Errorf("outcome %s at %s, want %s: %s", seen.Outcome, seen.Stage, c.want, seen.Error)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
				t.Errorf("allocated %d MiB", grown>>20)
			}
			if len(seen.Chain) > MaxChain || len(seen.Certificates) > MaxChain || len(seen.Error) > 4*maxText {
				t.Errorf("kept %d certificates and %d bytes of text", len(seen.Chain), len(seen.Error))
			}
			if seen.Trust == Trusted {
				t.Error("trusted")
			}
			if statement, err := seen.Statement(); err != nil || len(statement) > 64<<10 {
				t.Errorf("statement of %d bytes, %v", len(statement), err)
			}
		})
	}
}

// endless is a connection that never runs dry.
type endless struct{ net.Conn }

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestConnectionHasABudget(t *testing.T) {
	n, err := io.Copy(io.Discard, &boundedConn{Conn: endless{}, left: maxBytes})
	if n != maxBytes || !errors.Is(err, errTooMuch) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// brokenSigner is a client key that cannot sign.
type brokenSigner struct{ crypto.Signer }

func (brokenSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the token was pulled out")
}

// TestOwnTroubleIsNoRejection: a handshake that ends on this side says nothing
// of what the server accepts.
func TestOwnTroubleIsNoRejection(t *testing.T) {
	leaf := newAuthority(t, "A").leaf(t)
	client := tls.Certificate{Certificate: leaf.Certificate, PrivateKey: brokenSigner{leaf.PrivateKey.(crypto.Signer)}}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		address := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: version})
		seen := shake(t, Spec{Address: address, Certificate: &client, ReadAcceptance: true})
		if seen.Outcome != TLSFailed || seen.Accepted != NotKnown || !strings.Contains(seen.Error, "pulled out") && version == tls.VersionTLS12 {
			t.Errorf("%s: outcome %s, accepted %q: %s", tls.VersionName(version), seen.Outcome, seen.Accepted, seen.Error)
		}
	}
}

// TestDeadlineOfTheCallerIsATimeout: it is the server that was too slow.
func TestDeadlineOfTheCallerIsATimeout(t *testing.T) {
	address := serve(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	seen, err := Handshake(ctx, Spec{Address: address, Timeout: time.Minute, Now: time.Now})
	if err != nil || seen.Outcome != Timeout {
		t.Errorf("outcome %s, error %v", seen.Outcome, err)
	}
}

func TestTextOfServersIsTamed(t *testing.T) {
	for in, want := range map[string]string{
		"plain text":         "plain text",
		"\x1b[2Jgone\r\n":    "?[2Jgone??",
		"bad \xff\xfe utf-8": "bad ? utf-8",
		"\u202ebackwards":    "?backwards",
	} {
		if got := clip(in); got != want {
			t.Errorf("clip(%q) = %q, want %q", in, got, want)
		}
	}
	if got := clip(strings.Repeat("ä", 10_000)); len([]rune(got)) != maxText+1 {
		t.Errorf("%d runes are kept", len([]rune(got)))
	}
}
