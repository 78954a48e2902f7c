package fleet

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Duration is a length of time as documents write it: whole numbers with
// units from d (24 hours) down to ms, largest first: "36h", "90d", "1h30m".
type Duration time.Duration

const (
	day             = 24 * time.Hour
	durationPattern = `^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$`
)

var (
	durationForm  = regexp.MustCompile(durationPattern)
	durationUnits = []struct {
		suffix string
		length time.Duration
	}{{"d", day}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}}
)

// ParseDuration reads the form that Duration describes.
func ParseDuration(text string) (Duration, error) {
	parts := durationForm.FindStringSubmatch(text)
	if parts == nil || text == "" {
		return 0, fault.New(fault.Invalid, "%s is not a duration: it must be whole numbers with units d, h, m, s, ms, largest first, such as 36h, 90d or 1h30m", quote(text))
	}
	var total time.Duration
	for i, unit := range durationUnits {
		digits := strings.TrimSuffix(parts[i+1], unit.suffix)
		if digits == "" {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n > (math.MaxInt64-int64(total))/int64(unit.length) {
			return 0, fault.New(fault.Invalid, "duration %s is longer than 292 years", quote(text))
		}
		total += time.Duration(n) * unit.length
	}
	return Duration(total), nil
}

// Std is the duration as the standard library has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String is a form that ParseDuration reads back to the same value: days when
// it is two or more whole days, else hours and below.
func (d Duration) String() string {
	rest := time.Duration(d)
	if rest < time.Millisecond {
		return "0s"
	}
	if rest >= 2*day && rest%day == 0 {
		return strconv.FormatInt(int64(rest/day), 10) + "d"
	}
	var text strings.Builder
	for _, unit := range durationUnits[1:] {
		if n := rest / unit.length; n > 0 {
			text.WriteString(strconv.FormatInt(int64(n), 10) + unit.suffix)
			rest %= unit.length
		}
	}
	return text.String()
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}
