package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// fatal is PostgreSQL's ErrorResponse.
func fatal(code, message, routine string) string {
	body := "SFATAL\x00VFATAL\x00C" + code + "\x00M" + message + "\x00"
	if routine != "" {
		body += "Fauth.c\x00L412\x00R" + routine + "\x00"
	}
	return postgresMessage('E', body+"\x00")
}

func postgresMessage(kind byte, body string) string {
	return string(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4))) + body
}

func nginxPage(status, reason string) string {
	return "HTTP/1.1 " + status + "\r\nServer: nginx/1.22.1\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n" +
		"<html>\r\n<head><title>" + reason + "</title></head>\r\n<body>\r\n<center><h1>400 Bad Request</h1></center>\r\n"
}

const (
	hangUp = "\x00hang up"
	hush   = "\x00say nothing"

	getRoot   = "GET / HTTP/1.1\r\nHost: db.example\r\n"
	askPing   = "PING\r\n"
	askAMQP   = "AMQP\x00\x00\x09\x01"
	startUp   = "user\x00rotunda-probe\x00database\x00postgres\x00"
	needsCert = "connection requires a valid client certificate"
)

// TestTalks plays the server's half of each protocol under TLS: what it must
// hear, what it answers, and what that says of a client without a certificate
// and of one that has one. All of it is told apart without any ticket, and
// over both protocols.
func TestTalks(t *testing.T) {
	ca := newAuthority(t, "A")
	leaf, client := ca.leaf(t), ca.leaf(t)
	for name, c := range map[string]struct {
		preamble Preamble
		hears    string
		answer   string
		bare     Acceptance
		sent     Acceptance // empty: the same
	}{
		"redis, a pong":              {Redis, askPing, "+PONG\r\n", Accepted, ""},
		"redis, a login is due":      {Redis, askPing, "-NOAUTH Authentication required.\r\n", Accepted, ""},
		"redis, hangs up":            {Redis, askPing, hangUp, Rejected, ""},
		"redis, says nothing":        {Redis, askPing, hush, Silent, ""},
		"memcached, its version":     {Memcached, "version\r\n", "VERSION 1.6.18\r\n", Accepted, ""},
		"memcached, hangs up":        {Memcached, "version\r\n", hangUp, Rejected, ""},
		"amqp, connection.start":     {AMQP, askAMQP, "\x01\x00\x00\x00\x00\x01\xfe\x00\x0a\x00\x0a", Accepted, ""},
		"amqp, another version":      {AMQP, askAMQP, "AMQP\x00\x01\x00\x00", Accepted, ""},
		"amqp, hangs up":             {AMQP, askAMQP, hangUp, Rejected, ""},
		"mqtt, welcome":              {MQTT, string(mqttConnect), "\x20\x02\x00\x00", Accepted, ""},
		"mqtt, not authorised":       {MQTT, string(mqttConnect), "\x20\x02\x00\x05", Accepted, ""},
		"mqtt, hangs up":             {MQTT, string(mqttConnect), hangUp, Rejected, ""},
		"nats, pong":                 {NATS, natsHello, "PONG\r\n", Accepted, ""},
		"nats, a login is due":       {NATS, natsHello, "-ERR 'Authorization Violation'\r\n", Accepted, ""},
		"nats, hangs up":             {NATS, natsHello, hangUp, Rejected, ""},
		"http, a page":               {HTTP, getRoot, "HTTP/1.1 200 OK\r\n\r\nThe SSL certificate error", Accepted, ""},
		"http, not found":            {HTTP, getRoot, "HTTP/1.1 404 Not Found\r\n\r\n", Accepted, ""},
		"http, another 400":          {HTTP, getRoot, nginxPage("400 Bad Request", "400 Bad Request"), Accepted, ""},
		"http, no certificate":       {HTTP, getRoot, nginxPage("400 Bad Request", "400 No required SSL certificate was sent"), Rejected, ""},
		"http, a bad certificate":    {HTTP, getRoot, nginxPage("400 Bad Request", "400 The SSL certificate error"), Rejected, ""},
		"http, the same in HTTP/1.0": {HTTP, getRoot, strings.Replace(nginxPage("400 Bad Request", "400 The SSL certificate error"), "1.1", "1.0", 1), Rejected, ""},
		"http, not HTTP":             {HTTP, getRoot, "whatever it is", Accepted, ""},
		"http, a long 400":           {HTTP, getRoot, nginxPage("400 Bad Request", strings.Repeat("x", maxHTTPAnswer)), Accepted, ""},
		"http, hangs up":             {HTTP, getRoot, hangUp, Rejected, ""},
		"http, says nothing":         {HTTP, getRoot, hush, Silent, ""},

		"postgres, a password":         {Postgres, startUp, postgresMessage('R', "\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"), Accepted, ""},
		"postgres, welcome":            {Postgres, startUp, postgresMessage('R', "\x00\x00\x00\x00"), Accepted, ""},
		"postgres, a notice before":    {Postgres, startUp, postgresMessage('N', "SNOTICE\x00\x00") + postgresMessage('R', "\x00\x00\x00\x03"), Accepted, ""},
		"postgres, notices only":       {Postgres, startUp, strings.Repeat(postgresMessage('N', "SNOTICE\x00\x00"), 10), Undecided, Accepted},
		"postgres, demands one":        {Postgres, startUp, fatal("28000", needsCert, "ClientAuthentication"), Rejected, Accepted},
		"postgres, in Japanese":        {Postgres, startUp, fatal("28000", "この接続には有効なクライアント証明が必要です", "ClientAuthentication"), Rejected, Accepted},
		"postgres, no line":            {Postgres, startUp, fatal("28000", `no pg_hba.conf entry for host "::1", user "rotunda-probe", database "postgres", SSL encryption`, "ClientAuthentication"), Undecided, Accepted},
		"postgres, full":               {Postgres, startUp, fatal("53300", "sorry, too many clients already", "InitProcess"), Undecided, Accepted},
		"postgres, starting":           {Postgres, startUp, fatal("57P03", "the database system is starting up", "ProcessStartupPacket"), Undecided, Accepted},
		"postgres, no such role":       {Postgres, startUp, fatal("28000", `role "rotunda-probe" does not exist`, "InitializeSessionUserId"), Accepted, ""},
		"postgres, not this leaf":      {Postgres, startUp, fatal("28000", `certificate authentication failed for user "rotunda-probe"`, "auth_failed"), Accepted, ""},
		"postgres, no such database":   {Postgres, startUp, fatal("3D000", `database "postgres" does not exist`, "InitPostgres"), Accepted, ""},
		"postgres, no root store":      {Postgres, startUp, fatal("F0000", "client certificates can only be checked if a root certificate store is available", "ClientAuthentication"), Undecided, Accepted},
		"a pooler, no such database":   {Postgres, startUp, fatal("08P01", "no such database: postgres", ""), Accepted, ""},
		"postgres, an empty error":     {Postgres, startUp, postgresMessage('E', "\x00"), Accepted, ""},
		"postgres, a message of 1 GiB": {Postgres, startUp, "E\x40\x00\x00\x00", Rejected, ""},
		"postgres, hangs up":           {Postgres, startUp, hangUp, Rejected, ""},
		"postgres, says nothing":       {Postgres, startUp, hush, Silent, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				for _, sent := range []*tls.Certificate{nil, &client} {
					address, done := script{plainOf[c.preamble], func(session *tls.Conn) error { return answer(session, c.hears, c.answer) }}.serve(t,
						&tls.Config{Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequestClientCert, SessionTicketsDisabled: true, MaxVersion: version})
					seen := shake(t, Spec{Address: address, ServerName: "db.example", Preamble: c.preamble, Certificate: sent, ReadAcceptance: true})
					want := c.bare
					if sent != nil && c.sent != "" {
						want = c.sent
					}
					if decides := dialects[c.preamble].decides; version == tls.VersionTLS12 && !decides {
						want = Accepted // its Finished is its word, and nothing is asked
					} else if err := <-done; err != nil {
						t.Errorf("the server: %v", err)
					}
					if seen.Outcome != Served || seen.Accepted != want {
						t.Errorf("%s, sent %t: outcome %s, accepted %q, want %q: %s",
							tls.VersionName(version), sent != nil, seen.Outcome, seen.Accepted, want, seen.Error)
					}
					if told := want == Rejected || want == Undecided; told != (seen.Error != "") {
						t.Errorf("%q says %q", want, seen.Error)
					}
				}
			}
		})
	}
}

// answer hears the client out and says something, or does.
func answer(session *tls.Conn, hears, says string) error {
	heard := make([]byte, 1024)
	n := 0
	for !bytes.Contains(heard[:n], []byte(hears)) {
		more, err := session.Read(heard[n:])
		if n += more; err != nil {
			return errors.New("it was not asked what it should be")
		}
	}
	switch says {
	case hangUp:
		return session.NetConn().Close()
	case hush:
		return nil
	}
	_, err := io.WriteString(session, says)
	return errors.Join(err, session.CloseWrite())
}

// TestTicketsAreNoWelcomeWhereTheAnswerDecides: nginx hands them out before it
// says no.
func TestTicketsAreNoWelcomeWhereTheAnswerDecides(t *testing.T) {
	leaf := newAuthority(t, "A").leaf(t)
	says := map[Preamble]string{
		HTTP:     nginxPage("400 Bad Request", "400 No required SSL certificate was sent"),
		Postgres: fatal("28000", needsCert, "ClientAuthentication"),
	}
	for preamble, says := range says {
		address, done := script{plainOf[preamble], func(session *tls.Conn) error { return answer(session, "", says) }}.serve(t,
			&tls.Config{Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequestClientCert})
		seen := shake(t, Spec{Address: address, ServerName: "db.example", Preamble: preamble, ReadAcceptance: true})
		if seen.Accepted != Rejected {
			t.Errorf("%s: accepted %q", preamble, seen.Accepted)
		}
		if err := <-done; err != nil {
			t.Errorf("%s: %v", preamble, err)
		}
	}
}

// TestUndecidedIsNeitherDemandedNorOptional: the proof says what stood in the
// way.
func TestUndecidedIsNeitherDemandedNorOptional(t *testing.T) {
	ca := newAuthority(t, "A")
	leaf := ca.leaf(t)
	address, _ := script{plainOf[Postgres], func(session *tls.Conn) error {
		return answer(session, "", fatal("28000", `no pg_hba.conf entry for user "rotunda-probe"`, "ClientAuthentication"))
	}}.serve(t, &tls.Config{Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequestClientCert})
	for _, auth := range []ClientAuth{ClientAuthRequired, ClientAuthOptional, ClientAuthNone} {
		expected := expect(ca, address, leaf, leaf)
		expected.Spec.Preamble, expected.ClientAuth, expected.Immediate = Postgres, auth, true
		verdict, _ := Prove(context.Background(), expected)
		if verdict.Proven || verdict.Cause != CauseClientAuth || !strings.Contains(verdict.Reason, "no pg_hba.conf entry") {
			t.Errorf("%s: %+v", auth, verdict)
		}
	}
}

// fuzzTalk holds for every talk: no panic, no waiting, little sent, and words
// that are fit to print.
func fuzzTalk(f *testing.F, preamble Preamble) {
	f.Fuzz(func(t *testing.T, sent []byte) {
		w := &wire{in: bytes.NewReader(sent)}
		start := time.Now()
		accepted, err := dialects[preamble].talk(w, partner{host: "db.example"})
		if accepted == NotKnown && err == nil {
			t.Error("neither a word nor a reason")
		}
		if accepted == Rejected && (err == nil || clip(err.Error()) == "") {
			t.Error("a rejection without words")
		}
		if w.out.Len() > 256 || time.Since(start) > time.Minute {
			t.Errorf("sent %d bytes in %s", w.out.Len(), time.Since(start))
		}
	})
}

func FuzzHTTPTalk(f *testing.F) {
	f.Add([]byte(nginxPage("400 Bad Request", "400 No required SSL certificate was sent")))
	f.Add([]byte("HTTP/1.1 4"))
	fuzzTalk(f, HTTP)
}

func FuzzPostgresTalk(f *testing.F) {
	f.Add([]byte(fatal("28000", needsCert, "ClientAuthentication")))
	f.Add([]byte(strings.Repeat(postgresMessage('N', "x"), 9)))
	fuzzTalk(f, Postgres)
}
