package simulate

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/rollout"
)

// Looks at a rollout: at once while something comes of them, else less and less
// often, but never past a moment at which a window turns or a soak ends.
const (
	waveSoon   = 10 * time.Second
	waveAtMost = 10 * time.Minute
	minute     = time.Minute // in which so many are asked
)

// waves drives a rollout.
type waves struct {
	*world
	set      fleet.Set
	model    *rollout.Model
	id       uuid.UUID
	service  int32
	openings []fleet.Openings
	there    int
	total    int
	wave     int
	ended    bool
	news     bool // since the last look
	rest     time.Duration
	settled  int64
	waits    string
	plan     []rollout.Wave
}

func (v *waves) begin() error {
	if err := v.find(); err != nil {
		return err
	}
	v.model, v.id = rollout.NewModel(), uuid.UUID{15: 1}
	var seats []rollout.Seat
	for p := range v.places {
		in := &v.intents[v.places[p].intent]
		if in.service == v.service && in.profile != nil {
			seats = append(seats, rollout.Seat{ID: placeUUID(int32(p)), Region: v.hosts[v.places[p].host].region, Through: uint64(v.places[p].generation) + 1})
			v.observe(int32(p))
		}
	}
	for _, d := range v.set.OfKind(fleet.KindWindow) {
		window := d.Spec.(*fleet.Window) // its kind says so
		v.model.Observe(rollout.Declared{Name: d.Name, Revision: 1, Window: window})
		v.openings = append(v.openings, window.Openings())
	}
	if len(seats) == 0 {
		return fault.New(fault.Invalid, "service %s holds no certificates in a fleet of %d, so there is nothing to rotate", v.o.Change.Service, v.o.Fleet).
			WithRemedy("name a service whose intents have an identity, or choose a larger --fleet")
	}
	if err := v.model.CheckCalendar(v.o.Rollout, v.o.Begin); err != nil {
		return err
	}
	planned, parts, err := rollout.Plan(v.o.Rollout, seats)
	if err != nil {
		return err
	}
	v.plan, v.total, v.wave = planned, len(seats), -1
	v.model.Observe(rollout.Begun{Rollout: v.id, Spec: v.o.Rollout, Waves: planned, Parts: parts, At: v.o.Begin, Well: len(seats)})
	v.report.enter("begin", 0)
	return nil
}

func (v *waves) find() error {
	var names []string
	for i := range v.services {
		if v.services[i].name == v.o.Change.Service {
			v.service = int32(i)
			return nil
		}
		names = append(names, string(v.services[i].name))
	}
	return fault.New(fault.NotFound, "service %s is not declared", v.o.Change.Service).WithRemedy("name one of: %s", strings.Join(names, ", "))
}

// observe tells the model what an agent says of a placement.
func (v *waves) observe(p int32) {
	at := &v.places[p]
	in := &v.intents[at.intent]
	seen := rollout.Seen{
		Placement: placeUUID(p), At: v.time(v.now).Add(time.Duration(v.seq%1000) * time.Microsecond), Intent: string(in.name), Member: v.member(p),
		Generation: uint64(at.generation) + 1, Level: in.spec.Proof.Level,
		Steady: at.state == idle && !at.due && !at.hand, Failed: at.failed, Well: !at.failed, Adopted: true,
	}
	if at.cluster >= 0 {
		seen.Cluster = v.clusters[at.cluster].name
	}
	v.model.Observe(seen)
	v.news = true
}

func (v *waves) look() {
	now := v.time(v.now)
	actions, holdups := v.model.Next(now)
	for _, action := range actions {
		v.carry(action, now)
	}
	v.note(holdups)
	switch {
	case v.ended:
		return
	case len(actions) > 0:
		v.rest = waveSoon
	case v.news:
		v.rest = max(waveSoon, min(v.rest, minute))
	default:
		v.rest = min(2*v.rest, waveAtMost)
	}
	v.news = false
	v.lookBy(v.turn(v.now + int64(v.rest)))
}

// turn is the moment of the next look, or one before it at which time alone
// changes what the model says.
func (v *waves) turn(at int64) int64 {
	for _, one := range v.openings {
		if turns := one.Turns(v.time(v.now), v.time(at)); len(turns) > 0 {
			at = min(at, int64(turns[0].Sub(v.o.Begin)))
		}
	}
	if soaked := (v.settled/int64(time.Second) + 1) * int64(time.Second); soaked+int64(v.o.Rollout.Soak) > v.now {
		at = min(at, soaked+int64(v.o.Rollout.Soak))
	}
	return at
}

func (v *waves) carry(action rollout.Action, now time.Time) {
	switch action.Do {
	case rollout.Rotate:
		for v.wave < action.Wave {
			v.wave++
			v.report.enter(fmt.Sprintf("wave %d, %s", v.wave+1, v.plan[v.wave]), v.now)
		}
		v.model.Observe(rollout.Asked{Rollout: v.id, Placement: action.Placement, At: now})
		p := placeOf(action.Placement)
		v.after(v.takes(v.places[p].host, 300*time.Millisecond, 5*time.Second), onAsked, p, 0)
	case rollout.Note:
		v.model.Observe(rollout.Settled{Rollout: v.id, Placement: action.Placement, At: now})
		v.there++
		v.settled = v.now
		v.report.adopted(v.placeName(placeOf(action.Placement)), v.now)
	case rollout.End:
		v.model.Observe(rollout.Ended{Rollout: v.id, At: now})
		v.ended = true
		v.report.enter("done", v.now)
	}
}

// what tells reasons of one kind apart: names and numbers.
var (
	aCluster = regexp.MustCompile(`\b[a-z0-9.-]*-?\d{5}\b`)
	someOf   = regexp.MustCompile(`\d+ of \d+`)
	number   = regexp.MustCompile(`: \d+ of`)
)

func (v *waves) note(holdups []rollout.Holdup) {
	kinds := map[string]int{}
	v.waits = ""
	for _, holdup := range holdups {
		_, why, _ := strings.Cut(holdup.Text, " waits: ")
		if strings.HasPrefix(why, "for wave ") {
			continue
		}
		if v.waits == "" {
			v.waits = holdup.Text
		}
		for _, from := range []string{" since ", " until ", "; "} {
			why, _, _ = strings.Cut(why, from)
		}
		why = aCluster.ReplaceAllString(number.ReplaceAllString(someOf.ReplaceAllString(why, "some"), ": some of"), "a cluster")
		why = strings.Replace(why, "some members of a cluster is ", "some members of a cluster are ", 1)
		kinds[why] += holdup.Count
	}
	for why, n := range kinds {
		v.report.held(why, "", n, v.now)
	}
}

// A report is looked at soon: what it frees may be all that is waited for.
func (v *waves) reported(p int32) {
	if in := &v.intents[v.places[p].intent]; in.service != v.service || in.profile == nil || v.places[p].silent {
		return
	}
	v.observe(p)
	v.lookBy(v.now + int64(waveSoon))
}

func (v *waves) hostSaid(int32)   {}
func (v *waves) presence(int32)   {}
func (v *waves) advance()         {}
func (v *waves) answered(int32)   {}
func (v *waves) over() bool       { return v.ended }
func (v *waves) part() float64    { return float64(v.there) / float64(max(v.total, 1)) }
func (v *waves) waitsFor() string { return v.waits }
