// Package simulate runs a change over an invented fleet on a fake clock: agents
// that are slow, away, fail and lie, under the very models that drive the real
// one. trust.Change, rollout.Model and schedule.Cluster decide; whatif says what
// stands in the way. The laws are checked at each step from what the simulated
// processes really do, beside what they say.
//
// It is pure: documents, options and a seed in, a report out.
package simulate

import (
	"fmt"
	"strings"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/rollout"
	"github.com/rotunda-pki/rotunda/whatif"
)

// Rotate is a rollout over all placements of a service.
const Rotate = "rotate"

// Change is what is simulated.
type Change struct {
	Kind    string     // rotate-root, rotate-issuing or rotate
	Service fleet.Name // of rotate
}

func (c Change) String() string { return strings.TrimSuffix(c.Kind+":"+string(c.Service), ":") }

const changes = "it is rotate-root, rotate-issuing or rotate:SERVICE"

// Parse reads rotate-root, rotate-issuing or rotate:SERVICE.
func Parse(text string) (Change, error) {
	kind, service, named := strings.Cut(text, ":")
	switch {
	case kind == Rotate && service != "":
		name, err := fleet.ParseName(service)
		return Change{Rotate, name}, err
	case !named && (kind == string(whatif.RotateRoot) || kind == string(whatif.RotateIssuing)):
		return Change{Kind: kind}, nil
	case text == "":
		return Change{}, fault.New(fault.Invalid, "no change to simulate").WithRemedy("--change: " + changes)
	}
	return Change{}, fault.New(fault.Invalid, "%.80q is no change that can be simulated", text).WithRemedy(changes)
}

// Rates are how often something is not as it should be, each between 0 and 1.
type Rates struct {
	Slow float64 `json:"slow"` // of the agents, take ten times as long
	Away float64 `json:"away"` // of the agents, are not connected at any moment
	Fail float64 `json:"fail"` // of the attempts, fail and are put back
	Lie  float64 `json:"lie"`  // of the reloads, say yes and take nothing
}

// Options are what a simulation goes by.
type Options struct {
	Change       Change
	Fleet        int // placements
	Seed         uint64
	Begin        time.Time
	ClusterSize  int // members of a cluster that a document declares
	Rates        Rates
	AwayFor      time.Duration // how long an agent is away, on average
	ByHand       time.Duration // until people did what was asked of them
	AdvanceAfter time.Duration // until an operator lets a change of trust go on
	Over         time.Duration // how long a reissue takes; 0: the usual pace
	Rollout      rollout.Spec  // of rotate
	Progress     func(Progress)

	mutate func(*world) // breaks the simulation, in tests
}

// Progress is how far a simulation has come.
type Progress struct {
	Step string
	At   time.Duration // on the fake clock
	Part float64       // 0 to 1
}

// Defaults of the options. The rates are guesses at a fleet that is well kept.
func Defaults() Options {
	return Options{
		Fleet: 1000, Seed: 1, ClusterSize: 3,
		Rates:   Rates{Slow: 0.02, Away: 0.005, Fail: 0.0005, Lie: 0.0002},
		AwayFor: 2 * time.Hour, ByHand: 4 * time.Hour, AdvanceAfter: 30 * time.Minute,
		Rollout: rollout.Spec{Name: Rotate, Steps: rollout.DefaultSteps, PerMinute: rollout.DefaultPerMinute},
	}
}

// Limits of the options.
const (
	MostPlacements = 1_000_000
	mostMembers    = 1000
	longest        = 90 * 24 * time.Hour // of the fake clock
)

// Check says what is wrong with the options by themselves.
func (o Options) Check() error {
	if o.Fleet < 1 || o.Fleet > MostPlacements {
		return fault.New(fault.Invalid, "a fleet of %d placements: it is between 1 and %d", o.Fleet, MostPlacements).WithRemedy("--fleet 100000")
	}
	if o.ClusterSize < 1 || o.ClusterSize > mostMembers {
		return fault.New(fault.Invalid, "clusters of %d members: it is between 1 and %d", o.ClusterSize, mostMembers).WithRemedy("--cluster-size 3")
	}
	for _, one := range []struct {
		name string
		rate float64
	}{{"slow", o.Rates.Slow}, {"away", o.Rates.Away}, {"fail", o.Rates.Fail}, {"lie", o.Rates.Lie}} {
		if !(one.rate >= 0 && one.rate <= 1) { // NaN too
			return fault.New(fault.Invalid, "a rate --%s of %v: it is between 0 and 1", one.name, one.rate).WithRemedy("--%s 0.01 is one of a hundred", one.name)
		}
	}
	for _, one := range []struct {
		name string
		span time.Duration
		zero bool
	}{{"away-for", o.AwayFor, false}, {"by-hand", o.ByHand, true}, {"advance-after", o.AdvanceAfter, true}, {"over", o.Over, true}} {
		if one.span < 0 || one.span > longest || one.span == 0 && !one.zero {
			return fault.New(fault.Invalid, "--%s of %s: it is up to %s", one.name, one.span, fleet.Duration(longest)).WithRemedy("--%s 2h", one.name)
		}
	}
	if o.Change.Kind == Rotate {
		return o.Rollout.Check()
	}
	return nil
}

// Violation is a law that was broken: the simulation ends at it.
type Violation struct {
	Law string
	At  time.Time
	Who string
	Why string
}

func (v *Violation) Error() string {
	return fmt.Sprintf("a law was broken in the simulation at %s: %s: %s: %s", v.At.Format("2006-01-02 15:04:05"), v.Law, v.Who, v.Why)
}
