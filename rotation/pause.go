package rotation

import "time"

// Pauses between attempts. A refusal is not hurried; what could not be reached
// is tried again soon; what harms nobody (a handshake, a reload of what is in
// use anyway) sooner.
const (
	refusedPause   = time.Minute
	transientPause = 5 * time.Second
	retryPause     = time.Second
	longestPause   = time.Hour
	longestRetry   = time.Minute
	shortestPause  = time.Second
)

func doubled(first time.Duration, count int, longest time.Duration) time.Duration {
	pause := first
	for ; count > 1 && pause < longest; count-- {
		pause *= 2
	}
	return min(pause, longest)
}

// binds says whether the desires are still those that failed.
func (s *Setback) binds(d Desired) bool {
	return d.Attempt <= s.Attempt && d.RenewThrough <= s.RenewThrough && d.Terms == s.Terms && d.Bundle == s.Bundle && d.Bridge == s.Bridge &&
		d.CRL.Digest == s.CRL && d.Staple.Digest == s.Staple
}

// until is when the next attempt may begin: when the control plane said to come
// back, where it did, since that is when there is room. The pause never takes more than
// half of what is left of the certificate in use, and at most a minute once
// that has run out.
func (s *Setback) until(inUse *Generation, now time.Time) time.Time {
	first := refusedPause
	if s.Transient {
		first = transientPause
	}
	longest := longestPause
	if s.Transient && s.Step == Check {
		longest = longestRetry // a process that does not run: it is seen soon when it does
	}
	pause := doubled(first, s.Count, longest)
	if s.After > 0 {
		pause = s.After
	}
	if inUse != nil && inUse.Leaf != nil {
		if left := inUse.Leaf.NotAfter.Sub(s.At); left > 0 {
			pause = min(pause, max(left/2, shortestPause))
		} else {
			pause = min(pause, longestRetry)
		}
	}
	return notBeyond(s.At, pause, now)
}

// again is when a step that cannot be given up may be repeated.
func (f *Failure) again(now time.Time) time.Time {
	return notBeyond(f.At, doubled(retryPause, f.Count, longestRetry), now)
}

// notBeyond is at + pause; or at once where the clock was set back since, lest
// a failure noted in the future be waited for.
func notBeyond(at time.Time, pause time.Duration, now time.Time) time.Time {
	if at.After(now) {
		return now
	}
	return at.Add(pause)
}

// Pause is how long a placement rests after so many failures of one thing in a
// row, where what is left of its certificate does not cut that short.
func Pause(failures int) time.Duration { return doubled(refusedPause, failures, longestPause) }
