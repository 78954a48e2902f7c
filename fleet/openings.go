package fleet

import (
	"slices"
	"time"
)

// Openings is when a window is open. It has looked up the window's zone.
type Openings struct {
	window *Window
	zone   *time.Location
}

// Openings looks up the zone. One that is not known is UTC; Validate refuses it.
func (w *Window) Openings() Openings {
	zone, err := time.LoadLocation(w.Timezone)
	if err != nil {
		zone = time.UTC
	}
	return Openings{w, zone}
}

// Inside says whether clocks in the window's zone show a time within it. That
// makes days on which clocks are put forward or back plain: a window that lies
// in the hour which is left out does not open on that day, and one in the hour
// that comes twice opens twice.
func (o Openings) Inside(t time.Time) bool {
	w := o.window
	t = t.In(o.zone)
	now := Clock(t.Format("15:04"))
	if w.From < w.To {
		return w.opensOn(t.Weekday()) && w.From <= now && now < w.To
	}
	yesterday := (t.Weekday() + 6) % 7
	return w.opensOn(t.Weekday()) && w.From <= now || w.opensOn(yesterday) && now < w.To
}

// Turns are the moments within (after, until] at which the answer of Inside
// may change, in their order: exact to the second.
func (o Openings) Turns(after, until time.Time) (turns []time.Time) {
	add := func(t time.Time) {
		if t.After(after) && !t.After(until) {
			turns = append(turns, t.UTC())
		}
	}
	year, month, day := after.In(o.zone).Date()
	for i := -1; ; i++ {
		noon := time.Date(year, month, day+i, 12, 0, 0, 0, o.zone)
		if noon.Add(-36 * time.Hour).After(until) {
			break
		}
		for _, clock := range []Clock{o.window.From, o.window.To} {
			for _, t := range shows(clock, noon) {
				add(t)
			}
		}
		start, _ := noon.ZoneBounds() // where clocks are put forward or back
		add(start)
	}
	slices.SortFunc(turns, time.Time.Compare)
	return slices.CompactFunc(turns, time.Time.Equal)
}

// shows are the moments of noon's day at which clocks show the time: none, one
// or two.
func shows(clock Clock, noon time.Time) (moments []time.Time) {
	at, err := time.Parse("15:04", string(clock))
	if err != nil {
		return nil
	}
	year, month, day := noon.Date()
	wall := time.Date(year, month, day, at.Hour(), at.Minute(), 0, 0, time.UTC)
	for _, near := range []time.Time{noon.Add(-14 * time.Hour), noon, noon.Add(14 * time.Hour)} {
		_, offset := near.Zone()
		t := wall.Add(-time.Duration(offset) * time.Second).In(noon.Location())
		if t.Format("15:04") == string(clock) {
			moments = append(moments, t)
		}
	}
	return moments
}

func (w *Window) opensOn(day time.Weekday) bool {
	return len(w.Days) == 0 || slices.Contains(w.Days, weekdays[day])
}

var weekdays = []Weekday{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
