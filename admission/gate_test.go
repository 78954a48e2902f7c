package admission

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestClasses(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for left, want := range map[time.Duration]Class{
		-time.Hour: Expiring, 0: Expiring, 59 * time.Minute: Expiring, time.Hour: Expiring, 61 * time.Minute: Renewal, 9 * time.Hour: Renewal,
	} {
		ask := Ask{IssuedAt: now.Add(left - 10*time.Hour), NotAfter: now.Add(left)}
		if got := ask.Class(now); got != want {
			t.Errorf("with %s of 10 h left: %s, want %s", left, got, want)
		}
	}
	if got := (Ask{}).Class(now); got != First {
		t.Errorf("with none: %s", got)
	}
}

// Whatever happens, the gate's bounds hold, none that waits is more urgent than
// one that was let in, and nobody is told to come back later than half of what
// is left.
func TestQueueLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_800_000_000, 0)
		limits := Limits{
			AtOnce: rapid.IntRange(1, 6).Draw(t, "atOnce"), Waiting: rapid.IntRange(1, 6).Draw(t, "waiting"),
			Caller: rapid.IntRange(1, 6).Draw(t, "caller"), Rate: 10,
		}
		q := newQueue(limits)
		var tickets []*ticket
		unasked := map[string]int{}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			caller := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "caller")
			switch rapid.IntRange(0, 6).Draw(t, "step") {
			case 0, 1, 2:
				var ask Ask
				if left := rapid.Int64Range(-10, 1000).Draw(t, "left"); left > -10 {
					ask = Ask{IssuedAt: now.Add(-time.Hour), NotAfter: now.Add(time.Duration(left) * time.Second)}
				}
				before := slices.Clone(q.waiting.sides[soonest].tickets)
				entered := q.enter(now, caller, ask, func() {})
				tickets = append(tickets, entered)
				for _, one := range append(before, entered) {
					checkRefusal(t, now, one)
				}
			case 3:
				if n := rapid.IntRange(1, 3).Draw(t, "n"); q.offer(caller, n) {
					unasked[caller] += n
				}
			case 4:
				if n := unasked[caller]; n > 0 {
					unasked[caller] = 0
					q.done(now, caller, n)
				}
			case 5:
				if i := slices.IndexFunc(tickets, func(o *ticket) bool { return o.running }); i >= 0 {
					tickets[i].running = false
					tickets[i].refused = &Refusal{}
					q.done(now, tickets[i].caller, 1)
				}
			case 6:
				now = now.Add(time.Duration(rapid.Int64Range(0, 5000).Draw(t, "passes")) * time.Millisecond)
			}
			checkQueue(t, q)
		}
		for caller, n := range unasked {
			q.done(now, caller, n)
		}
		for { // all that entered is let in or refused, and nothing is left behind
			i := slices.IndexFunc(tickets, func(o *ticket) bool { return o.running })
			if i < 0 {
				break
			}
			tickets[i].running, tickets[i].refused = false, &Refusal{}
			q.done(now, tickets[i].caller, 1)
		}
		if q.running != 0 || q.waiting.len() != 0 || len(q.callers) != 0 {
			t.Fatalf("left behind: %+v", q)
		}
	})
}

func checkRefusal(t *rapid.T, now time.Time, one *ticket) {
	if one.refused == nil || one.refused.Rule == "" {
		return
	}
	left := one.ask.NotAfter.Sub(now)
	if !one.ask.NotAfter.IsZero() && left > 0 && one.refused.After > left/2 || one.refused.After <= 0 && left != 0 || one.refused.After > longestAfter {
		t.Fatalf("with %s left: come back after %s", left, one.refused.After)
	}
}

func checkQueue(t *rapid.T, q *queue) {
	if q.waiting.len() > q.limits.Waiting || q.running > max(q.limits.AtOnce, 3) || q.waiting.len() > 0 && q.running < q.limits.AtOnce {
		t.Fatalf("%d run, %d wait of %+v", q.running, q.waiting.len(), q.limits)
	}
	for _, n := range q.callers {
		if n > q.limits.Caller || n <= 0 {
			t.Fatalf("a caller has %d", n)
		}
	}
	soon, late := q.waiting.sides[soonest].tickets, q.waiting.sides[latest].tickets
	for _, one := range soon {
		if one.before(soon[0]) < 0 || one.before(late[0]) > 0 {
			t.Fatal("the room is out of order")
		}
	}
}

// Who is sent away gets a moment of his own, as fast as the server works, and
// behind the more urgent.
func TestMomentsToComeBack(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	q := newQueue(Limits{AtOnce: 1, Waiting: 1, Caller: 1, Rate: 100})
	pause := func(left time.Duration) time.Duration {
		ask := Ask{IssuedAt: now.Add(left - 24*time.Hour), NotAfter: now.Add(left)}
		return q.later(now, &ticket{ask: ask, class: ask.Class(now)})
	}
	var last time.Duration
	for i := range 1000 {
		got := pause(10 * time.Hour)
		if want := max(shortestAfter, time.Duration(i)*12500*time.Microsecond); got != want {
			t.Fatalf("renewal %d comes back after %s, want %s", i, got, want)
		}
		last = got
	}
	if got := pause(time.Hour); got != shortestAfter {
		t.Errorf("one that expires comes back after %s", got)
	}
	if got := pause(10 * time.Hour); got != last+2*12500*time.Microsecond {
		t.Errorf("the next renewal comes back after %s, want behind %s and the one that came before it", got, last)
	}
	if got := q.later(now, &ticket{class: First}); got != shortestAfter {
		t.Errorf("a first one comes back after %s", got)
	}
}

// Who is in the room longer than the patience is told to come back, and frees
// his place; so does one whose call has ended.
func TestPatienceAndHangingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Limits{AtOnce: 1, Waiting: 10, Caller: 10, Patience: time.Second, Rate: 1}, time.Now)
		hold := make(chan struct{})
		var held sync.WaitGroup
		held.Go(func() {
			g.Run(t.Context(), "a", 1, nil, func([]int) error { <-hold; return nil })
		})
		synctest.Wait()
		one := func() ([]Ask, error) { return []Ask{{}}, nil }
		never := func([]int) error { t.Error("carried out"); return nil }
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := g.Run(ctx, "b", 1, one, never); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who hung up: %v", err)
		}
		began := time.Now()
		refused, err := g.Run(t.Context(), "b", 1, one, never)
		if err != nil || refused[0].After <= 0 || time.Since(began) != time.Second || refused[0].Rule != "more urgent requests came before it for 1s" {
			t.Errorf("who waited %s: %+v, %v", time.Since(began), refused, err)
		}
		boom := errors.New("boom")
		if _, err := g.Run(t.Context(), "b", 1, func() ([]Ask, error) { return nil, boom }, never); err != boom {
			t.Errorf("when it can't be told what is asked: %v", err)
		}
		close(hold)
		held.Wait()
		if c := g.Count(); c.Running != 0 || c.Waiting != 0 || len(g.queue.callers) != 0 || c.Unasked != 1 || c.Refused[First] != 1 {
			t.Errorf("in the end %+v", c)
		}
		func() {
			defer func() { _ = recover() }()
			g.Run(t.Context(), "a", 1, nil, func([]int) error { panic("a defect") })
		}()
		if c := g.Count(); c.Running != 0 {
			t.Error("a panic keeps its place")
		}
	})
}

// storm is a fleet whose certificates all fell due in an hour's outage.
type storm struct {
	gate     *Gate
	server   chan struct{} // of capacity one: the CPU
	each     time.Duration // of it for a certificate
	deadline time.Duration // of a call

	mu       sync.Mutex
	began    time.Time
	signed   []int // times, by placement
	sum      [classes]time.Duration
	last     [classes]time.Duration
	number   [classes]int
	timeouts int
	expired  int
	calls    int
}

// placement is one certificate that is due.
type placement struct {
	id  int
	ask Ask
	at  time.Time // when it is asked for next
}

// host asks for its placements as an agent does: one call at a time with what is
// due, and each again when it was told to.
func (s *storm) host(ctx context.Context, name string, due []placement) {
	for len(due) > 0 {
		slices.SortFunc(due, func(a, b placement) int { return a.at.Compare(b.at) })
		time.Sleep(time.Until(due[0].at))
		n := 0
		for n < len(due) && n < 256 && !due[n].at.After(time.Now()) {
			n++
		}
		due = append(s.call(ctx, name, due[:n]), due[n:]...)
	}
}

func (s *storm) call(ctx context.Context, name string, asked []placement) (again []placement) {
	ctx, cancel := context.WithTimeout(ctx, s.deadline)
	defer cancel()
	asks := func() (all []Ask, err error) {
		for _, one := range asked {
			all = append(all, one.ask)
		}
		return all, nil
	}
	refused, err := s.gate.Run(ctx, name, len(asked), asks, func(indexes []int) error {
		s.server <- struct{}{}
		time.Sleep(time.Duration(len(indexes)) * s.each)
		<-s.server
		s.took(asked, indexes)
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if err != nil || ctx.Err() != nil {
		s.timeouts++
	}
	for i, refusal := range refused {
		one := asked[i]
		one.at = time.Now().Add(refusal.After)
		again = append(again, one)
	}
	return again
}

func (s *storm) took(asked []placement, indexes []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range indexes {
		class, after := asked[i].ask.Class(s.began), time.Since(s.began)
		s.signed[asked[i].id]++
		s.sum[class] += after
		s.number[class]++
		s.last[class] = max(s.last[class], after)
		if end := asked[i].ask.NotAfter; !end.IsZero() && time.Now().After(end) {
			s.expired++
		}
	}
}

// An hour's outage is over, and 100,000 placements are due at once: nobody times
// out, nothing is signed twice, nothing expires, and the order is kept.
func TestStormAfterAnOutage(t *testing.T) {
	for name, rate := range map[string]float64{"as fast as thought": 5000, "ten times slower": 50_000} {
		t.Run(name, func(t *testing.T) { stormOf(t, rate) })
	}
}

func stormOf(t *testing.T, rate float64) {
	const hosts, each = 2000, 50
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		s := &storm{
			gate:   New(Limits{AtOnce: 512, Waiting: 8192, Caller: 512, Patience: 2 * time.Second, Rate: rate}, time.Now),
			server: make(chan struct{}, 1), each: 200 * time.Microsecond, deadline: 30 * time.Second,
			began: time.Now(), signed: make([]int, hosts*each),
		}
		var fleet sync.WaitGroup
		for host := range hosts {
			due := make([]placement, each)
			for i := range due {
				due[i] = placement{id: host*each + i, ask: drawn(random, s.began), at: s.began.Add(time.Duration(random.Int64N(int64(250 * time.Millisecond))))}
			}
			name := string(rune('a'+host%26)) + time.Duration(host).String()
			fleet.Go(func() { s.host(t.Context(), name, due) })
		}
		fleet.Wait()
		s.check(t)
	})
}

// drawn is what is left of a certificate of a day after the outage: of one in
// twenty almost nothing; and one in ten is a new placement.
func drawn(random *rand.Rand, now time.Time) Ask {
	left := 3*time.Hour + time.Duration(random.Int64N(int64(5*time.Hour)))
	switch n := random.IntN(20); n {
	case 0:
		left = 5*time.Second + time.Duration(random.Int64N(int64(20*time.Second)))
	case 1, 2:
		return Ask{}
	}
	return Ask{IssuedAt: now.Add(left - 24*time.Hour), NotAfter: now.Add(left)}
}

func (s *storm) check(t *testing.T) {
	c := s.gate.Count()
	var mean [classes]time.Duration
	refusals := uint64(0)
	for _, class := range Classes {
		mean[class] = s.sum[class] / time.Duration(s.number[class])
		refusals += c.Refused[class]
		t.Logf("%s: %d, on average after %s, the last after %s; %d refusals", class, s.number[class], mean[class], s.last[class], c.Refused[class])
	}
	t.Logf("%d calls, %d refusals, %.0f a second as the gate saw it", s.calls, refusals, c.Rate)
	if i := slices.IndexFunc(s.signed, func(n int) bool { return n != 1 }); i >= 0 {
		t.Errorf("placement %d was signed %d times", i, s.signed[i])
	}
	if s.timeouts > 0 || s.expired > 0 {
		t.Errorf("%d calls timed out, %d certificates expired", s.timeouts, s.expired)
	}
	// The floor is 20 s: 100,000 at 200 µs.
	floor := time.Duration(len(s.signed)) * s.each
	if total := slices.Max(s.last[:]); total > floor*13/10 {
		t.Errorf("drained after %s, the CPU needed %s", total, floor)
	}
	if mean[Expiring] > 2*time.Second || mean[First] > mean[Renewal] || mean[Expiring] > mean[First] {
		t.Errorf("out of order: %v", mean)
	}
	if refusals > uint64(len(s.signed)*3/2) {
		t.Errorf("%d refusals for %d placements", refusals, len(s.signed))
	}
	if c.Running != 0 || c.Waiting != 0 {
		t.Errorf("in the end %+v", c)
	}
}
