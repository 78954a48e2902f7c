package fleet

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestInside(t *testing.T) {
	berlin := &Window{From: "02:00", To: "03:00", Timezone: "Europe/Berlin"}
	night := &Window{Days: []Weekday{"fri"}, From: "22:00", To: "04:00", Timezone: "Europe/Berlin"}
	for _, c := range []struct {
		name   string
		window *Window
		at     string
		want   bool
	}{
		{"an ordinary night", berlin, "2030-01-02T01:30:00Z", true},
		{"it closes", berlin, "2030-01-02T02:00:00Z", false},
		{"the hour that is left out", berlin, "2030-03-31T01:00:00Z", false}, // 01:59:59 CET, then 03:00 CEST
		{"just before it", berlin, "2030-03-31T00:59:59Z", false},
		{"the hour that comes twice, first", berlin, "2030-10-27T00:30:00Z", true},
		{"the hour that comes twice, again", berlin, "2030-10-27T01:30:00Z", true},
		{"after it", berlin, "2030-10-27T02:00:00Z", false},
		{"friday night", night, "2030-01-04T21:00:00Z", true},
		{"saturday morning", night, "2030-01-05T02:59:00Z", true},
		{"saturday night", night, "2030-01-05T21:00:00Z", false},
		{"friday morning", night, "2030-01-04T02:00:00Z", false},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.window.Openings().Inside(at); got != c.want {
			t.Errorf("%s: %v at %s", c.name, got, at.UTC())
		}
	}
}

// Between two turns the answer does not change, whatever the zone does.
func TestTurnsAreAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock := rapid.Custom(func(t *rapid.T) Clock {
			return Clock(time.Time{}.Add(time.Duration(rapid.IntRange(0, 287).Draw(t, "five minutes")) * 5 * time.Minute).Format("15:04"))
		})
		window := &Window{
			From: clock.Draw(t, "from"), To: clock.Draw(t, "to"),
			Timezone: rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia"}).Draw(t, "zone"),
		}
		if rapid.Bool().Draw(t, "days") {
			window.Days = []Weekday{"sun", "fri"}
		}
		w := window.Openings()
		from := time.Date(2030, time.Month(rapid.IntRange(1, 12).Draw(t, "month")), rapid.IntRange(1, 28).Draw(t, "day"), 0, 0, 0, 0, time.UTC)
		until := from.Add(96 * time.Hour)
		turns := append(w.Turns(from, until), until.Add(5*time.Minute))
		inside, next := w.Inside(from), 0
		for at := from; !at.After(until); at = at.Add(5 * time.Minute) {
			for ; !turns[next].After(at); next++ {
				inside = w.Inside(turns[next])
			}
			if w.Inside(at) != inside {
				t.Fatalf("%s: it turns between %v and %v", at.In(w.zone), turns[max(next-1, 0)], turns[next])
			}
		}
	})
}
