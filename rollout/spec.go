package rollout

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// Spec is how a rollout goes, as its operator asked for it. It is a goal: it
// does not change once the rollout has begun.
type Spec struct {
	// What it is called in reasons; of the open rollouts only one has the name.
	Name string `json:"name"`
	// Whether each placement gets a new key.
	NewKey bool `json:"newKey,omitempty"`
	// How far each wave goes, of the placements of its region: counts first,
	// then percentages, the last 100%.
	Steps []Step `json:"steps"`
	// One region after the other: the steps begin anew in each.
	ByRegion bool `json:"byRegion,omitempty"`
	// The order of the regions; those that are not named come last, by name.
	Regions []string `json:"regions,omitempty"`
	// How long a wave is watched, from when its last placement got there,
	// before the next one begins.
	Soak fleet.Duration `json:"soak"`
	// How many placements are asked to begin in a minute, and how many may be
	// under way at once; 0: any number.
	PerMinute int `json:"perMinute"`
	AtOnce    int `json:"atOnce,omitempty"`
	// The windows in which placements are asked to begin: inside any of them.
	// None: at all times. Freezes that are declared hold every rollout that is not
	// urgent.
	Windows []fleet.Name `json:"windows,omitempty"`
	// It goes on inside freezes too: what it replaces is in wrong hands.
	Urgent bool `json:"urgent,omitempty"`
	// The profile that its placements get in the place of their intent's, until
	// it is taken back; empty: their intent's.
	Profile fleet.Name `json:"profile,omitempty"`
	// Of its placements those on agents with these labels get it, and no other
	// is rotated. Empty: all.
	Slice map[string]string `json:"slice,omitempty"`
	// How long the owners have known before the first placement is asked.
	Notice fleet.Duration `json:"notice,omitempty"`
	// What a wave has to show.
	Gates Gates `json:"gates"`
}

// Gates are what a wave has to show before the next one begins.
type Gates struct {
	// The level that each rotation must reach; empty: what its intent asks for.
	Level fleet.Level `json:"level,omitempty"`
	// Of a hundred placements of the wave so many may have failed.
	Failures int `json:"failures,omitempty"`
	// All targets of the wave are well.
	Health bool `json:"health,omitempty"`
	// All placements of the wave have adopted the bundle that is wanted there.
	Adoption bool `json:"adoption,omitempty"`
	// Every owner has taken the announcement before the first placement is
	// asked; the notice runs from when the last one did.
	Told bool `json:"told,omitempty"`
	// Who else is asked, once for each wave, after it soaked.
	Outside []Gate `json:"outside,omitempty"`
}

// Gate is somebody outside who is asked: by a webhook, by a command of the
// server's, or nobody but people, who answer with a verb.
type Gate struct {
	Name    fleet.Name `json:"name"`
	Webhook string     `json:"webhook,omitempty"`
	Command string     `json:"command,omitempty"` // by its name
}

// Step is how far a wave goes: a count, or a part of a hundred.
type Step struct {
	Count   int
	Percent int // 0: it is a count
}

// ParseStep reads "3" or "10%".
func ParseStep(text string) (Step, error) {
	digits, percent := strings.CutSuffix(text, "%")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || percent && n > 100 {
		return Step{}, fault.New(fault.Invalid, "step %q is neither a count nor a percentage", short(text)).
			WithRemedy("write steps such as 1,10%%,50%%,100%%")
	}
	if percent {
		return Step{Percent: n}, nil
	}
	return Step{Count: n}, nil
}

func (s Step) String() string {
	if s.Percent > 0 {
		return strconv.Itoa(s.Percent) + "%"
	}
	return strconv.Itoa(s.Count)
}

// MarshalText implements encoding.TextMarshaler.
func (s Step) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Step) UnmarshalText(text []byte) (err error) {
	*s, err = ParseStep(string(text))
	return err
}

// of is how many of n placements the step reaches.
func (s Step) of(n int) int {
	if s.Percent > 0 {
		return (n*s.Percent + 99) / 100
	}
	return min(s.Count, n)
}

// DefaultSteps are a canary, a tenth, a half and the rest.
var DefaultSteps = []Step{{Count: 1}, {Percent: 10}, {Percent: 50}, {Percent: 100}}

// Limits of a spec.
const (
	DefaultPerMinute = 60
	longestSoak      = fleet.Duration(30 * 24 * time.Hour)
	LongestNotice    = fleet.Duration(90 * 24 * time.Hour)
	mostOutside      = 16
)

// Check says what is wrong with a spec by itself.
func (s Spec) Check() error {
	if err := checkSteps(s.Steps); err != nil {
		return err
	}
	seen := map[fleet.Name]bool{}
	for _, gate := range s.Gates.Outside {
		if gate.Name == "" || seen[gate.Name] {
			return fault.New(fault.Invalid, "gate %q is named twice, or not at all", gate.Name).WithRemedy("give each gate a name of its own")
		}
		seen[gate.Name] = true
	}
	switch {
	case s.Name == "":
		return fault.New(fault.Invalid, "a rollout has a name").WithRemedy("--name NAME")
	case s.Soak < 0 || s.Soak > longestSoak:
		return fault.New(fault.Invalid, "a soak of %s: it is between nothing and %s", s.Soak, longestSoak)
	case s.Notice < 0 || s.Notice > LongestNotice:
		return fault.New(fault.Invalid, "a notice of %s: it is between nothing and %s", s.Notice, LongestNotice)
	case s.PerMinute < 1:
		return fault.New(fault.Invalid, "%d placements a minute would never end", s.PerMinute).WithRemedy("--per-minute 1 or more")
	case s.AtOnce < 0:
		return fault.New(fault.Invalid, "%d placements at once is less than none", s.AtOnce).WithRemedy("--at-once 0 bounds nothing")
	case s.Gates.Failures < 0 || s.Gates.Failures > 99:
		return fault.New(fault.Invalid, "%d%% of failures: it is between 0 and 99", s.Gates.Failures)
	case len(s.Gates.Outside) > mostOutside:
		return fault.New(fault.Invalid, "%d gates outside, at most %d may be", len(s.Gates.Outside), mostOutside)
	case len(s.Slice) > 0 && s.Profile == "":
		return fault.New(fault.Invalid, "a slice is for a profile that is tried on it").WithRemedy("--profile NAME; or choose placements with --selector")
	case len(s.Regions) > 0 && !s.ByRegion:
		return fault.New(fault.Invalid, "regions have an order only region by region").WithRemedy("--by-region")
	}
	return nil
}

func checkSteps(steps []Step) error {
	remedy := "write ascending steps, counts first, the last 100%, such as 1,10%,50%,100%"
	if len(steps) == 0 || steps[len(steps)-1].Percent != 100 {
		return fault.New(fault.Invalid, "the last step does not reach all placements").WithRemedy("%s", remedy)
	}
	for i, step := range steps[1:] {
		before := steps[i]
		if before.Percent > 0 && step.Percent <= before.Percent || step.Percent == 0 && step.Count <= before.Count {
			return fault.New(fault.Invalid, "wave %d would be empty: step %s is not above step %s", i+2, step, before).WithRemedy("%s", remedy)
		}
	}
	return nil
}

// Wave is a part of the plan: placements that are asked together.
type Wave struct {
	Region string `json:"region,omitempty"` // empty: not region by region, or of no region
	Step   Step   `json:"step"`
	Count  int    `json:"count"`
}

func (w Wave) String() string {
	if w.Region == "" {
		return fmt.Sprintf("up to %s: %d", w.Step, w.Count)
	}
	return fmt.Sprintf("%s up to %s: %d", w.Region, w.Step, w.Count)
}

func short(text string) string {
	if len(text) > 40 {
		return strings.ToValidUTF8(text[:40], "") + "…"
	}
	return text
}
