// Package forward hands entries of the audit log to a sink outside: an
// OpenTelemetry collector, or a receiver of syslog.
//
// A sink only speaks its protocol. Which entries it has taken, when one is
// tried again, and who of many servers forwards is the loop's (package
// reconcile) and the store's.
package forward

import (
	"context"

	"github.com/rotunda-pki/rotunda/audit"
)

// Entry is an entry of the log, with its place in it.
type Entry struct {
	Index   uint64
	ID      string
	Leaf    audit.Hash
	Content []byte // the exact bytes that are hashed
}

// Sink takes entries. It is used by one goroutine.
type Sink interface {
	// Open makes sure that there is a connection. Of a fresh one it says how
	// many bytes of entries before the first that was not taken must be sent
	// once more: they may not have come further than a buffer.
	Open(ctx context.Context) (fresh bool, again int, err error)
	// Lost says that a connection is there no more that was there before.
	Lost() bool
	// Send returns nil once the sink has taken all of the entries, as far as
	// its protocol lets it say so. After an error it may have taken some.
	Send(ctx context.Context, entries []Entry) error
	// Close ends the connection, and what belongs to it.
	Close()
}

// New returns the sink of a configuration that is valid. origin names the log.
func New(c Config, origin string) Sink {
	switch c.Kind {
	case KindSyslog:
		return &syslog{config: c, origin: origin, host: hostname()}
	case KindOTLPGRPC:
		return &otlpGRPC{config: c, origin: origin}
	}
	return &otlp{config: c, origin: origin}
}
