package story

import (
	"fmt"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/demo/operator"
	"github.com/rotunda-pki/rotunda/demo/screen"
)

// table is what the live screen shows now.
func (d *demo) table() screen.Table {
	t := screen.Table{Headings: []string{"PLACEMENT", "HOST", "GEN", "STATE", "SHOWN", "TOOK", "EXPIRES", "WHY"}, Below: d.counts()}
	if d.fleet == nil {
		return t
	}
	if change := d.trust.Load(); change != nil {
		return d.adoption(change)
	}
	placements, _, _ := d.fleet.Placements()
	for _, p := range placements {
		t.Rows = append(t.Rows, []screen.Cell{
			{Text: p.Intent}, {Text: d.hostOf[p.Agent]}, {Text: fmt.Sprint(p.Generation)},
			stateCell(p), levelCell(p), {Text: brief(time.Duration(p.Took))}, {Text: left(p.NotAfter)}, reasonCell(p),
		})
	}
	return t
}

// adoption is who has come how far with a change of trust.
func (d *demo) adoption(change *operator.Change) screen.Table {
	t := screen.Table{
		Headings: []string{"RELYING PARTY", "HOST", "HAS", "WANTED"},
		Below:    fmt.Sprintf("%s → %s, %s: %s\n%s", change.Old.Root, change.New.Root, change.Phase, standing(*change), d.counts()),
	}
	for _, p := range change.Parties {
		name, _, _ := strings.Cut(p.Name, " ") // intent on agent ID, or agent ID
		has := screen.Cell{Text: p.Has, Colour: screen.Busy}
		if p.Has == "" {
			has = screen.Cell{Text: "nothing", Colour: screen.Faint}
		}
		if p.Ready() {
			has.Colour = screen.Good
		}
		t.Rows = append(t.Rows, []screen.Cell{{Text: name}, {Text: d.hostOf[p.Agent]}, has, {Text: p.Needs}})
	}
	return t
}

// standing is how far a change of trust has come, in words.
func standing(change operator.Change) string {
	if change.EndedAt != nil {
		return fmt.Sprintf("the key that signed under %s is destroyed", change.Old.Root)
	}
	ready := 0
	for _, p := range change.Parties {
		if p.Ready() {
			ready++
		}
	}
	what := "trust " + change.New.Root
	if change.Phase == "refuse" || change.Phase == "retire" {
		what = "have let go of " + change.Old.Root
	}
	return fmt.Sprintf("%d of %d %s; %d live certificates under %s", ready, len(change.Parties), what, len(change.Holders), change.Old.Root)
}

var stateColours = map[string]screen.Colour{
	"steady": screen.Good, "rotating": screen.Busy, "failed": screen.Bad, "waiting": screen.Faint,
}

func stateCell(p operator.Placement) screen.Cell {
	return screen.Cell{Text: p.State, Colour: stateColours[p.State]}
}

func levelCell(p operator.Placement) screen.Cell {
	if p.Level == "proven" {
		return screen.Cell{Text: p.Level, Colour: screen.Good}
	}
	return screen.Cell{Text: p.Level}
}

func reasonCell(p operator.Placement) screen.Cell {
	if p.Failure != nil {
		return screen.Cell{Text: p.Failure.Step + ": " + p.Failure.Reason, Colour: screen.Bad}
	}
	return screen.Cell{Text: p.Reason, Colour: screen.Faint}
}

// counts is what the clients have seen so far.
func (d *demo) counts() string {
	if d.load == nil {
		return "the clients have not begun"
	}
	t := d.load.Tally()
	return fmt.Sprintf("%d requests, %d failed; %d connections, %d reconnects", t.Requests, t.Failed, t.Opened, t.Reconnects)
}

func brief(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.Round(time.Millisecond).String()
}

func left(at time.Time) string {
	switch span := time.Until(at); {
	case at.IsZero():
		return ""
	case span > time.Hour:
		return span.Round(time.Minute).String()
	default:
		return span.Round(time.Second).String()
	}
}
