package forward

import (
	"bytes"
	"encoding/hex"
	"os"
	"strconv"

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/rfc3339"
)

// Facility log audit (13), severity informational (6) or warning (4): RFC 5424
// section 6.2.1.
const (
	priorityDone    = 13*8 + 6
	priorityRefused = 13*8 + 4
)

// structured is the name of the structured data. 32473 is the enterprise number
// that RFC 5612 sets aside for who has none.
const structured = "rotunda@32473"

// longestHost is the most of a HOSTNAME.
const longestHost = 255

// message is an entry in the form of RFC 5424 section 6. The message proper is
// the entry's exact bytes, so no byte order mark stands before it.
func (s *syslog) message(entry Entry) []byte {
	priority, at := priorityDone, "-"
	if decoded, err := audit.Decode(entry.Content); err == nil {
		at = decoded.Time.UTC().Format(rfc3339.Micro)
		if decoded.Outcome == audit.Refused {
			priority = priorityRefused
		}
	}
	var b bytes.Buffer
	b.WriteString("<" + strconv.Itoa(priority) + ">1 " + at + " " + s.host + " rotunda - audit [" + structured)
	for _, field := range [][2]string{
		{"index", strconv.FormatUint(entry.Index, 10)}, {"id", entry.ID},
		{"leaf", hex.EncodeToString(entry.Leaf[:])}, {"origin", s.origin},
	} {
		b.WriteString(" " + field[0] + `="`)
		writeParameter(&b, field[1])
		b.WriteByte('"')
	}
	b.WriteString("] ")
	b.Write(entry.Content)
	return b.Bytes()
}

// writeParameter escapes what RFC 5424 section 6.3.3 wants escaped.
func writeParameter(b *bytes.Buffer, value string) {
	for _, r := range value { // yields U+FFFD for a broken byte
		if r == '"' || r == '\\' || r == ']' {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
}

// hostname is this host's name as a HOSTNAME of RFC 5424 section 6.2.4.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "-"
	}
	return printable(name)
}

func printable(name string) string {
	var kept []byte
	for i := 0; i < len(name) && len(kept) < longestHost; i++ {
		if '!' <= name[i] && name[i] <= '~' {
			kept = append(kept, name[i])
		}
	}
	if len(kept) == 0 {
		return "-"
	}
	return string(kept)
}
