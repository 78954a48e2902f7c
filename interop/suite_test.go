// Package interop runs Rotunda's agent against real servers, with clients at
// work on them, and counts what goes wrong.
package interop

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/interop/lab"
	"github.com/rotunda-pki/rotunda/interop/load"
	"github.com/rotunda-pki/rotunda/interop/story"
	"github.com/rotunda-pki/rotunda/interop/table"
)

// TestMain lets the test's own binary be the processes that stories start.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		var role func([]string) error
		switch os.Args[1] {
		case story.ChildArgument:
			role = story.Child
		case lab.BellArgument:
			role = lab.Ring
		}
		if role != nil {
			if err := role(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// TestSuite tells all stories at every kind of server.
func TestSuite(t *testing.T) {
	rows, began := &table.Rows{}, time.Now()
	t.Run("kinds", func(t *testing.T) {
		for _, kind := range kinds {
			t.Run(kind.name, func(t *testing.T) {
				t.Parallel()
				subject := kind.start(t)
				subject.Tally.Count(func(r *table.Row) { r.Kind, r.Version = kind.name, kind.version(t) })
				subject.Employ(t, kind.load(subject))
				row := subject.Tell(t, named(only(), kind.stories)...)
				rows.Add(row)
				if !row.Sound() {
					t.Errorf("failed %d, false proven %d, false failed %d", row.Failed, row.FalseProven, row.FalseFailed)
				}
			})
		}
	})
	fmt.Fprint(os.Stderr, rows.Text())
	if !*write || t.Failed() || len(rows.All()) < len(kinds) || len(only()) > 0 {
		return // only a whole run that went well is written down
	}
	if err := table.Replace(document, table.MeasuredPart, measured(rows, time.Since(began))); err != nil {
		t.Error(err)
	}
}

// named is the stories of the first list that names any.
func named(lists ...[]string) []string {
	for _, list := range lists {
		if len(list) > 0 {
			return list
		}
	}
	return nil
}

// only is the stories to tell, of INTEROP_STORIES; none named is all.
func only() []string { return strings.Fields(os.Getenv("INTEROP_STORIES")) }

// kind is one row of the table.
type kind struct {
	name    string
	version func(testing.TB) string
	start   func(*testing.T) *story.Subject
	load    func(*story.Subject) load.Options
	// stories that are told; none named is all of them.
	stories []string
}

// plainLoad is the clients of most kinds, at the first member.
func plainLoad(s *story.Subject) load.Options {
	return load.Options{Dial: s.Members[0].Dial, Kept: 5 * time.Millisecond, Fresh: 25 * time.Millisecond}
}
