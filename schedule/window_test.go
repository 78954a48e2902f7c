package schedule

import (
	"testing"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
)

// However short a leaf was cut by its issuer's end, it is not due when it is
// issued: its window is the profile's, in proportion. One that was not cut has
// the profile's own.
func TestCutLeavesAreNotDueAtOnce(t *testing.T) {
	profile := &fleet.Profile{
		Lifetime: fleet.Duration(24 * time.Hour), RenewAt: 0.5,
		RideOut: fleet.Duration(4 * time.Hour),
	}
	issued := noon
	whole, _ := Window(profile, issued, issued.Add(24*time.Hour))
	if want := issued.Add(12 * time.Hour); !whole.Equal(want) {
		t.Errorf("a whole leaf's window opens at %s, want %s", whole, want)
	}
	for life := 24 * time.Hour; life > time.Minute; life /= 2 {
		end := issued.Add(life)
		after, before := Window(profile, issued, end)
		if want := issued.Add(life / 2); after.Sub(want).Abs() > time.Millisecond {
			t.Errorf("a leaf of %s is due after %s, want %s", life, after.Sub(issued), life/2)
		}
		if left := end.Sub(before); left < life/6 || !before.After(after) {
			t.Errorf("a leaf of %s: the window is %s to %s", life, after, before)
		}
	}
	// One from before the profile's lifetime was made shorter.
	if after, _ := Window(profile, issued, issued.Add(48*time.Hour)); !after.Equal(issued.Add(36 * time.Hour)) {
		t.Errorf("a longer leaf's window opens at %s", after)
	}
}
