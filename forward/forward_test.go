package forward

import (
	"bytes"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	syslogfive "github.com/leodido/go-syslog/v4/rfc5424"

	"github.com/rotunda-pki/rotunda/audit"
)

func testEntry(t testing.TB, outcome, reason string) Entry {
	t.Helper()
	content, err := audit.Entry{
		ID: "0199c2f4-0000-7000-8000-000000000001", Time: time.Date(2026, 3, 1, 14, 2, 11, 5000, time.UTC), Actor: audit.Actor{Kind: "operator", ID: "ann"},
		Verb: "token.create", Object: `Token/a"]\b`, Outcome: outcome, Reason: reason, Detail: map[string]any{"note": "é\n]\"\\"},
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return Entry{Index: 41, ID: "0199c2f4-0000-7000-8000-000000000001", Leaf: audit.LeafHash(content), Content: content}
}

// A parser of others finds in a message what was put into it: the exact bytes,
// and the entry's place.
func TestMessageIsSyslog(t *testing.T) {
	for outcome, severity := range map[string]uint8{audit.Done: 6, audit.Refused: 4} {
		reason := ""
		if outcome == audit.Refused {
			reason = "no"
		}
		entry := testEntry(t, outcome, reason)
		s := &syslog{host: "db7", origin: "fleet.example/audit"}
		parsed, err := syslogfive.NewParser().Parse(s.message(entry))
		if err != nil {
			t.Fatal(err)
		}
		m := parsed.(*syslogfive.SyslogMessage)
		fields := (*m.StructuredData)[structured]
		if *m.Facility != 13 || *m.Severity != severity || *m.Hostname != "db7" || *m.Appname != "rotunda" || *m.MsgID != "audit" ||
			!m.Timestamp.Equal(time.Date(2026, 3, 1, 14, 2, 11, 5000, time.UTC)) {
			t.Errorf("header of %s", s.message(entry))
		}
		if fields["index"] != "41" || fields["id"] != entry.ID || fields["leaf"] != hex.EncodeToString(entry.Leaf[:]) || fields["origin"] != s.origin {
			t.Errorf("structured data %v", fields)
		}
		if *m.Message != string(entry.Content) {
			t.Errorf("message %q, want %q", *m.Message, entry.Content)
		}
	}
}

// Parsers differ in what they let pass, so the escapes of RFC 5424 section 6.3.3
// are held to the byte.
func TestEscapes(t *testing.T) {
	s := &syslog{host: "db7", origin: `a"]\b`}
	if message := s.message(testEntry(t, audit.Done, "")); !bytes.Contains(message, []byte(` origin="a\"\]\\b"] {`)) {
		t.Errorf("message %s", message)
	}
}

// Whatever stands in a name, another's parser reads it back.
func FuzzMessage(f *testing.F) {
	f.Add("id", "fleet.example/audit", "host")
	f.Add(`a"]\`, "\x00]", "a b\n")
	f.Add("\xff", "é", "")
	f.Fuzz(func(t *testing.T, id, origin, host string) {
		entry := testEntry(t, audit.Done, "")
		entry.ID = id
		s := &syslog{host: printable(host), origin: origin}
		message := s.message(entry)
		if strings.IndexFunc(id+origin, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0 {
			return // RFC 5424 has them; the parser does not
		}
		parsed, err := syslogfive.NewParser().Parse(message)
		if err != nil {
			t.Fatalf("%v: %q", err, message)
		}
		m := parsed.(*syslogfive.SyslogMessage)
		fields := (*m.StructuredData)[structured]
		if utf8.ValidString(id) && fields["id"] != id || utf8.ValidString(origin) && fields["origin"] != origin {
			t.Errorf("id %q and origin %q are read as %q", id, origin, fields)
		}
		if !bytes.HasSuffix(message, entry.Content) || *m.Message != string(entry.Content) {
			t.Errorf("the entry is read as %q", *m.Message)
		}
	})
}

// What a collector says of when to come back is seconds or a date, and no more
// than an hour.
func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 14, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "-7": 0, "soon": 0, "9999999": time.Hour, "99999999999999999999": 0,
		"Sun, 01 Mar 2026 14:00:30 GMT": 30 * time.Second, "Sun, 01 Mar 2026 13:00:00 GMT": 0, "Sun, 01 Mar 2099 14:00:30 GMT": time.Hour,
	} {
		header := http.Header{}
		header.Set("Retry-After", text)
		if got := retryAfter(header, now); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}
