package admission

import "time"

const (
	// shortestAfter is the least that a caller is told to stay away.
	shortestAfter = 250 * time.Millisecond
	// longestAfter is the most, whatever the rate.
	longestAfter = 30 * time.Minute
	// expiredAfter is the most for what has ended already.
	expiredAfter = 5 * time.Second
	// share of the rate that is promised to those who come back: the rest is for
	// those who come for the first time.
	share = 0.8
	// fewestSeats is the least size of the room, however slow the server is.
	fewestSeats = 16
	// sampled is how long the rate is measured before it is believed.
	sampled = 250 * time.Millisecond
)

// queue is the state of a server's admission. It has no clock and no lock.
type queue struct {
	limits  Limits
	running int
	waiting room
	callers map[string]int // requests running and waiting
	arrived uint64
	booked  [classes]time.Time // until when those who come back were given their moments
	rate    rate
}

func newQueue(l Limits) *queue {
	return &queue{limits: l, callers: map[string]int{}, rate: rate{perSecond: l.Rate}}
}

// ticket is one request's place.
type ticket struct {
	caller  string
	ask     Ask
	class   Class
	number  uint64 // in the order of arrival
	at      [2]int // in the room's heaps; -1: not there
	running bool
	refused *Refusal
	settled func() // is called once it runs or is refused
}

func (t *ticket) isSettled() bool { return t.running || t.refused != nil }

// offer takes n requests at once if there is room. Then nobody waits: a place
// that gets free is given away at once.
func (q *queue) offer(caller string, n int) bool {
	fits := q.running == 0 || q.running+n <= q.limits.AtOnce
	if !fits || q.callers[caller]+n > q.limits.Caller {
		return false
	}
	q.running += n
	q.count(caller, n)
	return true
}

// enter takes one request: it runs, waits, or is refused, and then another may
// be, whose place it took.
func (q *queue) enter(now time.Time, caller string, ask Ask, settled func()) *ticket {
	q.arrived++
	t := &ticket{caller: caller, ask: ask, class: ask.Class(now), number: q.arrived, at: [2]int{-1, -1}, settled: settled}
	if q.callers[caller] >= q.limits.Caller {
		q.refuse(now, t, q.limits.tooMany())
		return t
	}
	q.count(caller, 1)
	q.waiting.add(t)
	q.start(now)
	if q.waiting.len() > q.seats() {
		last := q.waiting.at(latest)
		q.leave(last)
		q.refuse(now, last, q.limits.full())
	}
	return t
}

// seats is how many may wait: no more than get their turn while they have
// patience.
func (q *queue) seats() int {
	return min(q.limits.Waiting, max(fewestSeats, int(q.rate.perSecond*q.limits.Patience.Seconds())))
}

// start lets the most urgent run while there is room.
func (q *queue) start(now time.Time) {
	for q.waiting.len() > 0 && q.running < q.limits.AtOnce {
		t := q.waiting.at(soonest)
		q.waiting.remove(t)
		t.running = true
		q.running++
		t.settled()
	}
	q.rate.busy(now, q.waiting.len() > 0)
}

// done ends n requests of a caller that ran.
func (q *queue) done(now time.Time, caller string, n int) {
	q.running -= n
	q.count(caller, -n)
	q.rate.done(now, n)
	q.start(now)
}

// tire refuses one that waited too long.
func (q *queue) tire(now time.Time, t *ticket) {
	if !t.isSettled() {
		q.leave(t)
		q.refuse(now, t, q.limits.tooLong())
	}
}

// leave takes one out of the room.
func (q *queue) leave(t *ticket) {
	if t.at[soonest] >= 0 {
		q.waiting.remove(t)
		q.count(t.caller, -1)
	}
}

func (q *queue) count(caller string, n int) {
	if q.callers[caller] += n; q.callers[caller] <= 0 {
		delete(q.callers, caller)
	}
}

func (q *queue) refuse(now time.Time, t *ticket, rule string) {
	t.refused = &Refusal{Rule: rule, After: q.later(now, t)}
	t.settled()
}

// later gives a moment to come back, and books it: behind all who were told to
// come back and are at least as urgent, and those who wait here.
func (q *queue) later(now time.Time, t *ticket) time.Duration {
	step := time.Duration(float64(time.Second) / (q.rate.perSecond * share))
	at := now.Add(time.Duration(float64(q.waiting.ahead(t)) / q.rate.perSecond * float64(time.Second)))
	for class := Expiring; class <= t.class; class++ {
		if q.booked[class].After(at) {
			at = q.booked[class]
		}
	}
	q.booked[t.class] = at.Add(step)
	for class := t.class + 1; class < classes; class++ {
		if q.booked[class].After(now) {
			q.booked[class] = q.booked[class].Add(step)
		}
	}
	return bounded(at.Sub(now), now, t.ask)
}

// bounded holds a pause to half of what is left of the certificate.
func bounded(pause time.Duration, now time.Time, ask Ask) time.Duration {
	pause = min(max(pause, shortestAfter), longestAfter)
	if ask.NotAfter.IsZero() {
		return pause
	}
	if left := ask.NotAfter.Sub(now); left > 0 {
		return min(pause, left/2)
	}
	return min(pause, expiredAfter)
}

// rate is how many requests a second the server gets done while some wait.
type rate struct {
	perSecond float64
	seen      bool      // or only thought possible
	since     time.Time // of the sample; zero: nobody waits
	count     int
}

func (r *rate) busy(now time.Time, waiting bool) {
	switch {
	case !waiting:
		r.since = time.Time{}
	case r.since.IsZero():
		r.since, r.count = now, 0
	}
}

func (r *rate) done(at time.Time, n int) {
	if r.since.IsZero() {
		return
	}
	r.count += n
	if took := at.Sub(r.since); took >= sampled {
		now := float64(r.count) / took.Seconds()
		if r.seen { // what was only thought possible counts no more
			now = (3*r.perSecond + now) / 4
		}
		r.perSecond, r.seen = max(1, now), true
		r.since, r.count = at, 0
	}
}
