package simulate

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"time"

	"github.com/rotunda-pki/rotunda/fleet"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

// happening is a kind of event.
type happening uint8

const (
	onStaged happening = iota // of a placement: all is there, it could be switched to
	onDone                    // the switch was made, and looked at
	onAgain                   // the pause after a failure is over
	onRenew                   // its ordinary renewal is due
	onExpire                  // its leaf has run out
	onAsked                   // its turn in a paced reissue has come
	onHand                    // a person restarted it
	onTold                    // of a host: it has heard what is desired
	onLeave
	onReturn
	onIdentity // its agent renews its own certificate
	onAnswer   // of a party outside
	onLook     // of the planner
	onAdvance  // an operator lets it go on
	onSample
)

type event struct {
	at   int64 // since the beginning
	seq  uint64
	who  int32
	tag  uint32
	what happening
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	*e = (*e)[:last]
	return x
}

// planner drives a change: it looks at facts and acts.
type planner interface {
	begin() error
	look()            // asks the model, does what it says
	reported(int32)   // a placement's end is known
	hostSaid(int32)   // so is an agent's state
	presence(int32)   // an agent came or went
	advance()         // an operator's word
	answered(int32)   // a party outside
	part() float64    // how far it has come
	over() bool       // all is done
	waitsFor() string // what it waits for, in words
}

// world is a simulated fleet.
type world struct {
	o        Options
	now      int64
	seq      uint64
	queue    events
	random   *rand.Rand
	planner  planner
	intents  []intent
	services []service
	hosts    []host
	places   []place
	clusters []cluster
	filled   []int32 // by cluster: the host that joined last, while it is invented

	signs    uint8   // which authority signs: 0 old, 1 new
	anchors  anchors // that are in the bundles
	unbridge bool
	bridging int
	lookAt   int64 // of the next look; -1: none is planned

	agents   int // that do not trust the new anchor
	broken   *Violation
	report   *Report
	issuedIn int64 // second
	issued   int
	every    int64 // between samples
	anyGrant bool  // a mutant: slots are granted to all that ask
}

// Run simulates a change over a fleet that it invents of documents.
func Run(ctx context.Context, set fleet.Set, o Options) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	w := &world{o: o, random: rand.New(rand.NewPCG(o.Seed, 0x526f74756e6461)), anchors: oldAnchor, lookAt: -1, every: int64(time.Minute)}
	w.report = newReport(o)
	if err := w.invent(set); err != nil {
		return nil, err
	}
	if w.planner = (&waves{world: w, set: set}); o.Change.Kind != Rotate {
		w.planner = &change{world: w, set: set}
	}
	w.populate()
	if err := w.planner.begin(); err != nil {
		return nil, err
	}
	if o.mutate != nil {
		o.mutate(w)
	}
	w.lookBy(0)
	w.push(0, onSample, 0, 0)
	err := w.run(ctx)
	w.finish(set)
	return w.report, err
}

// populate lets the fleet be as one that has run for long.
func (w *world) populate() {
	for p := range w.places {
		in := &w.intents[w.places[p].intent]
		w.services[in.service].blind++
		if in.profile != nil {
			w.services[in.service].old++
			w.age(int32(p))
		}
	}
	w.agents = len(w.hosts)
	for h := range w.hosts {
		if w.o.Rates.Away == 0 {
			continue
		}
		if w.hosts[h].away = w.random.Float64() < w.o.Rates.Away; w.hosts[h].away {
			w.push(w.mean(w.o.AwayFor), onReturn, int32(h), 0)
		} else {
			w.push(w.mean(w.here()), onLeave, int32(h), 0)
		}
	}
}

// here is how long an agent is connected, on average.
func (w *world) here() time.Duration {
	away := w.o.Rates.Away
	return max(time.Duration(float64(w.o.AwayFor)*(1-away)/away), time.Minute)
}

func (w *world) run(ctx context.Context) error {
	for n := 0; len(w.queue) > 0 && !w.planner.over(); n++ {
		if n%4096 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if w.o.Progress != nil {
				w.o.Progress(Progress{w.report.current(), time.Duration(w.now), w.planner.part()})
			}
		}
		e := heap.Pop(&w.queue).(event)
		if w.now = e.at; w.now > int64(longest) {
			return fault.New(fault.Unavailable, "the change has not ended after %s on the simulated clock: %s", fleet.Duration(longest), w.planner.waitsFor()).
				WithRemedy("lower the rates, or see what stands in the way with rotunda plan --change")
		}
		w.happen(e)
		if w.broken != nil {
			return w.broken
		}
	}
	return nil
}

func (w *world) time(at int64) time.Time { return w.o.Begin.Add(time.Duration(at)) }

func (w *world) push(at int64, what happening, who int32, tag uint32) {
	w.seq++
	heap.Push(&w.queue, event{at, w.seq, who, tag, what})
}

func (w *world) after(d time.Duration, what happening, who int32, tag uint32) {
	w.push(w.now+int64(d), what, who, tag)
}

// lookBy plans a look of the planner, unless one comes sooner.
func (w *world) lookBy(at int64) {
	if at = max(at, w.now); w.lookAt >= 0 && w.lookAt <= at {
		return
	}
	w.lookAt = at
	w.push(at, onLook, 0, 0)
}

// mean draws a span that lasts so long on average.
func (w *world) mean(d time.Duration) int64 {
	return w.now + int64(w.random.ExpFloat64()*float64(d))
}

func (w *world) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.random.Float64()*float64(most-least))
}

// takes is between, ten times as long on a slow host.
func (w *world) takes(h int32, least, most time.Duration) time.Duration {
	d := w.between(least, most)
	if w.hosts[h].slow {
		d *= 10
	}
	return d
}

func (w *world) happen(e event) {
	switch e.what {
	case onLook:
		if e.at == w.lookAt { // another took its place
			w.lookAt = -1
			w.planner.look()
		}
	case onAdvance:
		w.planner.advance()
	case onAnswer:
		w.planner.answered(e.who)
	case onSample:
		w.sample()
	case onTold, onLeave, onReturn, onIdentity:
		w.hostHappens(e)
	default:
		w.placeHappens(e)
	}
}
