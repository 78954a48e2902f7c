package story

import (
	"slices"
	"testing"

	"github.com/rotunda-pki/rotunda/interop/table"
)

// Stories is what every kind goes through, in this order.
func (s *Subject) Stories() []Story {
	return []Story{
		{"renewals", s.Renewals},
		{"trust", s.Trust},
		{"sabotage", s.Sabotage},
		{"outages", s.Outages},
		{"deaf", s.Deaf},
		{"killed", s.Killed},
	}
}

// Story is one story by its name.
type Story struct {
	Name string
	Tell func(*testing.T)
}

// Tell tells the stories of these names, all where none is named, and returns
// what was counted.
func (s *Subject) Tell(t *testing.T, names ...string) table.Row {
	for _, story := range s.Stories() {
		if len(names) > 0 && !slices.Contains(names, story.Name) {
			continue
		}
		s.Say(t, "%s", story.Name)
		t.Run(story.Name, story.Tell)
		if t.Failed() {
			break // what follows would only repeat it
		}
	}
	for _, m := range s.Members {
		if err := m.Host.Stop(); err != nil {
			t.Error(err)
		}
	}
	counts := s.Load.Stop()
	s.Tally.Count(func(r *table.Row) {
		r.Requests, r.Failed, r.Reconnects = counts.Requests, counts.Failed, counts.Reconnects
	})
	return s.Tally.Row()
}
