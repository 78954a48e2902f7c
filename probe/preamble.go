package probe

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Preamble names a protocol: what is said before TLS begins, and the one
// harmless thing that is said under TLS to have the server's word on the
// client. The docs of each talk say what that is.
type Preamble string

// The preambles. Those above the line begin with TLS.
const (
	NoPreamble Preamble = ""
	HTTP       Preamble = "http"
	Redis      Preamble = "redis"
	Memcached  Preamble = "memcached"
	AMQP       Preamble = "amqp"
	MQTT       Preamble = "mqtt"

	Postgres Preamble = "postgres"
	MySQL    Preamble = "mysql"
	NATS     Preamble = "nats"
)

// dialect is how a protocol comes to TLS, and what is said under it.
type dialect struct {
	// upgrade takes a fresh connection to the first byte of TLS. It must not
	// read past that byte: what came in the plain could be taken for
	// something that came under TLS. What it returns goes to talk.
	upgrade func(net.Conn) (any, error)
	// talk says something harmless that every server answers, so that a
	// rejection of the client certificate need not be waited for, and reads
	// the answer. nil: there is no such thing.
	talk func(session io.ReadWriter, with partner) (Acceptance, error)
	// decides says that only the answer is the server's word on the client: it
	// takes anybody into TLS, and refuses afterwards.
	decides bool
	// always says that just hanging up would count against this host, so that
	// the talk is had even where nobody wants to know.
	always bool
}

// partner is what a talk needs to know of the connection.
type partner struct {
	host     string // as in the address, or the name that was asked for
	sent     bool   // the server was sent a client certificate
	upgraded any
}

// dialects is every protocol that is known.
var dialects = map[Preamble]dialect{
	NoPreamble: {},
	HTTP:       {talk: talkHTTP, decides: true},
	Redis:      {talk: ask("PING\r\n")},
	Memcached:  {talk: ask("version\r\n")},
	AMQP:       {talk: ask("AMQP\x00\x00\x09\x01")},
	MQTT:       {talk: talkMQTT},
	Postgres:   {upgrade: upgradePostgres, talk: talkPostgres, decides: true},
	MySQL:      {upgrade: upgradeMySQL, talk: talkMySQL, always: true},
	NATS:       {upgrade: upgradeNATS, talk: ask(natsHello)},
}

// ask is the talk of a protocol in which any answer shows that the server has
// taken the client into TLS: Redis's +PONG or -NOAUTH, memcached's VERSION,
// AMQP's Connection.Start (or the header of a version that it prefers),
// NATS's PONG or its -ERR where a login is due.
func ask(question string) func(io.ReadWriter, partner) (Acceptance, error) {
	return func(session io.ReadWriter, _ partner) (Acceptance, error) {
		if _, err := io.WriteString(session, question); err != nil {
			return NotKnown, err
		}
		return anyAnswer(session)
	}
}

func anyAnswer(session io.Reader) (Acceptance, error) {
	var some [64]byte
	if _, err := session.Read(some[:]); err != nil {
		return NotKnown, err
	}
	return Accepted, nil
}

// Preambles lists the preambles, NoPreamble first.
func Preambles() []Preamble {
	var names []Preamble
	for name := range dialects {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// ParsePreamble reads the name of a preamble; "" and "none" are NoPreamble.
func ParsePreamble(name string) (Preamble, error) {
	if name == "none" {
		name = ""
	}
	if _, known := dialects[Preamble(name)]; !known {
		return "", fault.New(fault.Invalid, "preamble %q is unknown", name).WithRemedy("use one of %s, or none", preambleList())
	}
	return Preamble(name), nil
}

func preambleList() string {
	var names []string
	for _, name := range Preambles() {
		if name != NoPreamble {
			names = append(names, string(name))
		}
	}
	return strings.Join(names, ", ")
}

// plainError is a server that answered the preamble with something other
// than its consent to TLS.
type plainError struct{ text string }

func (e *plainError) Error() string { return e.text }

func notTLS(format string, args ...any) error {
	return &plainError{fmt.Sprintf(format, args...)}
}

// readLine reads up to the first newline and not a byte further.
func readLine(r io.Reader, limit int) (string, error) {
	var line []byte
	var b [1]byte
	for len(line) < limit {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return "", err
		}
		line = append(line, b[0])
		if b[0] == '\n' {
			return string(line), nil
		}
	}
	return "", notTLS("its first line is longer than %d bytes", limit)
}
