package agent

import "time"

// BreakerState is how far a server is trusted to answer.
//
//	closed ──third failure in a row, or one that took long──▶ open
//	open ──its rest is over──▶ half-open: the next try decides
//	half-open ──has served for a while──▶ closed
//	half-open ──fails──▶ open, with a longer rest
type BreakerState string

// The states of a breaker.
const (
	BreakerClosed   BreakerState = "closed"
	BreakerOpen     BreakerState = "open"
	BreakerHalfOpen BreakerState = "half-open"
)

const (
	// tripAfter is how many failures in a row open a breaker. A server that is
	// started again has a few tries, so that its agents need not leave.
	tripAfter = 3
	// slowFailure opens it at once: whoever does not answer at all costs that
	// much at each try.
	slowFailure = 5 * time.Second
)

// breaker keeps an agent from a server that fails. How long it rests is random
// up to a limit that doubles (backoff).
type breaker struct {
	failures int       // in a row
	tripped  bool      // open, or half-open once the rest is over
	rest     time.Time // until when it is left alone
	why      string    // the last failure, in words
	since    time.Time // when it was tripped
}

func (b *breaker) state(now time.Time) BreakerState {
	switch {
	case !b.tripped:
		return BreakerClosed
	case b.rest.After(now):
		return BreakerOpen
	}
	return BreakerHalfOpen
}

func (b *breaker) resting(now time.Time) bool { return b.rest.After(now) }

// fail notes a failure that was found out after so long. atLeast is how long
// the server itself asked to be left alone.
func (b *breaker) fail(now time.Time, o backoff, took, atLeast time.Duration, why string) {
	b.rest = now.Add(max(o.after(b.failures), atLeast))
	b.failures++
	b.why = why
	if !b.tripped && (b.failures >= tripAfter || took >= slowFailure) {
		b.tripped, b.since = true, now
	}
}

// mend closes it.
func (b *breaker) mend() { *b = breaker{} }
