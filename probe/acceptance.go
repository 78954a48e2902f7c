package probe

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

// How long a server may take to reject a client certificate, after a
// handshake that took this long: four times as long, within these bounds.
// A rejection is one flight behind the handshake.
const (
	minAcceptanceWait = 150 * time.Millisecond
	maxAcceptanceWait = 2 * time.Second
)

// afterwards reads the server's word on the client, and takes leave.
func (l *look) afterwards(session *tls.Conn, conn net.Conn, tickets *ticketSink, way dialect, upgraded any) {
	verdict := l.seen.ClientAuth && (l.spec.ReadAcceptance || way.leave != nil)
	if l.seen.ClientAuth && session.ConnectionState().Version < tls.VersionTLS13 {
		// Its Finished came after it had looked at the client's certificate.
		l.seen.Accepted, verdict = Accepted, false
	}
	if !verdict && way.leave == nil {
		l.hangUp(session)
		return
	}
	l.seen.Stage = StageRead
	wait := min(max(4*time.Duration(l.seen.LatencyMicros)*time.Microsecond, minAcceptanceWait), maxAcceptanceWait)
	_ = session.SetWriteDeadline(time.Now().Add(wait)) // a failure shows in what follows
	_ = conn.SetReadDeadline(time.Now().Add(wait))     // the look's own end closes the connection
	heard, err := l.converse(session, tickets, way, upgraded)
	if verdict {
		ended := way.askEnds && errors.Is(err, io.EOF)
		l.seen.Accepted = acceptance(heard || ended, err)
		if l.seen.Accepted == Rejected {
			l.seen.Error = clip(err.Error())
		}
	}
	l.hangUp(session)
}

// converse says whether the server has spoken, and how it ended.
func (l *look) converse(session *tls.Conn, tickets *ticketSink, way dialect, upgraded any) (heard bool, err error) {
	ear := &ear{ReadWriter: session}
	if way.leave != nil {
		err = way.leave(ear, upgraded)
		return ear.heard || tickets.arrived.Load(), err
	}
	if tickets.waiting.Store(true); tickets.arrived.Load() {
		return true, nil
	}
	if way.ask != nil {
		if err := way.ask(ear); err != nil {
			return false, err
		}
	}
	var some [64]byte
	_, err = ear.Read(some[:])
	return ear.heard || tickets.arrived.Load(), err
}

// acceptance is what a server meant by how a conversation went.
func acceptance(heard bool, err error) Acceptance {
	switch {
	case heard || err == nil:
		return Accepted
	case timedOut(err):
		return Silent
	}
	return Rejected
}

// hangUp says goodbye where the server may still listen.
func (l *look) hangUp(session *tls.Conn) {
	_ = session.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)) // a courtesy
	_ = session.CloseWrite()
}

// ear notes whether anything was read.
type ear struct {
	io.ReadWriter
	heard bool
}

func (e *ear) Read(p []byte) (int, error) {
	n, err := e.ReadWriter.Read(p)
	e.heard = e.heard || n > 0
	return n, err
}
