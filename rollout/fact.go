package rollout

import (
	"time"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/schedule"
)

// Fact is something that is so, with when it came to be. Facts may be observed
// in any order and repeatedly: of two that say different things about one
// matter the newer one counts, or, of what can happen once, the older.
type Fact interface{ fact() }

// Begun is a rollout that an operator asked for: its goal, whole.
type Begun struct {
	Rollout uuid.UUID
	Spec    Spec
	Waves   []Wave
	Parts   []Planned // in the order of the waves
	At      time.Time
	Well    int // placements that were well before
}

// Act is what an operator decides about a rollout that has begun.
type Act string

// The acts. A rollout that was aborted or rolled back asks for nothing more;
// what was asked for before goes its way.
const (
	Pause    Act = "pause"
	Resume   Act = "resume"
	Abort    Act = "abort"
	Rollback Act = "rollback"
)

// Decided is an operator's decision.
type Decided struct {
	Rollout uuid.UUID
	Act     Act
	At      time.Time
	By      string
	Reason  string
}

// Asked: the placement's rotation has been made part of what is desired.
type Asked struct {
	Rollout   uuid.UUID
	Placement uuid.UUID
	At        time.Time
}

// Settled: the placement was first seen where the rollout wants it.
type Settled struct {
	Rollout   uuid.UUID
	Placement uuid.UUID
	At        time.Time
}

// GateAnswered is what a gate outside said about a wave.
type GateAnswered struct {
	Rollout uuid.UUID
	Wave    int // from 0
	Gate    fleet.Name
	Passed  bool
	Words   string
	At      time.Time
}

// Event is what the owners of services are told of a change.
type Event string

// The events.
const (
	Announced  Event = "announced" // nothing is touched yet
	Started    Event = "started"   // the first placement of the service is asked
	HeldUp     Event = "held"      // by a breaker
	GoesOn     Event = "goes on"   // it is held no more
	Finished   Event = "done"
	Dropped    Event = "aborted"
	Undone     Event = "rolled back"
	TurnedBack Event = "turned back" // of a change of trust
)

// Told: the owner of a service is told of an event.
type Told struct {
	Rollout uuid.UUID
	Event   Event
	Service fleet.Name
	At      time.Time // since when
	Reached time.Time // when his side took it; zero: not yet
}

// Ended: all waves have passed.
type Ended struct {
	Rollout uuid.UUID
	At      time.Time
}

// Seen is how a placement stands, as its agent said last.
type Seen struct {
	Placement  uuid.UUID
	At         time.Time // when it said so, by the server's clock
	Intent     string
	Cluster    string // empty: none
	Member     schedule.Member
	Generation uint64
	Level      fleet.Level // that was shown for this generation
	Steady     bool        // nothing is under way, and its intent is satisfied
	Failed     bool        // a failure stands that nobody resumed
	Well       bool        // nothing is known to be wrong with the target
	Adopted    bool        // it holds the bundle that is wanted
	Gone       bool        // no intent wants it any more
}

// Held: another change is at work in a cluster; over says that it is no more.
type Held struct {
	Cluster string
	Change  string // in words: "trust change b2"
	At      time.Time
	Over    bool
}

// Declared is a window as the documents have it; nil when it was removed.
type Declared struct {
	Name     fleet.Name
	Revision uint64
	Window   *fleet.Window
}

func (Begun) fact()        {}
func (Decided) fact()      {}
func (Asked) fact()        {}
func (Settled) fact()      {}
func (GateAnswered) fact() {}
func (Ended) fact()        {}
func (Told) fact()         {}
func (Seen) fact()         {}
func (Held) fact()         {}
func (Declared) fact()     {}
