package fleet

import (
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Exception lets one subject pass one rule for a while. It has an owner, an
// end and a reason.
type Exception struct {
	// The rule that is not applied.
	Rule string `json:"rule"`
	// Whom it is not applied to: an agent, a service or a placement.
	Subject string `json:"subject"`
	// Who answers for the exception.
	Owner string `json:"owner"`
	// When it ends: a date (its first instant in UTC) or an RFC 3339 time.
	Until Instant `json:"until"`
	// Why it is there.
	Reason string `json:"reason"`
}

func (*Exception) kind() Kind { return KindException }

// InForce says whether the exception has not ended yet.
func (e *Exception) InForce(now time.Time) bool { return now.Before(time.Time(e.Until)) }

// Instant is a moment, written as a date or as an RFC 3339 time.
type Instant time.Time

const instantPattern = `^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[-+][0-9]{2}:[0-9]{2}))?$`

// UnmarshalText implements encoding.TextUnmarshaler.
func (i *Instant) UnmarshalText(text []byte) error {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, string(text)); err == nil {
			*i = Instant(t.UTC())
			return nil
		}
	}
	return fault.New(fault.Invalid, "%s is not a moment: it must be a date such as 2027-01-31 or an RFC 3339 time such as 2027-01-31T08:00:00Z", quote(string(text)))
}

// MarshalText implements encoding.TextMarshaler.
func (i Instant) MarshalText() ([]byte, error) {
	return []byte(time.Time(i).UTC().Format(time.RFC3339Nano)), nil
}
