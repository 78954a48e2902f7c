package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/schedule"
)

// lookAhead is how far a calendar is searched for an opening. Windows repeat by
// the week; the second week is for one that a change of clocks swallows.
const lookAhead = 15 * 24 * time.Hour

// Calendar says when placements may be asked to begin: inside any of the
// windows, if there are some, and outside all freezes.
type Calendar struct {
	Windows map[fleet.Name]*fleet.Openings // nil: named, and not declared
	Freezes map[fleet.Name]*fleet.Openings
}

// Open says whether they may now.
func (c Calendar) Open(at time.Time) bool { return c.inWindow(at) && c.frozen(at) == "" }

func (c Calendar) inWindow(at time.Time) bool {
	for _, window := range c.Windows {
		if window != nil && window.Inside(at) {
			return true
		}
	}
	return len(c.Windows) == 0
}

func (c Calendar) frozen(at time.Time) fleet.Name {
	for _, name := range slices.Sorted(maps.Keys(c.Freezes)) {
		if c.Freezes[name].Inside(at) {
			return name
		}
	}
	return ""
}

// Next is the first moment from at on at which the answer of Open is open. It
// returns false if there is none: the windows never open.
func (c Calendar) Next(at time.Time, open bool) (time.Time, bool) {
	if c.Open(at) == open {
		return at, true
	}
	var turns []time.Time
	for _, windows := range []map[fleet.Name]*fleet.Openings{c.Windows, c.Freezes} {
		for _, window := range windows {
			if window != nil {
				turns = append(turns, window.Turns(at, at.Add(lookAhead))...)
			}
		}
	}
	slices.SortFunc(turns, time.Time.Compare)
	for _, turn := range turns {
		if c.Open(turn) == open {
			return turn, true
		}
	}
	return time.Time{}, false
}

// why says why it is closed.
func (c Calendar) why(at time.Time) string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(c.Windows)) {
		if c.Windows[name] == nil {
			return fmt.Sprintf("window %s is not declared any more", name)
		}
		names = append(names, string(name))
	}
	what := fmt.Sprintf("%s %s closed", words(len(names), "window", "windows")+" "+strings.Join(names, ", "), words(len(names), "is", "are"))
	if freeze := c.frozen(at); freeze != "" {
		what = fmt.Sprintf("freeze %s holds", freeze)
	}
	next, opens := c.Next(at, true)
	if !opens {
		return what + ", and no time comes at which a window is open and no freeze holds"
	}
	return fmt.Sprintf("%s; it opens at %s", what, when(at, next))
}

// CheckCalendar says what is wrong with the windows of a spec, as they are
// declared now.
func (m *Model) CheckCalendar(spec Spec, now time.Time) error {
	if err := m.CheckNamed(spec); err != nil {
		return err
	}
	if never := m.Never(spec, now); never != "" {
		return fault.New(fault.Invalid, "rollout %s would never begin: %s", spec.Name, never).
			WithRemedy("choose another window, or change the freeze")
	}
	return nil
}

// CheckNamed says which window of a spec is none that a rollout can be begun in.
func (m *Model) CheckNamed(spec Spec) error {
	for _, name := range spec.Windows {
		window := m.windows[name].Window
		if window == nil {
			return fault.New(fault.NotFound, "window %s is not declared", name).WithRemedy("rotunda get windows lists those that are")
		}
		if window.Freeze {
			return fault.New(fault.Invalid, "window %s is a freeze: no placement may begin inside it", name).
				WithRemedy("leave it out: freezes hold every rollout")
		}
	}
	return nil
}

// Never says why the windows of a spec let nothing begin from a moment on; empty:
// they do.
func (m *Model) Never(spec Spec, now time.Time) string {
	c := m.calendar(spec)
	if _, opens := c.Next(now, true); opens {
		return ""
	}
	return c.why(now)
}

// calendar is what a rollout goes by.
func (m *Model) calendar(spec Spec) Calendar {
	c := Calendar{map[fleet.Name]*fleet.Openings{}, map[fleet.Name]*fleet.Openings{}}
	for _, name := range spec.Windows {
		c.Windows[name] = m.windows[name].openings
	}
	for name, declared := range m.windows {
		if declared.Window != nil && declared.Window.Freeze && !spec.Urgent {
			c.Freezes[name] = declared.openings
			if _, named := c.Windows[name]; named {
				c.Windows[name] = nil // it became a freeze since
			}
		}
	}
	return c
}

// when is a moment as reasons say it, in UTC: with the day if it is another.
func when(now, t time.Time) string {
	now, t = now.UTC(), t.UTC()
	if now.YearDay() == t.YearDay() && now.Year() == t.Year() {
		return schedule.Clock(t)
	}
	return t.Format("Jan 2 15:04")
}

func words(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
