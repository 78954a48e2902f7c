package rfc3339

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// What is written is what the time package writes by the layout.
func TestAppendMicro(t *testing.T) {
	zones := []*time.Location{time.UTC, time.FixedZone("east", 5*3600+1800), time.FixedZone("west", -11*3600)}
	rapid.Check(t, func(t *rapid.T) {
		seconds := rapid.Int64Range(time.Date(0, 1, 2, 0, 0, 0, 0, time.UTC).Unix(), time.Date(9999, 12, 30, 0, 0, 0, 0, time.UTC).Unix()).Draw(t, "seconds")
		nanos := rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")
		at := time.Unix(seconds, nanos).In(rapid.SampledFrom(zones).Draw(t, "zone"))
		want := "before " + at.UTC().Format(Micro)
		if got := string(AppendMicro([]byte("before "), at)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}
