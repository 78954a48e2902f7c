package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// fail notes how the way to the handshake ended.
func (l *look) fail(err error, heard bool) {
	l.seen.Outcome = outcomeOf(l.seen.Stage, err, heard)
	l.seen.Error = clip(err.Error())
}

// failHandshake notes how a handshake ended. A server that asked for a client
// certificate has, by then, shown its own and its hold of the key; if the end
// came from its side, that is its refusal of the client and nothing worse.
func (l *look) failHandshake(err error, heard bool) {
	l.fail(err, heard)
	// In TLS 1.2 the group is known only from a key exchange whose signature
	// was verified; without one nothing was shown, whatever was asked.
	if !l.asked.Load() || l.seen.Group == "" || !fromPeer(err) {
		return
	}
	l.seen.Outcome = Served
	l.seen.Accepted = Rejected
	l.verify()
}

// fromPeer says whether a handshake was ended by the other side: by an alert
// or by hanging up.
func fromPeer(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return true
	}
	return hungUp(err)
}

func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func outcomeOf(stage Stage, err error, heard bool) Outcome {
	if timedOut(err) {
		return Timeout
	}
	if stage == StageConnect {
		if errors.Is(err, syscall.ECONNREFUSED) {
			return Refused
		}
		return Unreachable
	}
	if _, ok := errors.AsType[*plainError](err); ok {
		return NotTLS
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return NotTLS
	}
	if hungUp(err) && !heard {
		return Closed
	}
	if stage == StagePreamble {
		return NotTLS
	}
	return TLSFailed
}

// timedOut knows the end of a look's time by any of its names. A closed
// connection is one: nobody closes it before its time is over.
func timedOut(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT) {
		return true
	}
	network, ok := errors.AsType[net.Error](err)
	return ok && network.Timeout()
}
