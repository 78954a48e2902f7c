// Package rfc3339 writes times in UTC to the microsecond.
package rfc3339

import (
	"strconv"
	"time"
)

// Micro is the layout of RFC 3339 in UTC with exactly six digits of a second.
const Micro = "2006-01-02T15:04:05.000000Z"

// AppendMicro writes a time, cut to microseconds, as Micro has it: the time package knows
// RFC 3339 by heart, and has to read any other layout each time.
func AppendMicro(b []byte, t time.Time) []byte {
	b = t.UTC().AppendFormat(b, time.RFC3339)
	micros := 1_000_000 + t.Nanosecond()/1000 // with a digit in front, which the point takes
	from := len(b) - 1                        // of the Z
	b = strconv.AppendInt(b[:from], int64(micros), 10)
	b[from] = '.'
	return append(b, 'Z')
}
