package simulate

import (
	"cmp"
	"slices"
	"time"
)

// Report is what came of a simulation.
type Report struct {
	Change  string    `json:"change"`
	Seed    uint64    `json:"seed"`
	Begins  time.Time `json:"begins"`
	Ends    time.Time `json:"ends"`
	Seconds float64   `json:"seconds"` // that it lasts, by the simulated clock
	Done    bool      `json:"done"`

	Placements int   `json:"placements"`
	Hosts      int   `json:"hosts"`
	Clusters   int   `json:"clusters"`
	Services   int   `json:"services"`
	Rates      Rates `json:"rates"`

	Steps      []Step     `json:"steps"`
	Obstacles  []Obstacle `json:"obstacles"`
	Breakers   []Breaker  `json:"breakers"`
	Issued     int        `json:"issued"`     // certificates that were signed
	PeakRate   int        `json:"peakRate"`   // of them within one second
	MostAway   int        `json:"mostAway"`   // members of one cluster at once
	Expired    int        `json:"expired"`    // leaves that ran out in use
	LiesSeen   int        `json:"liesSeen"`   // reloads that lied, and were put back
	LiesUnseen int        `json:"liesUnseen"` // that no proof could see
	Curve      []Point    `json:"curve"`
	Assumes    []string   `json:"assumes"`

	since int64
	begin time.Time
}

// Step is a phase of a change of trust, or a wave of a rollout.
type Step struct {
	Name     string    `json:"name"`
	Begins   time.Time `json:"begins"`
	Seconds  float64   `json:"seconds"`
	Renewals int       `json:"renewals"` // ordinary ones that fell into it too
	Restarts int       `json:"restarts"`
	ByHand   int       `json:"byHand"` // of the restarts
	Adopted  int       `json:"adopted"`
	Last     string    `json:"last,omitempty"` // who adopted last
	LastAt   float64   `json:"lastAt"`         // seconds after the step began
	Failures int       `json:"failures"`
	Unseen   int       `json:"liesUnseen"`
	MostAway int       `json:"mostAway"`
	PeakRate int       `json:"peakRate"`
	// SlotWaits is how often a member was told that it is not its turn.
	SlotWaits int    `json:"slotWaits"`
	Held      []Held `json:"held"`
}

// Held is what a step waited for.
type Held struct {
	Why   string  `json:"why"`
	Who   string  `json:"who,omitempty"` // one of them, the last that was seen
	Most  int     `json:"most"`          // at once
	First float64 `json:"first"`         // seconds after the step began, when it was first seen
	Until float64 `json:"until"`         // and when last
}

// Breaker is an intent whose breaker opened.
type Breaker struct {
	Intent string `json:"intent"`
	Times  int    `json:"times"`
}

// Obstacle is something about the documents that stands in the way.
type Obstacle struct {
	Phase  string `json:"phase"`
	Who    string `json:"who"`
	Reason string `json:"reason"`
	Remedy string `json:"remedy"`
}

// Point is how the fleet is at a moment.
type Point struct {
	Seconds float64 `json:"seconds"`
	Adopted int     `json:"adopted"` // placements whose process trusts what the bundles hold now, or that have been rotated
	Old     int     `json:"old"`     // leaves in use under the old authority, or not yet rotated
	New     int     `json:"new"`
	Away    int     `json:"away"` // members of clusters that hold a slot
}

// mostPoints bounds the curve: when it is full every other point goes.
const mostPoints = 400

func newReport(o Options) *Report {
	return &Report{
		Change: o.Change.String(), Seed: o.Seed, Begins: o.Begin, Rates: o.Rates, begin: o.Begin,
		Steps: []Step{}, Obstacles: []Obstacle{}, Breakers: []Breaker{}, Curve: []Point{}, Assumes: []string{},
	}
}

func (r *Report) now() *Step { return &r.Steps[len(r.Steps)-1] }

func (r *Report) current() string {
	if len(r.Steps) == 0 {
		return "begin"
	}
	return r.now().Name
}

// enter ends the step that was, and begins another. What is before the first
// one is a step only if something held it.
func (r *Report) enter(name string, at int64) {
	r.close(at)
	if n := len(r.Steps); n > 0 && r.Steps[n-1].Name == "begin" && len(r.Steps[n-1].Held) == 0 {
		r.Steps = r.Steps[:n-1]
	}
	r.since = at
	r.Steps = append(r.Steps, Step{Name: name, Begins: r.begin.Add(time.Duration(at)), Held: []Held{}})
}

func (r *Report) close(at int64) {
	if len(r.Steps) > 0 {
		step := r.now()
		step.Seconds = time.Duration(at - r.since).Seconds()
		slices.SortFunc(step.Held, func(a, b Held) int { return cmp.Or(b.Most-a.Most, cmp.Compare(a.Why, b.Why)) })
	}
}

func (r *Report) adopted(who string, at int64) {
	step := r.now()
	step.Adopted++
	step.Last, step.LastAt = who, time.Duration(at-r.since).Seconds()
}

func (r *Report) held(why, who string, n int, at int64) {
	step, seconds := r.now(), time.Duration(at-r.since).Seconds()
	i := slices.IndexFunc(step.Held, func(h Held) bool { return h.Why == why })
	if i < 0 {
		i = len(step.Held)
		step.Held = append(step.Held, Held{Why: why, First: seconds})
	}
	one := &step.Held[i]
	one.Who, one.Most, one.Until = who, max(one.Most, n), seconds
}

func (r *Report) opened(name string) {
	for i := range r.Breakers {
		if r.Breakers[i].Intent == name {
			r.Breakers[i].Times++
			return
		}
	}
	r.Breakers = append(r.Breakers, Breaker{name, 1})
}

// sample adds a point to the curve.
func (w *world) sample() {
	point := Point{Seconds: time.Duration(w.now).Seconds()}
	for p := range w.places {
		at := &w.places[p]
		in := &w.intents[at.intent]
		renewed := at.under == 1
		if v, ok := w.planner.(*waves); ok {
			if in.service != v.service || in.profile == nil {
				continue
			}
			renewed = at.generation > 0
		}
		if at.trusts == w.anchors && w.o.Change.Kind != Rotate || w.o.Change.Kind == Rotate && renewed {
			point.Adopted++
		}
		if in.profile != nil && renewed {
			point.New++
		} else if in.profile != nil {
			point.Old++
		}
		if at.away {
			point.Away++
		}
	}
	curve := append(w.report.Curve, point)
	if len(curve) > mostPoints {
		for i := range len(curve) / 2 {
			curve[i] = curve[2*i]
		}
		curve = curve[:len(curve)/2]
		w.every *= 2
	}
	w.report.Curve = curve
	w.push(w.now+w.every, onSample, 0, 0)
}
