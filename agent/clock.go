package agent

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxOffset is how far this host's clock may be off the server's before the
// agent begins nothing new.
const maxOffset = time.Minute

// serverClock compares this host's clock with the server's. Between two
// messages the server's time is carried on by a clock that nobody sets and that
// goes on in suspend, so a clock that is set wrongly is noticed without a
// message.
type serverClock struct {
	now     func() time.Time
	elapsed func() time.Duration // of a clock that only goes forward

	mu   sync.Mutex
	time time.Time     // the server's, in its newest message
	at   time.Duration // of elapsed, then
}

func newServerClock(now func() time.Time) *serverClock {
	return &serverClock{now: now, elapsed: sinceBoot}
}

// sinceBoot is the time since the host was started, suspend included.
func sinceBoot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0 // never on a kernel that Go runs on
	}
	return time.Duration(t.Nano())
}

// observe takes the server's time from a message that has just come.
func (c *serverClock) observe(server time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.time, c.at = server, c.elapsed()
}

// offset is how far this host's clock is ahead of the server's; false before
// the first message.
func (c *serverClock) offset() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.time.IsZero() {
		return 0, false
	}
	server := c.time.Add(c.elapsed() - c.at)
	return c.now().Round(0).Sub(server), true
}

// trouble is what is wrong with the clock, in words; empty: nothing.
func (c *serverClock) trouble() string {
	offset, known := c.offset()
	if !known || offset.Abs() <= maxOffset {
		return ""
	}
	side := "ahead of"
	if offset < 0 {
		side = "behind"
	}
	// Rounded, so that jitter does not raise the alarm anew.
	return fmt.Sprintf("clock %.0f s %s the server's: renewals are held", offset.Abs().Round(10*time.Second).Seconds(), side)
}
