package fleet

import (
	"regexp"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Window is a span of the week in which coordinated changes may go on, or,
// with freeze, may not.
type Window struct {
	// The days on which the window opens. Empty: every day.
	Days []Weekday `json:"days,omitempty"`
	// When it opens, as HH:MM.
	From Clock `json:"from"`
	// When it closes, as HH:MM. Before from: on the next day.
	To Clock `json:"to"`
	// The time zone of from and to, by its IANA name.
	Timezone string `json:"timezone"`
	// Whether changes are held inside the window instead of outside it.
	Freeze bool `json:"freeze,omitempty"`
}

func (*Window) kind() Kind { return KindWindow }

// Weekday is a day of the week: mon to sun.
type Weekday string

func (Weekday) values() []string {
	return []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
}

// Clock is a time of day as HH:MM, from 00:00 to 23:59.
type Clock string

const clockPattern = `^([01][0-9]|2[0-3]):[0-5][0-9]$`

var clockForm = regexp.MustCompile(clockPattern)

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Clock) UnmarshalText(text []byte) error {
	if !clockForm.Match(text) {
		return fault.New(fault.Invalid, "%s is not a time of day: it must be HH:MM, such as 06:30", quote(string(text)))
	}
	*c = Clock(text)
	return nil
}
