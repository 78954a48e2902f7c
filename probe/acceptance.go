package probe

import (
	"crypto/tls"
	"io"
	"net"
	"time"
)

// How long a server may take to reject a client certificate, after a
// handshake that took this long: four times as long, within these bounds.
// A rejection is one flight behind the handshake. A server that was asked
// something will answer, so it costs nothing to wait longer for it.
const (
	minAcceptanceWait = 300 * time.Millisecond
	minAnswerWait     = 600 * time.Millisecond
	maxAcceptanceWait = 2 * time.Second
)

// afterwards reads the server's word on the client, and takes leave.
func (l *look) afterwards(session *tls.Conn, conn net.Conn, tickets *ticketSink, way dialect, upgraded any) {
	asked := l.seen.ClientAuth || l.seen.Resumed
	verdict := asked && (l.spec.ReadAcceptance || way.always)
	if asked && session.ConnectionState().Version < tls.VersionTLS13 && !way.decides {
		// Its Finished came after it had looked at the client's certificate.
		l.seen.Accepted, verdict = Accepted, false
	}
	if !verdict && !way.always {
		l.hangUp(session)
		return
	}
	l.seen.Stage = StageRead
	wait := l.patience(way)
	_ = session.SetWriteDeadline(time.Now().Add(wait)) // a failure shows in what follows
	_ = conn.SetReadDeadline(time.Now().Add(wait))     // the look's own end closes the connection
	accepted, err := l.converse(session, tickets, way, upgraded)
	if verdict {
		l.seen.Accepted = accepted
		if (accepted == Rejected || accepted == Undecided) && err != nil {
			l.seen.Error = clip(err.Error())
		}
	}
	l.hangUp(session)
}

func (l *look) patience(way dialect) time.Duration {
	shortest := minAcceptanceWait
	if way.talk != nil {
		shortest = minAnswerWait
	}
	return min(max(4*time.Duration(l.seen.LatencyMicros)*time.Microsecond, shortest), maxAcceptanceWait)
}

// converse has the dialect's talk, or waits for whatever comes, and says what
// the server made of the client.
func (l *look) converse(session *tls.Conn, tickets *ticketSink, way dialect, upgraded any) (Acceptance, error) {
	ear := &ear{ReadWriter: session}
	talk := way.talk
	if talk == nil {
		talk = func(session io.ReadWriter, _ partner) (Acceptance, error) { return anyAnswer(session) }
	}
	// A server may send the next ticket before it has looked at who resumes.
	telling := !l.seen.Resumed
	hurried := !way.decides && !way.always && telling
	if hurried {
		if tickets.waiting.Store(true); tickets.arrived.Load() {
			return Accepted, nil
		}
	}
	with := partner{host: l.spec.ServerName, sent: l.seen.Sent != "" || l.seen.Resumed, upgraded: upgraded}
	if with.host == "" {
		with.host = l.spec.Address
	}
	accepted, err := talk(ear, with)
	if accepted != NotKnown {
		return accepted, err
	}
	return acceptance(!way.decides && (ear.heard || telling && tickets.arrived.Load()), err), err
}

// acceptance is what a server meant by how a conversation broke off.
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
