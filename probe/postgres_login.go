package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// postgresUser is the role that the probe logs in as. It need not exist, and
// never gets past the question for a password.
const postgresUser = "rotunda-probe"

const (
	postgresProtocol3 = 3 << 16
	maxPostgresAnswer = 4 << 10
	maxPostgresRounds = 4
)

// talkPostgres begins a login and reads the answer to its first message.
//
// PostgreSQL checks a client certificate in two places. One that was sent is
// verified in the handshake, so whoever hears anything at all was taken.
// Whether one is demanded is a matter of the line in pg_hba.conf: the server
// takes a client without one into TLS, and ends it with a FATAL then.
func talkPostgres(session io.ReadWriter, with partner) (Acceptance, error) {
	if _, err := session.Write(postgresStartup()); err != nil {
		return NotKnown, err
	}
	for range maxPostgresRounds {
		kind, body, err := readPostgres(session)
		switch {
		case err != nil:
			return NotKnown, err
		case with.sent, kind == 'R': // a question for a password, or a welcome
			return Accepted, nil
		case kind == 'E':
			return judgePostgres(parsePostgresError(body))
		}
		// A notice, or a word on protocol versions: read on.
	}
	return Undecided, errors.New("PostgreSQL says neither yes nor no")
}

func postgresStartup() []byte {
	body := binary.BigEndian.AppendUint32(nil, postgresProtocol3)
	body = append(body, "user\x00"+postgresUser+"\x00database\x00postgres\x00application_name\x00rotunda-probe\x00\x00"...)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...)
}

func readPostgres(r io.Reader) (kind byte, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size < 4 || size > maxPostgresAnswer {
		return 0, nil, notTLS("its first message claims %d bytes: not PostgreSQL", size)
	}
	body = make([]byte, size-4)
	_, err = io.ReadFull(r, body)
	return head[0], body, err
}

// postgresError is an ErrorResponse.
type postgresError struct {
	code    string // SQLSTATE
	message string // in the server's language (lc_messages)
	routine string // the C function that it comes from
}

func parsePostgresError(body []byte) postgresError {
	var e postgresError
	for field := range strings.SplitSeq(string(body), "\x00") {
		if field == "" {
			continue
		}
		switch text := field[1:]; field[0] {
		case 'C':
			e.code = text
		case 'M':
			e.message = text
		case 'R':
			e.routine = text
		}
	}
	return e
}

// judgePostgres says what a FATAL means for a client without a certificate.
// "connection requires a valid client certificate" shares its SQLSTATE and its
// C function with "no pg_hba.conf entry for …, user …" and "pg_hba.conf rejects
// connection for …, user …", and the words are the server's language's. But
// the other two name the user, in every language, and it names nobody.
func judgePostgres(e postgresError) (Acceptance, error) {
	err := fmt.Errorf("PostgreSQL answers %s: %s", e.code, e.message)
	class := e.code[:min(2, len(e.code))]
	switch {
	case class == "53" || class == "57":
		return Undecided, err // full, starting up or shutting down
	case e.routine != "ClientAuthentication":
		// Past the line in pg_hba.conf, and refused for another reason. Or a
		// pooler, which names no routine: it demands in the handshake.
		return Accepted, nil
	case class == "28" && !strings.Contains(e.message, postgresUser):
		return Rejected, err
	}
	return Undecided, err
}
