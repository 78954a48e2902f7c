// Package audit is the log of everything that Rotunda did or refused: its
// entries, the Merkle tree over them, signed checkpoints, proofs between two
// checkpoints, the tiles by which others read it, and the witness that notices
// when it was rewritten.
//
// The tree is that of RFC 6962 as golang.org/x/mod/sumdb/tlog stores it;
// checkpoints are signed notes (C2SP tlog-checkpoint, signed-note), tiles are
// those of C2SP tlog-tiles. The package does no I/O but the witness's: the
// store reads and keeps hashes, and passes them in.
package audit

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/internal/rfc3339"
)

// MaxEntry is the greatest size of an encoded entry in bytes: an entry bundle
// has sixteen bits for it.
const MaxEntry = math.MaxUint16

// The outcomes of a verb.
const (
	Done    = "done"
	Refused = "refused"
)

// Actor is who did it, as the server saw him.
type Actor struct {
	Kind    string // operator, agent, server, socket, token, anonymous, witness, expired, emergency
	ID      string // of the operator, agent, server or token
	Serial  string // of the certificate that he showed, hex
	Address string // where he came from, host:port
	UID     *int   // of the process at the other end of a unix socket
}

// Entry is one act or one refusal.
type Entry struct {
	ID      string         // UUIDv7
	Time    time.Time      // in the log: UTC, microseconds
	Actor   Actor          //
	Verb    string         // "token.create"
	Object  string         // "Kind/name"; may be empty
	Outcome string         // Done or Refused
	Reason  string         // required of refusals
	Detail  map[string]any // JSON values; integers within ±(2^53-1)
}

// wire is the JSON of an entry, as Decode reads it. Empty fields are left out,
// so that one entry has one encoding.
type wire struct {
	ID      string         `json:"id"`
	Time    string         `json:"time"`
	Actor   wireActor      `json:"actor"`
	Verb    string         `json:"verb"`
	Object  string         `json:"object"`
	Outcome string         `json:"outcome"`
	Reason  string         `json:"reason"`
	Detail  map[string]any `json:"detail"`
}

type wireActor struct {
	Kind    string `json:"kind"`
	ID      string `json:"id"`
	Serial  string `json:"serial"`
	Address string `json:"address"`
	UID     *int   `json:"uid"`
}

// Encode is the entry in the exact bytes of RFC 8785 that are hashed, stored
// and served. The time is cut to microseconds; text that is no UTF-8 has its
// bad bytes replaced by U+FFFD.
func (e Entry) Encode() ([]byte, error) {
	if err := e.validate(); err != nil {
		return nil, err
	}
	content, err := appendEntry(make([]byte, 0, 512), e)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "audit entry %s", e.Verb)
	}
	if len(content) > MaxEntry {
		return nil, fault.New(fault.Invalid, "audit entry %s: %d bytes, at most %d are allowed", e.Verb, len(content), MaxEntry).
			WithRemedy("change less at a time")
	}
	return content, nil
}

// Decode reads what Encode wrote and nothing else: unknown or repeated fields,
// another order, spaces, another form of a number are refused.
func Decode(content []byte) (Entry, error) {
	if len(content) > MaxEntry {
		return Entry{}, fault.New(fault.Invalid, "audit entry: %d bytes, at most %d are allowed", len(content), MaxEntry)
	}
	var w wire
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&w); err != nil {
		return Entry{}, fault.Wrap(fault.Invalid, err, "audit entry")
	}
	at, err := time.Parse(rfc3339.Micro, w.Time)
	if err != nil {
		return Entry{}, fault.Wrap(fault.Invalid, err, "audit entry: time")
	}
	e := Entry{
		ID: w.ID, Time: at, Actor: Actor(w.Actor), Verb: w.Verb, Object: w.Object,
		Outcome: w.Outcome, Reason: w.Reason, Detail: w.Detail,
	}
	again, err := e.Encode()
	if err != nil {
		return Entry{}, err
	}
	if !bytes.Equal(again, content) {
		return Entry{}, fault.New(fault.Invalid, "audit entry %s: not in the canonical form of RFC 8785", w.ID)
	}
	return e, nil
}

// textOfUUID is how long the one form is in which an id is written: uuid.Parse
// takes others, and the case of letters, too.
const textOfUUID = 36

func (e Entry) validate() error {
	id, err := uuid.Parse(e.ID)
	switch {
	case err != nil || id.Version() != 7 || len(e.ID) != textOfUUID || strings.ContainsAny(e.ID, "ABCDEF"):
		return fault.New(fault.Invalid, "audit entry: id %q must be a UUIDv7", e.ID)
	case e.Time.UTC().Year() < 1970 || e.Time.UTC().Year() > 9999:
		return fault.New(fault.Invalid, "audit entry %s: time %v must be between 1970 and 9999", e.ID, e.Time)
	case e.Verb == "":
		return fault.New(fault.Invalid, "audit entry %s: has no verb", e.ID)
	case e.Outcome != Done && e.Outcome != Refused:
		return fault.New(fault.Invalid, "audit entry %s: outcome %q must be %q or %q", e.ID, e.Outcome, Done, Refused)
	case e.Outcome == Refused && e.Reason == "":
		return fault.New(fault.Invalid, "audit entry %s: a refusal must have a reason", e.ID)
	}
	switch e.Actor.Kind {
	case "operator", "agent", "server", "socket", "token", "anonymous", "witness", "expired", "emergency":
		return nil
	}
	return fault.New(fault.Invalid, "audit entry %s: unknown kind of actor %q", e.ID, e.Actor.Kind)
}
