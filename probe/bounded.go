package probe

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxBytes is what one handshake may cost: above the largest certificate
// message that crypto/tls takes, with some to spare.
const maxBytes = 512 << 10

var errTooMuch = errors.New("the server sends without end")

// boundedConn counts what a server sends and stops at a limit.
type boundedConn struct {
	net.Conn
	left   int
	marked int
}

func (c *boundedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// mark forgets what was heard so far.
func (c *boundedConn) mark() { c.marked = maxBytes - c.left }

// heard says whether the server has sent anything since the mark.
func (c *boundedConn) heard() bool { return maxBytes-c.left > c.marked }

// session is what a server gave a client to come back with, or nil.
type session struct{ state *tls.ClientSessionState }

// ticketSink is a session cache that remembers nothing, so that no handshake
// is ever a resumed one, unless that is what is tried. Having it makes servers send their tickets, which
// they do only once they have taken the client: the arrival of one ends the
// wait for a rejection.
type ticketSink struct {
	conn    net.Conn
	session *session // nil: none is offered or kept
	waiting atomic.Bool
	arrived atomic.Bool
}

// Get implements tls.ClientSessionCache.
func (s *ticketSink) Get(string) (*tls.ClientSessionState, bool) {
	if s.session == nil || s.session.state == nil {
		return nil, false
	}
	return s.session.state, true
}

// Put implements tls.ClientSessionCache.
func (s *ticketSink) Put(_ string, state *tls.ClientSessionState) {
	if state == nil {
		return // one that was offered is used up
	}
	if s.session != nil {
		s.session.state = state
	}
	s.arrived.Store(true)
	if s.waiting.Load() {
		_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // wakes the reader; the connection is done with
	}
}

// subjects renders the distinguished names that a server advertises.
func subjects(authorities [][]byte) []string {
	var names []string
	for _, der := range authorities[:min(len(authorities), MaxAuthorities)] {
		var rdn pkix.RDNSequence
		if rest, err := asn1.Unmarshal(der, &rdn); err != nil || len(rest) > 0 {
			names = append(names, "(not a distinguished name)")
			continue
		}
		names = append(names, clip(rdn.String()))
	}
	return names
}

// clip makes text from a server fit for a log, a terminal and a statement:
// valid UTF-8, printable, and not long.
func clip(text string) string {
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if utf8.RuneCountInString(text) <= maxText {
		return text
	}
	return string([]rune(text)[:maxText]) + "…"
}
