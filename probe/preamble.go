package probe

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Preamble names a protocol that starts in the plain and turns to TLS.
type Preamble string

// The preambles.
const (
	NoPreamble Preamble = ""
	Postgres   Preamble = "postgres"
	MySQL      Preamble = "mysql"
	NATS       Preamble = "nats"
)

// dialect is how a protocol comes to TLS, and how it is left again.
type dialect struct {
	// upgrade takes a fresh connection to the first byte of TLS. It must not
	// read past that byte: what came in the plain could be taken for
	// something that came under TLS. What it returns goes to leave.
	upgrade func(net.Conn) (any, error)
	// ask sends something harmless that a server answers, so that a
	// rejection of the client certificate need not be waited for. nil: there
	// is no such thing.
	ask func(io.Writer) error
	// askEnds says that the answer to ask is the end of the connection.
	askEnds bool
	// leave ends the conversation as the server expects it, where just
	// hanging up would count against this host. nil: hang up.
	leave func(tls io.ReadWriter, upgraded any) error
}

// dialects is every protocol that is known.
var dialects = map[Preamble]dialect{
	NoPreamble: {},
	Postgres:   {upgrade: upgradePostgres, ask: askPostgres, askEnds: true},
	MySQL:      {upgrade: upgradeMySQL, leave: leaveMySQL},
	NATS:       {upgrade: upgradeNATS, ask: askNATS},
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
